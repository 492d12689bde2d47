"""A Solve on the wire: the request read and checked, the events made."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final

from updraft.config.strategies import StrategySettings
from updraft.errors import InvalidRequest, PromptTooLong, ProtocolViolation, RequestTooLarge
from updraft.modes import MAX_SPEC_BYTES, MAX_SPEC_DEPTH, depth_of
from updraft.sampling_wire import sampling_from_proto
from updraft.strategies.problem import Budget, Spent
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud.frames import Failed, Limits
from updraft_cloud.solve_frames import Given, Noted, Proposed, Solved, SolveOrder, SolveReply, Written
from updraft_cloud.wire.making import cost_message, error_message, report_message
from updraft_cloud.wire.reading import MAX_STOP_TOKENS, check_prompt, read_tokens

__all__ = ["MAX_GIVEN", "read_solve", "solve_event", "solve_notice", "working_event"]

MAX_GIVEN: Final = 64
_MAX_ALTERNATIVES: Final = 64
_MAX_COMPLAINTS: Final = 16
_LONGEST_COMPLAINT: Final = 200
_LONGEST_NAME: Final = 64

_KINDS: Final[dict[str, pb.SolveProgress.Kind]] = {
    "sample": pb.SolveProgress.KIND_SAMPLE,
    "step": pb.SolveProgress.KIND_STEP,
    "score": pb.SolveProgress.KIND_SCORE,
    "prune": pb.SolveProgress.KIND_PRUNE,
    "resample": pb.SolveProgress.KIND_RESAMPLE,
    "answer": pb.SolveProgress.KIND_ANSWER,
    "stage": pb.SolveProgress.KIND_STAGE,
}
_ENDED: Final[dict[str, pb.SolveAnswer.Ended]] = {
    "done": pb.SolveAnswer.ENDED_DONE,
    "confident": pb.SolveAnswer.ENDED_CONFIDENT,
    "saturated": pb.SolveAnswer.ENDED_SATURATED,
    "samples": pb.SolveAnswer.ENDED_SAMPLES,
    "tokens": pb.SolveAnswer.ENDED_TOKENS,
    "calls": pb.SolveAnswer.ENDED_CALLS,
    "time": pb.SolveAnswer.ENDED_TIME,
}
_VERIFIED: Final = {
    None: pb.SolveAnswer.VERIFIED_UNKNOWN,
    True: pb.SolveAnswer.VERIFIED_YES,
    False: pb.SolveAnswer.VERIFIED_NO,
}


def read_solve(message: pb.SolveRequest, limits: Limits, allowed: StrategySettings) -> SolveOrder:
    """Check a request and turn it into an order.

    Raises:
        PromptTooLong: the prompt does not fit the context, or is longer than is taken.
        RequestTooLarge: the message is.
        InvalidRequest: a value is out of range or beyond what this cloud allows.
        ProtocolViolation: anything else that no correct edge sends.
    """
    check_prompt(message.prompt, message.ByteSize(), limits)
    if len(message.question) > limits.context:
        raise PromptTooLong(f"The question has {len(message.question)} tokens; the context holds {limits.context}.")
    if message.max_tokens < 1:
        raise InvalidRequest("max_tokens is 0; it must be at least 1.", param="max_tokens")
    if message.top_logprobs > limits.top_logprobs:
        raise InvalidRequest(f"top_logprobs is {message.top_logprobs}; at most {limits.top_logprobs} are allowed.")
    sampling = sampling_from_proto(message.sampling)
    if sampling.seed is None:
        raise InvalidRequest("A Solve needs a seed: it must come out the same when it is sent again.", param="seed")
    if any(token >= limits.vocabulary for token in sampling.logit_bias):
        raise InvalidRequest(f"logit_bias names a token beyond the {limits.vocabulary} of the vocabulary.")
    return SolveOrder(
        tokenizer_hash=message.tokenizer_hash,
        fingerprint=message.fingerprint,
        prompt=read_tokens("prompt", message.prompt, limits.context, limits),
        question=read_tokens("question", message.question, limits.context, limits),
        sampling=sampling,
        max_tokens=min(message.max_tokens, limits.context),
        stop_tokens=frozenset(read_tokens("stop_tokens", message.stop_tokens, MAX_STOP_TOKENS, limits)),
        top_logprobs=message.top_logprobs,
        strategy=message.strategy[:_LONGEST_NAME],
        settings=_read_spec("strategy", message.strategy_json),
        verifier=_read_spec("verifier", message.verifier_json),
        budget=_read_budget(message.budget, allowed),
        given=_read_given(message.given, limits),
        progress=message.progress,
        alternatives=message.alternatives,
    )


def _read_spec(field: str, text: str) -> str:
    """A JSON object as it came, or an empty text."""
    if not text:
        return ""
    if len(text) > MAX_SPEC_BYTES:
        raise RequestTooLarge(f"{field} has {len(text)} characters; at most {MAX_SPEC_BYTES} are taken.")
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{field} is no JSON.", param=field) from error
    if not isinstance(data, dict):
        raise InvalidRequest(f"{field} must be a JSON object.", param=field)
    if depth_of(data) > MAX_SPEC_DEPTH:
        raise InvalidRequest(f"{field} is nested too deeply.", param=field)
    return text


def _read_budget(message: pb.SolveBudget, allowed: StrategySettings) -> Budget:
    """What is asked for, and the cloud's own limits where nothing is. Raises InvalidRequest for more than these."""
    limits = {
        "samples": (message.samples, allowed.max_samples),
        "tokens": (message.tokens, allowed.max_tokens),
        "calls": (message.calls, allowed.max_calls),
        "seconds": (message.milliseconds / 1000, allowed.max_s),
    }
    for name, (asked, most) in limits.items():
        if asked > most:
            raise InvalidRequest(
                f"budget.{name} is {asked:g}; this cloud allows {most:g}.",
                remedy="Ask for less, or raise cloud.strategies on the cloud.",
                param=f"updraft.budget.{name}",
            )
    if not message.samples:
        raise InvalidRequest("budget.samples is 0; it must be at least 1.", param="updraft.budget.samples")
    seconds = min(message.milliseconds / 1000 or allowed.max_s, 3600.0)
    return Budget(message.samples, message.tokens or allowed.max_tokens, message.calls or allowed.max_calls, seconds)


def _read_given(samples: Sequence[pb.GivenSample], limits: Limits) -> list[Given]:
    if len(samples) > MAX_GIVEN:
        raise ProtocolViolation(f"{len(samples)} answers were given; at most {MAX_GIVEN} are taken.")
    given = []
    for sample in samples:
        tokens = read_tokens("given", sample.tokens, limits.context, limits)
        measured = (sample.logprob, sample.entropy, sample.energy)
        if not tokens or not all(map(math.isfinite, measured)):
            raise ProtocolViolation("A given answer has no tokens, or a log-probability or a mean that is none.")
        given.append(Given(tokens, min(sample.logprob, 0.0), sample.finished, max(0.0, sample.entropy), sample.energy))
    return given


def solve_event(reply: SolveReply) -> pb.SolveEvent:
    """What was answered, for the wire."""
    match reply:
        case Noted():
            return pb.SolveEvent(progress=_progress(reply))
        case Solved():
            return pb.SolveEvent(answer=_answer(reply))
        case Failed():
            return pb.SolveEvent(error=error_message(reply))


def solve_notice(kind: pb.Notice.Kind, message: str, retry_after_ms: int = 0) -> pb.SolveEvent:
    return pb.SolveEvent(notice=pb.Notice(kind=kind, message=message, retry_after_ms=retry_after_ms))


def working_event() -> pb.SolveEvent:
    return pb.SolveEvent(working=pb.SolveWorking())


def _progress(noted: Noted) -> pb.SolveProgress:
    return pb.SolveProgress(
        kind=_KINDS.get(noted.kind, pb.SolveProgress.KIND_UNSPECIFIED),
        branch=noted.branch if noted.branch >= 0 else None,
        value=noted.value,
        source=noted.source,
        tokens=noted.tokens,
        stage=noted.stage[:_LONGEST_NAME],
    )


def _answer(solved: Solved) -> pb.SolveAnswer:
    return pb.SolveAnswer(
        sample=_sample(solved.sample),
        confidence=solved.confidence,
        verified=_VERIFIED[solved.verified],
        alternatives=map(_alternative, solved.alternatives[:_MAX_ALTERNATIVES]),
        unparsed=solved.unparsed,
        ended=_ENDED.get(solved.ended, pb.SolveAnswer.ENDED_UNSPECIFIED),
        spent=_spent(solved.spent),
        complaints=[reason[:_LONGEST_COMPLAINT] for reason in solved.complaints[:_MAX_COMPLAINTS]],
        cost=cost_message(solved.cost),
    )


def _sample(written: Written) -> pb.SolveSample:
    return pb.SolveSample(
        tokens=written.tokens,
        logprob=written.logprob,
        finished=written.finished,
        given=written.given,
        reports=map(report_message, written.reports),
    )


def _alternative(proposed: Proposed) -> pb.SolveAlternative:
    return pb.SolveAlternative(
        sample=_sample(proposed.sample), weight=proposed.weight, samples=proposed.samples, score=proposed.score
    )


def _spent(spent: Spent) -> pb.SolveSpent:
    return pb.SolveSpent(
        samples=spent.samples,
        tokens=spent.tokens,
        prefilled=spent.prefilled,
        verifier_calls=spent.verifier_calls,
        verifier_positions=spent.verifier_positions,
        milliseconds=round(1000 * spent.seconds),
    )
