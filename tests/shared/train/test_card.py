from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from updraft.models.rungs import Rung
from updraft.train.card import plot_curves, write_card
from updraft.train.distil import Point, Recipe

FACTS: dict[str, Any] = {
    "trunk": "smollm2",
    "agreement": 0.4567,
    "agreement_training": 0.5123,
    "acceptance_0": 0.4321,
    "acceptance_0.8": 0.5555,
    "answer_tokens": [187_654, 5_432],
    "positions_trained": 1_234_567,
    "seconds": 5400.0,
    "recipe": asdict(Recipe(epochs=7, seed=11, feature_weight=0.5)),
    "device": "cpu",
    "threads": 3,
}
CURVE = [Point(10, 0.5, 1000, 60.0, 3.25, 0.2), Point(20, 1.0, 2000, 120.0, 2.5, 0.4)]


def _rung(kind: Literal["exit", "student"], sources: tuple[int, ...], frozen: int) -> Rung:
    trained = frozenset(range(frozen, len(sources)))
    return Rung(kind, "abcdef0123456789" * 4, sources, trained, {"norm.weight": np.ones(4, np.float32)}, FACTS)


def test_the_runs_numbers_are_in_it(tmp_path: Path) -> None:
    write_card(tmp_path / "a.md", "exit8", _rung("exit", tuple(range(9)), 8), CURVE, (50.0, 125.0))
    card = (tmp_path / "a.md").read_text(encoding="utf-8")
    for text in (
        "# exit8\n",
        "An early exit: 8 layers of the trunk",
        "it has 9 layers",
        "| agreement with the trunk's argmax | 45.7 % |",
        "| acceptance at temperature 0 | 43.2 % |",
        "| acceptance at temperature 0.8 | 55.5 % |",
        "| tokens/s, trunk as Q4_0 | 50 |",
        "| tokens/s, this rung as Q4_0 | 125 (2.50 times) |",
        "`smollm2`, fingerprint `abcdef0123456789…`",
        "187,654 tokens of answers",
        "5,432 more held out",
        "1,234,567 positions in 7 epochs, 90 minutes (cpu, 3 threads, evaluations included), seed 11",
        "0.5 times the relative squared distance",
        "| 1.0 | 2,000 | 2 | 2.500 | 40.0 % |",
    ):
        assert text in card
    assert "▅█" in card


def test_without_speed_or_curve(tmp_path: Path) -> None:
    write_card(tmp_path / "a.md", "a", _rung("exit", (0, 1), 1), [])
    card = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert "tokens/s" not in card
    assert "No point was measured." in card


@pytest.mark.parametrize(
    ("sources", "frozen", "texts"),
    [
        ((0, 1, 2, 28, 29), 0, ["A shallow student of 5 layers. The trained ones", "trunk's layers 0-2, 28-29."]),
        ((0, 1, 2, 28, 29), 2, ["The first 2 are the trunk's own as they are.", "trunk's layers 2, 28-29."]),
    ],
)
def test_what_a_student_is_made_of(tmp_path: Path, sources: tuple[int, ...], frozen: int, texts: list[str]) -> None:
    write_card(tmp_path / "a.md", "a", _rung("student", sources, frozen), CURVE)
    card = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert all(text in card for text in texts)


def test_the_picture_is_shown(tmp_path: Path) -> None:
    write_card(tmp_path / "a.md", "a", _rung("exit", (0, 1, 2), 2), CURVE, picture="a.png")
    assert "](a.png)" in (tmp_path / "a.md").read_text(encoding="utf-8")


def test_curves_are_drawn(tmp_path: Path) -> None:
    plot_curves(tmp_path / "a.png", {"exit8": CURVE, "student": CURVE[:1]})
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
