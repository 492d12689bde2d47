"""What the cloud tells of its sessions: from what they ask and are answered, and nothing once it is old."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft_cloud.engine.crowd import Crowd


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def drafts(crowd: Crowd, time: Time, session: int, accepted: list[int], *, run: int = 4, away_s: float = 0.03) -> None:
    """A session that drafts runs of one length and ends."""
    for stood in accepted:
        crowd.asked(session, run, time.now)
        time.now += 0.1
        crowd.judged(session, stood)
        time.now += away_s
    crowd.left(session)


def crowd_of(*sessions: list[int], away_s: float = 0.03) -> tuple[Crowd, Time]:
    time = Time()
    crowd = Crowd(time)
    for number, accepted in enumerate(sessions):
        drafts(crowd, time, number, accepted, away_s=away_s)
    return crowd, time


def test_nothing_is_said_of_a_few() -> None:
    crowd, _ = crowd_of(*[[4, 4, 4]] * 7)
    assert crowd.figures is None
    crowd, _ = crowd_of(*[[4]] * 20)  # four tokens each say nothing of a session
    assert crowd.figures is None


def test_sessions_that_are_all_alike() -> None:
    crowd, _ = crowd_of(*[[4, 4, 4, 1]] * 20)  # 13 stand of 14 judged: two after the rejected one never were
    figures = crowd.figures
    assert figures is not None
    assert figures.acceptance == pytest.approx(13 / 14)
    assert figures.away_s == pytest.approx(0.03)
    assert figures.prompt == 0.0


def test_the_acceptance_told_is_below_that_of_most_sessions() -> None:
    shares = [[4, 4, 4], [3, 3, 3], [4, 4, 3], [2, 2, 2], [4, 3, 4], [3, 4, 3], [1, 4, 4], [4, 4, 4]] * 8
    crowd, _ = crowd_of(*shares)
    figures = crowd.figures
    assert figures is not None
    stood = [sum(own) / sum(min(4, one + 1) for one in own) for own in shares]
    assert min(stood) < figures.acceptance < sum(stood) / len(stood)
    assert sum(share >= figures.acceptance for share in stood) >= 0.7 * len(stood)


def test_a_long_session_counts_before_it_ends() -> None:
    time = Time()
    crowd = Crowd(time)
    for _ in range(200):
        crowd.asked(1, 4, time.now)
        crowd.judged(1, 4)
    assert crowd.figures is not None


def test_prompts_are_told_for_each_committed_token() -> None:
    crowd, _ = crowd_of(*[[4, 4]] * 8)
    crowd.computed(160)  # 8 sessions with 10 tokens each
    crowd.wrote(99, 80)
    assert crowd.figures is not None and crowd.figures.prompt == pytest.approx(1.0)
    for _ in range(100):  # it follows what comes
        crowd.computed(600)
        crowd.wrote(99, 200)
    assert crowd.figures is not None and crowd.figures.prompt == pytest.approx(3.0, rel=0.1)


def test_time_away_leaves_out_what_the_cloud_wrote_and_long_pauses() -> None:
    crowd, time = crowd_of(*[[4, 4]] * 8)
    crowd.judged(1, 4)
    crowd.wrote(1, 16)  # a span between verdict and draft
    time.now += 20.0
    crowd.asked(1, 4, time.now)
    assert crowd.figures is not None and crowd.figures.away_s == pytest.approx(0.03)
    crowd.judged(1, 4)
    time.now += 20.0  # its reader was slow
    crowd.asked(1, 4, time.now)
    assert crowd.figures is not None and crowd.figures.away_s < 0.035


def test_what_is_old_is_not_told() -> None:
    crowd, time = crowd_of(*[[4, 4]] * 8)
    time.now += 61.0
    assert crowd.figures is None
    drafts(crowd, time, 1, [4, 4])
    assert crowd.figures is not None


EVENTS = st.tuples(st.integers(0, 3), st.sampled_from("ajwlc"), st.integers(0, 12), st.floats(0, 5))


@given(st.lists(EVENTS, max_size=120))
def test_whatever_happens_the_figures_are_figures(events: list[tuple[int, str, int, float]]) -> None:
    time = Time()
    crowd = Crowd(time)
    for session, kind, number, seconds in events:
        time.now += seconds
        match kind:
            case "a":
                crowd.asked(session, number, time.now)
            case "j":
                crowd.judged(session, number)
            case "w":
                crowd.wrote(session, number)
            case "l":
                crowd.left(session)
            case _:
                crowd.computed(number)
        figures = crowd.figures
        assert figures is None or (0.0 <= figures.acceptance <= 1.0 and figures.away_s >= 0.0 <= figures.prompt)
