"""What an answer of the mode `solve` says besides its text: how it was come to, what it cost, and what happened."""

from __future__ import annotations

from dataclasses import dataclass, field

from updraft.modes import Origin

__all__ = ["Compute", "OtherAnswer", "ProgressEvent", "Solution"]


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """Something that happened on the way to an answer of the mode `solve`; see `updraft.strategies.Progress`.

    Attributes:
        kind: sample, step, score, prune, resample, answer or stage.
        origin: the tier where it happened.
        branch: its number there; None for none.
        value: a score or a confidence, 0 to 1.
        source: number of the branch that was copied.
        tokens: that the tier has drawn so far, of all branches together.
        seconds: since the request arrived.
        stage: name of the pipeline's component that begins.
    """

    kind: str
    origin: Origin
    branch: int | None = None
    value: float | None = None
    source: int | None = None
    tokens: int = 0
    seconds: float = 0.0
    stage: str = ""


@dataclass(frozen=True, slots=True)
class Compute:
    """What an answer of the mode `solve` has cost beyond its own tokens.

    Attributes:
        samples: answers or branches that were begun, on both tiers.
        edge_tokens, cloud_tokens: drawn, of all branches together.
        prefilled: positions that the cloud computed and did not draw.
        verifier_calls: answers or steps that a verifier judged.
        seconds: of the cloud's work.
    """

    samples: int = 0
    edge_tokens: int = 0
    cloud_tokens: int = 0
    prefilled: int = 0
    verifier_calls: int = 0
    verifier_positions: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class OtherAnswer:
    """A final answer that was found: the best sample that gave it, and its part of the vote, 0 to 1."""

    text: str
    token_ids: tuple[int, ...]
    weight: float
    samples: int
    origin: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Solution:
    """How an answer of the mode `solve` came about.

    Attributes:
        strategy: its name; `vote` where the edge's own answers decided.
        confidence: 0 to 1, how sure it is; None where nothing could be compared.
        verified: a verifier passed the answer; None where none could judge it.
        ended: why the strategy stopped: done, confident, saturated, samples, tokens, calls or time.
        unparsed: samples that no final answer could be read from.
        complaints: what went wrong with the verifier.
        alternatives: all final answers, the chosen one first, if they were asked for.
    """

    strategy: str
    confidence: float | None
    verified: bool | None = None
    ended: str = "done"
    compute: Compute = field(default_factory=Compute)
    unparsed: int = 0
    complaints: tuple[str, ...] = ()
    alternatives: tuple[OtherAnswer, ...] = ()
