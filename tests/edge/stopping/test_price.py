"""What a drafted position costs a shared cloud."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.errors import ProtocolViolation
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.price import CloudPrice, Crowd, committed

SECONDS = st.floats(1e-6, 1.0)


@given(SECONDS, SECONDS, st.integers(2, 40), SECONDS)
def test_a_session_that_is_alone_pays_its_own_time_only(
    pass_s: float, position_s: float, positions: int, away_s: float
) -> None:
    alone = CloudPrice(pass_s, position_s, 1.0, 1)
    assert alone.turn_s(positions, away_s) == pytest.approx(pass_s + positions * position_s)
    assert alone.round_s(positions, away_s) == pytest.approx(away_s + pass_s + positions * position_s)
    assert alone.surcharge_s(positions, away_s) == pytest.approx(0.0, abs=1e-9)


@given(SECONDS, SECONDS, st.integers(2, 40), SECONDS, st.integers(2, 200))
def test_the_turn_is_the_fixed_point_of_who_meets_whom(
    pass_s: float, position_s: float, positions: int, away_s: float, sessions: int
) -> None:
    turn = CloudPrice(pass_s, position_s, 1.0, sessions).turn_s(positions, away_s)
    own = position_s * positions
    in_turns = pass_s + own * sessions / 2
    present = 1 + (sessions - 1) * turn / (away_s + 1.5 * turn)
    assert turn == pytest.approx(in_turns if away_s < in_turns else pass_s + own * present, rel=1e-6)


@given(SECONDS, SECONDS, st.integers(2, 40), SECONDS, st.integers(2, 200))
def test_rounds_grow_with_positions_sessions_and_time_away(
    pass_s: float, position_s: float, positions: int, away_s: float, sessions: int
) -> None:
    price = CloudPrice(pass_s, position_s, 1.0, sessions)
    here = price.round_s(positions, away_s)
    assert here >= away_s + pass_s + position_s * positions
    assert price.surcharge_s(positions, away_s) >= 0.0
    assert CloudPrice(pass_s, position_s, 1.0, sessions + 50).round_s(positions, away_s) > here


def test_sessions_that_always_meet_pay_for_each_other_and_idle_clouds_cost_nothing() -> None:
    # Always a pass later: two turns a round, with half of the sessions in each.
    beyond_s = 2 * (8 / 2) * 0.002 - 0.002
    assert CloudPrice(0.01, 0.002, 1.0, 8).surcharge_s(5, 0.001) == pytest.approx(beyond_s, rel=0.01)
    full, half = (CloudPrice(0.01, 0.002, load, 8).surcharge_s(5, 0.001) for load in (1.0, 0.5))
    assert half == pytest.approx(full / 2)
    assert CloudPrice(0.01, 0.002, 0.0, 8).surcharge_s(5, 0.001) == 0.0


def test_how_busy_drafting_sessions_keep_the_cloud() -> None:
    price = CloudPrice(0.01, 0.0, 1.0, 2)
    assert price.busy(5, 0.0) == 1.0
    assert price.busy(5, 0.01) == pytest.approx(1 - (0.01 / 0.02) ** 2)
    assert price.writing_s == 0.01


def test_tokens_of_a_round() -> None:
    assert committed(0.0, 5) == 1.0
    assert committed(1.0, 5) == 6.0
    assert committed(0.5, 2) == 1.75


def test_prompts_take_their_part_of_every_pass() -> None:
    alone = CloudPrice(0.01, 0.002, 1.0, 1, Crowd(acceptance=0.5, away_s=0.02, prompt=3.0))
    assert alone.writing_s == pytest.approx(0.01 + 4 * 0.002)
    token_s, _ = alone.drafting(0.9, 1, 0.5)  # what the cloud says goes first
    assert token_s == pytest.approx((0.02 + 0.01 + 0.002 * (2 + 3.0 * 1.5)) / 1.5)


def test_what_an_edge_measured_serves_where_the_cloud_says_nothing() -> None:
    price = CloudPrice(0.01, 0.002, 1.0, 1)
    assert price.drafting(0.5, 1, 0.02)[0] == pytest.approx((0.02 + 0.01 + 0.002 * 2) / 1.5)


def test_costs_have_a_surcharge_once_the_cloud_has_said_that_it_is_loaded() -> None:
    costs = Costs()
    assert costs.surcharge_s == 0.0
    costs.heed(CloudPrice(0.005, 0.01, 1.0, 10))
    assert costs.surcharge_s > 0.05
    costs.heed(CloudPrice(0.005, 0.01, 0.0, 10))
    assert costs.surcharge_s == 0.0


def test_a_price_is_read_from_each_frame_that_may_bring_one() -> None:
    cost = pb.Cost(pass_micros=5000, position_micros=200, load=0.5, sessions=3)
    frames = (
        pb.CloudFrame(opened=pb.Opened(cost=cost)),
        pb.CloudFrame(verdict=pb.Verdict(cost=cost)),
        pb.CloudFrame(span=pb.Span(cost=cost)),
    )
    assert {wire.read_price(frame) for frame in frames} == {CloudPrice(0.005, 0.0002, 0.5, 3)}
    assert wire.read_price(pb.CloudFrame(verdict=pb.Verdict())) is None
    assert wire.read_price(pb.CloudFrame(notice=pb.Notice())) is None


def test_what_the_cloud_says_of_its_sessions_is_read() -> None:
    crowd = pb.Crowd(acceptance=0.5, away_micros=20_000, prompt=1.5)
    price = wire.read_price(pb.CloudFrame(verdict=pb.Verdict(cost=pb.Cost(crowd=crowd))))
    assert price is not None and price.crowd == Crowd(0.5, 0.02, 1.5)


@pytest.mark.parametrize(("acceptance", "prompt"), [(1.5, 0.0), (math.nan, 0.0), (0.5, -1.0), (0.5, math.inf)])
def test_figures_that_are_none_are_refused(acceptance: float, prompt: float) -> None:
    cost = pb.Cost(crowd=pb.Crowd(acceptance=acceptance, prompt=prompt))
    with pytest.raises(ProtocolViolation, match="no figure"):
        wire.read_price(pb.CloudFrame(verdict=pb.Verdict(cost=cost)))


@pytest.mark.parametrize("load", [-0.1, 1.1, math.nan, math.inf])
def test_a_load_that_is_no_share_is_refused(load: float) -> None:
    with pytest.raises(ProtocolViolation, match="load"):
        wire.read_price(pb.CloudFrame(verdict=pb.Verdict(cost=pb.Cost(load=load))))
