"""The only place in the edge tier, with `solving.wire`, where messages to and from the cloud are made and read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from updraft.errors import (
    CloudUnavailable,
    EngineFailure,
    LateReply,
    LogMismatch,
    ProtocolViolation,
    UpdraftError,
    from_code,
)
from updraft.exits.carry import Carry, Packed
from updraft.generation import FinishReason
from updraft.mode_settings import AcceptanceSettings
from updraft.modes import Origin
from updraft.sampling import Distribution, Sampled, SamplingParams
from updraft.sampling_wire import sampling_to_proto
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge.stopping.price import CloudPrice, Crowd
from updraft_edge.tree import Branches, ways

__all__ = [
    "FRAME_OVERHEAD",
    "HiddenCarry",
    "Opening",
    "Scored",
    "Span",
    "Verdict",
    "draft_frame",
    "hidden_frame",
    "open_frame",
    "read_error",
    "read_price",
    "read_report",
    "read_scored",
    "read_span",
    "read_verdict",
    "score_frame",
    "take_over_frame",
]

FRAME_OVERHEAD = 5 + 9  # gRPC's message prefix and the header of an HTTP/2 DATA frame

_FINISH: dict[int, FinishReason] = {pb.END_STOP: "stop", pb.END_LENGTH: "length"}
_CARRIES: dict[Carry, pb.Carry] = {
    "float32": pb.CARRY_FLOAT32,
    "float16": pb.CARRY_FLOAT16,
    "int8": pb.CARRY_INT8,
}


@dataclass(frozen=True, slots=True)
class HiddenCarry:
    """Hidden states go up: after how many layers, how wide, at what precision, of which staged model."""

    layers: int
    width: int
    carry: Carry
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Opening:
    """What a session is opened with, and opened again with after a loss.

    With `hidden` the cloud continues from hidden states, else it computes all its layers from the tokens. `acceptance`
    lets more of a draft stand than the cloud's own draws.
    """

    tokenizer_hash: str
    sampling: SamplingParams
    max_tokens: int
    stop_tokens: Sequence[int]
    report: bool
    top_logprobs: int
    ignore_end: bool
    hidden: HiddenCarry | None = None
    acceptance: AcceptanceSettings | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How much of a run stands, and the cloud's own next token (None if the answer ended before it).

    `reports` holds the cloud's view of the accepted tokens if it was asked for. `tolerated` of the accepted tokens are
    not those that the cloud would have drawn. `followed` are the accepted tokens, of the run or of a branch; those of a
    branch are always reported on.
    """

    accepted: int
    own: Sampled | None
    finish: FinishReason | None
    reports: list[Sampled]
    spent: pb.Spent
    tolerated: int = 0
    followed: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens that the cloud wrote; `last` if the span ends with them, `finish` if the answer does. Those of the mode
    `solve` may be the edge's own."""

    tokens: list[Sampled]
    last: bool
    finish: FinishReason | None
    spent: pb.Spent
    origin: Origin = Origin.CLOUD


@dataclass(frozen=True, slots=True)
class Scored:
    """How probable tokens are after the log: natural logarithms, of the cloud's own distribution.

    `choices` holds one number for each asked choice, `reports` one report for each token if they were asked for.
    """

    choices: list[float]
    reports: list[Sampled]
    spent: pb.Spent


def open_frame(opening: Opening, log: TokenLog) -> pb.EdgeFrame:
    message = pb.Open(
        tokenizer_hash=opening.tokenizer_hash,
        prompt=log.tokens[: log.prompt_length],
        generated=log.generated,
        sampling=sampling_to_proto(opening.sampling),
        max_tokens=opening.max_tokens,
        stop_tokens=opening.stop_tokens,
        report=opening.report,
        top_logprobs=opening.top_logprobs,
        ignore_end=opening.ignore_end,
        entry=None if opening.hidden is None else _entry(opening.hidden),
        acceptance=None if opening.acceptance is None else _acceptance(opening.acceptance),
    )
    return pb.EdgeFrame(open=message)


def _acceptance(settings: AcceptanceSettings) -> pb.Acceptance:
    if settings.rule == "tolerance":
        return pb.Acceptance(tolerance=settings.alpha)
    likelihood = pb.Likelihood(threshold=settings.threshold, temperature=settings.temperature)
    return pb.Acceptance(likelihood=likelihood)


def _entry(hidden: HiddenCarry) -> pb.HiddenEntry:
    return pb.HiddenEntry(layers=hidden.layers, carry=_CARRIES[hidden.carry], fingerprint=hidden.fingerprint)


def hidden_frame(position: int, packed: Packed) -> pb.EdgeFrame:
    """Hidden states of the positions from `position` on."""
    hidden = pb.Hidden(
        position=position,
        count=packed.count,
        width=packed.width,
        carry=_CARRIES[packed.carry],
        data=packed.data,
        scales=packed.scales.tolist(),
    )
    return pb.EdgeFrame(hidden=hidden)


def draft_frame(log: TokenLog, synced: int, run: Sequence[int], branches: Branches = ()) -> pb.EdgeFrame:
    """A draft after the log, whose first `synced` tokens the cloud already has."""
    tree = [pb.Branch(shared=shared, tokens=tokens) for shared, tokens in branches]
    draft = pb.Draft(position=synced, committed=log.tokens[synced:], log_hash=log.hash, run=run, branches=tree)
    return pb.EdgeFrame(draft=draft)


def take_over_frame(
    log: TokenLog, synced: int, hand_back: pb.HandBack | None, most: int = 0, *, step_written: int | None = None
) -> pb.EdgeFrame:
    """The cloud writes on; `most` tokens at most, 0 for no limit but the session's.

    With `step_written` to the end of a step, of which the log's last so many tokens are a part.
    """
    take = pb.TakeOver(position=synced, committed=log.tokens[synced:], log_hash=log.hash, hand_back=hand_back)
    take.max_tokens = most
    if step_written is not None:
        take.step, take.written = True, step_written
    return pb.EdgeFrame(take_over=take)


def read_verdict(message: pb.Verdict, log: TokenLog, run: Sequence[int], branches: Branches = ()) -> Verdict:
    """Check a verdict against the log and the tree that it judges.

    Raises:
        ProtocolViolation: it does not fit the tree.
        LogMismatch: it leads to another log than the cloud's.
    """
    if message.branch > len(branches):
        raise ProtocolViolation(f"A verdict follows branch {message.branch} of {len(branches)}.")
    run = ways(run, branches)[message.branch]
    if message.accepted > len(run) or message.tolerated > message.accepted:
        raise ProtocolViolation("A verdict does not fit the draft that it judges.")
    if message.position != len(log) + message.accepted + message.has_token:
        raise ProtocolViolation("A verdict does not fit the draft that it judges.")
    committed = [*run[: message.accepted], *([message.token] if message.has_token else [])]
    _agree(log, committed, message.log_hash)
    if len(message.reports) not in (int(message.has_token), len(committed)):
        raise ProtocolViolation("A verdict's reports do not fit its tokens.")
    if message.branch and len(message.reports) != len(committed):
        raise ProtocolViolation("A verdict follows a branch and does not report on its tokens.")
    reported = committed[len(committed) - len(message.reports) :]
    reports = [read_report(token, report) for token, report in zip(reported, message.reports, strict=True)]
    own = reports.pop() if message.has_token else None
    return Verdict(
        message.accepted,
        own,
        _FINISH.get(message.end),
        reports,
        message.spent,
        message.tolerated,
        followed=committed[: message.accepted],
    )


def read_span(message: pb.Span, log: TokenLog) -> Span:
    """Check a span against the log that it continues. Raises as `read_verdict` does."""
    tokens = list(message.tokens)
    if message.position != len(log) or len(message.reports) != len(tokens):
        raise ProtocolViolation("A span does not continue the log.")
    _agree(log, tokens, message.log_hash)
    drawn = [read_report(token, report) for token, report in zip(tokens, message.reports, strict=True)]
    return Span(drawn, message.end != pb.END_UNSPECIFIED, _FINISH.get(message.end), message.spent)


def score_frame(
    log: TokenLog, synced: int, tokens: Sequence[int], choices: Sequence[int], *, each: bool, top_logprobs: int
) -> pb.EdgeFrame:
    """A score of `tokens` after the log, whose first `synced` tokens the cloud already has."""
    score = pb.Score(
        position=synced,
        committed=log.tokens[synced:],
        log_hash=log.hash,
        tokens=tokens,
        each=each,
        top_logprobs=top_logprobs,
        choices=choices,
    )
    return pb.EdgeFrame(score=score)


def read_scored(message: pb.Scored, tokens: Sequence[int], choices: Sequence[int], *, each: bool) -> Scored:
    """Check a score against what was asked.

    Raises:
        ProtocolViolation: it does not fit the question, or holds a number that is not finite.
    """
    if len(message.choices) != len(choices) or len(message.reports) != (len(tokens) if each else 0):
        raise ProtocolViolation("A score does not fit what was asked.")
    numbers = [*message.choices, *(report.logprob for report in message.reports)]
    if not all(math.isfinite(number) for number in numbers):
        raise ProtocolViolation("A score holds a number that is not finite.")
    reports = [read_report(token, report) for token, report in zip(tokens, message.reports, strict=False)]
    return Scored(list(message.choices), reports, message.spent)


def read_price(frame: pb.CloudFrame) -> CloudPrice | None:
    """What the cloud's work costs, if the frame says so. Raises ProtocolViolation for shares that are none."""
    body = frame.WhichOneof("body")
    message = getattr(frame, body) if body in ("opened", "verdict", "span") else None
    if message is None or not message.HasField("cost"):
        return None
    cost = message.cost
    if not 0.0 <= cost.load <= 1.0:
        raise ProtocolViolation(f"The cloud says that its load is {cost.load}.")
    crowd = _crowd(cost.crowd) if cost.HasField("crowd") else None
    return CloudPrice(cost.pass_micros / 1e6, cost.position_micros / 1e6, cost.load, cost.sessions, crowd)


def _crowd(message: pb.Crowd) -> Crowd:
    if not (0.0 <= message.acceptance <= 1.0 and 0.0 <= message.prompt < math.inf):
        raise ProtocolViolation(f"What the cloud says of its sessions is no figure: {message}".strip())
    return Crowd(message.acceptance, message.away_micros / 1e6, message.prompt)


def read_error(message: pb.Error) -> UpdraftError:
    """The error that the cloud reports, as the class that it names.

    An engine that failed there is not one here, and an edge that was late for the cloud has not waited for it: both are
    cured by opening the session again, as may be what has a code that this edge does not know.
    """
    error = from_code(message.code, message.message, message.remedy)
    if isinstance(error, EngineFailure | LateReply) or type(error) is UpdraftError:
        error = CloudUnavailable(error.message, remedy=error.remedy)
    error.retry_after_s = message.retry_after_ms / 1000
    return error


def _agree(log: TokenLog, tokens: Sequence[int], expected: int) -> None:
    """Check the cloud's hash of the log with `tokens` after it; the log stays as it was."""
    if log.hash_with(tokens) != expected:
        raise LogMismatch(f"The cloud's log differs after token {len(log)}.")


def read_report(token: int, message: pb.TokenReport) -> Sampled:
    """What the cloud says of a token. Raises ProtocolViolation for alternatives that do not fit together."""
    if len(message.top_ids) != len(message.top_logprobs):
        raise ProtocolViolation("A report's alternatives do not fit their log-probabilities.")
    top = tuple(zip(message.top_ids, message.top_logprobs, strict=True))
    # The top probability is not sent: nothing on the edge decides by the cloud's.
    return Sampled(token, message.logprob, Distribution(message.energy, message.entropy, float("nan")), top)
