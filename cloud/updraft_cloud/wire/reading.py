"""Frames of the edge: read, and checked for type and size, before anything else sees them.

Whether one fits the session's log is for the session to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from updraft.errors import InvalidRequest, PromptTooLong, ProtocolViolation, RequestTooLarge
from updraft.exits.carry import Carry, Packed, unpack
from updraft.sampling_wire import sampling_from_proto
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud.frames import (
    Branch,
    Cancel,
    Close,
    Draft,
    Frame,
    HandBack,
    Hidden,
    HiddenEntry,
    Limits,
    Open,
    Score,
    TakeOver,
)
from updraft_cloud.sessions.acceptance import AnyRule, Likelihood, Lossless, Tolerance

__all__ = ["MAX_BRANCHES", "MAX_STOP_TOKENS", "MAX_WINDOW", "check_prompt", "read_frame", "read_tokens"]

MAX_WINDOW = 256
MAX_BRANCHES = 16
MAX_STOP_TOKENS = 64
MAX_CHOICES = 1024

_CARRIES: dict[int, Carry] = {pb.CARRY_FLOAT32: "float32", pb.CARRY_FLOAT16: "float16", pb.CARRY_INT8: "int8"}


def read_frame(message: pb.EdgeFrame, limits: Limits) -> Frame:
    """Check a frame and turn it into a dataclass.

    Raises:
        PromptTooLong: prompt and answer do not fit the context, or the prompt alone is too long.
        RequestTooLarge: the opening frame is.
        InvalidRequest: a value out of range in Open.
        ProtocolViolation: anything else that no correct edge sends.
    """
    match message.WhichOneof("body"):
        case "open":
            return _read_open(message.open, limits)
        case "draft":
            return _read_draft(message.draft, limits)
        case "take_over":
            return _read_take_over(message.take_over, limits)
        case "score":
            return _read_score(message.score, limits)
        case "hidden":
            return _read_hidden(message.hidden, limits)
        case "cancel":
            return Cancel()
        case "close":
            return Close()
        case _:
            raise ProtocolViolation("A frame without a body.")


def _read_open(message: pb.Open, limits: Limits) -> Open:
    check_prompt(message.prompt, message.ByteSize(), limits, written=len(message.generated))
    if message.max_tokens < 1:
        raise InvalidRequest("max_tokens is 0; it must be at least 1.", param="max_tokens")
    if len(message.generated) >= message.max_tokens:
        raise ProtocolViolation(f"{len(message.generated)} tokens are committed; max_tokens is {message.max_tokens}.")
    if message.top_logprobs > limits.top_logprobs:
        raise InvalidRequest(f"top_logprobs is {message.top_logprobs}; at most {limits.top_logprobs} are allowed.")
    sampling = sampling_from_proto(message.sampling)
    if sampling.seed is None:
        raise InvalidRequest("A session needs a seed: both tiers must draw with the same noise.", param="seed")
    return Open(
        tokenizer_hash=message.tokenizer_hash,
        fingerprint=message.fingerprint,
        prompt=read_tokens("prompt", message.prompt, limits.context, limits),
        generated=read_tokens("generated", message.generated, limits.context, limits),
        sampling=sampling,
        max_tokens=message.max_tokens,
        stop_tokens=frozenset(read_tokens("stop_tokens", message.stop_tokens, MAX_STOP_TOKENS, limits)),
        report=message.report,
        top_logprobs=message.top_logprobs,
        ignore_end=message.ignore_end,
        entry=_read_entry(message.entry) if message.HasField("entry") else None,
        acceptance=_read_acceptance(message.acceptance),
    )


def check_prompt(prompt: Sequence[int], size: int, limits: Limits, *, written: int = 0) -> None:
    """Refuse a prompt, with `written` tokens after it, in an opening message of `size` bytes, that cannot be taken."""
    if not prompt:
        raise InvalidRequest("The prompt is empty.", param="prompt")
    if limits.opening_bytes is not None and size > limits.opening_bytes:
        raise RequestTooLarge(f"The opening message has {size} bytes; at most {limits.opening_bytes} are taken.")
    if limits.prompt is not None and len(prompt) > limits.prompt:
        raise PromptTooLong(f"The prompt has {len(prompt)} tokens; at most {limits.prompt} are taken.")
    if len(prompt) + written >= limits.context:
        length = len(prompt) + written
        raise PromptTooLong(f"The log has {length} tokens; the cloud's context holds {limits.context}.")


def _read_acceptance(message: pb.Acceptance) -> AnyRule:
    match message.WhichOneof("rule"):
        case "tolerance":
            return Tolerance(message.tolerance)
        case "likelihood":
            return Likelihood(message.likelihood.threshold, message.likelihood.temperature)
        case _:
            return Lossless()


def _read_draft(message: pb.Draft, limits: Limits) -> Draft:
    run = read_tokens("run", message.run, limits.max_draft, limits)
    if len(message.branches) > MAX_BRANCHES:
        raise ProtocolViolation(f"A draft has {len(message.branches)} branches; at most {MAX_BRANCHES} are allowed.")
    room, branches = limits.max_draft - len(run), []
    for branch in message.branches:
        tokens = read_tokens("branches", branch.tokens, room, limits)
        if not tokens or branch.shared > len(run):
            raise ProtocolViolation(
                f"A branch of {len(tokens)} tokens leaves a run of {len(run)} after {branch.shared}."
            )
        room -= len(tokens)
        branches.append(Branch(branch.shared, tokens))
    return Draft(message.position, _committed(message, limits), message.log_hash, run, branches)


def _read_entry(message: pb.HiddenEntry) -> HiddenEntry:
    return HiddenEntry(message.layers, _read_carry(message.carry), message.fingerprint)


def _read_carry(value: int) -> Carry:
    if value not in _CARRIES:
        raise ProtocolViolation(
            f"Hidden states of precision {value}; it must be one of {', '.join(map(str, _CARRIES))}."
        )
    return _CARRIES[value]


def _read_hidden(message: pb.Hidden, limits: Limits) -> Hidden:
    carry = _read_carry(message.carry)
    if message.width != limits.width:
        raise ProtocolViolation(f"Hidden states of width {message.width}; this cloud's model has {limits.width}.")
    if not message.count or message.position + message.count > limits.context:
        raise ProtocolViolation(
            f"{message.count} hidden states from position {message.position}; the context holds {limits.context}."
        )
    scales = np.array(message.scales, np.float32)
    states = unpack(Packed(carry, message.count, message.width, message.data, scales))
    return Hidden(message.position, carry, states)


def _read_take_over(message: pb.TakeOver, limits: Limits) -> TakeOver:
    if message.written > limits.context:
        raise ProtocolViolation(f"{message.written} tokens of a span; the context holds {limits.context}.")
    return TakeOver(
        position=message.position,
        committed=_committed(message, limits),
        log_hash=message.log_hash,
        max_tokens=message.max_tokens,
        hand_back=_read_hand_back(message.hand_back) if message.HasField("hand_back") else None,
        step=message.step,
        written=message.written,
    )


def _read_hand_back(message: pb.HandBack) -> HandBack:
    if not 1 <= message.window <= MAX_WINDOW:
        raise ProtocolViolation(f"hand_back.window is {message.window}; it must be from 1 to {MAX_WINDOW}.")
    recent = list(message.recent)
    if len(recent) > MAX_WINDOW or not all(math.isfinite(value) for value in [message.threshold, *recent]):
        raise ProtocolViolation("hand_back holds a value out of range.")
    return HandBack(message.threshold, message.window, message.min_stay, recent)


def _read_score(message: pb.Score, limits: Limits) -> Score:
    tokens = read_tokens("tokens", message.tokens, limits.context, limits)
    choices = read_tokens("choices", message.choices, MAX_CHOICES, limits)
    if not choices and not (message.each and tokens):
        raise ProtocolViolation("A score asks for nothing: neither choices nor a report on its tokens.")
    if message.top_logprobs > limits.top_logprobs:
        raise ProtocolViolation(f"top_logprobs is {message.top_logprobs}; at most {limits.top_logprobs} are allowed.")
    return Score(
        position=message.position,
        committed=_committed(message, limits),
        log_hash=message.log_hash,
        tokens=tokens,
        choices=choices,
        each=message.each,
        top_logprobs=message.top_logprobs,
    )


def _committed(message: pb.Draft | pb.Score | pb.TakeOver, limits: Limits) -> list[int]:
    return read_tokens("committed", message.committed, limits.context, limits)


def read_tokens(name: str, ids: Sequence[int], most: int, limits: Limits) -> list[int]:
    tokens = list(ids)
    if len(tokens) > most:
        raise ProtocolViolation(f"{name} holds {len(tokens)} tokens; at most {most} are allowed.")
    if tokens and max(tokens) >= limits.vocabulary:
        raise ProtocolViolation(f"{name} holds token {max(tokens)}; the vocabulary has {limits.vocabulary}.")
    return tokens
