"""Sampling parameters as they cross a wire: between a program and the agent, and between the two tiers."""

from __future__ import annotations

from updraft.errors import InvalidRequest
from updraft.sampling import SamplingParams
from updraft.v1 import sampling_pb2 as pb

__all__ = ["sampling_from_proto", "sampling_to_proto"]


def sampling_to_proto(params: SamplingParams) -> pb.Sampling:
    """The wire message; a seed of None stays absent.

    Raises:
        InvalidRequest: a number does not fit its field (for example a fractional top_k).
    """
    try:
        return pb.Sampling(
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            min_p=params.min_p,
            repetition_penalty=params.repetition_penalty,
            frequency_penalty=params.frequency_penalty,
            presence_penalty=params.presence_penalty,
            logit_bias=dict(params.logit_bias),
            seed=params.seed,
        )
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"sampling: {error}.", param="sampling") from error


def sampling_from_proto(message: pb.Sampling) -> SamplingParams:
    """Checked parameters; what is absent has the default that the proto file names.

    Raises:
        InvalidRequest: a value is NaN or outside of its range.
    """
    return SamplingParams(
        temperature=message.temperature,
        top_k=message.top_k,
        top_p=message.top_p if message.HasField("top_p") else 1.0,
        min_p=message.min_p,
        repetition_penalty=message.repetition_penalty if message.HasField("repetition_penalty") else 1.0,
        frequency_penalty=message.frequency_penalty,
        presence_penalty=message.presence_penalty,
        logit_bias=dict(message.logit_bias),
        seed=message.seed if message.HasField("seed") else None,
    )
