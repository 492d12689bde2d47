"""Service objectives and what is carried within them."""

from __future__ import annotations

import pytest

from bench.objective import Objective, Seen, Trial, carried, crossing, interval
from updraft.errors import ConfigError

OBJECTIVE = Objective(first_s=1.0, token_s=0.1, pause_s=0.5, share=0.75)


def seen(first_s: float = 0.5, token_s: float = 0.05, tokens: int = 5) -> Seen:
    return Seen(0.0, tuple(first_s + token_s * number for number in range(tokens)))


def trial(rate: float, good: int, bad: int, *, mode: str = "cloud") -> Trial:
    return Trial(mode, rate, 10.0, (seen(),) * good + (seen(first_s=3.0),) * bad)


def test_an_answer_holds_all_three_or_not() -> None:
    assert OBJECTIVE.holds(seen())
    assert not OBJECTIVE.holds(seen(first_s=1.1))
    assert not OBJECTIVE.holds(seen(token_s=0.11))
    assert not OBJECTIVE.holds(Seen(0.0, (0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.7)))
    assert not OBJECTIVE.holds(Seen(0.0, (), refused_s=0.2))


def test_tokens_of_one_verdict_come_together_and_count_by_their_mean() -> None:
    one = Seen(0.0, (0.2, 0.2, 0.2, 0.5, 0.5))
    assert one.token_s == pytest.approx(0.075) and one.pause_s == pytest.approx(0.3) and one.first_s == 0.2


@pytest.mark.parametrize("bad", [(0.0, 1.0, 1.0, 0.5), (1.0, 1.0, 1.0, 1.0), (1.0, -1.0, 1.0, 0.5)])
def test_an_objective_that_is_none_is_refused(bad: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError):
        Objective(*bad)


def test_what_is_carried_lies_where_the_share_is_lost() -> None:
    trials = [trial(1.0, 100, 0), trial(2.0, 100, 0), trial(3.0, 50, 50)]
    assert carried(trials, OBJECTIVE) == pytest.approx(2.5)
    assert carried(trials[:2], OBJECTIVE) == 2.0
    assert carried(trials[2:], OBJECTIVE) == 0.0 == carried([], OBJECTIVE)
    lucky = [*trials, trial(4.0, 100, 0)]
    assert carried(lucky, OBJECTIVE) == pytest.approx(2.5)


def test_sessions_at_once_lie_where_the_percentile_crosses() -> None:
    def times(load: float, token_s: float) -> Trial:
        return Trial("cloud", load, 1.0, (seen(token_s=token_s),) * 8)

    trials = [times(2, 0.04), times(4, 0.08), times(8, 0.16)]
    assert crossing(trials, OBJECTIVE) == pytest.approx(5.0)
    assert crossing(trials[:2], OBJECTIVE) == 4.0
    assert crossing(trials[2:], OBJECTIVE) == 0.0
    shed = [*trials[:2], Trial("cloud", 8.0, 1.0, (Seen(0.0, (), 0.1),))]
    assert crossing(shed, OBJECTIVE) == 4.0


def test_intervals_hold_what_was_measured() -> None:
    one = [trial(1.0, 100, 0, mode="draft"), trial(2.0, 60, 40, mode="draft")]
    other = [trial(1.0, 100, 0), trial(2.0, 50, 50)]
    between = interval(carried, one, other, OBJECTIVE)
    low, high = between["ratio"]
    assert low <= carried(one, OBJECTIVE) / carried(other, OBJECTIVE) <= high
    assert 0.8 < low < high < 1.5
    assert interval(carried, one, other, OBJECTIVE) == between


def test_a_row_counts_what_was_shed_and_what_came_in_time() -> None:
    made = Trial(
        "draft", 3.0, 10.0, (seen(), seen(first_s=2.0), Seen(1.0, (), 0.25), Seen(1.0, (0.1, 0.2), None, False))
    )
    row = made.row(OBJECTIVE)
    assert row["sessions"] == 4 and row["refused"] == 1 and row["wrong"] == 1
    assert row["held"] == 0.5 and row["goodput"] == pytest.approx(0.2) and row["refused_after_max_s"] == 0.25
