"""What an edge's frames hold, once `wire` has read and checked them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from updraft.engine.base import FloatRows, ModelInfo
from updraft.errors import InvalidRequest, TokenizerMismatch, TrunkMismatch
from updraft.exits.carry import Carry
from updraft.sampling import SamplingParams
from updraft_cloud.acceptance import AcceptanceRule, Lossless

__all__ = [
    "Branch",
    "Cancel",
    "Close",
    "Draft",
    "Frame",
    "HandBack",
    "Hidden",
    "HiddenEntry",
    "Limits",
    "Open",
    "Score",
    "TakeOver",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a frame may hold: vocabulary and context in ids and tokens, `max_draft` tokens in a run.

    `width` is that of hidden states, 0 where the model takes none.
    """

    vocabulary: int
    context: int
    max_draft: int
    width: int = 0


@dataclass(frozen=True, slots=True)
class HiddenEntry:
    """How a session's hidden states travel, and after how many layers of which staged model they were taken."""

    layers: int
    carry: Carry
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Open:
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
    acceptance: AcceptanceRule = field(default_factory=Lossless)

    def check_model(self, info: ModelInfo, boundaries: Collection[int] = ()) -> None:
        """Refuse an edge that speaks another tokenizer, insists on another model, or whose hidden states do not fit.

        `boundaries` are the numbers of layers after which this model takes them.
        """
        if self.tokenizer_hash != info.tokenizer_hash:
            raise TokenizerMismatch(
                f"The edge's tokenizer {self.tokenizer_hash[:12]!r} is not the cloud's {info.tokenizer_hash[:12]!r}."
            )
        if self.fingerprint and self.fingerprint != info.fingerprint:
            raise InvalidRequest(
                f"The session asks for model {self.fingerprint[:12]!r}; this cloud serves {info.fingerprint[:12]!r}."
            )
        if self.entry is not None:
            _check_entry(self.entry, info, boundaries)


def _check_entry(entry: HiddenEntry, info: ModelInfo, boundaries: Collection[int]) -> None:
    if not boundaries:
        raise TrunkMismatch(f"This cloud serves {info.name}, which has no stages: hidden states cannot enter it.")
    if entry.fingerprint != info.fingerprint:
        raise TrunkMismatch(
            f"The edge's hidden states are of model {entry.fingerprint[:12]!r}; this cloud serves "
            f"{info.fingerprint[:12]!r}."
        )
    if entry.layers not in boundaries:
        known = ", ".join(map(str, boundaries))
        raise TrunkMismatch(
            f"The edge's hidden states come after {entry.layers} layers; this cloud takes them after {known}."
        )


@dataclass(frozen=True, slots=True)
class Branch:
    """Another way than the run: `tokens` after its first `shared` ones."""

    shared: int
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class Draft:
    position: int
    committed: list[int]
    log_hash: int
    run: list[int]
    branches: list[Branch] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Score:
    """Tokens after the log whose probabilities are asked for: of each of them, of `choices` after them, or both."""

    position: int
    committed: list[int]
    log_hash: int
    tokens: list[int]
    choices: list[int]
    each: bool
    top_logprobs: int


@dataclass(frozen=True, slots=True)
class HandBack:
    threshold: float
    window: int
    min_stay: int
    recent: list[float]


@dataclass(frozen=True, slots=True)
class TakeOver:
    position: int
    committed: list[int]
    log_hash: int
    max_tokens: int
    hand_back: HandBack | None
    step: bool = False
    written: int = 0


@dataclass(frozen=True, slots=True)
class Hidden:
    """Hidden states, float32, shape (count, width), of the positions from `position` on."""

    position: int
    carry: Carry
    states: FloatRows


@dataclass(frozen=True, slots=True)
class Cancel:
    pass


@dataclass(frozen=True, slots=True)
class Close:
    pass


Frame = Open | Draft | Score | TakeOver | Hidden | Cancel | Close
