"""A session's promise: whatever the edge drafts, the log becomes what the cloud's model would have written alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.engine import HashEngine
from updraft.errors import LogMismatch, ProtocolViolation
from updraft.sampling import Sampler, SamplingParams
from updraft.token_log import TokenLog
from updraft_cloud.context import ContextManager
from updraft_cloud.frames import Draft, End, HandBack, Open, Span, TakeOver, Verdict
from updraft_cloud.sessions.session import Session

PROMPT = [3, 1, 4, 1, 5]
LENGTH = 40


def opening(*, generated: list[int] | None = None, temperature: float = 0.8, **changes: object) -> Open:
    fields: dict[str, object] = {
        "tokenizer_hash": "letters",
        "fingerprint": "",
        "prompt": PROMPT,
        "generated": generated or [],
        "sampling": SamplingParams(temperature=temperature, seed=9, presence_penalty=0.5),
        "max_tokens": LENGTH,
        "stop_tokens": frozenset(),
        "report": False,
        "top_logprobs": 0,
        "ignore_end": True,
    }
    return Open(**{**fields, **changes})  # type: ignore[arg-type]


class Bench:
    """A session stepped by hand, with the edge's view of the log beside it."""

    def __init__(
        self, frame: Open, *, chunk: int = 7, engine: HashEngine | None = None, context: ContextManager | None = None
    ) -> None:
        self.engine = engine or HashEngine()
        self.frames: list[Any] = []
        self.context = context or ContextManager(self.engine)
        self.session = Session(self.engine, self.context, frame, self.frames.append, chunk=chunk)
        self.log = TokenLog(frame.prompt, frame.generated)

    def step(self, passes: int = 1) -> bool:
        """Compute; False once the session waits."""
        for _ in range(passes):
            planned = self.session.plan()
            if planned is None:
                return False
            (output,) = self.engine.forward([planned.run])
            self.session.consume(planned.run, output)
        return True

    def run_dry(self) -> None:
        while self.step():
            pass

    def verdict(self, run: list[int]) -> Verdict:
        self.session.take_draft(Draft(len(self.log), [], self.log.hash, run))
        self.run_dry()
        verdict: Verdict = self.frames.pop()
        self.log.extend(run[: verdict.accepted])
        if verdict.token is not None:
            self.log.extend([verdict.token])
        assert (verdict.position, verdict.log_hash) == (len(self.log), self.log.hash)
        return verdict

    def take_over(self, *, most: int = 0, hand_back: HandBack | None = None) -> None:
        self.session.take_over(TakeOver(len(self.log), [], self.log.hash, most, hand_back))

    def collect(self) -> list[Span]:
        spans = [frame for frame in self.frames]
        self.frames.clear()
        for span in spans:
            assert span.position == len(self.log)
            self.log.extend(span.tokens)
            assert span.log_hash == self.log.hash
        return spans


def alone(frame: Open) -> list[int]:
    """What the model writes token by token, with nothing of the session's code."""
    engine, sampler, log = HashEngine(), Sampler(frame.sampling, frame.prompt), list(frame.prompt)
    ends = frozenset() if frame.ignore_end else engine.info.end_tokens | frame.stop_tokens
    for _ in range(frame.max_tokens):
        row = engine._row(tuple(log))
        token = sampler.draw(row, len(log)).token
        sampler.commit([token])
        log.append(token)
        if token in ends:
            break
    return log[len(frame.prompt) :]


TRUTH = {temperature: alone(opening(temperature=temperature)) for temperature in (0.0, 0.8)}


@given(st.data(), st.sampled_from([0.0, 0.8]), st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_any_mix_of_drafts_spans_and_reopenings_gives_the_clouds_own_text(
    data: st.DataObject, temperature: float, chunk: int
) -> None:
    truth = TRUTH[temperature]
    bench = Bench(opening(temperature=temperature), chunk=chunk)
    while bench.log.generated_length < LENGTH:
        done = bench.log.generated_length
        action = data.draw(st.sampled_from(["draft", "span", "reopen", "prefill"]))
        if action == "draft":
            right = data.draw(st.integers(0, 8))
            wrong = data.draw(st.lists(st.integers(0, 62), max_size=4))
            verdict = bench.verdict(truth[done : done + right] + wrong)
            assert verdict.accepted >= min(right, LENGTH - done - 1)
        elif action == "span":
            bench.take_over(most=data.draw(st.integers(1, 6)))
            bench.run_dry()
            bench.collect()
        elif action == "reopen":
            bench.session.close()
            frame = opening(temperature=temperature, generated=bench.log.generated)
            bench = Bench(frame, chunk=chunk, engine=bench.engine, context=bench.context)
        else:
            bench.step(data.draw(st.integers(1, 3)))
        assert bench.log.generated == truth[: bench.log.generated_length]
    bench.session.close()
    bench.context.check_integrity()


def test_a_verdict_of_a_perfect_draft_costs_one_pass_and_adds_a_token() -> None:
    bench = Bench(opening())
    bench.run_dry()  # the prompt
    verdict = bench.verdict(TRUTH[0.8][:6])
    assert (verdict.accepted, (verdict.token is not None), verdict.end) == (6, True, End.NOT_YET)
    assert (verdict.spent.passes, verdict.spent.positions) == (1, 7)
    assert verdict.spent.prefilled == len(PROMPT) - 1


def test_a_verdict_stops_at_an_end_token_inside_the_draft() -> None:
    truth = TRUTH[0.8]
    bench = Bench(opening(stop_tokens=frozenset({truth[3]}), ignore_end=False))
    verdict = bench.verdict(truth[:6])
    first = truth.index(truth[3])
    assert (verdict.accepted, (verdict.token is not None), verdict.end) == (first + 1, False, End.STOP)


def test_a_verdict_never_exceeds_the_longest_answer() -> None:
    bench = Bench(opening(max_tokens=3))
    verdict = bench.verdict(TRUTH[0.8][:6])
    assert (verdict.position, verdict.end) == (len(PROMPT) + 3, End.LENGTH)


def test_reports_cover_the_own_token_or_every_token() -> None:
    truth = TRUTH[0.8]
    assert len(Bench(opening()).verdict(truth[:2]).reports) == 1
    asked = Bench(opening(report=True, top_logprobs=3)).verdict(truth[:2])
    assert len(asked.reports) == 3
    assert all(len(report.top) == 3 and report.entropy > 0 for report in asked.reports)


def test_a_span_ends_when_the_entropy_has_fallen_but_not_before_its_stay() -> None:
    bench = Bench(opening())
    bench.take_over(hand_back=HandBack(threshold=100.0, window=3, min_stay=4, recent=[]))
    bench.run_dry()
    spans = bench.collect()
    assert len(spans) == 4
    assert [span.end for span in spans] == [End.NOT_YET] * 3 + [End.HAND_BACK]
    bench.take_over(hand_back=HandBack(threshold=0.0, window=3, min_stay=1, recent=[]))
    bench.run_dry()
    assert bench.collect()[-1].end == End.LENGTH


def test_a_span_taken_up_again_ends_where_it_would_have_ended() -> None:
    def write(hand_back: HandBack | None, *, after: list[int], most: int | None = None) -> list[float]:
        """Entropies of a span, of its first `most` tokens if it is cut."""
        bench = Bench(opening(temperature=0.0, generated=after))
        bench.take_over(hand_back=hand_back)
        while len(bench.frames) != most and bench.step():
            pass
        return [report.entropy for span in bench.collect() for report in span.reports]

    truth, entropies = TRUTH[0.0], write(None, after=[])
    means = [sum(entropies[end - 4 : end]) / 4 for end in range(4, 20)]
    low = min(means) + 1e-6
    whole = len(write(HandBack(low, 4, 4, []), after=[]))
    assert whole == 4 + means.index(min(means))
    for cut in range(1, whole):
        seen = write(HandBack(low, 4, 4, []), after=[], most=cut)
        condition = HandBack(low, 4, max(0, 4 - cut), seen[-4:])
        assert cut + len(write(condition, after=truth[:cut])) == whole


def test_cancel_ends_a_span_and_the_session_goes_on() -> None:
    bench = Bench(opening())
    bench.take_over()
    bench.step(4)
    bench.session.cancel()
    spans = bench.collect()
    assert spans[-1].end == End.CANCELLED
    assert bench.verdict([]).token is not None
    assert bench.log.generated == TRUTH[0.8][: bench.log.generated_length]


def test_cancel_without_a_span_is_ignored() -> None:
    bench = Bench(opening())
    bench.session.cancel()
    assert bench.frames == []


def test_tokens_that_the_edge_committed_alone_are_taken_in() -> None:
    bench = Bench(opening())
    own = [7, 8, 9]
    bench.log.extend(own)
    bench.session.take_draft(Draft(len(PROMPT), own, bench.log.hash, [1]))
    bench.run_dry()
    assert bench.frames.pop().position > len(bench.log)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"position": 4}, LogMismatch),
        ({"position": 99}, LogMismatch),
        ({"log_hash": 1}, LogMismatch),
        ({"committed": [1] * (LENGTH + 1)}, ProtocolViolation),
    ],
)
def test_frames_that_do_not_fit_the_log_are_refused(change: dict[str, object], error: type[Exception]) -> None:
    bench = Bench(opening())
    fields: dict[str, object] = {"position": 5, "committed": [], "log_hash": bench.log.hash, "run": [], **change}
    with pytest.raises(error):
        bench.session.take_draft(Draft(**fields))  # type: ignore[arg-type]


def test_a_second_frame_while_one_is_under_way_is_refused() -> None:
    bench = Bench(opening())
    bench.take_over()
    with pytest.raises(ProtocolViolation, match="under way"):
        bench.take_over()


def test_nothing_is_written_after_the_longest_answer() -> None:
    bench = Bench(opening(max_tokens=2))
    bench.take_over()
    bench.run_dry()
    bench.collect()
    with pytest.raises(ProtocolViolation, match="2 tokens"):
        bench.take_over()


class Announced(HashEngine):
    """An engine that is told which tokens wait."""

    def __init__(self) -> None:
        super().__init__()
        self.expected: list[list[int]] = []

    def expect(self, tokens: list[int]) -> None:
        self.expected.append(list(tokens))


def test_a_draft_is_announced_to_an_engine_that_fetches_ahead() -> None:
    engine = Announced()
    bench = Bench(opening(), engine=engine)
    bench.run_dry()
    assert engine.expected == []
    bench.verdict([7, 8])
    assert engine.expected == [[PROMPT[-1], 7, 8]]
