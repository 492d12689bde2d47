"""Scores: the model's own probabilities of tokens that are not written, and a session that is as it was before."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cloud.sessions.test_session import LENGTH, PROMPT, TRUTH, Bench, opening
from tests.fakes.engine import HashEngine
from tests.fakes.raw_edge import RawEdge
from tests.fakes.tiers import running_cloud
from updraft.errors import InvalidRequest, LogMismatch, ProtocolViolation
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud.frames import Score, Scored

TOKENS = st.lists(st.integers(0, 62), max_size=90)


def ask(
    bench: Bench, tokens: list[int], *, choices: list[int] | None = None, each: bool = False, top: int = 0
) -> Scored:
    frame = Score(len(bench.log), [], bench.log.hash, tokens, choices or [], each, top)
    bench.session.take_score(frame)
    bench.run_dry()
    scored: Scored = bench.frames.pop()
    return scored


def logprobs(tokens: list[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What the model itself gives after a prefix, with nothing of the session's code."""
    row = HashEngine()._row(tuple(tokens)).astype(np.float64)
    return row - math.log(np.exp(row).sum())


@given(TOKENS, st.lists(st.integers(0, 63), max_size=5), st.booleans(), st.integers(1, 70))
@settings(max_examples=60, deadline=None)
def test_a_score_is_the_models_own_probabilities(tokens: list[int], choices: list[int], each: bool, chunk: int) -> None:
    if not choices and not (each and tokens):
        return
    bench = Bench(opening(), chunk=chunk)
    scored = ask(bench, tokens, choices=choices, each=each)
    after = logprobs([*PROMPT, *tokens])
    assert scored.choices == pytest.approx([after[choice] for choice in choices], abs=1e-4)
    expected = [logprobs([*PROMPT, *tokens[:place]])[token] for place, token in enumerate(tokens)] if each else []
    assert [report.logprob for report in scored.reports] == pytest.approx(expected, abs=1e-4)


@given(st.lists(st.tuples(TOKENS, st.booleans(), st.integers(0, 4)), max_size=4), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_a_session_that_scored_goes_on_as_if_it_had_not(
    questions: list[tuple[list[int], bool, int]], chunk: int
) -> None:
    scoring, plain = Bench(opening(), chunk=chunk), Bench(opening(), chunk=chunk)
    for tokens, each, drafted in questions:
        done = scoring.log.generated_length
        plain.run_dry()
        before = (scoring.log.tokens.copy(), plain.engine.save(plain.session.sequence))
        ask(scoring, tokens, choices=[1], each=each)
        assert (scoring.log.tokens, scoring.engine.save(scoring.session.sequence)) == before
        assert scoring.session.log.tokens == scoring.log.tokens
        run = TRUTH[0.8][done : done + drafted]
        mine, other = scoring.verdict(run), plain.verdict(run)
        assert msgspec.structs.replace(mine, spent=other.spent) == other
    assert scoring.log.generated == TRUTH[0.8][: scoring.log.generated_length]


def test_scores_need_no_other_sequence() -> None:
    bench = Bench(opening(), engine=HashEngine(sequences=1))
    ask(bench, [1, 2], choices=[3])
    assert bench.engine.open_sequences == 1


def test_reports_carry_entropy_energy_and_alternatives() -> None:
    (report,) = ask(Bench(opening(top_logprobs=0)), [5], each=True, top=3).reports
    after = logprobs(PROMPT)
    assert [token for token, _ in report.top] == list(np.argsort(-after)[:3])
    assert [logprob for _, logprob in report.top] == pytest.approx(sorted(after)[:-4:-1], abs=1e-4)
    assert report.entropy == pytest.approx(-(np.exp(after) * after).sum(), abs=1e-4)
    assert report.energy == pytest.approx(
        math.log(np.exp(HashEngine()._row(tuple(PROMPT)).astype(float)).sum()), abs=1e-4
    )


def test_the_last_token_is_computed_only_for_choices() -> None:
    bench = Bench(opening())
    bench.run_dry()
    spent = ask(bench, [1, 2, 3], each=True).spent
    assert (spent.passes, spent.positions) == (1, 3)
    assert ask(bench, [1, 2, 3], choices=[1]).spent.positions == 4


def test_a_finished_answer_can_still_be_scored() -> None:
    bench = Bench(opening(max_tokens=1))
    bench.verdict([])
    assert len(ask(bench, [1], choices=[1, 2]).choices) == 2


def test_what_the_model_rules_out_has_a_number_all_the_same() -> None:
    bench = Bench(opening())
    row = HashEngine()._row
    bench.engine._row = lambda prefix: np.where(np.arange(64) == 7, -np.inf, row(prefix))  # type: ignore[method-assign]
    scored = ask(bench, [7], choices=[7, 8], each=True)
    assert scored.choices[0] == scored.reports[0].logprob == -1e4


def test_logits_that_are_not_finite_are_refused() -> None:
    bench = Bench(opening())
    bench.engine._row = lambda prefix: np.full(64, np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(InvalidRequest, match="not finite"):
        ask(bench, [7], choices=[7])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"position": 4}, LogMismatch),
        ({"log_hash": 1}, LogMismatch),
        ({"tokens": [1] * 508}, ProtocolViolation),
        ({"committed": [1] * (LENGTH + 1)}, ProtocolViolation),
    ],
)
def test_scores_that_do_not_fit_the_log_are_refused(change: dict[str, object], error: type[Exception]) -> None:
    bench = Bench(opening())
    fields = {"position": 5, "committed": [], "log_hash": bench.log.hash, "tokens": [1], "choices": [1]}
    with pytest.raises(error):
        bench.session.take_score(Score(**{**fields, "each": False, "top_logprobs": 0, **change}))  # type: ignore[arg-type]
    assert bench.session.idle


@pytest.mark.parametrize(
    "score",
    [
        pb.Score(tokens=[1]),
        pb.Score(each=True),
        pb.Score(tokens=[64], choices=[1]),
        pb.Score(tokens=[1], choices=[64]),
        pb.Score(choices=[1] * 1025),
        pb.Score(tokens=[1] * 513, choices=[1]),
        pb.Score(tokens=[1], each=True, top_logprobs=21),
    ],
)
async def test_malformed_scores_end_the_session(score: pb.Score) -> None:
    async with running_cloud(HashEngine()) as cloud, RawEdge(cloud.address) as edge:
        await edge.open(PROMPT)
        await edge.read_body("opened")
        score.position, score.log_hash = len(edge.log), edge.log.hash
        await edge.send(pb.EdgeFrame(score=score))
        frame = await edge.read()
        assert frame is not None
        assert frame.error.code == "protocol_violation"
