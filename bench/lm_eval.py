"""lm-evaluation-harness as a client of an agent: its task file, its run, and what it found for each item."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from updraft.errors import ConfigError

__all__ = ["HarnessItem", "find_harness", "run_harness", "task_file"]

TASK: Final = "updraft_choices"


@dataclass(frozen=True, slots=True)
class HarnessItem:
    """One item's two scores, and the log-likelihood of each option in nats."""

    acc: float
    acc_norm: float
    likelihoods: tuple[float, ...]


def find_harness(given: Path | None) -> Path:
    """The harness's command.

    Raises:
        ConfigError: there is none.
    """
    found = given or shutil.which("lm_eval")
    if found is None or not os.access(found, os.X_OK):
        raise ConfigError(
            f"The command {given or 'lm_eval'} cannot be run.",
            remedy='Install "lm_eval[api]" in any environment and name its command with --lm-eval.',
        )
    return Path(found)


def task_file(lines: list[str], folder: Path) -> Path:
    """A task of multiple-choice lines (question, choices, answer), as the harness reads one from a folder."""
    data = folder / "items.jsonl"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
        "metadata": {"version": 1.0},
    }
    path = folder / f"{TASK}.yaml"
    path.write_text(json.dumps(task), encoding="utf-8")  # JSON is YAML
    return path


async def run_harness(
    command: Path, address: str, model: str, folder: Path, *, as_tokens: bool, batch: int = 8
) -> list[HarnessItem]:
    """Run the task in `folder` against `http://address/v1/completions`; what it found, in the items' order.

    Args:
        as_tokens: send prompts as token ids; else as texts.

    Raises:
        ConfigError: the harness failed; with the end of what it printed.
    """
    url = f"base_url=http://{address}/v1/completions,model={model},num_concurrent=1,tokenizer_backend=remote"
    out = Path(tempfile.mkdtemp(prefix="found-", dir=folder))
    arguments = ["run", "--model", "local-completions", "--model_args", f"{url},tokenized_requests={as_tokens}"]
    arguments += ["--tasks", TASK, "--include_path", str(folder), "--batch_size", str(batch)]
    arguments += ["--output_path", str(out), "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    process = await asyncio.create_subprocess_exec(
        command,
        *arguments,
        env=os.environ | offline,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    samples = _samples(out)
    if process.returncode or not samples:
        end = printed.decode("utf-8", "replace")[-2000:]
        raise ConfigError(f"lm-evaluation-harness ended with code {process.returncode}: {end}")
    return _items(samples[-1])


def _samples(out: Path) -> list[Path]:
    return sorted(out.rglob("samples_*.jsonl"))


def _items(path: Path) -> list[HarnessItem]:
    samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [_item(sample) for sample in sorted(samples, key=lambda sample: int(sample["doc_id"]))]


def _item(sample: dict[str, Any]) -> HarnessItem:
    likelihoods = tuple(float(likelihood) for likelihood, _ in sample["filtered_resps"])
    return HarnessItem(float(sample["acc"]), float(sample["acc_norm"]), likelihoods)
