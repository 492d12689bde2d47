"""Mode `reason`: steps, who writes them, and what the link may do to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.edge.test_agent import LENGTH, ask, edge_engine
from tests.edge.test_faults import cut_often, relay_to
from tests.fakes.engine import HashEngine, LetterTokenizer
from tests.fakes.raw_edge import RawEdge
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.errors import CloudUnavailable, InvalidRequest
from updraft.generation import Completion, GenerationRequest
from updraft.mode_settings import ReasonSettings
from updraft.modes import Origin
from updraft.sampling import Distribution, Sampled
from updraft.token_log import TokenLog
from updraft_edge.answer import Answer
from updraft_edge.endpoint.session import EndpointSession
from updraft_edge.policies.judges import step_judge
from updraft_edge.policies.reason import Reasoning
from updraft_edge.policies.rubric import Question
from updraft_edge.seams import Decision, HandOver

NEWLINE, END = 62, 63
STEP = {"step_tokens": 12}


class Lines(LetterTokenizer):
    """Letters, and one token for the end of a line."""

    def piece(self, token: int) -> bytes:
        return b"\n" if token == NEWLINE else super().piece(token)


def lined(engine: HashEngine) -> HashEngine:
    """The engine with blank lines in what it writes."""
    engine.tokenizer = Lines(64)
    row = engine._row

    def with_lines(prefix: tuple[int, ...]) -> Any:
        return row(prefix) + np.where(np.arange(64) == NEWLINE, 6 if prefix[-1] == NEWLINE else 3, 0)

    engine._row = with_lines  # type: ignore[method-assign]
    return engine


def small(**changes: Any) -> HashEngine:
    return lined(edge_engine(context=2048, **changes))


def large(**changes: Any) -> HashEngine:
    return lined(HashEngine(context=2048, **changes))


def reason(threshold: float, **changes: Any) -> GenerationRequest:
    extra = {**STEP, "threshold": threshold, **changes.pop("reason", {})}
    return ask("reason", extra={"reason": extra}, **changes)


async def test_at_threshold_zero_every_step_of_the_edge_stands() -> None:
    async with running_cloud(large()) as cloud, running_agent(small(), cloud.address) as agent:
        _, alone = await complete(agent, ask("edge"))
        events, completion = await complete(agent, reason(0.0))
    statistics = completion.statistics
    assert completion.token_ids == alone.token_ids
    assert (statistics.steps_rewritten, statistics.cloud_tokens) == (0, 0)
    assert statistics.steps == statistics.round_trips == len(statistics.step_scores) > 3
    assert all(0 <= score <= 9 for score in statistics.step_scores)
    assert all(event.verified and event.origin is Origin.EDGE for event in events)


async def test_steps_can_be_scored_by_their_likelihood() -> None:
    async with running_cloud(large()) as cloud, running_agent(small(), cloud.address) as agent:
        events, completion = await complete(agent, reason(0.0, logprobs=True, reason={"scoring": "likelihood"}))
    statistics = completion.statistics
    first = events[: STEP["step_tokens"]]
    length = next(
        (place for place in range(1, len(first)) if first[place - 1].piece == first[place].piece == b"\n"), 11
    )
    (engine, prefix), logprobs = (large(), [*large().tokenizer.encode("hello there")]), []
    for event in first[: length + 1]:
        row = engine._row(tuple(prefix)).astype(float)
        logprobs.append(row[event.token] - np.log(np.exp(row).sum()))
        prefix.append(event.token)
    assert statistics.step_scores[0] == pytest.approx(9 * np.exp(np.mean(logprobs)), abs=1e-3)
    assert all(0 < score <= 9 for score in statistics.step_scores)
    assert statistics.scored == statistics.tokens  # no rubric


def test_an_endpoint_cannot_score_by_likelihood() -> None:
    endpoint = object.__new__(EndpointSession)
    with pytest.raises(InvalidRequest, match="average"):
        step_judge(endpoint, "likelihood", lambda: Question([], []))


async def test_a_threshold_out_of_reach_gives_the_clouds_own_text() -> None:
    async with running_cloud(large()) as cloud, running_agent(small(), cloud.address) as agent:
        _, alone = await complete(agent, ask("cloud"))
        _, completion = await complete(agent, reason(10.0))
    statistics = completion.statistics
    assert completion.token_ids == alone.token_ids
    assert (statistics.edge_tokens, statistics.steps) == (0, statistics.steps_rewritten)


async def test_steps_are_whole_and_of_one_tier() -> None:
    async with running_cloud(large()) as cloud, running_agent(small(), cloud.address) as agent:
        events, completion = await complete(agent, reason(4.5, max_tokens=300))
    statistics = completion.statistics
    rewritten = sum(score < 4.5 for score in statistics.step_scores)
    assert 0 < rewritten <= statistics.steps_rewritten < statistics.steps
    text, length = b"", 0
    for event, following in pairwise(events):
        text, length = text + event.piece, length + 1
        if event.origin is not following.origin:
            assert length >= STEP["step_tokens"] or text.endswith(b"\n\n")
        if (text.strip() and text.endswith(b"\n\n")) or length == STEP["step_tokens"]:
            text, length = b"", 0


async def test_the_first_steps_are_the_clouds_and_nobody_grades_them() -> None:
    async with running_cloud(large()) as cloud, running_agent(small(), cloud.address) as agent:
        _, alone = await complete(agent, ask("cloud"))
        events, completion = await complete(agent, reason(0.0, reason={"first_steps": 2}))
    statistics = completion.statistics
    assert statistics.steps_rewritten == 2
    assert len(statistics.step_scores) == statistics.steps - 2
    by_cloud = [event.token for event in events if event.origin is Origin.CLOUD]
    assert by_cloud == alone.token_ids[: len(by_cloud)] == completion.token_ids[: len(by_cloud)]


@pytest.mark.parametrize("seed", range(3))
async def test_a_stream_cut_at_random_moments_changes_no_token(seed: int) -> None:
    async with running_cloud(large()) as cloud, relay_to(cloud.address, delay_s=0.001) as relay:
        async with running_agent(small(), cloud.address) as near:
            _, expected = await complete(near, reason(4.5, max_tokens=300))
        async with running_agent(small(), relay.address, link={"reconnect_attempts": 9}) as agent:
            cutting = asyncio.create_task(cut_often(relay, random.Random(seed)))
            _, completion = await complete(agent, reason(4.5, max_tokens=300))
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
    assert completion.token_ids == expected.token_ids
    assert completion.statistics.step_scores == pytest.approx(expected.statistics.step_scores)
    assert not completion.degraded
    assert completion.statistics.reopened > 0


async def test_a_cloud_that_dies_in_mid_answer_leaves_the_rest_to_the_edge() -> None:
    async with running_cloud(large()) as cloud, relay_to(cloud.address) as relay:
        async with running_agent(small(), relay.address) as agent:
            answer = agent.generate(reason(4.5, max_tokens=300))
            for _ in range(30):
                await anext(answer)
            relay.refuse(True)
            relay.cut()
            rest = [item async for item in answer]
    completion = rest.pop()
    assert isinstance(completion, Completion)
    assert (completion.degraded, completion.statistics.tokens) == (True, 300)
    assert not any(event.verified for event in rest[-50:] if not isinstance(event, Completion))


async def test_a_cloud_that_was_never_there_leaves_the_answer_to_the_edge() -> None:
    async with running_agent(small(), "127.0.0.1:9") as agent:
        _, alone = await complete(agent, ask("edge"))
        _, completion = await complete(agent, reason(9.0))
    assert (completion.degraded, completion.token_ids) == (True, alone.token_ids)
    assert completion.statistics.tokens == LENGTH


class Judge:
    """Grades that are given, one after the other."""

    def __init__(self, *grades: float | Exception) -> None:
        self.grades = list(grades)
        self.asked: list[list[int]] = []

    async def score_step(self, step: Sequence[int]) -> float:
        self.asked.append(list(step))
        given = self.grades.pop(0)
        if isinstance(given, Exception):
            raise given
        return given


def drawn(*tokens: int) -> list[Sampled]:
    return [Sampled(token, -1.0, Distribution(0.0, 1.0, 0.5)) for token in tokens]


def reasoning(judge: Judge, **settings: Any) -> tuple[Reasoning, Answer]:
    answer = Answer(TokenLog([1]), Lines(64), ends=frozenset({END}), stop=(), most=100, started=0.0)
    return Reasoning(ReasonSettings(**settings), judge, answer, Lines(64)), answer


def ends_after(rule: Reasoning, tokens: list[int]) -> list[bool]:
    run = drawn(*tokens)
    return [rule.ends(run[: count + 1]) for count in range(len(run))]


def test_a_run_ends_with_its_step() -> None:
    rule, _ = reasoning(Judge(), step_tokens=6)
    assert ends_after(rule, [NEWLINE, NEWLINE, 5, NEWLINE, NEWLINE]) == [False] * 4 + [True]
    assert ends_after(rule, [5, 5, 5, 5, 5, 5]) == [False] * 5 + [True]
    waiting, _ = reasoning(Judge(), first_steps=1)
    assert ends_after(waiting, [5]) == [True]


async def test_a_step_stands_at_the_threshold_and_is_rewritten_below() -> None:
    judge = Judge(7.0, 6.9)
    rule, answer = reasoning(judge, threshold=7.0, step_tokens=50)
    step = drawn(5, 6, NEWLINE, NEWLINE)
    assert await rule.decide(step) is Decision.ACCEPT
    answer.commit(step, Origin.EDGE, verified=True)
    assert await rule.decide(drawn(8, END)) == HandOver(keep=0, step=True, most=50)
    assert judge.asked == [[5, 6, NEWLINE, NEWLINE], [8]]  # no end token inside a question
    assert answer.statistics.step_scores == [7.0, 6.9]


async def test_a_step_that_repeats_the_one_before_is_rewritten_unasked() -> None:
    judge = Judge(9.0)
    rule, answer = reasoning(judge)
    step = drawn(5, 6, NEWLINE, NEWLINE)
    assert await rule.decide(step) is Decision.ACCEPT
    answer.commit(step, Origin.EDGE, verified=True)
    assert isinstance(await rule.decide(drawn(NEWLINE, 5, 6, END)), HandOver)
    assert (len(judge.asked), answer.statistics.steps_rewritten) == (1, 1)


async def test_the_edge_may_end_an_answer_but_not_before_there_is_one() -> None:
    rule, answer = reasoning(Judge())
    assert isinstance(await rule.decide(drawn(END)), HandOver)
    answer.commit(drawn(5), Origin.CLOUD, verified=True)
    assert await rule.decide(drawn(NEWLINE, END)) is Decision.COMMIT
    assert isinstance(await rule.decide(drawn(NEWLINE, NEWLINE)), HandOver)
    assert isinstance(await rule.decide([]), HandOver)


async def test_a_judge_that_is_away_is_for_the_loop_to_deal_with() -> None:
    rule, answer = reasoning(Judge(CloudUnavailable("away")))
    with pytest.raises(CloudUnavailable):
        await rule.decide(drawn(5, 6))
    assert (answer.statistics.steps, answer.statistics.step_scores) == (0, [])


async def test_the_cloud_hands_back_at_the_end_of_a_step_also_of_one_it_takes_up_again() -> None:
    async with running_cloud(large()) as cloud:
        async with RawEdge(cloud.address) as edge:
            await edge.open([3, 4], max_tokens=200, ignore_end=True)
            await edge.take_over(step=True)
            whole = await tokens_of(edge)
        text = b"".join(map(Lines(64).piece, whole))
        assert text.endswith(b"\n\n")
        for cut in range(1, len(whole)):
            async with RawEdge(cloud.address) as edge:
                await edge.open([3, 4], max_tokens=200, ignore_end=True, generated=whole[:cut])
                await edge.take_over(step=True, written=cut)
                assert whole[:cut] + await tokens_of(edge) == whole
        async with RawEdge(cloud.address) as edge:
            await edge.open([3, 4], max_tokens=200, ignore_end=True)
            await edge.take_over(step=True, max_tokens=2)
            assert await tokens_of(edge) == whole[:2]
            await edge.take_over(step=True, written=9)
            frame = await edge.read()
            assert frame is not None
            assert frame.error.code == "protocol_violation"


async def tokens_of(edge: RawEdge) -> list[int]:
    """The tokens of a span, whose end must be a hand-back."""
    tokens: list[int] = []
    while True:
        span = await edge.read_body("span")
        tokens += span.tokens
        edge.log.extend(span.tokens)
        if span.end:
            assert span.end == 3  # END_HAND_BACK
            return tokens
