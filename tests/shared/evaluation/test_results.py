"""Results survive an interruption, and are of one pair only."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from updraft.errors import InvalidRequest
from updraft.evaluation.results import Key, Results
from updraft.evaluation.tasks.base import Outcome

PAIR = {"edge": "e1", "cloud": "c1"}
KEY, OTHER = Key("t", "1", "d"), Key("t", "2", "d")


def outcome(score: float = 0.5) -> Outcome:
    return Outcome(
        score, {"m": 1 / 3}, units=[0.25], share=0.5, answer="B", text="secret", token_ids=[1, 2], signals={"s": 2.0}
    )


def keep(path: Path, *, keep_text: bool = False) -> None:
    with Results(path, PAIR, keep_text=keep_text) as results:
        results.add(KEY, "edge", outcome())


def test_what_was_kept_is_known_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    keep(path)
    with Results(path, PAIR) as results:
        assert KEY in results and OTHER not in results and results.resumed == 1
        known = results[KEY]
        assert (known.score, known.share, known.units, known.signals) == (0.5, 0.5, [0.25], {"s": 2.0})
        assert known.measures["m"] == pytest.approx(1 / 3, abs=1e-6)
        results.add(OTHER, "edge", outcome(1.0))
    with Results(path, PAIR) as results:
        assert results.resumed == 2


def test_texts_are_kept_only_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    keep(path)
    assert "secret" not in path.read_text() and "token_ids" not in path.read_text()
    path.unlink()
    keep(path, keep_text=True)
    assert json.loads(path.read_text().splitlines()[1])["text"] == "secret"


def test_a_line_that_was_cut_off_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    keep(path)
    whole = path.read_bytes()
    for cut in range(1, 60, 7):
        path.write_bytes(whole + whole.splitlines()[1][:-cut])
        with Results(path, PAIR) as results:
            assert results.resumed == 1
            results.add(OTHER, "edge", outcome())
        with Results(path, PAIR) as results:
            assert results.resumed == 2
    path.write_bytes(whole[:10])  # not even the first line was whole
    with Results(path, PAIR) as results:
        assert results.resumed == 0
    assert path.read_bytes() == whole.splitlines(keepends=True)[0]


def test_another_pairs_results_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    keep(path)
    before = path.read_bytes()
    with (
        pytest.raises(InvalidRequest, match=r"another pair of models \(cloud c1\)"),
        Results(path, PAIR | {"cloud": "c2"}),
    ):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        "a shopping list\n",
        "a list without an end",
        '{"format": "other"}\n',
        "[1]\n",
        '{"format": "updraft-eval/1", "pair": {"edge": "e1", "cloud": "c1"}}\n{"task": "t"}\n',
        '{"format": "updraft-eval/1", "pair": {"edge": "e1", "cloud": "c1"}}\nnonsense\n',
        '{"format": "updraft-eval/1", "pair": {"edge": "e1", "cloud": "c1"}}\n'
        '{"task": "t", "item": "1", "digest": "d", "score": "high"}\n',
    ],
)
def test_other_files_are_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(content)
    with pytest.raises(InvalidRequest, match=r"line \d: it is no"), Results(path, PAIR):
        pass
    assert path.read_text() == content


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    with Results(None, PAIR) as results:
        for wrong in (
            Outcome(bad),
            Outcome(1.0, {"m": bad}),
            Outcome(1.0, units=[bad]),
            Outcome(1.0, signals={"s": bad}),
        ):
            with pytest.raises(InvalidRequest, match="t, item 1, edge: the model gave scores that are not finite"):
                results.add(KEY, "edge", wrong)
        assert KEY not in results


def test_a_folder_is_no_file_of_results(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be used"), Results(tmp_path, PAIR):
        pass
