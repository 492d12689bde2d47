"""`updraft bench agreement`: how far each engine's distributions are from the model's own in full precision."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from updraft.engine import Engine, FloatRows, Run, open_engine
from updraft.errors import ConfigError, MissingExtra
from updraft.models import resolve
from updraft.models.staged import export_staged

from .prompts import first_prompts
from .report import Step, table_of
from .tiers import chat_tokens, machine_cores

__all__ = ["EXACT", "AgreementBench", "divergence"]

EXACT: Final = 1e-4  # goal in full precision for the largest difference of a logit, over the largest logit
_FULL = "onnx-fp32"
# Forms of a staged export: name and options. All are cut in the middle, so that the cut is measured, too.
_EXPORTS: Final[dict[str, dict[str, Any]]] = {
    "onnx-int4": {"precision": "int4"},
    "onnx-int4-level1": {"precision": "int4", "accuracy_level": 1},
    "onnx-int4-head4": {"precision": "int4", "head_bits": 4},
    "onnx-int8": {"precision": "int8"},
    _FULL: {"precision": "fp32"},
}


@dataclass(frozen=True)
class AgreementBench:
    """Every engine reads the same text: prompts, each with the answer that llama.cpp writes greedily.

    The reference is the llama architecture in torch, float32, on the tensors of `model`.

    Attributes:
        model: a GGUF; what its file holds is what full precision means here.
        others: further GGUFs of the same model, requantised.
        models: folder that keeps the exported forms for the next run; a temporary one when None.
    """

    prompts: int = 8
    tokens: int = 96
    model: str = "smollm2"
    others: tuple[str, ...] = ("smollm2-q4_0",)
    threads: int | None = None
    models: Path | None = None
    name = "agreement"

    def __post_init__(self) -> None:
        first_prompts(self.prompts)

    @property
    def steps(self) -> int:
        return 2 + 1 + len(self.others) + len(_EXPORTS)

    async def measure(self, step: Step) -> dict[str, Any]:
        threads = self.threads or len(machine_cores())
        source = resolve(self.model)
        with ExitStack() as stack:
            folder = self.models or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.mkdir(parents=True, exist_ok=True)
            texts = self._texts(source, threads)
            step("wrote the text")
            reference = _torch_rows(source, texts)
            step("reference")
            rows = []
            for name, path in self._forms(source, folder):
                rows.append({"engine": name, **self._compare(path, texts, reference, threads)})
                step(name)
        full = next(row for row in rows if row["engine"] == _FULL)
        return {
            "threads": threads,
            "positions": sum(map(len, texts)),
            "engines": rows,
            "goal": EXACT,
            "passed": full["largest_difference"] <= EXACT * full["largest_logit"],
        }

    def _texts(self, source: Path, threads: int) -> list[list[int]]:
        engine = open_engine(source, context=1024, sequences=1, threads=threads)
        try:
            return [
                _answered(engine, chat_tokens(engine, prompt), self.tokens) for prompt in first_prompts(self.prompts)
            ]
        finally:
            engine.shutdown()

    def _forms(self, source: Path, folder: Path) -> Iterator[tuple[str, Path]]:
        yield f"llama.cpp {self.model}", source
        for other in self.others:
            yield f"llama.cpp {other}", resolve(other)
        for name, options in _EXPORTS.items():
            if not (folder / name).exists():
                export_staged(source, folder / name, cuts=[_middle(source)], **options)
            yield name, folder / name

    def _compare(
        self, path: Path, texts: Sequence[Sequence[int]], reference: Sequence[FloatRows], threads: int
    ) -> dict[str, Any]:
        engine = open_engine(path, context=1024, sequences=1, threads=threads)
        try:
            found = [divergence(expected, _rows(engine, text)) for text, expected in zip(texts, reference, strict=True)]
        finally:
            engine.shutdown()
        nats = np.concatenate([one["nats"] for one in found])
        return {
            "weights": engine.info.quantisation,
            "weight_mib": engine.info.weight_bytes / 2**20,
            "mean_nats": float(nats.mean()),
            "p99_nats": float(np.quantile(nats, 0.99)),
            "agreement": float(np.concatenate([one["same"] for one in found]).mean()),
            "largest_difference": max(float(one["difference"]) for one in found),
            "largest_probability_difference": max(float(one["probability"]) for one in found),
            "largest_logit": max(float(np.abs(rows).max()) for rows in reference),
        }

    def tables(self, results: dict[str, Any]) -> list[Table]:
        title = (
            f"{self.model} against torch in float32, {results['positions']} positions. Goal: {_FULL} within "
            f"{EXACT:g} of the largest logit: {'met' if results['passed'] else 'missed'}"
        )
        columns = {
            "engine": ("engine", ""),
            "weights": ("weights", ""),
            "weight_mib": ("MiB", ".0f"),
            "mean_nats": ("KL, nats: mean", ".3g"),
            "p99_nats": ("99th percentile", ".3g"),
            "agreement": ("same best token", ".2%"),
            "largest_probability_difference": ("largest difference of a probability", ".2g"),
            "largest_difference": ("of a logit", ".2g"),
        }
        return [table_of(title, results["engines"], columns)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False


def divergence(expected: FloatRows, found: FloatRows) -> dict[str, Any]:
    """Of rows of logits: KL(expected || found) in nats and whether the best token is the same, by row, and the largest
    differences of any probability and of any logit."""
    p, q = _log_softmax(expected), _log_softmax(found)
    return {
        "probability": np.abs(np.exp(p) - np.exp(q)).max(),
        "nats": (np.exp(p) * (p - q)).sum(axis=1),
        "same": expected.argmax(axis=1) == found.argmax(axis=1),
        "difference": np.abs(expected - found).max(),
    }


def _log_softmax(rows: FloatRows) -> np.ndarray[Any, np.dtype[np.float64]]:
    shifted = rows.astype(np.float64) - rows.max(axis=1, keepdims=True)
    logs: np.ndarray[Any, np.dtype[np.float64]] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _middle(source: Path) -> int:
    from updraft.models.weights import read_weights

    return read_weights(source).shape.layers // 2


def _answered(engine: Engine, prompt: list[int], count: int) -> list[int]:
    """The prompt and what the engine writes after it greedily, up to `count` tokens or its end."""
    text = list(prompt)
    if len(text) + count > engine.context:
        raise ConfigError(f"{count} tokens after a prompt of {len(text)} do not fit a context of {engine.context}.")
    sequence = engine.open()
    while len(text) < len(prompt) + count:
        start = engine.length(sequence)
        part = text[start : start + engine.max_run]
        (output,) = engine.forward([Run(sequence, start, part, rows=1)])
        if start + len(part) == len(text):
            text.append(int(output.logits[-1].argmax()))
        if text[-1] in engine.info.end_tokens and len(text) > len(prompt):
            break
    engine.close(sequence)
    return text


def _rows(engine: Engine, text: Sequence[int]) -> FloatRows:
    """Logits at every position."""
    sequence, rows = engine.open(), []
    for start in range(0, len(text), engine.max_run):
        part = text[start : start + engine.max_run]
        (output,) = engine.forward([Run(sequence, start, part, rows=len(part))])
        rows.append(output.logits.copy())
    engine.close(sequence)
    return np.concatenate(rows)


def _torch_rows(source: Path, texts: Sequence[Sequence[int]]) -> list[FloatRows]:
    """Logits of the reference at every position of every text.

    Raises MissingExtra when torch is not installed.
    """
    try:
        import torch

        from updraft.train.llama import of_trunk
    except ImportError as error:
        raise MissingExtra(f"the reference needs torch: {error}", remedy='pip install "updraft-llm[train]"') from error
    from updraft.models.weights import read_weights

    weights = read_weights(source)
    embedding = torch.from_numpy(np.array(weights["model.embed_tokens.weight"]))
    head = torch.from_numpy(np.array(weights["lm_head.weight"])) if "lm_head.weight" in weights else embedding
    model = of_trunk(weights)
    with torch.no_grad():
        return [(model(embedding[torch.tensor([list(text)])])[0] @ head.T).numpy() for text in texts]
