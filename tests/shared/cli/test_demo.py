from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import updraft.demo as package
from tests.house import ROOT
from tests.shared.cli.conftest import Updraft
from tests.shared.demo.samples import report, way_figures
from updraft.demo import DemoOptions, DemoReport, Screen
from updraft.demo.prompts import PROMPTS
from updraft.errors import CloudUnavailable
from updraft.models import catalog

PROGRAM = "from updraft.cli import main; main()"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[DemoOptions]:
    """What demonstrations were asked for; none is run."""
    found: list[DemoOptions] = []

    async def run_demo(options: DemoOptions, screen: Screen) -> DemoReport:
        found.append(options)
        screen.section("a heading")
        return report()

    monkeypatch.setattr(package, "run_demo", run_demo)
    return found


def test_flags_say_how_much_is_done(updraft: Updraft, asked: list[DemoOptions]) -> None:
    for flags in (
        [],
        ["--quick"],
        ["--quick", "--tokens", "16"],
        ["--prompts", "8", "--edge-model", "a.gguf", "--cloud-model", "b.gguf"],
    ):
        assert updraft("demo", *flags).exit_code == 0
    assert asked == [
        DemoOptions(),
        DemoOptions(prompts=2, tokens=24, shown=1),
        DemoOptions(prompts=2, tokens=16, shown=1),
        DemoOptions(prompts=8, edge_model="a.gguf", cloud_model="b.gguf"),
    ]


def test_all_prompts_can_be_asked_for_and_no_more(updraft: Updraft, asked: list[DemoOptions]) -> None:
    assert updraft("demo", "--prompts", str(len(PROMPTS))).exit_code == 0
    assert updraft("demo", "--prompts", str(len(PROMPTS) + 1)).exit_code == 2


@pytest.mark.parametrize("flags", [["--prompts", "0"], ["--prompts", "-1"], ["--tokens", "7"], ["--tokens", "x"]])
def test_numbers_out_of_range_start_nothing(flags: list[str], updraft: Updraft, asked: list[DemoOptions]) -> None:
    assert updraft("demo", *flags).exit_code == 2
    assert asked == []


def test_json_is_all_that_standard_output_gets(updraft: Updraft, asked: list[DemoOptions]) -> None:
    result = updraft("demo", "--json")
    assert json.loads(result.stdout) == json.loads(json.dumps(report().to_json()))
    assert "a heading" not in result.output


def test_people_get_the_screen_and_a_picture_of_it(updraft: Updraft, asked: list[DemoOptions], tmp_path: Path) -> None:
    result = updraft("demo", "--svg", str(tmp_path / "demo.svg"))
    assert "a heading" in result.stdout
    assert "heading" in (tmp_path / "demo.svg").read_text("utf-8")


def test_a_broken_promise_is_exit_code_1(updraft: Updraft, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_demo(options: DemoOptions, screen: Screen) -> DemoReport:
        return report(way_figures("draft", same_text=5))

    monkeypatch.setattr(package, "run_demo", run_demo)
    result = updraft("demo", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False


def test_a_cloud_that_does_not_start_is_an_error(updraft: Updraft, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_demo(options: DemoOptions, screen: Screen) -> DemoReport:
        raise CloudUnavailable("The cloud process ended before it served.\nits last words", remedy="Its log says why.")

    monkeypatch.setattr(package, "run_demo", run_demo)
    result = updraft("demo", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "cloud_unavailable"
    assert "its last words" in result.stderr and "Its log says why." in result.stderr


def test_control_c_leaves_no_process(tiny_pair: tuple[Path, Path]) -> None:
    edge, cloud = (str(path) for path in tiny_pair)
    command = [sys.executable, "-c", PROGRAM, "demo", "--tokens", "512", "--edge-model", edge, "--cloud-model", cloud]
    path = os.pathsep.join(str(ROOT / folder) for folder in ("shared", "edge", "cloud"))
    # A shell starts what it runs in the background with the signal ignored, and children inherit that.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    program = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
    )
    signal.signal(signal.SIGINT, ours)
    assert program.stdout is not None
    pid = 0
    for line in program.stdout:
        words = line.decode().split()
        if words[:1] == ["cloud"]:  # the row of the first table: tier, model, weights (3 words), process
            pid = int(words[5].rstrip(","))
            break  # the demo has all of its answers before it, however slowly this test is scheduled
    assert pid
    os.kill(pid, 0)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=20)
    assert program.returncode == 130
    assert b"Traceback" not in err
    with pytest.raises(ProcessLookupError):
        _wait_for_end(pid)


def _wait_for_end(pid: int) -> None:
    """Signals the process until it is gone; gives up after a while."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        os.kill(pid, 0)
        time.sleep(0.05)


@pytest.mark.smollm2
def test_two_models_of_one_size_keep_their_promises(smollm2_q4_0_path: Path, updraft: Updraft) -> None:
    result = updraft("demo", "--quick", "--prompts", "1", "--json", "--edge-model", "smollm2-q4_0")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["passed"] and found["lossless"]
    assert (found["edge"]["quantisation"], found["cloud"]["quantisation"]) == ("Q4_0", "Q4_1")
    rows = {(row["mode"], row["temperature"]): row for row in found["modes"]}
    assert rows["draft", 0.0]["cloud_passes_per_token"] < 0.8 < rows["cloud", 0.0]["cloud_passes_per_token"]
    assert found["outage"]["degraded"] and found["outage"]["alone"] > 0


@pytest.mark.smollm2
def test_the_ladders_pair_keeps_its_promises(smollm2_path: Path, updraft: Updraft) -> None:
    if not any(entry.name == DemoOptions().edge_model and entry.available for entry in catalog()):
        pytest.skip("this tree has no trained rungs")
    result = updraft("demo", "--quick", "--prompts", "1", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["passed"] and found["lossless"]
    assert found["edge"]["layers"] < found["cloud"]["layers"] / 2
    rows = {(row["mode"], row["temperature"]): row for row in found["modes"]}
    assert rows["draft", 0.0]["cloud_passes_per_token"] < 0.9 * rows["cloud", 0.0]["cloud_passes_per_token"]
