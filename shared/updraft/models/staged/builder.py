"""ONNX graphs from Hugging Face folders, made by onnxruntime-genai's model builder in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Literal, NoReturn

from updraft.errors import BadModelFile, ConfigError, MissingExtra

__all__ = ["GRAPH_FILE", "Job", "Precision", "block_job", "build", "require_builder", "trunk_job"]

GRAPH_FILE = "model.onnx"
Precision = Literal["int4", "int8", "fp32"]
Progress = Callable[[str], None]

_NEEDED = ("onnxruntime_genai", "onnx_ir", "torch", "transformers", "onnx", "onnxruntime")
_PROCESS = "updraft.models.staged.build_process"
# Caches that keep a window only could not be rolled back.
_OPTIONS = {"block_size": "32", "is_symmetric": "true", "windowed_kv_cache": "false"}
_STEPS = ("Reading ", "Saving ONNX model")


@dataclass(frozen=True, slots=True)
class Job:
    """One graph to build: `model.onnx` and its data from `folder` into `target`."""

    folder: Path
    target: Path
    options: dict[str, str] = field(default_factory=dict)


def trunk_job(folder: Path, target: Path, layers: Sequence[int] = (), *, wide_head: bool = False) -> Job:
    """The whole model, with the hidden states after its final norm, and the residual stream that enters `layers`.

    `wide_head` gives a 4-bit model an output matrix of 8 bits.
    """
    options = {"include_hidden_states": "true", **_OPTIONS}
    if wide_head:
        # Not together with the builder's own sharing, which then names tensors that it does not write.
        options |= {"matmul_mixed_precision": "last_matmul:int8", "shared_embeddings": "false"}
    if layers:
        options["aux_hidden_state_layers"] = ",".join(map(str, layers))
    return Job(folder, target, options)


def block_job(folder: Path, target: Path) -> Job:
    """A model of one layer without embedding and output matrix: hidden states in, normalised hidden states out."""
    return Job(folder, target, {"exclude_embeds": "true", "exclude_lm_head": "true", **_OPTIONS})


def require_builder() -> None:
    """Raises MissingExtra unless the builder and what it needs are installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtra(f"exporting to ONNX needs {', '.join(missing)}", remedy='pip install "updraft-llm[export]"')


def build(jobs: Sequence[Job], precision: Precision, *, progress: Progress | None = None) -> None:
    """Build all graphs in one process, with 4-bit or 8-bit weights in symmetric blocks of 32, or in float32.

    Args:
        jobs: what to build.
        precision: of the weights.
        progress: called with a line of text for each step.

    Raises:
        MissingExtra: the builder is not installed.
        BadModelFile: the builder does not support the model.
        ConfigError: the disk is full.
    """
    require_builder()
    task = {
        "precision": precision,
        "jobs": [
            {"folder": str(j.folder.resolve()), "target": str(j.target.resolve()), "options": j.options} for j in jobs
        ],
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as faults:
        with subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", _PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=faults,
            text=True,
            errors="replace",
            env=_environment(),
        ) as process:
            try:
                _converse(process, json.dumps(task), progress)
            except BaseException:
                process.kill()
                raise
        status = process.returncode
        if status != 0:
            _explain(faults, status)


def _converse(process: subprocess.Popen[str], task: str, progress: Progress | None) -> None:
    if process.stdin is None or process.stdout is None:  # never: both are pipes
        return
    try:
        process.stdin.write(task)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it failed at once; its status and last words say why
    for line in process.stdout:
        if progress is not None and line.startswith(_STEPS):
            progress(line.partition(" in /")[0].strip())


def _environment() -> dict[str, str]:
    """Ours, with our import path, and without a way to the network for libraries that look for models there."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    path = os.pathsep.join(folder for folder in sys.path if folder)
    return {**os.environ, **offline, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


def _explain(faults: IO[str], status: int) -> NoReturn:
    faults.seek(0)
    lines = [line.strip() for line in faults if line.strip()]
    last = lines[-1] if lines else f"it ended with status {status} and without a word"
    if "No space left on device" in " ".join(lines[-20:]):
        raise ConfigError("the disk filled up while the graph was being built", remedy="Free some room and try again.")
    raise BadModelFile(
        f"onnxruntime-genai's model builder failed: {last}",
        remedy="Check that onnxruntime-genai supports this architecture.",
    )
