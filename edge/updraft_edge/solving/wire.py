"""A Solve on the wire: the request made, the events read and checked. With `updraft_edge.wire` the only such place."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from updraft.errors import ProtocolViolation
from updraft.modes import Origin
from updraft.sampling import Distribution, Sampled, SamplingParams
from updraft.sampling_wire import sampling_to_proto
from updraft.strategies.effort import Plan
from updraft.strategies.problem import Spent
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge.wire import read_report

__all__ = ["Asking", "Found", "Progressed", "Solved", "Whole", "read_answer", "read_progress", "solve_request"]

_NAN: Final = float("nan")
_KINDS: Final[dict[int, str]] = {
    pb.SolveProgress.KIND_SAMPLE: "sample",
    pb.SolveProgress.KIND_STEP: "step",
    pb.SolveProgress.KIND_SCORE: "score",
    pb.SolveProgress.KIND_PRUNE: "prune",
    pb.SolveProgress.KIND_RESAMPLE: "resample",
    pb.SolveProgress.KIND_ANSWER: "answer",
    pb.SolveProgress.KIND_STAGE: "stage",
}
_ENDED: Final[dict[int, str]] = {
    pb.SolveAnswer.ENDED_DONE: "done",
    pb.SolveAnswer.ENDED_CONFIDENT: "confident",
    pb.SolveAnswer.ENDED_SATURATED: "saturated",
    pb.SolveAnswer.ENDED_SAMPLES: "samples",
    pb.SolveAnswer.ENDED_TOKENS: "tokens",
    pb.SolveAnswer.ENDED_CALLS: "calls",
    pb.SolveAnswer.ENDED_TIME: "time",
}
_VERIFIED: Final = {pb.SolveAnswer.VERIFIED_YES: True, pb.SolveAnswer.VERIFIED_NO: False}


@dataclass(frozen=True, slots=True)
class Asking:
    """What a Solve is asked with, the same each time it is sent.

    Attributes:
        question: the user's own words, token ids without the chat template.
        vocabulary: number of token ids; the answer's are checked against it.
    """

    tokenizer_hash: str
    prompt: Sequence[int]
    question: Sequence[int]
    sampling: SamplingParams
    max_tokens: int
    stop_tokens: Sequence[int]
    top_logprobs: int
    progress: bool
    alternatives: bool
    vocabulary: int


@dataclass(frozen=True, slots=True)
class Progressed:
    """Something that happened in the cloud; `branch` and `source` are None for none."""

    kind: str
    branch: int | None
    value: float | None
    source: int | None
    tokens: int
    stage: str


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole answer; `given` is the place of the edge's answer that it is, or None."""

    drawn: list[Sampled]
    finished: bool
    given: int | None

    @property
    def origin(self) -> Origin:
        return Origin.CLOUD if self.given is None else Origin.EDGE


@dataclass(frozen=True, slots=True)
class Found:
    """A final answer with its part of the vote."""

    whole: Whole
    weight: float
    samples: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Solved:
    """What the cloud came to."""

    whole: Whole
    confidence: float
    verified: bool | None
    ended: str
    spent: Spent
    unparsed: int
    complaints: tuple[str, ...]
    alternatives: list[Found] = field(default_factory=list)


def solve_request(
    asking: Asking, plan: Plan, given: Sequence[Sequence[Sampled]], ends: frozenset[int]
) -> pb.SolveRequest:
    """The request; `given` are the edge's own answers."""
    budget, strategy = plan.budget, plan.strategy
    return pb.SolveRequest(
        tokenizer_hash=asking.tokenizer_hash,
        prompt=asking.prompt,
        question=asking.question,
        sampling=sampling_to_proto(asking.sampling),
        max_tokens=asking.max_tokens,
        stop_tokens=asking.stop_tokens,
        top_logprobs=asking.top_logprobs,
        strategy=strategy.name,
        strategy_json=_json(strategy.model_dump(mode="json", exclude_unset=True)),
        verifier_json="" if plan.verifier is None else _json(plan.verifier),
        budget=pb.SolveBudget(
            samples=budget.samples,
            tokens=budget.tokens or 0,
            calls=budget.calls or 0,
            milliseconds=max(1, round(1000 * budget.seconds)) if budget.seconds else 0,
        ),
        given=[_given(answer, ends) for answer in given],
        progress=asking.progress,
        alternatives=asking.alternatives,
    )


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False) if value else ""


def _given(answer: Sequence[Sampled], ends: frozenset[int]) -> pb.GivenSample:
    mean = _mean([sampled.logprob for sampled in answer])
    return pb.GivenSample(
        tokens=[sampled.token for sampled in answer],
        logprob=mean if math.isfinite(mean) else -1e4,
        finished=answer[-1].token in ends,
        entropy=_mean([sampled.distribution.entropy for sampled in answer]),
        energy=_mean([sampled.distribution.energy for sampled in answer]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def read_progress(message: pb.SolveProgress) -> Progressed | None:
    """What happened; None for a kind that this version does not know.

    Raises:
        ProtocolViolation: a number that is none.
    """
    if message.kind not in _KINDS:
        return None
    value = message.value if message.HasField("value") else None
    if value is not None:
        _check_share("A value of progress", value)
    return Progressed(
        _KINDS[message.kind],
        message.branch if message.HasField("branch") else None,
        value,
        message.source if message.HasField("source") else None,
        message.tokens,
        message.stage,
    )


def read_answer(message: pb.SolveAnswer, asking: Asking, given: Sequence[Sequence[Sampled]]) -> Solved:
    """Check an answer against what was asked.

    Raises:
        ProtocolViolation: it does not fit the question, or holds a number that is none.
    """
    _check_share("A confidence", message.confidence)
    spent = message.spent
    return Solved(
        whole=_read_sample(message.sample, asking, given),
        confidence=message.confidence,
        verified=_VERIFIED.get(message.verified),
        ended=_ENDED.get(message.ended, "done"),
        spent=Spent(
            spent.samples,
            spent.tokens,
            spent.prefilled,
            spent.verifier_calls,
            spent.verifier_positions,
            spent.milliseconds / 1000,
        ),
        unparsed=message.unparsed,
        complaints=tuple(message.complaints),
        alternatives=[_read_alternative(found, asking, given) for found in message.alternatives],
    )


def _read_alternative(message: pb.SolveAlternative, asking: Asking, given: Sequence[Sequence[Sampled]]) -> Found:
    score = message.score if message.HasField("score") else None
    for share in (message.weight, *([] if score is None else [score])):
        _check_share("A weight or score", share)
    return Found(_read_sample(message.sample, asking, given), message.weight, message.samples, score)


def _read_sample(message: pb.SolveSample, asking: Asking, given: Sequence[Sequence[Sampled]]) -> Whole:
    tokens = list(message.tokens)
    if not tokens or len(tokens) > asking.max_tokens or max(tokens) >= asking.vocabulary:
        raise ProtocolViolation(f"An answer of {len(tokens)} tokens does not fit what was asked.")
    if message.given:
        if message.given > len(given) or [sampled.token for sampled in given[message.given - 1]] != tokens:
            raise ProtocolViolation(f"The answer is said to be the edge's own number {message.given}, and is not.")
        return Whole(list(given[message.given - 1]), message.finished, message.given - 1)
    if not math.isfinite(message.logprob) or len(message.reports) not in (0, len(tokens)):
        raise ProtocolViolation("The reports on an answer do not fit its tokens.")
    if message.reports:
        drawn = [read_report(token, report) for token, report in zip(tokens, message.reports, strict=True)]
    else:
        drawn = [Sampled(token, message.logprob, Distribution(_NAN, _NAN, _NAN)) for token in tokens]
    return Whole(drawn, message.finished, None)


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ProtocolViolation(f"{name} is {value}; it must be from 0 to 1.")
