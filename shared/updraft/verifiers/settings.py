"""What all verifiers share: settings that say which one is meant, and the verifier that these open."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from updraft.errors import ConfigError
from updraft.sandbox import Limits
from updraft.verifiers.base import Asked, Claim, Judgement

if TYPE_CHECKING:
    from updraft.verifiers.rates import Rates
    from updraft.verifiers.reward_model import RewardModel

__all__ = ["HALF", "Command", "OpenVerifier", "Resources", "Scorer", "VerifierSettings"]

HALF: Final = 0.5

Scorer = Callable[[Sequence[Claim]], Awaitable[Sequence[Judgement]]]


@dataclass(frozen=True, slots=True)
class Command:
    """A verifier that the operator brings: a program, and what it may use."""

    words: tuple[str, ...]
    limits: Limits = field(default_factory=lambda: Limits(seconds=60.0, cpu_seconds=None, memory_bytes=None))


@dataclass(frozen=True, slots=True)
class Resources:
    """What a tier lends to verifiers. None of it can be named by a request but for the keys.

    Attributes:
        reader: the model that wrote the answers, to be asked.
        rewards, commands: reward models and programs by name.
        execute_code: programs in answers may be run, confined.
        unconfined_code: also where the system cannot confine them.
        records: a folder with measured rates.
        tenant: on whose account models compute. What was computed for one tells no other by how quick or cheap it is.
    """

    reader: Asked | None = None
    rewards: Mapping[str, RewardModel] = field(default_factory=dict)
    commands: Mapping[str, Command] = field(default_factory=dict)
    execute_code: bool = False
    unconfined_code: bool = False
    records: Path | None = None
    tenant: str = ""

    def asked(self, kind: str) -> Asked:
        if self.reader is None:
            raise ConfigError(
                f"The verifier {kind} asks a model, and there is none here.",
                remedy="Name a model with --model, or choose a verifier that needs none: number, regex.",
            )
        return self.reader


class VerifierSettings(BaseModel, ABC):
    """A verifier by its settings, which are the fields: JSON-able, checked, and bound to nothing yet.

    Attributes:
        kind: its name in requests and tables.
        of_question: settings that each question has of its own; rates may be measured over many of them.
        threshold: the score from which an answer passes; as measured, or a half, when left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ClassVar[str]
    of_question: ClassVar[frozenset[str]] = frozenset()

    threshold: float | None = Field(default=None, ge=0, le=1)

    @abstractmethod
    def scorer(self, resources: Resources) -> Scorer:
        """Who gives the scores. Raises ConfigError: a resource that it needs is not there."""

    def judges_steps(self, resources: Resources) -> bool:
        """It can judge answers that are not whole."""
        return False

    def model(self, resources: Resources) -> str:
        """Fingerprint of the model that judges, where one does."""
        return ""

    def spec(self) -> dict[str, object]:
        """These settings, as `parse_verifier` reads them."""
        return {"kind": self.kind, **self.model_dump(mode="json", by_alias=True, exclude_defaults=True)}

    def identity(self, resources: Resources, *, general: bool = False) -> str:
        """A digest of all that decides about scores: measured rates belong to it.

        Args:
            general: of the verifier with whatever settings questions have.
        """
        left_out = {"threshold", *(self.of_question if general else ())}
        spec = {name: value for name, value in self.spec().items() if name not in left_out}
        text = json.dumps([spec, self.model(resources)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def open(self, resources: Resources) -> OpenVerifier:
        """The verifier, with its rates if they were measured.

        Raises:
            ConfigError: a resource that it needs is not there; the remedy says how to give it.
        """
        from updraft.verifiers.rates import find_rates

        scorer = self.scorer(resources)
        rates = None
        if resources.records is not None:
            for general in (False, True):
                identity = self.identity(resources, general=general)
                rates = rates or find_rates(resources.records, self.kind, identity)
        return OpenVerifier(self, scorer, rates, judges_steps=self.judges_steps(resources))


class OpenVerifier:
    """An `updraft.verifiers.base.Verifier`.

    Args:
        settings: its settings.
        scorer: gives scores; whether they are enough is decided here.
        rates: measured on labelled data; they count where the threshold is the one that they were measured at.
    """

    def __init__(
        self, settings: VerifierSettings, scorer: Scorer, rates: Rates | None = None, *, judges_steps: bool = False
    ) -> None:
        self.settings = settings
        self.rates = rates
        self.judges_steps = judges_steps
        self._scorer = scorer
        measured = HALF if rates is None else rates.threshold
        self.threshold = measured if settings.threshold is None else settings.threshold

    @property
    def name(self) -> str:
        return self.settings.kind

    @property
    def false_positive_rate(self) -> float | None:
        measured = self.rates is not None and self.rates.threshold == self.threshold
        return self.rates.false_positive_rate if self.rates is not None and measured else None

    async def judge(self, claims: Sequence[Claim]) -> Sequence[Judgement]:
        """Scores of the claims that can be judged; the others are judgements without one, with a reason."""
        able = [claim.finished or self.judges_steps for claim in claims]
        ready = [claim for claim, whole in zip(claims, able, strict=True) if whole]
        judged = list(await self._scorer(ready)) if ready else []
        if len(judged) != len(ready):
            raise ValueError(f"{len(judged)} judgements for {len(ready)} answers")
        rest = iter(judged)
        early = Judgement(None, reason="the answer is not whole yet")
        return [self._decided(next(rest)) if whole else early for whole in able]

    def _decided(self, judgement: Judgement) -> Judgement:
        if judgement.score is None:
            return judgement
        if judgement.score >= self.threshold:
            return replace(judgement, passed=True, reason="")
        return replace(judgement, passed=False, reason=judgement.reason or f"the score is below {self.threshold:g}")
