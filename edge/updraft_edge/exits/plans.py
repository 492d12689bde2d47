"""What a staged edge model and the exit settings make of each other: how deep to go, what to judge by, what goes up."""

from __future__ import annotations

from typing import Any, cast

from updraft.engine.base import Engine, StagedEngine
from updraft.errors import InvalidRequest
from updraft.exits.aids import exit_aids
from updraft.exits.carry import CARRIES, Carry
from updraft.exits.criteria import make_criterion
from updraft.mode_settings import ExitSettings
from updraft_edge import wire
from updraft_edge.exits.drafter import ExitPlan

__all__ = ["ExitModel"]


class ExitModel:
    """A staged engine with the calibration and the exit heads that lie in its folder.

    Raises BadModelFile where these are damaged or of another model.
    """

    def __init__(self, engine: StagedEngine) -> None:
        self._engine = engine
        self._stages = tuple(engine.stages)
        self._exits = [number for number, stage in enumerate(self._stages) if stage.blocks]
        self._aids = exit_aids(engine)

    @classmethod
    def of(cls, engine: Engine) -> ExitModel | None:
        """None for an engine without exits."""
        if not isinstance(engine, StagedEngine) or not any(stage.blocks for stage in engine.stages):
            return None
        return cls(engine)

    @property
    def layers(self) -> list[int]:
        """Layers below each exit."""
        return [self._stages[number].last for number in self._exits]

    def plan(self, settings: ExitSettings, *, uploads: bool = False) -> ExitPlan:
        """How one answer goes through the stages; `uploads` if hidden states go up.

        Raises:
            InvalidRequest: the settings name a stage that the model lacks, or more exits than it has.
            ConfigError: the criterion needs a calibration or heads that the model lacks.
        """
        depths = self._depths(settings)
        exits = [number for number in depths if self._stages[number].blocks]
        split = self._split(settings) if uploads else None
        if split is not None and split > depths[-1]:
            raise InvalidRequest(
                f"exit.split is {split}, but the edge goes no deeper than exit.deepest, {depths[-1]}.",
                param="updraft.exit.split",
            )
        if settings.criterion == "patience" and not settings.calibrated and settings.patience >= len(exits):
            raise InvalidRequest(
                f"exit.patience is {settings.patience} and needs {settings.patience + 1} exits; the edge has {exits}.",
                param="updraft.exit.patience",
            )
        heads = self._aids.heads if self._aids.heads.keys() >= set(exits) else None
        criterion = make_criterion(
            settings.criterion,
            threshold=settings.threshold,
            patience=settings.patience,
            q=settings.q,
            hand_over=settings.hand_over,
            calibration=self._aids.calibration,
            heads=heads,
            calibrated=settings.calibrated,
        )
        layers = tuple(self._stages[number].last if number in exits else None for number in depths)
        features = heads is not None and (settings.criterion == "q" or settings.hand_over > 0.0)
        return ExitPlan(depths, layers, criterion, features, split)

    def carry(self, settings: ExitSettings) -> wire.HiddenCarry:
        """How hidden states travel under these settings."""
        rounds = getattr(self._engine, "split", None) is not None and getattr(self._engine, "carry", None) in CARRIES
        carry: Carry = settings.dtype or (cast("Any", self._engine).carry if rounds else "float16")
        info = self._engine.info
        return wire.HiddenCarry(self._stages[self._split(settings)].last, info.width, carry, info.fingerprint)

    def _depths(self, settings: ExitSettings) -> tuple[int, ...]:
        """The stages after which a token may leave: exits, and the end of the model if it is asked for."""
        deepest = self._exits[-1] if settings.deepest is None else settings.deepest
        if deepest >= len(self._stages):
            raise InvalidRequest(
                f"exit.deepest is {deepest}; the edge model's stages are 0 to {len(self._stages) - 1}.",
                param="updraft.exit.deepest",
            )
        return tuple(n for n, stage in enumerate(self._stages[: deepest + 1]) if stage.blocks or n == deepest)

    def _split(self, settings: ExitSettings) -> int:
        """An engine that rounds the states at its split says where it is; else it is the first exit."""
        own: int | None = getattr(self._engine, "split", None)
        split = next(number for number in (settings.split, own, self._exits[0]) if number is not None)
        if split not in self._exits:
            raise InvalidRequest(
                f"exit.split is {split}; hidden states can go up after the stages {self._exits}.",
                param="updraft.exit.split",
            )
        return split
