"""The history of an answer, and whether a correct pair of tiers could have written it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from updraft.generation import Completion, TokenEvent
from updraft.modes import Origin
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb

from .fault_link import Passed, Strike
from .fault_schedule import Schedule

__all__ = ["History", "Reference", "violations"]

_ENDS = (pb.END_STOP, pb.END_LENGTH)
_SHOWN = 14  # frames of a history that is printed
_UNSHARED = "span"  # the mode in which the edge commits tokens that the cloud never judged


@dataclass(frozen=True, slots=True)
class Reference:
    """The answer as it is without faults."""

    prompt: list[int]
    tokens: list[int]
    text: str


@dataclass(slots=True)
class History:
    """What happened during one answer: frames as the tiers wrote them, faults, committed tokens, and the end.

    Attributes:
        starved: after the last frame the machine had no time for the tiers, for much of the edge's patience.
    """

    schedule: Schedule
    reference: Reference
    strike: Strike
    events: list[TokenEvent] = field(default_factory=list)
    completion: Completion | None = None
    error: str = ""
    starved: bool = False

    def told(self, wrong: Sequence[str]) -> str:
        """For people: what is wrong, what was scheduled, and the frames around it."""
        lines = [f"mode {self.schedule.mode}, temperature {self.schedule.temperature}, seed {self.schedule.seed}"]
        lines += [f"  wrong: {text}" for text in wrong]
        lines += [
            f"  fault: {fault}{'' if fault in self.strike.struck else ' (never struck)'}" for fault in self.faults
        ]
        if self.schedule.points:
            lines.append(f"  failpoints: {self.schedule.points}")
        place = self._deviation()
        expected, written = self.reference.tokens, [event.token for event in self.events]
        if place < max(len(expected), len(written)):
            near = slice(max(0, place - 2), place + 4)
            lines.append(f"  token {place}: {written[near]} where {expected[near]} was due, from token {near.start}")
        lines += [f"  {_line(passed)}" for passed in self._around(place)]
        if self.completion is not None:
            done = self.completion
            lines.append(f"  end: {done.finish_reason}, degraded {done.degraded_reason}, {len(done.token_ids)} tokens")
        return "\n".join(lines)

    @property
    def faults(self) -> Sequence[object]:
        return self.schedule.faults

    @property
    def unexplained(self) -> bool:
        """The edge finished alone, and no scheduled fault is a reason."""
        return self.completion is not None and self.completion.degraded and not self.schedule.may_degrade

    def _deviation(self) -> int:
        """The first token that is not the reference's."""
        pairs = zip(self.events, self.reference.tokens, strict=False)
        same = (place for place, (event, token) in enumerate(pairs) if event.token != token)
        return next(same, min(len(self.events), len(self.reference.tokens)))

    def _around(self, place: int) -> list[Passed]:
        """The frames that matter: those that were struck, and the last ones up to the deviation."""
        base = len(self.reference.prompt)
        near = [passed for passed in self.strike.passed if _length(passed, base) <= base + place + 2]
        kept = {id(passed) for passed in near[-_SHOWN:]}
        return [passed for passed in self.strike.passed if passed.fault is not None or id(passed) in kept]


def violations(history: History) -> list[str]:
    """What no correct pair of tiers could have done; empty if all is well.

    The text, or of a degraded answer the part that the cloud had a say in, is the one without faults; tokens are
    committed once and in order; both tiers' logs are a beginning of that text at all times; nothing follows an end.
    """
    if history.completion is None:
        return [f"the answer failed: {history.error}"]
    return [
        *_order(history, history.completion),
        *_text(history, history.completion),
        *_origins(history, history.completion),
        *_frames(history),
    ]


def _order(history: History, done: Completion) -> Iterator[str]:
    written = [event.token for event in history.events]
    if [event.index for event in history.events] != list(range(len(written))):
        yield "tokens were committed twice, or out of order"
    if written != done.token_ids:
        yield "the events' tokens are not the completion's"
    if "".join(event.text for event in history.events) != done.text:
        yield "the events' text is not the completion's"


def _text(history: History, done: Completion) -> Iterator[str]:
    expected = history.reference
    if not done.degraded:
        if done.token_ids != expected.tokens or done.text != expected.text:
            yield "the text is not the one without faults, and the answer does not say that it is degraded"
        return
    if history.unexplained and not history.starved:
        yield f"the edge finished alone ({done.degraded_reason}) although every loss was plain to see"
    shared = _shared(history)
    if done.token_ids[:shared] != expected.tokens[:shared]:
        yield "the edge finished alone, and the text up to the loss is not the one without faults"


def _shared(history: History) -> int:
    """Tokens of a degraded answer up to the loss."""
    if history.schedule.mode == _UNSHARED:
        judged = [event.index for event in history.events if event.origin is Origin.CLOUD]
        return max(judged, default=-1) + 1
    return next((event.index for event in history.events if not event.verified), len(history.events))


def _origins(history: History, done: Completion) -> Iterator[str]:
    counts = done.statistics
    cloud = sum(event.origin is Origin.CLOUD for event in history.events)
    if (counts.cloud_tokens, counts.edge_tokens) != (cloud, len(history.events) - cloud):
        yield "the statistics count other origins than the events name"
    if any(event.origin is Origin.CLOUD and not event.verified for event in history.events):
        yield "a token of the cloud is not verified"
    if history.schedule.mode == _UNSHARED or done.degraded:
        return
    if not all(event.verified for event in history.events):
        yield "a token was committed without the cloud, and the answer does not say that it is degraded"
    if history.schedule.mode == "cloud" and cloud != len(history.events):
        yield "mode cloud committed a token of the edge"


def _frames(history: History) -> Iterator[str]:
    """Both tiers' logs against the text without faults; a cloud may be ahead of the edge, never beside it."""
    expected = TokenLog(history.reference.prompt, history.reference.tokens)
    hashes = [TokenLog([]).hash, *_prefix_hashes(expected)]
    ended: set[int] = set()
    for passed in history.strike.passed:
        place = f"{passed.way} frame {passed.number} of stream {passed.stream}"
        if passed.way == "up" and passed.stream in ended and passed.frame.WhichOneof("body") != "close":
            yield f"{place} follows the end of the answer"
        agreed = _agreed(passed.frame)
        if agreed is not None and (agreed[0] >= len(hashes) or hashes[agreed[0]] != agreed[1]):
            yield f"{place}: the log of {agreed[0]} tokens is not a beginning of the text without faults"
        if passed.way == "down" and passed.fault is None and _end(passed.frame) in _ENDS:
            ended.add(passed.stream)


def _prefix_hashes(log: TokenLog) -> list[int]:
    copy = TokenLog([])
    hashes = []
    for token in log.tokens:
        copy.extend([token])
        hashes.append(copy.hash)
    return hashes


def _agreed(frame: Any) -> tuple[int, int] | None:
    """Length and hash of the log that a frame claims."""
    match frame.WhichOneof("body"):
        case "draft" | "take_over" | "score" as kind:
            body = getattr(frame, kind)
            return body.position + len(body.committed), body.log_hash
        case "verdict":
            return frame.verdict.position, frame.verdict.log_hash
        case "span":
            return frame.span.position + len(frame.span.tokens), frame.span.log_hash
        case _:
            return None


def _length(passed: Passed, base: int) -> int:
    agreed = _agreed(passed.frame)
    return base if agreed is None else agreed[0]


def _end(frame: Any) -> int:
    kind = frame.WhichOneof("body")
    return int(getattr(frame, kind).end) if kind in ("verdict", "span") else 0


def _line(passed: Passed) -> str:
    frame, kind = passed.frame, passed.frame.WhichOneof("body") or "nothing"
    arrow = "->" if passed.way == "up" else "<-"
    struck = f"   *** {passed.fault}" if passed.fault is not None else ""
    return f"{passed.seconds:7.3f} s  stream {passed.stream} {arrow} {frame.sequence}: {kind} {_content(frame)}{struck}"


def _content(frame: Any) -> str:
    match frame.WhichOneof("body"):
        case "open":
            return f"log {len(frame.open.prompt) + len(frame.open.generated)}"
        case "draft":
            return f"log {frame.draft.position} + {list(frame.draft.committed)}, run {list(frame.draft.run)}"
        case "take_over":
            return f"log {frame.take_over.position} + {list(frame.take_over.committed)}"
        case "verdict":
            own = f" and {frame.verdict.token}" if frame.verdict.has_token else ""
            return f"{frame.verdict.accepted} stand{own}, log {frame.verdict.position}"
        case "span":
            return f"log {frame.span.position} + {list(frame.span.tokens)}"
        case "error":
            return f"{frame.error.code}: {frame.error.message}"
        case "notice":
            return str(frame.notice.message)
        case _:
            return ""
