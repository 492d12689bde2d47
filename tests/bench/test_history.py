"""The judge of histories finds what no correct pair of tiers does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bench.fault_link import Passed, Strike
from bench.fault_schedule import Fault, Schedule
from bench.history import History, Reference, violations
from updraft.generation import Completion, Statistics, TokenEvent
from updraft.modes import Origin
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb

PROMPT, TOKENS = [7, 8, 9], [1, 2, 3, 4]
DROP = Fault("frame", "down", "drop", 3)


def letters(tokens: Sequence[int]) -> str:
    return "".join(chr(96 + token) for token in tokens)


def event(index: int, token: int, *, verified: bool = True, origin: Origin = Origin.CLOUD) -> TokenEvent:
    return TokenEvent(index, token, letters([token]), -1.0, 1.0, 1.0, origin, verified, float(index))


def verdict(
    tokens: Sequence[int], *, end: pb.End = pb.END_UNSPECIFIED, prompt: Sequence[int] = PROMPT
) -> pb.CloudFrame:
    log = TokenLog(prompt, tokens)
    return pb.CloudFrame(verdict=pb.Verdict(position=len(log), token=1, has_token=True, log_hash=log.hash, end=end))


def draft(tokens: Sequence[int], run: Sequence[int] = ()) -> pb.EdgeFrame:
    log = TokenLog(PROMPT, tokens)
    return pb.EdgeFrame(draft=pb.Draft(position=len(log), log_hash=log.hash, run=run))


def history(**changes: Any) -> History:
    """A correct one of mode draft, in which every verdict brought one token."""
    frames: list[pb.EdgeFrame | pb.CloudFrame] = [pb.EdgeFrame(open=pb.Open(prompt=PROMPT))]
    for count in range(len(TOKENS)):
        last = count + 1 == len(TOKENS)
        frames += [
            draft(TOKENS[:count], [5]),
            verdict(TOKENS[: count + 1], end=pb.END_LENGTH if last else pb.END_UNSPECIFIED),
        ]
    frames.append(pb.EdgeFrame(close=pb.Close()))
    made = History(
        Schedule(0, "draft", 0.0, len(TOKENS), changes.pop("faults", ())),
        Reference(PROMPT, TOKENS, letters(TOKENS)),
        Strike(passed=[passed(number, frame) for number, frame in enumerate(changes.pop("frames", frames), 1)]),
        changes.pop("events", [event(index, token) for index, token in enumerate(TOKENS)]),
    )
    written = [event.token for event in made.events]
    cloud = sum(event.origin is Origin.CLOUD for event in made.events)
    statistics = Statistics(tokens=len(written), cloud_tokens=cloud, edge_tokens=len(written) - cloud)
    fields = {"text": letters(written), "token_ids": written, "statistics": statistics, **changes}
    made.completion = Completion(finish_reason="length", mode="draft", model="m", seed=0, **fields)
    return made


def passed(number: int, frame: pb.EdgeFrame | pb.CloudFrame, stream: int = 1) -> Passed:
    return Passed(number / 1e3, stream, "up" if isinstance(frame, pb.EdgeFrame) else "down", number, frame, None)


def alone(loss: int, tokens: Sequence[int]) -> list[TokenEvent]:
    """Events of an answer that the edge finished alone after so many tokens."""
    return [
        event(index, token, verified=index < loss, origin=Origin.CLOUD if index < loss else Origin.EDGE)
        for index, token in enumerate(tokens)
    ]


def test_a_correct_history_is_left_alone() -> None:
    assert violations(history()) == []
    degraded = history(events=alone(2, [1, 2, 6, 6]), degraded=True, degraded_reason="late_reply", faults=(DROP,))
    assert violations(degraded) == []


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (lambda: history(events=[event(index, token) for index, token in enumerate([1, 2, 3, 5])]), "not the one"),
        (lambda: history(events=[event(index, token) for index, token in enumerate([1, 2, 3])]), "not the one"),
        (lambda: history(events=[event(index, token) for index, token in enumerate([1, 2, 2, 3, 4])]), "not the one"),
        (
            lambda: history(events=[event(index, token) for index, token in zip([0, 1, 1, 2], TOKENS, strict=True)]),
            "twice",
        ),
        (lambda: history(token_ids=[1, 2, 3, 4, 4]), "completion's"),
        (lambda: history(text="abcc"), "completion's"),
        (lambda: history(events=alone(2, TOKENS)), "does not say that it is degraded"),
        (lambda: history(events=alone(2, TOKENS), degraded=True), "plain to see"),
        (lambda: history(events=alone(2, [1, 3, 3, 4]), degraded=True, faults=(DROP,)), "up to the loss"),
        (lambda: history(statistics=Statistics(cloud_tokens=1, edge_tokens=3)), "other origins"),
        (lambda: history(events=[event(i, t, verified=i != 2) for i, t in enumerate(TOKENS)]), "is not verified"),
        (lambda: history(frames=[verdict([1, 5])]), "is not a beginning"),
        (lambda: history(frames=[verdict([1], prompt=[7, 8, 8])]), "is not a beginning"),
        (lambda: history(frames=[draft([1, 2, 3, 4, 4])]), "is not a beginning"),
        (lambda: history(frames=[verdict(TOKENS, end=pb.END_STOP), draft(TOKENS)]), "follows the end"),
    ],
)
def test_what_cannot_be_is_found_and_told(made: Callable[[], History], complaint: str) -> None:
    wrong = violations(made())
    assert any(complaint in text for text in wrong), wrong
    assert all(f"wrong: {text}" in made().told(wrong) for text in wrong)


def test_an_answer_that_failed_is_wrong() -> None:
    failed = history()
    failed.completion, failed.error = None, "overloaded: no"
    assert violations(failed) == ["the answer failed: overloaded: no"]


def test_a_told_history_is_short_and_shows_the_place() -> None:
    struck = Passed(0.0, 1, "down", 2, verdict([1]), DROP)
    long = [draft([]), struck.frame, *[verdict(TOKENS[:1])] * 200]
    made = history(frames=long, events=alone(4, [1, 2, 5, 4]), faults=(DROP,))
    made.strike.passed[1] = struck
    told = made.told(violations(made))
    assert len(told.splitlines()) < 30
    assert "*** drop at down frame 3" in told and "never struck" in told
    assert "token 2: [1, 2, 5, 4] where [1, 2, 3, 4] was due" in told


def test_an_edge_that_finished_alone_for_want_of_a_core_is_told_apart() -> None:
    starved = history(events=alone(2, [1, 2, 6, 6]), degraded=True, degraded_reason="late_reply")
    assert starved.unexplained and violations(starved)
    starved.starved = True
    assert violations(starved) == []
    wrong = history(events=alone(2, [1, 3, 6, 6]), degraded=True)
    wrong.starved = True
    assert "up to the loss" in violations(wrong)[0]
