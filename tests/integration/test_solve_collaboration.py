"""Mode `solve` with real engines: llama.cpp on both tiers, the cloud's in a process of its own that may die."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.engine.test_process_host import settings
from tests.fakes.tiers import complete, running_agent, until
from updraft.config import StrategySettings
from updraft.engine import open_engine
from updraft.generation import ChatMessage, Completion, GenerationRequest
from updraft.modes import parse_settings
from updraft.sampling import SamplingParams
from updraft_cloud.engine.process_host import ProcessHost
from updraft_cloud.server import CloudServer


def ask(ends: frozenset[int] = frozenset(), **extra: Any) -> GenerationRequest:
    """`ends` are made likely: models of random weights hardly ever end an answer."""
    chosen = {"effort": "low", "solve": {"edge_samples": 2, "threshold": 1.0}, "budget": {"samples": 6}, **extra}
    return GenerationRequest(
        messages=[ChatMessage("user", "What is 17 and 4?")],
        sampling=SamplingParams(temperature=1.0, seed=11, logit_bias=dict.fromkeys(ends, 6.0)),
        max_tokens=60,
        settings=parse_settings(chosen),
        alternatives=True,
    )


def facts(completion: Completion) -> tuple[object, ...]:
    solution = completion.solution
    assert solution is not None and not completion.degraded, completion
    return completion.token_ids, solution.strategy, solution.confidence, solution.alternatives


async def test_answers_are_the_same_whoever_shares_the_engine_and_after_it_was_killed(
    tiny_pair: tuple[Path, Path],
) -> None:
    edge = open_engine(tiny_pair[0], context=256, sequences=4, threads=1)
    link = {"reconnect_attempts": 8, "reply_timeout_s": 120}
    async with (
        CloudServer(settings(tiny_pair[1], sequences=3)) as cloud,
        running_agent(edge, cloud.address, context=256, link=link) as agent,
    ):
        host = cloud.host
        assert isinstance(host, ProcessHost) and host.process is not None
        expected = {name: facts((await complete(agent, ask(strategy=name)))[1]) for name in ("self-consistency", "rpc")}
        together = await asyncio.gather(*(complete(agent, ask(strategy=name)) for name in expected))
        assert [facts(completion) for _, completion in together] == list(expected.values())
        answering = asyncio.create_task(complete(agent, ask(strategy="rpc")))
        await until(lambda: cloud.service.active == 1)
        os.kill(host.process, signal.SIGKILL)
        assert facts((await answering)[1]) == expected["rpc"]
        assert host.restarts == 1
        await until(lambda: cloud.service.active == 0)


@pytest.mark.parametrize("verifier", [{"kind": "regex", "pattern": "."}, {"kind": "logprob"}, {"kind": "self"}])
async def test_verifiers_judge_in_the_clouds_process(tiny_pair: tuple[Path, Path], verifier: dict[str, object]) -> None:
    edge = open_engine(tiny_pair[0], context=512, sequences=4, threads=1)
    async with (
        CloudServer(settings(tiny_pair[1], context=512, sequences=4, batch_tokens=512)) as cloud,
        running_agent(edge, cloud.address, context=512, link={"reply_timeout_s": 120}) as agent,
    ):
        _, completion = await complete(agent, ask(edge.info.end_tokens, strategy="best-of-n", verifier=verifier))
        solution = completion.solution
        assert solution is not None and solution.strategy == "best-of-n" and not completion.degraded
        assert solution.compute.verifier_calls > 0 and not solution.complaints
        assert solution.verified is not None
        assert all(found.score is None or 0.0 <= found.score <= 1.0 for found in solution.alternatives)


async def test_a_cloud_whose_reward_model_is_none_does_not_start(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "reward.json"
    broken.write_text('{"model": 3}')
    with pytest.raises(Exception, match=r"reward\.model"):
        async with CloudServer(settings(tiny_pair[1], strategies=StrategySettings(reward_model=str(broken)))):
            pass
