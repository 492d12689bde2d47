"""Whole training runs: from a trunk and text to rungs with their model cards. An interrupted run is taken up again."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from updraft.engine import open_engine
from updraft.errors import ConfigError, InvalidRequest, UpdraftError
from updraft.models import resolve
from updraft.models.rung_gguf import export_gguf, requantise
from updraft.models.rungs import Rung, write_rung
from updraft.models.weights import Weights, read_weights
from updraft.train.card import plot_curves, write_card
from updraft.train.conversations import Conversation, common_prefix, read_conversations, split_held_out
from updraft.train.disk import disk_errors
from updraft.train.distil import Point, Recipe, agreement, distil
from updraft.train.heads import heads_of_exits
from updraft.train.llama import Llama, block_arrays, of_trunk
from updraft.train.measure import acceptance, decode_rates
from updraft.train.teacher import TeacherCache, cache_teacher
from updraft.train.write import read_prompts, write_text

__all__ = ["Job", "Progress", "train_exits", "train_student"]

_log = logging.getLogger(__name__)

Progress = Callable[[str, int, int, Point | None], None]  # stage, done, in all, a new point of the curve

_WRITERS = 32
_ANSWER = 180  # tokens


@dataclass(frozen=True)
class Job:
    """What both kinds of training need.

    Attributes:
        trunk: a catalogue name, a GGUF or a Hugging Face folder.
        out: folder of the run; everything that an interrupted run needs to go on is in it.
        texts: conversations of token ids, or plain text.
        prompts: files of prompts that the trunk answers first; its answers are trained on, too.
        longest: tokens of a conversation, at most.
        held_out: share of the prompts that nothing is trained on.
    """

    trunk: str
    out: Path
    texts: tuple[Path, ...] = ()
    prompts: tuple[Path, ...] = ()
    longest: int = 512
    held_out: float = 0.03
    recipe: Recipe = field(default_factory=Recipe)
    threads: int = 2
    device: str = "auto"
    precision: Literal["int8", "float16", "float32"] = "int8"
    progress: Progress | None = None

    def step(self, stage: str) -> Callable[[int, int], None]:
        """A callback that reports on one stage."""
        return lambda done, total: self.progress(stage, done, total, None) if self.progress else None

    def torch_device(self) -> torch.device:
        """Raises ConfigError for a device that torch cannot use here."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            return torch.zeros(1, device=self.device).device
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"torch has no device {self.device!r} here: {error}", remedy="Try --device cpu."
            ) from error


@dataclass(frozen=True)
class _Prepared:
    path: Path
    weights: Weights
    training: TeacherCache
    held_out: TeacherCache
    skip: int
    answers: tuple[int, int]  # tokens of answers in training and held-out text
    device: torch.device


def train_exits(job: Job, layers: Sequence[int]) -> list[Path]:
    """Distil one exit block after each of `layers` trunk layers, then the heads that decide when to leave.

    The trunk stays as it is, so that hidden states of the edge continue in the cloud's model.

    Returns:
        The rungs' files in `job.out`, one an exit.

    Raises:
        InvalidRequest: layers out of range or unordered, or text that cannot be used.
        ConfigError: the folder holds another run or cannot be written, the disk is full, or torch lacks the device.
    """
    if not layers or list(layers) != sorted(set(layers)):
        raise InvalidRequest(f"the exits' layers {list(layers)} must be given in order, each once")
    with disk_errors(job.out):
        return _exits(job, layers)


def _exits(job: Job, layers: Sequence[int]) -> list[Path]:
    prepared = _prepare(job, layers, layers)
    models: list[Llama] = []
    curves: list[list[Point]] = []
    for layer in layers:
        model = of_trunk(prepared.weights, [layer])
        curves.append(_distil(job, prepared, model, layer, f"exit{layer}"))
        models.append(model)
    exits = list(zip(layers, models, strict=True))
    heads = heads_of_exits(exits, weights=prepared.weights, cache=prepared.held_out, seed=job.recipe.seed)
    paths = []
    for layer, model, curve, head in zip(layers, models, curves, heads, strict=True):
        sources = tuple(range(layer + 1))
        rung = _rung("exit", prepared, model, sources, layer, job, curve, head)
        paths.append(_finish(job, prepared, rung, f"exit{layer}", curve))
    return paths


def train_student(job: Job, layers: Sequence[int], *, frozen: int = 0, name: str = "student") -> Path:
    """Distil a shallow model whose layers start as `layers` of the trunk.

    Args:
        frozen: so many of its first layers stay the trunk's own first layers; training is cheaper and the file smaller
            for them, since the trunk's states after them are cached.

    Raises: as `train_exits`.
    """
    if not layers or list(layers) != sorted(set(layers)):
        raise InvalidRequest(f"the student's layers {list(layers)} must be given in order, each once")
    if not 0 <= frozen < len(layers) or list(layers[:frozen]) != list(range(frozen)):
        raise InvalidRequest(f"{frozen} frozen layers must be the trunk's first ones and fewer than all")
    with disk_errors(job.out):
        prepared = _prepare(job, layers, [frozen])
        model = of_trunk(prepared.weights, layers[frozen:])
        curve = _distil(job, prepared, model, frozen, name)
        rung = _rung("student", prepared, model, tuple(layers), frozen, job, curve, {})
        return _finish(job, prepared, rung, name, curve)


def _prepare(job: Job, layers: Sequence[int], entries: Sequence[int]) -> _Prepared:
    """Text and what the trunk thinks of it, with its states after `entries`."""
    torch.set_num_threads(job.threads)
    path, device = resolve(job.trunk), job.torch_device()
    weights = read_weights(path)
    outside = [layer for layer in layers if not 0 <= layer < weights.shape.layers]
    if outside:
        raise InvalidRequest(
            f"layers must be from 0 to {weights.shape.layers - 1}, not {outside[0]}",
            remedy="`updraft models show` says how many layers a model has.",
            param="layers",
        )
    if job.longest > weights.shape.context:
        raise InvalidRequest(f"{job.longest} tokens do not fit the model's context of {weights.shape.context}")
    job.out.mkdir(parents=True, exist_ok=True)
    conversations = _text(job, path, weights)
    training, held_out = split_held_out(conversations, job.held_out)
    if not training or not held_out:
        raise InvalidRequest(
            f"{len(conversations)} conversations are too few to hold some out", remedy="Give more text or prompts."
        )
    caches = [
        cache_teacher(
            job.out / "teacher" / name,
            weights,
            sorted(text, key=lambda c: len(c.prompt) + len(c.response)),
            entries,
            device=device,
            progress=job.step(f"teacher on {name.replace('_', ' ')} text"),
        )
        for name, text in (("held_out", held_out), ("training", training))
    ]
    answers = (sum(len(c.response) for c in training), sum(len(c.response) for c in held_out))
    return _Prepared(path, weights, caches[1], caches[0], common_prefix(conversations), answers, device)


def _text(job: Job, path: Path, weights: Weights) -> list[Conversation]:
    """All text, after the trunk has answered the prompts."""
    texts, engine = list(job.texts), None
    plain = any(text.suffix in (".txt", ".md") for text in texts)
    if job.prompts or plain:
        if not path.is_file():
            raise InvalidRequest(
                f"{path} is a folder; prompts and plain text need the model as a GGUF",
                remedy="Convert it with llama.cpp, or give --text as token ids.",
            )
        writers = _WRITERS if job.prompts else 1
        engine = open_engine(path, context=job.longest, sequences=writers, threads=job.threads)
    try:
        if job.prompts and engine is not None:
            prompts = [prompt for file in job.prompts for prompt in read_prompts(file)]
            texts.append(job.out / "text.jsonl")
            longest = min(_ANSWER, job.longest // 2)
            seed, progress = job.recipe.seed, job.step("writing text")
            write_text(engine, prompts, texts[-1], longest=longest, seed=seed, progress=progress)
        tokenizer = engine.tokenizer if engine else None
        vocabulary = weights.shape.vocabulary
        return read_conversations(texts, vocabulary=vocabulary, longest=job.longest, tokenizer=tokenizer)
    finally:
        if engine is not None:
            engine.shutdown()


def _distil(job: Job, prepared: _Prepared, model: Llama, entry: int, name: str) -> list[Point]:
    def progress(done: int, total: int, point: Point | None) -> None:
        if job.progress:
            job.progress(f"training {name}", done, total, point)

    curve = distil(
        model,
        prepared.weights,
        prepared.training,
        prepared.held_out,
        entry=entry,
        recipe=job.recipe,
        folder=job.out / name,
        skip=prepared.skip,
        device=prepared.device,
        progress=progress,
    )
    model.eval()
    return curve


def _sample(prepared: _Prepared) -> TeacherCache:
    """As many conversations of the training text as were held out, of middling length."""
    training = prepared.training
    start = len(training) // 2
    stop = start + min(len(prepared.held_out), len(training) - start)
    return replace(training, offsets=training.offsets[start : stop + 1], answers=training.answers[start:stop])


def _rung(
    kind: Literal["exit", "student"],
    prepared: _Prepared,
    model: Llama,
    sources: tuple[int, ...],
    entry: int,
    job: Job,
    curve: Sequence[Point],
    head: dict[str, NDArray[np.float32]],
) -> Rung:
    trained = range(len(sources) - len(model.layers), len(sources))
    tensors = {
        f"layers.{index}.{suffix}": values
        for index, block in zip(trained, model.layers, strict=True)
        for suffix, values in block_arrays(block).items()
    }
    tensors["norm.weight"] = model.norm.weight.detach().cpu().float().numpy()
    weights, held_out = prepared.weights, prepared.held_out
    facts: dict[str, Any] = {
        "trunk": job.trunk if not Path(job.trunk).exists() else Path(job.trunk).name,
        "agreement": agreement(model, weights, held_out, entry, prepared.device),
        "agreement_training": agreement(model, weights, _sample(prepared), entry, prepared.device),
        "answer_tokens": list(prepared.answers),
        "positions_trained": curve[-1].positions if curve else 0,
        "seconds": curve[-1].seconds if curve else 0.0,
        "recipe": asdict(job.recipe),
        "device": str(prepared.device),
        "threads": job.threads,
    }
    for temperature in (0.0, 0.8):
        facts[f"acceptance_{temperature:g}"] = acceptance(
            model, weights, held_out, entry=entry, temperature=temperature, device=prepared.device
        )
    return Rung(kind, weights.fingerprint, sources, frozenset(trained), {**tensors, **head}, facts)


def _finish(job: Job, prepared: _Prepared, rung: Rung, name: str, curve: Sequence[Point]) -> Path:
    """Write the rung and its card; speed is measured where the trunk is a GGUF."""
    path = job.out / f"{name}.safetensors"
    write_rung(rung, path, job.precision)
    rates = _rates(job, prepared, rung) if prepared.path.is_file() else None
    picture = f"{name}.png" if importlib.util.find_spec("matplotlib") else None
    if picture:
        plot_curves(job.out / picture, {name: curve})
    write_card(job.out / f"{name}.md", name, rung, curve, rates, picture)
    return path


def _rates(job: Job, prepared: _Prepared, rung: Rung) -> tuple[float, float] | None:
    """Tokens a second of the trunk and of the rung, both as Q4_0; a run is not lost because they cannot be measured."""
    folder = job.out / "speed"
    folder.mkdir(exist_ok=True)
    small, full = folder / f"rung-{time.time_ns()}.gguf", folder / f"trunk-{prepared.weights.fingerprint[:12]}.gguf"
    try:
        if not full.is_file():
            requantise(prepared.path, full, "Q4_0")
        export_gguf(prepared.path, rung, small, quantisation="Q4_0")
        trunk_rate, rung_rate = decode_rates([full, small], threads=job.threads)
    except UpdraftError as error:
        _log.warning("speed was not measured: %s", error)
        return None
    finally:
        small.unlink(missing_ok=True)
    return trunk_rate, rung_rate
