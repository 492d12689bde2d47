from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.hf_model import write_hf_model
from tests.fakes.staged_engine import FakeStagedEngine
from tests.fakes.tiers import running_cloud
from tests.shared.cli.conftest import Updraft
from updraft.cli import checks
from updraft.cli.background import BackgroundLoop
from updraft.engine import exactness
from updraft.engine.exactness import Difference, ExactnessReport
from updraft.models import read_model_info

Cloud = Callable[[HashEngine], str]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """Starts a cloud service in another thread and gives its address."""
    with BackgroundLoop() as loop:
        yield lambda engine: loop.enter(running_cloud(engine)).address


def diagnosis(updraft: Updraft, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and the checks by name."""
    result = updraft("doctor", "--json", *arguments)
    report = json.loads(result.stdout)
    assert report["healthy"] is (result.exit_code == 0)
    return result.exit_code, {check["name"]: check for check in report["checks"]}


@pytest.fixture
def tiny(tiny_model_path: Path) -> list[str]:
    return ["--model", str(tiny_model_path), "--set", "context=512", "--set", "device=laptop-cpu"]


def test_a_healthy_machine_without_a_cloud(updraft: Updraft, tiny: list[str]) -> None:
    code, found = diagnosis(updraft, *tiny, "--local-only")
    assert code == 0
    assert {name: check["status"] for name, check in found.items()} == {
        "versions": "ok",
        "device": "ok",
        "cores": "ok",
        "configuration": "ok",
        "edge model": "ok",
        "memory": "ok",
        "engine exactness": "ok",
        "link": "skipped",
    }
    assert found["engine exactness"]["facts"]["batching"] == {"equal": True, "largest": 0.0}


def test_a_hugging_face_folder_is_checked_on_torch(updraft: Updraft, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = write_hf_model(tmp_path / "moe", "qwen2_moe")
    options = ["context=320", "threads=1", "device=laptop-cpu"]
    code, found = diagnosis(
        updraft, "--local-only", "--model", str(folder), *(word for option in options for word in ("--set", option))
    )
    assert code == 0, found
    assert found["engine exactness"]["facts"]["far"] == {"equal": True, "largest": 0.0}
    assert found["memory"]["facts"]["caches"] == 8 * 320 * 4 * (3 * 2 * 2 * 16)


def test_the_report_for_people_is_one_line_a_check(updraft: Updraft, tiny: list[str]) -> None:
    result = updraft("doctor", *tiny, "--quick", "--local-only", "--device", "laptop-cpu")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * (len(lines) - 1) + ["skipped"]
    assert "laptop-cpu (named): Laptop or desktop" in result.stdout
    assert "exactness" not in result.stdout


def test_the_link_is_measured_and_the_models_compared(updraft: Updraft, tiny: list[str], cloud: Cloud) -> None:
    tokenizer = read_model_info(tiny[1]).tokenizer_hash
    code, found = diagnosis(updraft, *tiny, "--quick", "--cloud", cloud(HashEngine(tokenizer_hash=tokenizer)))
    assert code == 0
    assert found["link"]["facts"]["round_trip_ms"] > 0 and len(found["link"]["facts"]["all_ms"]) == 5
    assert found["cloud model"]["facts"]["model"] == "hash"
    assert found["tokenizer"]["status"] == "ok"


def test_a_cloud_that_takes_hidden_states_says_where(updraft: Updraft, tiny: list[str], cloud: Cloud) -> None:
    _, found = diagnosis(updraft, *tiny, "--quick", "--cloud", cloud(FakeStagedEngine(stages=3)))
    assert found["cloud model"]["facts"]["boundaries"] == [2, 4]
    assert "takes hidden states after 2, 4 layers" in found["cloud model"]["detail"]


def test_other_tokenizers_fail_with_a_remedy(updraft: Updraft, tiny: list[str], cloud: Cloud) -> None:
    code, found = diagnosis(updraft, *tiny, "--quick", "--cloud", cloud(HashEngine()))
    assert code == 1
    assert found["tokenizer"]["status"] == "failed" and "one family" in found["tokenizer"]["remedy"]


def test_an_absent_cloud_fails_with_a_remedy(updraft: Updraft, tiny: list[str]) -> None:
    with socket.socket() as held:  # bound and not listening: nobody answers there
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        result = updraft("doctor", *tiny, "--quick", "--cloud", address)
    assert result.exit_code == 1
    assert f"no cloud service answers at {address}" in result.stdout and "updraft serve cloud" in result.stdout


def test_a_missing_model_fails_and_the_rest_is_still_checked(updraft: Updraft) -> None:
    code, found = diagnosis(updraft, "--model", "/nowhere/x.gguf", "--local-only")
    assert code == 1
    assert found["edge model"]["status"] == "failed" and found["edge model"]["facts"]["code"] == "model_not_found"
    assert "memory" not in found and found["link"]["status"] == "skipped"


def test_a_context_beyond_the_models_fails(updraft: Updraft, tiny_model_path: Path) -> None:
    code, found = diagnosis(
        updraft, "--model", str(tiny_model_path), "--set", "context=8192", "--quick", "--local-only"
    )
    assert code == 1
    assert "longer than the model's 4096" in found["edge model"]["detail"]


def test_more_threads_than_cores_is_a_warning(updraft: Updraft, tiny: list[str]) -> None:
    code, found = diagnosis(updraft, *tiny, "--quick", "--local-only", "--set", "threads=512")
    assert code == 0 and found["cores"]["status"] == "warning"


def test_memory_beyond_the_profile_is_a_warning_and_beyond_the_machine_a_failure(
    updraft: Updraft, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = read_model_info(tiny[1]).weight_bytes
    monkeypatch.setattr(checks, "cache_bytes", lambda path, context, sequences: 5 << 30)
    monkeypatch.setattr(checks, "memory_bytes", lambda: 6 << 30)
    arguments = [*tiny, "--quick", "--local-only", "--device", "laptop-cpu"]
    code, found = diagnosis(updraft, *arguments)
    assert (code, found["memory"]["status"]) == (0, "warning")
    assert found["memory"]["facts"] == {"weights": weights, "caches": 5 << 30, "limit": 4 << 30}
    monkeypatch.setattr(checks, "memory_bytes", lambda: 5 << 30)
    code, found = diagnosis(updraft, *arguments)
    assert (code, found["memory"]["status"]) == (1, "failed")


@pytest.mark.parametrize(("gpu_layers", "status", "code"), [("0", "failed", 1), ("1", "warning", 0)])
def test_an_engine_that_is_not_exact_is_told(
    gpu_layers: str, status: str, code: int, updraft: Updraft, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = Difference(3, 0.0, True), Difference(3, 0.5, False)
    report = ExactnessReport(batching=bad, runs=good, prefill=good, far=good, fork=good, restore=good)
    monkeypatch.setattr(exactness, "check_exactness", lambda engine: report)
    arguments = [*tiny, "--local-only", "--set", f"gpu_layers={gpu_layers}"]
    found_code, found = diagnosis(updraft, *arguments)
    check = found["engine exactness"]
    assert (found_code, check["status"]) == (code, status)
    assert "batching 0.5" in check["detail"] and "near-ties" in check["remedy"]
    assert np.isclose(check["facts"]["batching"]["largest"], 0.5)


def test_wrong_settings_are_an_error_of_their_own(updraft: Updraft) -> None:
    result = updraft("doctor", "--device", "toaster", "--json")
    assert result.exit_code == 2
    assert "raspberry-pi-5" in json.loads(result.stdout)["error"]["message"]
