"""Scores of given text: equal on both tiers for equal models, however long the text and whoever shares its prompt."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.tiers import idle, running_agent, running_cloud, until
from updraft.engine.base import Run
from updraft.errors import CloudUnavailable, EngineFailure, InvalidRequest, PromptTooLong
from updraft.modes import ModeSettings, parse_settings
from updraft.sampling import measure
from updraft_edge.scoring import Judge

EDGE = parse_settings({"mode": "edge"})
CLOUD = parse_settings({"mode": "draft"})


def text(length: int) -> list[int]:
    return [(7 * place + place // 5) % 63 for place in range(length)]


def expected(engine: HashEngine, tokens: list[int]) -> list[float]:
    """Log-probabilities of the tokens after the first, computed one by one."""
    sequence, found = engine.open(), []
    for place, token in enumerate(tokens[:-1]):
        row = engine.forward([Run(sequence, place, [token], 1)])[0].logits[0]
        found.append(float(row[tokens[place + 1]]) - measure(row).energy)
    engine.close(sequence)
    return found


@pytest.mark.parametrize("length", [2, 3, 63, 64, 65, 200])
async def test_both_tiers_score_a_text_as_it_would_be_scored_token_by_token(length: int) -> None:
    small, large = HashEngine(noise=0.8, own_seed=7), HashEngine()
    tokens = text(length)
    async with running_cloud(large) as cloud, running_agent(small, cloud.address) as agent:
        by_edge = await agent.score(tokens, settings=EDGE, top_logprobs=3)
        by_cloud = await agent.score(tokens, settings=CLOUD, top_logprobs=3)
        await until(lambda: small.open_sequences == 0 and idle(cloud))
    for scores, engine in ((by_edge, HashEngine(noise=0.8, own_seed=7)), (by_cloud, HashEngine())):
        assert [scored.token for scored in scores] == tokens[1:]
        assert [scored.logprob for scored in scores] == pytest.approx(expected(engine, tokens), abs=1e-4)
        assert all(len(scored.top) == 3 and scored.distribution.entropy > 0 for scored in scores)


@pytest.mark.parametrize("settings", [EDGE, CLOUD])
async def test_branches_of_one_prompt_have_the_scores_they_have_alone(settings: ModeSettings) -> None:
    prompt, branches = text(90), [[1, 2, 3], [], [4], text(70)]
    async with (
        running_cloud(HashEngine()) as cloud,
        running_agent(HashEngine(noise=0.5, own_seed=3), cloud.address) as agent,
    ):
        together = await agent.score_branches(prompt, branches, settings=settings)
        for branch, scores in zip(branches, together, strict=True):
            alone = await agent.score([*prompt, *branch], settings=settings)
            assert [scored.logprob for scored in scores] == [scored.logprob for scored in alone[len(prompt) - 1 :]]


async def test_one_token_has_nothing_to_be_judged_by() -> None:
    async with running_agent(HashEngine(), None) as agent:
        assert await agent.score([5]) == []
        with pytest.raises(InvalidRequest, match="prompt is empty"):
            await agent.score([])


@pytest.mark.parametrize(
    ("tokens", "error"), [([1, 64], InvalidRequest), ([-1, 2], InvalidRequest), ([1] * 513, PromptTooLong)]
)
async def test_tokens_that_do_not_fit_are_refused(tokens: list[int], error: type[Exception]) -> None:
    async with running_agent(HashEngine(), None) as agent:
        with pytest.raises(error):
            await agent.score(tokens)


async def test_a_failing_engine_and_a_missing_cloud_are_said() -> None:
    async with running_agent(HashEngine(fail_after=1), None) as agent:
        with pytest.raises(EngineFailure):
            await agent.score([1, 2, 3])
    link: dict[str, Any] = {"connect_timeout_s": 0.5, "reconnect_attempts": 1}
    async with running_agent(HashEngine(), "127.0.0.1:9", link=link) as agent:
        with pytest.raises(CloudUnavailable):
            await agent.score([1, 2, 3], settings=CLOUD)


async def test_a_token_that_the_model_rules_out_has_a_finite_score() -> None:
    engine = HashEngine()
    compute = engine._row

    def ruled_out(prefix: tuple[int, ...]) -> Any:
        row = compute(prefix)
        row[9] = -math.inf
        return row

    engine._row = ruled_out  # type: ignore[method-assign]
    async with running_agent(engine, None) as agent:
        assert (await agent.score([1, 9]))[0].logprob == -1e4


async def test_an_endpoint_is_not_asked_and_the_edge_does_not_stand_in_for_it() -> None:
    async with running_agent(HashEngine(), None) as agent:
        judge = Judge(agent._loop, None, endpoint=True)
        with pytest.raises(InvalidRequest, match="endpoint") as caught:
            await judge.score([1], [[2]], CLOUD)
        assert "mode edge" in caught.value.remedy
        assert len((await judge.score([1], [[2, 3]], EDGE))[0]) == 2
