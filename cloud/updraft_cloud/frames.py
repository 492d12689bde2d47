"""What a session is told and what it answers: the frames of the wire once `wire` has read and checked them.

They also cross from the front end to the engine's process (see `messages`), so each is a msgspec Struct with a tag.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from updraft.engine.base import FloatRows, ModelInfo
from updraft.errors import InvalidRequest, TokenizerMismatch, TrunkMismatch, UpdraftError
from updraft.exits.carry import Carry
from updraft.models.rungs import layers_text
from updraft.sampling import MAX_TOP_LOGPROBS, SamplingParams
from updraft_cloud.sessions.acceptance import AnyRule, Lossless

__all__ = [
    "Branch",
    "Cancel",
    "Close",
    "Cost",
    "Crowd",
    "Draft",
    "End",
    "Failed",
    "Frame",
    "Frozen",
    "HandBack",
    "Hidden",
    "HiddenEntry",
    "Limits",
    "Open",
    "Reply",
    "Report",
    "Score",
    "Scored",
    "Span",
    "Spent",
    "TakeOver",
    "Verdict",
    "Work",
    "check_edge",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a frame may hold: vocabulary and context in ids and tokens, `max_draft` tokens in a run.

    `width` is that of hidden states, 0 where the model takes none. `prompt` is in tokens, what the context holds where
    it is None; `opening_bytes` are of the frame that holds it.
    """

    vocabulary: int
    context: int
    max_draft: int
    width: int = 0
    prompt: int | None = None
    opening_bytes: int | None = None
    top_logprobs: int = MAX_TOP_LOGPROBS


class Frozen(msgspec.Struct, frozen=True, tag=True):
    """Equal by value and told apart by its name."""


class HiddenEntry(Frozen, frozen=True):
    """How a session's hidden states travel, and after how many layers of which staged model they were taken."""

    layers: int
    carry: Carry
    fingerprint: str


class Open(Frozen, frozen=True):
    tokenizer_hash: str
    fingerprint: str
    prompt: list[int]
    generated: list[int]
    sampling: SamplingParams
    max_tokens: int
    stop_tokens: frozenset[int]
    report: bool
    top_logprobs: int
    ignore_end: bool
    entry: HiddenEntry | None = None
    acceptance: AnyRule = msgspec.field(default_factory=Lossless)

    def check_model(self, info: ModelInfo, boundaries: Collection[int] = ()) -> None:
        """Refuse an edge that speaks another tokenizer, insists on another model, or whose hidden states do not fit.

        `boundaries` are the numbers of layers after which this model takes them.
        """
        check_edge(self.tokenizer_hash, self.fingerprint, info)
        if self.entry is not None:
            _check_entry(self.entry, info, boundaries)


def check_edge(tokenizer_hash: str, fingerprint: str, info: ModelInfo) -> None:
    """Refuse an edge that speaks another tokenizer than the model's or insists on another model."""
    if tokenizer_hash != info.tokenizer_hash:
        raise TokenizerMismatch(
            f"The edge's tokenizer {tokenizer_hash[:12]!r} is not the cloud's {info.tokenizer_hash[:12]!r}."
        )
    if fingerprint and fingerprint != info.fingerprint:
        raise InvalidRequest(
            f"The session asks for model {fingerprint[:12]!r}; this cloud serves {info.fingerprint[:12]!r}."
        )


def _check_entry(entry: HiddenEntry, info: ModelInfo, boundaries: Collection[int]) -> None:
    if not boundaries:
        raise TrunkMismatch(f"This cloud serves {info.name}, which has no stages: hidden states cannot enter it.")
    if entry.fingerprint != info.fingerprint:
        raise TrunkMismatch(
            f"The edge's hidden states are of model {entry.fingerprint[:12]!r}; this cloud serves "
            f"{info.fingerprint[:12]!r}."
        )
    if entry.layers not in boundaries:
        raise TrunkMismatch(
            f"The edge's hidden states come after {entry.layers} layers; this cloud takes them after "
            f"{layers_text(sorted(boundaries))}."
        )


class Branch(Frozen, frozen=True):
    """Another way than the run: `tokens` after its first `shared` ones."""

    shared: int
    tokens: list[int]


class Draft(Frozen, frozen=True):
    position: int
    committed: list[int]
    log_hash: int
    run: list[int]
    branches: list[Branch] = []


class Score(Frozen, frozen=True):
    """Tokens after the log whose probabilities are asked for: of each of them, of `choices` after them, or both."""

    position: int
    committed: list[int]
    log_hash: int
    tokens: list[int]
    choices: list[int]
    each: bool
    top_logprobs: int


class HandBack(Frozen, frozen=True):
    threshold: float
    window: int
    min_stay: int
    recent: list[float]


class TakeOver(Frozen, frozen=True):
    position: int
    committed: list[int]
    log_hash: int
    max_tokens: int
    hand_back: HandBack | None
    step: bool = False
    written: int = 0


class Hidden(Frozen, frozen=True):
    """Hidden states, float32, shape (count, width), of the positions from `position` on."""

    position: int
    carry: Carry
    states: FloatRows


class Cancel(Frozen, frozen=True):
    pass


class Close(Frozen, frozen=True):
    pass


Work = Draft | Score | TakeOver | Hidden | Cancel
Frame = Open | Work | Close


class End(IntEnum):
    """Why writing ended; the numbers are the wire's."""

    NOT_YET = 0
    STOP = 1
    LENGTH = 2
    HAND_BACK = 3
    CANCELLED = 4


class Spent(msgspec.Struct):
    """What a session took since its last answer; see the wire's Spent.

    `queued` is not on the wire: microseconds from the frame's arrival to the first pass for it, with its first answer.
    """

    passes: int = 0
    positions: int = 0
    prefilled: int = 0
    micros: int = 0
    layers: int = 0
    queued: int | None = None


class Crowd(Frozen, frozen=True):
    """What the sessions that draft are like; see the wire's Crowd."""

    acceptance: float
    away_micros: int
    prompt: float


class Cost(Frozen, frozen=True):
    """What the cloud's work costs: microseconds a pass and a position, and the share of time that passes take."""

    pass_micros: int
    position_micros: int
    load: float
    sessions: int = 0  # open just now
    crowd: Crowd | None = None


class Report(Frozen, frozen=True):
    """What is known of one committed token: nats, and its most probable alternatives if they were asked for."""

    logprob: float
    entropy: float
    energy: float
    top: list[tuple[int, float]] = []


class Verdict(Frozen, frozen=True):
    """How much of a draft stands; `position` is the log's length after it, `token` the cloud's own if there is one."""

    position: int
    accepted: int
    token: int | None
    log_hash: int
    end: End
    reports: list[Report]
    spent: Spent
    tolerated: int = 0
    branch: int = 0
    cost: Cost | None = None


class Span(Frozen, frozen=True):
    """Tokens that the cloud wrote from `position` on."""

    position: int
    tokens: list[int]
    reports: list[Report]
    end: End
    log_hash: int
    spent: Spent
    cost: Cost | None = None


class Scored(Frozen, frozen=True):
    choices: list[float]
    reports: list[Report]
    spent: Spent


class Failed(Frozen, frozen=True):
    """The session has ended with an error of Updraft's tree."""

    code: str
    message: str
    remedy: str
    retryable: bool
    retry_after_s: float = 0.0

    @classmethod
    def of(cls, error: UpdraftError) -> Failed:
        return cls(error.code, error.message, error.remedy, error.retryable, error.retry_after_s)


Reply = Verdict | Span | Scored | Failed
