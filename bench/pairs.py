"""`updraft bench pairs`: mode draft with several edge models against one cloud, and the cloud alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from updraft.errors import ConfigError
from updraft.modes import Mode, ModeSettings

from .modes import ModesBench
from .variants import Variant

__all__ = ["PairsBench"]


@dataclass(frozen=True)
class PairsBench(ModesBench):
    """As `ModesBench`, but what takes turns are pairs: one drafting edge model each, and mode cloud as the baseline.

    Attributes:
        edge_models: of the pairs.
        alone: also let each edge model write by itself, in mode edge.
    """

    round_trips_ms: tuple[float, ...] = (0.0, 40.0)
    edge_models: tuple[str, ...] = ("smollm2-q4_0", "smollm2-student")
    alone: bool = False
    name = "pairs"

    def __post_init__(self) -> None:
        if not self.edge_models or len(set(self.edge_models)) < len(self.edge_models):
            raise ConfigError(f"edge models are {self.edge_models}; give at least one, each once.")
        super().__post_init__()

    def _variants(self) -> list[Variant]:
        modes = (Mode.DRAFT, Mode.EDGE) if self.alone else (Mode.DRAFT,)
        pairs = [
            Variant(f"{mode} {Path(model).name}", ModeSettings(mode=mode), model)
            for mode in modes
            for model in self.edge_models
        ]
        return [Variant("cloud", ModeSettings(mode=Mode.CLOUD), self.edge_models[0]), *pairs]

    def _pair(self) -> str:
        return f"{', '.join(Path(model).name for model in self.edge_models)} with {Path(self.cloud_model).name}"
