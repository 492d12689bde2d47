"""`updraft bench passes`: what a pass takes against sequences and positions, the curve that capacity follows from."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.engine import open_engine
from updraft.errors import ConfigError
from updraft.models.catalog import resolve
from updraft.models.rung_gguf import requantise

from .pass_curve import PassCurve, measure_curve
from .report import Step, table_of

__all__ = ["PassesBench"]

_WIDTHS: Final = ("F16", "F32")
_COLUMNS: Final = {
    "name": ("weights", ""),
    "one_ms": ("1 position ms", ".1f"),
    "five_ms": ("5 positions ms", ".1f"),
    "largest": ("largest pass", "d"),
    "largest_ms": ("ms", ".0f"),
    "position_ms": ("ms/further position", ".2f"),
    "worth": ("positions a bare pass is worth", ".1f"),
    "row_ms": ("of it a row of logits ms", ".2f"),
}


@dataclass(frozen=True)
class PassesBench:
    """Shapes take turns in every round; a point is the median of the rounds, draws of all rows included.

    Attributes:
        models: measured as they are, and widened.
        widths: the same weights in these formats, too: the wider they are, the more a pass is memory traffic.
        sequences, each: shapes: so many sequences with so many positions each, none of more than `largest` in all.
    """

    models: tuple[str, ...] = ("smollm2",)
    widths: tuple[str, ...] = _WIDTHS
    sequences: tuple[int, ...] = (1, 2, 4, 8, 16)
    each: tuple[int, ...] = (1, 2, 3, 5, 9, 17)
    largest: int = 96
    rounds: int = 5
    threads: int | None = None
    context: int = 256
    name = "passes"

    def __post_init__(self) -> None:
        if unknown := set(self.widths) - set(_WIDTHS):
            raise ConfigError(f"There is no width {min(unknown)!r}.", remedy=f"Choose from {', '.join(_WIDTHS)}.")
        if not self.models or len(self.each) < 2 or min(self.sequences + self.each) < 1:
            raise ConfigError("Give a model, and shapes of at least two numbers of positions.")

    @property
    def steps(self) -> int:
        return len(self.models) * (1 + len(self.widths)) * self.rounds

    async def measure(self, step: Step) -> dict[str, Any]:
        return await asyncio.to_thread(self._measure, step)

    def _measure(self, step: Step) -> dict[str, Any]:
        curves = []
        with tempfile.TemporaryDirectory() as folder:
            for model in self.models:
                curves.append(self._curve(model, model, step))
                for width in self.widths:
                    wide = Path(folder) / f"{width}.gguf"
                    requantise(resolve(model), wide, width, output_type=width)  # type: ignore[arg-type]  # checked above
                    curves.append(self._curve(f"{model} {width}", wide, step))
        return {"curves": [asdict(curve) for curve in curves], "rows": [_row(curve) for curve in curves]}

    def _curve(self, name: str, model: str | Path, step: Step) -> PassCurve:
        options: dict[str, Any] = {} if self.threads is None else {"threads": self.threads}
        engine = open_engine(model, context=self.context, sequences=max(self.sequences), **options)
        try:
            shapes = {"largest": self.largest, "rounds": self.rounds}
            return measure_curve(name, engine, self.sequences, self.each, **shapes, done=step)
        finally:
            engine.shutdown()

    def tables(self, results: dict[str, Any]) -> list[Table]:
        return [table_of(f"Passes of one engine, median of {self.rounds} rounds", results["rows"], _COLUMNS)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        from .capacity_plot import plot_passes

        plot_passes(results["curves"], path)
        return True


def _row(curve: PassCurve) -> dict[str, Any]:
    largest = max(positions for _, positions, _ in curve.points)
    one = curve.seconds(1, 1, 1)
    sequences = max(sequences for sequences, positions, _ in curve.points if positions == largest)
    return {
        "name": curve.name,
        "one_ms": 1e3 * one,
        "five_ms": 1e3 * curve.seconds(1, 5, 5),
        "largest": largest,
        "largest_ms": 1e3 * curve.seconds(sequences, largest, largest),
        "position_ms": 1e3 * curve.position_s,
        "worth": one / curve.position_s if curve.position_s else None,
        "row_ms": 1e3 * curve.row_s,
    }
