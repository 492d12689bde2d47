"""How hidden states are packed: what arrives is what the sender rounds to, at every precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from updraft.errors import InvalidRequest, ProtocolViolation
from updraft.exits.carry import CARRIES, Carry, FloatRows, pack, packed_bytes, rounded, unpack

FINITE = st.floats(-(2.0**120), 2.0**120, width=32) | st.floats(-300, 300, width=32)
STATES = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=FINITE)


@given(STATES, st.sampled_from(CARRIES))
def test_what_arrives_is_what_the_sender_rounds_to(states: FloatRows, carry: Carry) -> None:
    arrived = unpack(pack(states, carry))
    assert arrived.dtype == np.float32
    assert np.array_equal(arrived, rounded(states, carry))


@given(STATES, st.sampled_from(CARRIES))
def test_rounding_twice_is_rounding_once(states: FloatRows, carry: Carry) -> None:
    once = rounded(states, carry)
    assert np.array_equal(rounded(once, carry), once)


@given(STATES)
def test_int8_is_off_by_half_a_step_at_most(states: FloatRows) -> None:
    steps = np.abs(states).max(axis=1, keepdims=True) / 127
    assert np.all(np.abs(rounded(states, "int8") - states) <= 0.5001 * steps + 2e-30)


def test_fp16_halves_the_traffic_and_clips_what_it_cannot_hold() -> None:
    states = np.array([[1e6, -1e6, 1.0]], np.float32)
    assert rounded(states, "float16").tolist() == [[65504.0, -65504.0, 1.0]]
    assert [packed_bytes(carry, 576) for carry in CARRIES] == [2304, 1152, 580]
    assert len(pack(states, "float16").data) * 2 == len(pack(states, "float32").data)


def test_rows_of_zeros_stay_zeros() -> None:
    states = np.zeros((2, 3), np.float32)
    assert np.array_equal(rounded(states, "int8"), states)


@given(STATES, st.sampled_from(CARRIES), st.data())
def test_a_part_holds_its_rows(states: FloatRows, carry: Carry, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(states) - 1))
    stop = data.draw(st.integers(start + 1, len(states)))
    assert np.array_equal(unpack(pack(states, carry).part(start, stop)), rounded(states, carry)[start:stop])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_states_that_are_not_finite_are_not_sent(value: float) -> None:
    for carry in CARRIES:
        with pytest.raises(InvalidRequest, match="not finite"):
            pack(np.array([[1.0, value]], np.float32), carry)


@pytest.mark.parametrize("shape", [(0, 3), (3,), (1, 2, 3)])
def test_states_of_another_shape_are_not_sent(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match="shape"):
        pack(np.ones(shape, np.float32), "float32")


@pytest.mark.parametrize("carry", CARRIES)
def test_data_that_do_not_fit_are_refused(carry: Carry) -> None:
    good = pack(np.ones((2, 3), np.float32), carry)
    for bad in (
        replace(good, data=good.data[:-1]),
        replace(good, data=good.data + b"\0\0\0\0"),
        replace(good, count=3),
        replace(good, count=0),
        replace(good, width=4),
        replace(good, width=0, data=b""),
        replace(good, scales=np.ones(3, np.float32)),
        replace(good, data=good.data + b"\0\0\0\0", scales=good.scales[:1]),
    ):
        with pytest.raises(ProtocolViolation):
            unpack(bad)


def test_values_that_are_not_finite_are_refused() -> None:
    good = pack(np.ones((1, 2), np.float32), "int8")
    nan = np.array([np.nan], np.float32)
    for bad in (
        replace(good, scales=nan),
        replace(good, scales=np.array([3e38], np.float32), data=b"\x7f\x01"),
        replace(good, carry="float16", data=b"\xff\xff\x00\x3c", scales=nan[:0]),
        replace(good, carry="float32", data=nan.tobytes() * 2, scales=nan[:0]),
    ):
        with pytest.raises(ProtocolViolation, match="not finite"):
            unpack(bad)


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="'int4'"):
        unpack(replace(pack(np.ones((1, 2), np.float32), "int8"), carry="int4"))  # type: ignore[arg-type]
