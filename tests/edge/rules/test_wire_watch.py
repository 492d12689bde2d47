"""The wire is watched: no secret leaves, in any mode, and nothing at all once a limit is reached."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.edge.rules.secrets import SECRETS
from tests.fakes.byte_engine import byte_engine
from tests.fakes.endpoint import Asked, FakeEndpoint, Reply, grades, stream
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_cloud
from tests.fakes.wiretap import Wiretap, contains_tokens
from updraft.config import CloudLinkSettings, EdgeSettings, EndpointSettings, LimitSettings, RulesSettings
from updraft.errors import Withheld
from updraft.generation import ChatMessage, Completion, GenerationRequest
from updraft.modes import parse_settings
from updraft.sampling import SamplingParams
from updraft_edge.agent import Agent

TOKEN_MODES = ["cloud", "draft", "lookup", "cascade", "span", "route", "reason"]
TEXT_MODES = ["cloud", "route", "reason"]
MARKS = 13
"""Of a secret that grows in an answer no more than this may be seen before the rule sees what it will be: the marks of
a key's issuer, seven digits of a card, the part of an address before the @ (which is looked at apart)."""

EXTRA: dict[str, Any] = {
    "span": {"span": {"window": 1, "escalate": 0.0001, "hand_back": 0.0, "min_stay": 6}},
    "reason": {"reason": {"threshold": 7.0, "step_tokens": 12}},
    "route": {"route": {"score": "prompt_entropy", "threshold": -1000.0}},
    "draft": {"stop": {"rule": "fixed", "length": 7}},
    "cascade": {"stop": {"rule": "fixed", "length": 5}},
}


def ask(mode: str, text: str, **changes: Any) -> GenerationRequest:
    extra = EXTRA.get(mode, {})
    fields: dict[str, Any] = {
        "messages": [ChatMessage("user", text)],
        "sampling": SamplingParams(seed=1),
        "max_tokens": 60,
        "settings": parse_settings({"mode": mode, **extra}),
        "ignore_end": True,
        **changes,
    }
    return GenerationRequest(**fields)


class Reciting(HashEngine):
    """An edge model that has learned a text by heart: whatever the prompt, it writes that after `>>`."""

    recited: bytes = b""

    def _row(self, prefix: tuple[int, ...]) -> NDArray[np.float32]:
        row = super()._row(prefix)
        said = bytes(token for token in prefix if token < 256).rpartition(b">>")[2]
        if self.recited.startswith(said) and len(said) < len(self.recited):
            row[self.recited[len(said)]] = 50.0
        return row


def reciting(text: str) -> Reciting:
    source = byte_engine()
    engine = Reciting(vocabulary=257, context=2048, tokenizer_hash="bytes", noise=0.5)
    engine.tokenizer, engine.recited = source.tokenizer, text.encode()
    return engine


@contextlib.asynccontextmanager
async def watched(engine: HashEngine, **changes: Any) -> AsyncIterator[tuple[Agent, Wiretap]]:
    """An agent whose way to a cloud service is watched; it has said who it is before."""
    async with running_cloud(byte_engine()) as cloud, Wiretap(cloud.address) as tap:
        link = CloudLinkSettings(address=tap.address)
        async with Agent(EdgeSettings(cloud=link, **changes), engine=engine) as agent:
            assert agent.link is not None
            await agent.link.describe()
            yield agent, tap


def grading_and_writing(asked: Asked) -> Reply:
    return stream("A step of the cloud.\n\nx") if asked.body.get("stream") else grades({"1": -0.1})


@contextlib.asynccontextmanager
async def with_endpoint(engine: HashEngine, **changes: Any) -> AsyncIterator[tuple[Agent, FakeEndpoint]]:
    async with FakeEndpoint(grading_and_writing) as endpoint:
        table = EndpointSettings(url=endpoint.url, model="big")
        async with Agent(EdgeSettings(endpoint=table, **changes), engine=engine) as agent:
            yield agent, endpoint


def leaked(sent: bytes, secret: str, at_least: int) -> bool:
    """Whether so much of a secret went over the wire: as text, or as token ids (which are bytes here, or two each)."""
    raw = secret.encode()
    return contains_tokens(sent, list(raw), at_least=at_least) or any(
        raw[start : start + at_least] in sent for start in range(len(raw) - at_least + 1)
    )


WATCHING = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize("mode", TOKEN_MODES)
@given(secret=SECRETS, before=st.text("abc \n", max_size=30), after=st.text("abc \n", max_size=30))
@WATCHING
def test_no_secret_of_a_prompt_leaves(mode: str, secret: str, before: str, after: str) -> None:
    async def check() -> None:
        async with watched(byte_engine(noise=0.5)) as (agent, tap):
            greeted = len(tap.sent)
            _, completion = await complete(agent, ask(mode, f"{before} {secret} {after}"))
            assert completion.withheld in {"keys", "cards", "emails"}
            assert (completion.degraded, completion.statistics.edge_tokens) == (False, 60)
            assert completion.statistics.bytes_up == 0
            assert tap.sent[greeted:] == b""
            _, harmless = await complete(agent, ask(mode, f"{before} {after} zzzzzzzzzz"))
            assert harmless.statistics.bytes_up > 0 and leaked(tap.sent, "zzzzzzzzzz", 8)  # the tap does see tokens

    asyncio.run(check())


@pytest.mark.parametrize("mode", TEXT_MODES)
@given(secret=SECRETS)
@WATCHING
def test_no_secret_of_a_prompt_reaches_an_endpoint(mode: str, secret: str) -> None:
    async def check() -> None:
        async with with_endpoint(byte_engine(noise=0.5)) as (agent, endpoint):
            for request in (
                ask(mode, f"look: {secret} "),
                ask(mode, "stop there", stop=(secret,)),
                ask(mode, "x", messages=[ChatMessage("system", secret), ChatMessage("user", "hi")]),
                ask(mode, "x", messages=None, prompt=f"look: {secret} "),
            ):
                _, completion = await complete(agent, request)
                assert completion.withheld and completion.statistics.endpoint_calls == 0
            assert endpoint.connections == 0

    asyncio.run(check())


@pytest.mark.parametrize("mode", TOKEN_MODES)
@given(secret=SECRETS, lead=st.sampled_from(["", "well, ", "it is this one: "]))
@WATCHING
def test_no_secret_that_only_the_answer_has_leaves(mode: str, secret: str, lead: str) -> None:
    async def check() -> None:
        async with watched(reciting(f"{lead}{secret} and that was it, my friend.")) as (agent, tap):
            _, completion = await complete(agent, ask(mode, "say it >>", messages=None, prompt="say it >>"))
            assert completion.finish_reason == "length" and len(completion.token_ids) == 60
            hidden = secret.partition("@")[2] if "@" in secret else secret
            assert not leaked(tap.sent, hidden, min(MARKS, len(hidden)))
            assert secret.encode() not in tap.sent

    asyncio.run(check())


@given(secret=SECRETS)
@WATCHING
def test_no_secret_that_only_the_answer_has_reaches_an_endpoint(secret: str) -> None:
    async def check() -> None:
        async with with_endpoint(reciting(f"{secret} and that was it, my friend.")) as (agent, endpoint):
            request = ask("reason", "", messages=None, prompt="say it >>")
            await complete(agent, request)
            sent = b"".join(asked.raw for asked in endpoint.asked)
            hidden = secret.partition("@")[2] if "@" in secret else secret
            assert not leaked(sent, hidden, min(MARKS, len(hidden)))

    asyncio.run(check())


async def test_the_users_patterns_hold_in_every_mode() -> None:
    rules = RulesSettings(keep_local=(), patterns=(r"(?i)project\s+falcon",))
    async with watched(byte_engine(noise=0.5), rules=rules) as (agent, tap):
        greeted = len(tap.sent)
        for mode in TOKEN_MODES:
            _, completion = await complete(agent, ask(mode, "what of Project Falcon?"))
            assert completion.withheld == "pattern_1"
        assert tap.sent[greeted:] == b""


async def test_a_rule_may_refuse_instead() -> None:
    rules = RulesSettings(action="refuse")
    async with watched(byte_engine(noise=0.5), rules=rules) as (agent, tap):
        greeted = len(tap.sent)
        for mode in TOKEN_MODES:
            with pytest.raises(Withheld) as caught:
                await complete(agent, ask(mode, "mail bob@home.example please"))
            assert caught.value.rule == "emails" and "bob" not in str(caught.value)
        assert tap.sent[greeted:] == b""
        _, alone = await complete(agent, ask("edge", "mail bob@home.example please"))
        assert alone.withheld is None


@pytest.mark.parametrize("limit", ["tokens_up", "tokens_down", "bytes"])
@pytest.mark.parametrize("mode", ["cloud", "draft", "span"])
async def test_with_a_limit_reached_no_byte_leaves(limit: str, mode: str, tmp_path: Path) -> None:
    most = {"tokens_up": 60, "tokens_down": 7, "bytes": 900}[limit]
    limits = LimitSettings.model_validate({limit: most, "state": tmp_path / "spent.json"})
    async with watched(byte_engine(noise=0.5), limits=limits) as (agent, tap):
        reasons: list[str | None] = []
        for _ in range(12):
            _, completion = await complete(agent, ask(mode, "hello"))
            assert len(completion.token_ids) == 60
            reasons.append(completion.withheld)
        assert reasons[-1] == f"limit_{limit}"
        assert getattr(agent.rules.ledger.spent, limit) <= most + (1 if limit != "bytes" else 2000)
        await asyncio.sleep(0.3)  # the politeness of the last session is over
        quiet = len(tap.sent)
        _, completion = await complete(agent, ask(mode, "hello"))
        assert (completion.withheld, completion.statistics.bytes_up) == (f"limit_{limit}", 0)
        assert len(tap.sent) == quiet
    async with watched(byte_engine(noise=0.5), limits=limits) as (agent, tap):  # a restart gives nothing back
        greeted = len(tap.sent)
        _, completion = await complete(agent, ask(mode, "hello"))
        assert completion.withheld == f"limit_{limit}" and tap.sent[greeted:] == b""


async def test_money_ends_the_asking_of_an_endpoint(tmp_path: Path) -> None:
    limits = LimitSettings(money=0.01, state=tmp_path / "spent.json")
    prices = {"endpoint_output": 100.0, "endpoint_input": 10.0}
    async with with_endpoint(byte_engine(noise=0.5), limits=limits, prices=prices) as (agent, endpoint):
        total = 0.0
        for _ in range(12):
            _, completion = await complete(agent, ask("cloud", "hello"))
            total += completion.statistics.cost
        assert completion.withheld == "limit_money"
        assert 0.005 < total <= 0.01 + 25 * 100e-6  # this endpoint does not heed max_tokens
        assert all(asked.body["max_tokens"] <= 100 for asked in endpoint.asked)
        asked = len(endpoint.asked)
        await complete(agent, ask("cloud", "hello"))
        assert len(endpoint.asked) == asked


async def test_a_rule_is_named_and_what_it_found_is_not(caplog: pytest.LogCaptureFixture) -> None:
    async with watched(byte_engine(noise=0.5)) as (agent, _):
        _, completion = await complete(agent, ask("draft", "mail bob@home.example please"))
        info = agent.info()
    assert isinstance(completion, Completion) and completion.withheld == "emails"
    assert "home.example" not in caplog.text
    rules = info["rules"]
    assert isinstance(rules, dict) and rules["keep_local"] == ["keys", "cards", "emails"]


def test_the_watch_itself_sees_what_it_should() -> None:
    tokens: Sequence[int] = [300, 5, 70_000, 9]
    assert contains_tokens(b"..\xac\x02\x05\xf0\xa2\x04\x09..", tokens, at_least=4)
    assert not contains_tokens(b"\xac\x02\x05", tokens, at_least=4)
    assert leaked(b"xx sk-secret xx", "sk-secret", 9) and not leaked(b"xx sk-se", "sk-secret", 9)
