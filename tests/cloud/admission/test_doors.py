"""Admission: sessions of all and of one tenant, rates, waits, and retry-after for whoever is turned away."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes.clock import Clock
from updraft.config.admission import AdmissionSettings
from updraft.errors import Overloaded
from updraft_cloud.admission.doors import Admission
from updraft_cloud.admission.place_queue import Refusal


def doors(*, places: int = 2, max_sessions: int = 8, clock: Clock | None = None, **settings: Any) -> Admission:
    limits = AdmissionSettings(**settings)
    return Admission(limits, places=places, max_sessions=max_sessions, clock=clock or Clock())


def refused(admission: Admission, tenant: str, reason: Refusal, *, remaining_s: float | None = None) -> Overloaded:
    """What an opening is told that is turned away for this reason."""
    before = admission.refused[reason], admission.sessions
    with pytest.raises(Overloaded) as told:
        admission.enter(tenant, 1, remaining_s)
    assert told.value.retry_after_s > 0
    assert (admission.refused[reason], admission.sessions) == (before[0] + 1, before[1])
    return told.value


async def test_sessions_are_bounded_in_all_and_for_each_tenant() -> None:
    admission = doors(max_sessions=3, tenant_sessions=2)
    visits = [admission.enter("a", 1) for _ in range(2)]
    refused(admission, "a", Refusal.TENANT_SESSIONS)
    visits.append(admission.enter("b", 1))
    refused(admission, "c", Refusal.SESSIONS)
    visits[0].leave()
    visits[0].leave()
    assert admission.sessions == 2
    await asyncio.wait_for(visits[2].seated(), 1)
    for visit in visits:
        visit.leave()
    assert (admission.sessions, admission.queue.taken, admission.queue.waiting) == (0, 0, 0)


async def test_a_session_waits_for_a_place_and_gets_it() -> None:
    admission = doors(places=1)
    first, second = admission.enter("a", 1), admission.enter("a", 1)
    assert first.wait_s is None
    assert second.wait_s is not None
    waiting = asyncio.create_task(second.seated())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.leave()
    await asyncio.wait_for(waiting, 1)
    assert second.wait_s is None


async def test_a_session_that_waits_too_long_is_told_when_to_come_again() -> None:
    admission = doors(places=1, queue_wait_s=0.02)
    admission.enter("a", 1)
    second = admission.enter("a", 1)
    with pytest.raises(Overloaded) as told:
        await second.seated()
    assert told.value.retry_after_s > 0
    second.leave()
    assert admission.refused == {Refusal.WAITED: 1}
    assert admission.queue.waiting == 0


async def test_the_clients_own_deadline_counts_where_it_is_earlier() -> None:
    clock = Clock()
    admission = doors(places=1, clock=clock, queue_wait_s=10.0)
    first = admission.enter("a", 1)
    assert first.deadline == float("inf")
    assert admission.enter("a", 1, remaining_s=100.0).deadline == 100.0
    clock.move(4)  # the place is held for long
    assert refused(admission, "a", Refusal.EXPECTED_WAIT, remaining_s=1.0).retry_after_s > 1
    assert admission.enter("a", 1, remaining_s=60.0).wait_s is not None


async def test_a_session_that_goes_away_while_it_waits_leaves_the_queue() -> None:
    admission = doors(places=1)
    first, second, third = (admission.enter("a", 1) for _ in range(3))
    waiting = asyncio.create_task(second.seated())
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    second.leave()
    first.leave()
    await asyncio.wait_for(third.seated(), 1)
    assert admission.queue.taken == 1


async def test_openings_beyond_the_rate_are_refused() -> None:
    clock = Clock()
    admission = doors(clock=clock, places=50, max_sessions=50, sessions_per_minute=6)
    for _ in range(6):
        admission.enter("a", 1)
    assert refused(admission, "a", Refusal.SESSION_RATE).retry_after_s == pytest.approx(10)
    admission.enter("b", 1)
    clock.move(10)
    admission.enter("a", 1)


async def test_frames_beyond_the_rate_are_held_back_and_then_refused() -> None:
    clock = Clock()
    admission = doors(clock=clock, tokens_per_second=10, token_burst=50, slow_wait_s=2.0)
    visit = admission.enter("a", 40)
    assert visit.charge(10) == 0
    assert visit.charge(20) == pytest.approx(2)
    with pytest.raises(Overloaded) as told:
        visit.charge(5)
    assert told.value.retry_after_s == pytest.approx(2.5)
    assert admission.refused == {Refusal.RATE: 1}
    assert admission.slowed == 1
    assert admission.enter("b", 50).charge(1) == pytest.approx(0.1)
    clock.move(2.5)
    assert visit.charge(5) == pytest.approx(0)


async def test_what_the_cloud_writes_is_paid_for_by_the_next_frame() -> None:
    admission = doors(tokens_per_second=10, token_burst=50)
    visit = admission.enter("a", 10)
    for _ in range(60):
        visit.spend(1)
    assert visit.charge(1) == pytest.approx(2.1)


async def test_an_opening_beyond_the_rate_is_held_back_before_it_takes_a_place() -> None:
    admission = doors(tokens_per_second=1000, token_burst=10)
    admission.enter("a", 20)
    visit = admission.enter("a", 10)
    assert visit.wait_s == pytest.approx(0.02)
    assert admission.queue.taken == 1
    await visit.seated()
    assert admission.queue.taken == 2
    visit.leave()
    assert admission.queue.taken == 1


async def test_streams_are_bounded() -> None:
    admission = doors(max_streams=1)
    admission.check_streams(0)
    with pytest.raises(Overloaded):
        admission.check_streams(1)
    assert admission.refused == {Refusal.STREAMS: 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"token_burst": 5},
        {"prompt_bytes": 1 << 16, "frame_bytes": 1 << 15},
        {"queue_wait_s": 0},
        {"tokens_per_second": float("nan")},
        {"top_logprobs": 21},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AdmissionSettings(**settings)
