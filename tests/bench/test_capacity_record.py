"""Recorded drafts: what is written is read again, and files that are none are refused."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bench.capacity_record import read_scripts, record_scripts, write_scripts
from bench.stopping_record import Asked
from tests.bench.scripts import script, scripts
from updraft.errors import ConfigError


def test_drafts_are_read_as_they_were_written(tmp_path: Path) -> None:
    made = scripts()
    write_scripts(made, tmp_path / "drafts.json")
    assert read_scripts(tmp_path / "drafts.json") == made


def test_the_pace_goes_round_for_ever() -> None:
    assert list(islice(script(draft_s=1.0).pace(1), 4)) == [2.0, 1.0, 2.0, 1.0]


def test_another_pace_keeps_the_proportions() -> None:
    made = scripts(draft_s=0.004)
    slower = made.paced(2 * made.draft_s)
    assert slower.draft_s == pytest.approx(2 * made.draft_s)
    assert slower.scripts[0].read_s == pytest.approx(2 * made.scripts[0].read_s)
    assert slower.agreement == made.agreement and slower.longest == made.longest


@pytest.mark.parametrize("damage", ["format", "scripts", "empty", "drafts", "tails", "number"])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "drafts.json"
    write_scripts(scripts(2), path)
    document: dict[str, Any] = json.loads(path.read_text())
    match damage:
        case "format":
            document["format"] = 2
        case "scripts":
            del document["scripts"]
        case "empty":
            document["scripts"] = []
        case "drafts":
            document["scripts"][0]["drafts"].pop()
        case "tails":
            document["scripts"][0]["tails"] = {}
        case "number":
            document["scripts"][1]["drafts"][3] = ["x"]
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="holds no recorded drafts"):
        read_scripts(path)


def test_a_real_pair_is_recorded(tiny_pair: tuple[Path, Path]) -> None:
    edge, cloud = map(str, tiny_pair)
    options = {"each": 2, "longest_prompt": 200, "tokens": 10, "tail": 4, "context": 256, "threads": 1}
    asked = [Asked("a", "Hello you"), Asked("a", "What is it?"), Asked("b", "Why?")]
    steps: list[str] = []
    made = record_scripts(edge, cloud, asked, **options, done=steps.append)
    assert len(made.scripts) == 3 and len(steps) == 6
    for one in made.scripts:
        recording = one.recording
        assert 1 <= len(recording.text) == len(recording.drafts) <= 10
        assert min(one.draft_s) > 0.0 and one.read_s >= 0.0
        for place, drafted in enumerate(recording.drafts):
            assert (place in recording.tails) is (drafted.token != recording.text[place])
