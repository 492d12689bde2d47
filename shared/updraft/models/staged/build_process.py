"""The process that runs onnxruntime-genai's model builder: torch and transformers stay out of the caller's.

Reads one JSON object from standard input: `{"precision", "jobs": [{"folder", "target", "options": {...}}]}`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Build every job's graph; anything that goes wrong ends the process with a traceback and status 1."""
    task = json.load(sys.stdin)
    builder = _load_builder()
    for job in task["jobs"]:
        _build(builder, job["folder"], job["target"], task["precision"], job["options"])


def _load_builder() -> Any:
    """The builder's modules import each other by top-level names, so their folder goes on the path."""
    spec = find_spec("onnxruntime_genai")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("onnxruntime_genai")
    sys.path.insert(0, str(Path(spec.origin).parent / "models"))
    builder = importlib.import_module("builder")
    base = importlib.import_module("builders.base")
    base.Model.save_processing = lambda *_: None  # our folders have no tokenizer; the caller copies it
    vars(builder)["get_hf_details"] = _details
    return builder


def _details(_name: str, folder: str, _cache: str, _options: dict[str, Any]) -> dict[str, Any]:
    """What the builder asks of a checkpoint, without its tokenizer and without running code that came with it."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return {"extra_kwargs": {}, "hf_name": folder, "hf_config": config}


def _build(builder: Any, folder: str, target: str, precision: str, options: dict[str, str]) -> None:
    cache = os.path.join(target, "cache")
    given = [f"{key}={value}" for key, value in {"hf_token": "false", **options}.items()]
    parsed = builder.parse_extra_options("", folder, target, precision, "cpu", cache, given)
    builder.create_model("", folder, target, precision, "cpu", cache, **parsed)


if __name__ == "__main__":
    main()
