"""What the rules promise: which drafted tokens stand, and the cloud's own text where none is tolerated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cloud.sessions.test_session import LENGTH, PROMPT, TRUTH, Bench, alone, opening
from tests.fakes.engine import HashEngine
from tests.fakes.raw_edge import RawEdge
from tests.fakes.tiers import running_cloud
from updraft.errors import InvalidRequest
from updraft.sampling import Sampler, SamplingParams
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud.frames import End
from updraft_cloud.sessions.acceptance import AcceptanceRule, Likelihood, Lossless, Tolerance

ROWS = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=12).map(lambda row: np.array(row, np.float32))
SHARES = st.floats(0, 1)
PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0]),
    top_k=st.sampled_from([0, 3]),
    top_p=st.sampled_from([1.0, 0.8]),
    min_p=st.sampled_from([0.0, 0.1]),
    presence_penalty=st.sampled_from([0.0, 1.5]),
    logit_bias=st.sampled_from([{}, {1: 4.0}]),
    seed=st.just(3),
)


def standing(rule: AcceptanceRule, row: np.ndarray[Any, np.dtype[np.float32]], params: SamplingParams) -> set[int]:
    """The tokens that would stand in front of a row, after token 0 was written once."""
    sampler = Sampler(params)
    sampler.commit([0])
    own = sampler.draw(row, 7)
    return {token for token in range(len(row)) if rule.accepts(token, own, row, sampler)}


def probabilities(row: np.ndarray[Any, np.dtype[np.float32]], params: SamplingParams) -> list[float]:
    """What tokens are drawn from at temperature 1 where it is 0, without top-k, top-p and min-p."""
    logits = row.astype(np.float64).copy()
    logits[0] -= params.presence_penalty
    for token, bias in params.logit_bias.items():
        logits[token] += bias
    weights = np.exp((logits - logits.max()) / (params.temperature or 1.0))
    return list(weights / weights.sum())


@given(ROWS, PARAMS, SHARES, SHARES)
def test_a_larger_tolerance_lets_more_stand(
    row: np.ndarray[Any, np.dtype[np.float32]], params: SamplingParams, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert standing(Tolerance(low), row, params) <= standing(Tolerance(high), row, params)
    assert standing(Lossless(), row, params) <= standing(Tolerance(low), row, params)
    assert standing(Tolerance(1.0), row, params) == set(range(len(row)))


@given(ROWS, PARAMS, SHARES)
def test_what_stands_is_near_the_most_probable_or_the_clouds_own(
    row: np.ndarray[Any, np.dtype[np.float32]], params: SamplingParams, alpha: float
) -> None:
    chances = probabilities(row, params)
    stands, own = standing(Tolerance(alpha), row, params), standing(Lossless(), row, params)
    if alpha < 1:
        assert all(chances[token] >= (1 - alpha) * max(chances) - 1e-5 for token in stands - own)
    cut = params.temperature and (params.top_k or params.top_p < 1 or params.min_p)
    if not cut and alpha:
        assert {token for token, chance in enumerate(chances) if chance > (1 - alpha) * max(chances) + 1e-5} <= stands


@given(ROWS, PARAMS)
def test_without_tolerance_the_greedy_text_is_the_clouds_own(
    row: np.ndarray[Any, np.dtype[np.float32]], params: SamplingParams
) -> None:
    if not params.temperature:
        assert standing(Tolerance(0.0), row, params) == standing(Lossless(), row, params)
        equal = np.zeros(4, np.float32)
        assert standing(Tolerance(0.0), equal, SamplingParams(seed=1)) == {0}


@given(ROWS, PARAMS, SHARES, st.floats(0.1, 3))
def test_a_likelihood_lets_stand_what_is_likely_enough(
    row: np.ndarray[Any, np.dtype[np.float32]], params: SamplingParams, threshold: float, temperature: float
) -> None:
    own = standing(Lossless(), row, params)
    assert standing(Likelihood(0.0, temperature), row, params) == set(range(len(row)))
    lower = standing(Likelihood(threshold / 2, temperature), row, params)
    stands = standing(Likelihood(threshold, temperature), row, params)
    assert own <= stands <= lower
    bare = SamplingParams(
        temperature=temperature, presence_penalty=params.presence_penalty, logit_bias=params.logit_bias, seed=3
    )
    chances = probabilities(row, bare)
    assert all(chances[token] >= threshold - 1e-4 for token in stands - own)
    certain = standing(Likelihood(1.0, temperature), row, params) - own
    assert all(chances[token] > 0.999 for token in certain)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), float("inf")])
def test_numbers_out_of_range_are_refused(bad: float) -> None:
    with pytest.raises(InvalidRequest, match=r"acceptance\.tolerance"):
        Tolerance(bad)
    with pytest.raises(InvalidRequest, match="threshold"):
        Likelihood(bad, 1.0)
    if not bad > 0 or bad > 100:
        with pytest.raises(InvalidRequest, match="temperature"):
            Likelihood(0.1, bad)


@pytest.mark.parametrize(
    "acceptance",
    [
        pb.Acceptance(tolerance=1.5),
        pb.Acceptance(tolerance=float("nan")),
        pb.Acceptance(likelihood=pb.Likelihood(threshold=-1, temperature=1)),
        pb.Acceptance(likelihood=pb.Likelihood(threshold=0.5)),
        pb.Acceptance(likelihood=pb.Likelihood(threshold=0.5, temperature=float("nan"))),
    ],
)
async def test_bad_rules_are_refused_when_a_session_opens(acceptance: pb.Acceptance) -> None:
    async with running_cloud(HashEngine()) as cloud, RawEdge(cloud.address) as edge:
        await edge.open([1, 2], acceptance=acceptance)
        frame = await edge.read()
        assert frame is not None
        assert frame.error.code == "invalid_request"


@given(st.data(), st.sampled_from([0.0, 0.8]), st.sampled_from([Tolerance(0.7), Likelihood(0.05, 0.9)]))
@settings(max_examples=60, deadline=None)
def test_the_text_is_what_stands_of_the_drafts_and_the_clouds_own_after_it(
    data: st.DataObject, temperature: float, rule: AcceptanceRule
) -> None:
    bench = Bench(opening(temperature=temperature, acceptance=rule, report=True))
    model, sampler = HashEngine(), Sampler(opening(temperature=temperature).sampling, PROMPT)
    while bench.log.generated_length < LENGTH:
        run = data.draw(st.lists(st.integers(0, 62), max_size=3))
        before = list(bench.log.tokens)
        verdict = bench.verdict(run)
        tolerated = 0
        for place, token in enumerate(bench.log.tokens[len(before) :]):
            row = model._row(tuple(bench.log.tokens[: len(before) + place]))
            own = sampler.draw(row, len(before) + place)
            if place < verdict.accepted:
                assert rule.accepts(token, own, row, sampler)
                tolerated += token != own.token
            else:
                assert token == own.token
            logprob = float(row[token]) - own.distribution.energy
            assert verdict.reports[place].logprob == pytest.approx(logprob, abs=1e-4)
            sampler.commit([token])
        assert verdict.tolerated == tolerated
        if data.draw(st.booleans()):  # resumed in the middle, with its rule
            bench.session.close()
            again = opening(temperature=temperature, acceptance=rule, report=True, generated=bench.log.generated)
            if bench.log.generated_length < LENGTH:
                bench = Bench(again, engine=bench.engine, context=bench.context)


@given(st.data(), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_a_session_without_tolerance_writes_the_clouds_own_greedy_text(data: st.DataObject, chunk: int) -> None:
    bench = Bench(opening(temperature=0.0, acceptance=Tolerance(0.0)), chunk=chunk)
    while bench.log.generated_length < LENGTH:
        done = bench.log.generated_length
        right = TRUTH[0.0][done : done + data.draw(st.integers(0, 6))]
        assert bench.verdict(right + data.draw(st.lists(st.integers(0, 62), max_size=3))).tolerated == 0
    assert bench.log.generated == TRUTH[0.0]


def test_an_end_token_that_is_tolerated_ends_the_answer() -> None:
    end = HashEngine().info.end_tokens
    frame = opening(acceptance=Tolerance(1.0), ignore_end=False)
    bench = Bench(frame)
    verdict = bench.verdict([3, *end, 4])
    assert (verdict.accepted, (verdict.token is not None), verdict.end) == (2, False, End.STOP)
    assert alone(frame)[:1] != [3]
