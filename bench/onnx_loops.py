"""Greedy loops on ONNX Runtime that write the same answers: our engine, and onnxruntime-genai's own generator."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from updraft.engine.base import FloatRows, Run
from updraft.errors import MissingExtra
from updraft.models.staged import export_staged, read_manifest
from updraft.models.staged.builder import Job, Precision, build, trunk_job
from updraft.models.staged.source import open_source

from .loops import Written

__all__ = ["EngineLoop", "GenaiLoop", "Loop", "Models", "make_models"]

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Models:
    """One model in the forms that the loops read.

    Attributes:
        built: onnxruntime-genai's folder, as its builder writes it.
        plain: the same graph as a staged folder of one stage, attention as it was.
        exact: the same with padded attention.
        staged: that in `stages` stages.
    """

    built: Path
    plain: Path
    exact: Path
    staged: Path


def make_models(source: Path, folder: Path, precision: Precision, stages: int, progress: Progress) -> Models:
    """Build one model's graph in all forms, those that `folder` does not have yet; a minute for SmolLM2.

    The output matrix of 4-bit models has 4 bits, as the builder chooses: our exports have 8 unless told otherwise.

    Raises:
        MissingExtra: the builder is not installed.
        BadModelFile, ModelNotFound, ConfigError: see `export_staged`.
    """
    export = partial(export_staged, source, precision=precision, head_bits=4, progress=progress)
    models = Models(folder / "built", folder / "plain", folder / "exact", folder / f"stages-{stages}")
    if not models.plain.exists():
        export(models.plain, exact=False)
    if not models.exact.exists():
        export(models.exact)
    if not models.staged.exists():
        layers = read_manifest(models.plain).layers
        cuts = [layers * stage // stages for stage in range(1, stages)]
        export(models.staged, cuts=cuts)
    if not models.built.exists():
        _build_whole(source, models.built, precision, progress)
    return models


def _build_whole(source: Path, target: Path, precision: Precision, progress: Progress) -> None:
    """The builder's own graph, as it would be made for the generator: without our additional outputs."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        checkpoint, _ = open_source(source).folder(Path(scratch))
        job = trunk_job(checkpoint, Path(scratch) / "built")
        options = {name: value for name, value in job.options.items() if name != "include_hidden_states"}
        build([Job(job.folder, job.target, options)], precision, progress=progress)
        job.target.rename(target)


class Loop(Protocol):
    """Writes greedily, one token a step."""

    name: str

    def write(self, prompt: Sequence[int], count: int) -> Written: ...

    def close(self) -> None: ...


class EngineLoop:
    """Our engine, asked for one token after the other; end tokens are never drawn, as the generator has it."""

    def __init__(self, name: str, folder: Path, *, context: int, threads: int) -> None:
        from updraft.engine.onnx import OnnxEngine

        self.name = name
        self.engine = OnnxEngine(folder, context=context, sequences=1, threads=threads)
        self._ends = sorted(self.engine.info.end_tokens)

    def write(self, prompt: Sequence[int], count: int) -> Written:
        engine = self.engine
        began = time.perf_counter()
        sequence = engine.open()
        tokens: list[int] = []
        arrivals: list[float] = []
        for start in range(0, len(prompt), engine.max_run):
            part = prompt[start : start + engine.max_run]
            rows = int(start + len(part) == len(prompt))
            (output,) = engine.forward([Run(sequence, start, part, rows=rows)])
        while True:
            tokens.append(self._best(output.logits[-1]))
            arrivals.append(time.perf_counter() - began)
            if len(tokens) == count:
                break
            (output,) = engine.forward([Run(sequence, len(prompt) + len(tokens) - 1, tokens[-1:], rows=1)])
        engine.close(sequence)
        return Written(tuple(tokens), tuple(arrivals))

    def close(self) -> None:
        self.engine.shutdown()

    def _best(self, row: FloatRows) -> int:
        token = int(row.argmax())
        if token in self._ends:
            row = row.copy()
            row[self._ends] = -np.inf
            token = int(row.argmax())
        return token


class GenaiLoop:
    """onnxruntime-genai's `Generator` on its own graph, with its greedy search.

    Args:
        folder: as the builder writes it; its configuration gets the threads and the end tokens.
        context: tokens of a sequence.
        threads: of the session.
        ends: end tokens, which are not drawn before the context is full.

    Raises:
        MissingExtra: onnxruntime-genai is not installed.
    """

    name = "genai"

    def __init__(self, folder: Path, *, context: int, threads: int, ends: Sequence[int]) -> None:
        try:
            import onnxruntime_genai
        except ImportError as error:
            raise MissingExtra(
                f"the baseline needs onnxruntime-genai: {error}", remedy='pip install "updraft-llm[export]"'
            ) from error
        self._context = context
        _configure(folder / "genai_config.json", threads, ends)
        self._genai: Any = onnxruntime_genai
        self._model = onnxruntime_genai.Model(str(folder))

    def write(self, prompt: Sequence[int], count: int) -> Written:
        began = time.perf_counter()
        params = self._genai.GeneratorParams(self._model)
        params.set_search_options(max_length=self._context, min_length=self._context, do_sample=False)
        generator = self._genai.Generator(self._model, params)
        generator.append_tokens(list(prompt))
        tokens: list[int] = []
        arrivals: list[float] = []
        while len(tokens) < count:
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
            arrivals.append(time.perf_counter() - began)
        return Written(tuple(tokens), tuple(arrivals))

    def close(self) -> None:
        self._model = None


def _configure(path: Path, threads: int, ends: Sequence[int]) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    config["model"]["eos_token_id"] = list(ends)
    path.write_text(json.dumps(config), encoding="utf-8")
