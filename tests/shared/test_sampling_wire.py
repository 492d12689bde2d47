from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.errors import InvalidRequest
from updraft.sampling import MAX_LOGIT_BIAS, MAX_SEED, SamplingParams
from updraft.sampling_wire import sampling_from_proto, sampling_to_proto
from updraft.v1 import sampling_pb2 as pb

PARAMS = st.builds(
    SamplingParams,
    temperature=st.floats(0, 100),
    top_k=st.integers(0, 2**31 - 1),
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1),
    repetition_penalty=st.floats(0.01, 100),
    frequency_penalty=st.floats(-100, 100),
    presence_penalty=st.floats(-100, 100),
    logit_bias=st.dictionaries(st.integers(0, 2**31 - 1), st.floats(-100, 100), max_size=8),
    seed=st.none() | st.integers(0, MAX_SEED),
)

FLOAT_FIELDS = ["temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty"]


@given(PARAMS)
def test_parameters_survive_the_wire_to_the_last_bit(params: SamplingParams) -> None:
    raw = sampling_to_proto(params).SerializeToString()
    assert sampling_from_proto(pb.Sampling.FromString(raw)) == params


def test_an_empty_message_means_the_defaults() -> None:
    assert sampling_from_proto(pb.Sampling()) == SamplingParams()


def test_seed_zero_is_a_seed() -> None:
    assert sampling_from_proto(sampling_to_proto(SamplingParams(seed=0))).seed == 0


@pytest.mark.parametrize("field", FLOAT_FIELDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -101.0])
def test_numbers_that_are_not_in_range_are_refused_by_name(field: str, value: float) -> None:
    message = pb.Sampling()
    setattr(message, field, value)
    with pytest.raises(InvalidRequest, match=field) as caught:
        sampling_from_proto(message)
    assert caught.value.param == field


@pytest.mark.parametrize(
    "message",
    [
        pb.Sampling(top_p=0.0),
        pb.Sampling(repetition_penalty=0.0),
        pb.Sampling(temperature=-1e-9),
        pb.Sampling(top_k=2**32 - 1),
        pb.Sampling(logit_bias={1: math.nan}),
        pb.Sampling(logit_bias={2**32 - 1: 1.0}),
        pb.Sampling(logit_bias=dict.fromkeys(range(MAX_LOGIT_BIAS + 1), 1.0)),
    ],
)
def test_hostile_messages_are_refused(message: pb.Sampling) -> None:
    with pytest.raises(InvalidRequest):
        sampling_from_proto(message)


def test_what_does_not_fit_the_message_is_the_callers_error() -> None:
    with pytest.raises(InvalidRequest, match="sampling"):
        sampling_to_proto(replace(SamplingParams(), top_k=1.5))  # type: ignore[arg-type]
