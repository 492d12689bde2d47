"""A whole run: from text to a packed mixture of experts with its model card. An interrupted run is taken up again."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from updraft.engine import open_engine
from updraft.engine.base import Engine
from updraft.errors import InvalidRequest
from updraft.models import resolve
from updraft.models.llama_shape import LlamaShape
from updraft.models.moe.packed import INPUT, OUTPUT, PackedMoe, read_moe, write_moe
from updraft.models.moe.shape import MixtralShape
from updraft.models.weights import Weights, read_weights
from updraft.train.conversations import Conversation, split_held_out
from updraft.train.disk import disk_errors
from updraft.train.moe.card import plot_routing, write_moe_card
from updraft.train.moe.loop import MoePoint, MoeRecipe, train
from updraft.train.moe.measure import Unigrams, draft_agreement, greedy_answers, losses, some_of
from updraft.train.moe.model import Mixtral, of_arrays, to_arrays
from updraft.train.moe.routing import LayerRouting, collect, layer_routing
from updraft.train.moe.text import read_texts

__all__ = ["MoeJob", "MoeSizes", "train_moe"]

Progress = Callable[[str, int, int, MoePoint | None], None]  # stage, done, in all, a new point of the curve

_CURVE_CONVERSATIONS = 40  # held-out ones that a point of the curve is measured on
_MEASURED_TOKENS = 8000  # of each text, roughly
_ROUTED_TOKENS = 60_000
_ANSWERS, _ANSWER_TOKENS = 48, 64
_NAME = "moe"


@dataclass(frozen=True)
class MoeSizes:
    """Sizes of the model; the rest is the trunk's."""

    layers: int = 8
    width: int = 256
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 192  # of one expert
    experts: int = 16
    active: int = 2

    def shape(self, trunk: LlamaShape, context: int) -> MixtralShape:
        """Raises InvalidRequest for sizes that no model can have."""
        head_size = self.width // self.heads
        base = LlamaShape(
            self.layers,
            self.width,
            self.heads,
            self.kv_heads,
            head_size,
            self.hidden,
            trunk.vocabulary,
            context,
            10_000.0,
            trunk.norm_epsilon,
        )
        shape = MixtralShape(base, self.experts, self.active)
        if fault := shape.fault():
            raise InvalidRequest(f"a mixture of experts cannot have {fault}")
        if self.width > trunk.width:
            raise InvalidRequest(f"the width {self.width} is more than the trunk's {trunk.width}")
        return shape


@dataclass(frozen=True)
class MoeJob:
    """What to train on what.

    Attributes:
        trunk: a catalogue name or a GGUF: its vocabulary and its embedding matrix are the model's.
        out: folder of the run; everything that an interrupted run needs to go on is in it.
        texts: files and folders, see `read_texts`.
        longest: tokens of a conversation and of a training row: the model's context.
        held_out: share of the prompts that nothing is trained on.
        foreign: text of other kinds, only measured on.
        drafters: catalogue names or GGUFs of the trunk's tokenizer, measured as drafters for the model.
    """

    trunk: str
    out: Path
    texts: tuple[Path, ...]
    sizes: MoeSizes = field(default_factory=MoeSizes)
    recipe: MoeRecipe = field(default_factory=MoeRecipe)
    longest: int = 512
    held_out: float = 0.03
    foreign: tuple[Path, ...] = ()
    drafters: tuple[str, ...] = ()
    threads: int = 1
    progress: Progress | None = None


@dataclass(frozen=True)
class _Text:
    """Conversations by file."""

    training: dict[str, list[Conversation]]
    held_out: dict[str, list[Conversation]]

    foreign: dict[str, list[Conversation]]

    @property
    def all_training(self) -> list[Conversation]:
        return [conversation for some in self.training.values() for conversation in some]

    @property
    def all_held_out(self) -> list[Conversation]:
        return [conversation for some in self.held_out.values() for conversation in some]

    def sample(self, count: int) -> list[Conversation]:
        """Some of the held-out conversations, evenly over all files."""
        held_out = self.all_held_out
        return held_out[:: max(1, len(held_out) // count)][:count]


def train_moe(job: MoeJob) -> Path:
    """Train the model of a job, pack it, and measure what was packed.

    Returns:
        Its file in `job.out`; its card and a picture of its routing are beside it.

    Raises:
        InvalidRequest: sizes that no model can have, or text that cannot be used.
        ConfigError: the folder holds another run or cannot be written, or the disk is full.
    """
    torch.set_num_threads(job.threads)
    with disk_errors(job.out):
        job.out.mkdir(parents=True, exist_ok=True)
        path = resolve(job.trunk)
        weights = read_weights(path)
        shape = job.sizes.shape(weights.shape, job.longest)
        engine = open_engine(path, context=job.longest, sequences=1, threads=job.threads)
        try:
            text = _text(job, engine)
            table = torch.from_numpy(weights["model.embed_tokens.weight"])
            model = Mixtral(shape, table, job.recipe.seed)
            curve = _train(job, model, table, text)
            return _finish(job, weights, engine, model, table, text, curve)
        finally:
            engine.shutdown()


def _text(job: MoeJob, engine: Engine) -> _Text:
    def read(paths: Sequence[Path]) -> dict[str, list[Conversation]]:
        vocabulary, tokenizer = engine.info.vocabulary, engine.tokenizer
        return read_texts(paths, vocabulary=vocabulary, longest=job.longest, tokenizer=tokenizer)

    halves = {name: split_held_out(found, job.held_out) for name, found in read(job.texts).items()}
    training = {name: both[0] for name, both in halves.items()}
    held_out = {name: both[1] for name, both in halves.items() if both[1]}
    text = _Text(training, held_out, read(job.foreign) if job.foreign else {})
    if not text.all_training or not text.all_held_out:
        raise InvalidRequest("the text is too little to hold some out", remedy="Give more text.")
    return text


def _train(job: MoeJob, model: Mixtral, table: Tensor, text: _Text) -> list[MoePoint]:
    def progress(done: int, total: int, point: MoePoint | None) -> None:
        if job.progress:
            job.progress("training", done, total, point)

    return train(
        model,
        table,
        text.all_training,
        text.sample(_CURVE_CONVERSATIONS),
        recipe=job.recipe,
        folder=job.out,
        progress=progress,
    )


def _finish(
    job: MoeJob,
    weights: Weights,
    engine: Engine,
    model: Mixtral,
    table: Tensor,
    text: _Text,
    curve: Sequence[MoePoint],
) -> Path:
    path = job.out / f"{_NAME}.safetensors"
    arrays = to_arrays(model)
    write_moe(PackedMoe(model.shape, weights.fingerprint, arrays), path)
    packed = of_arrays(model.shape, read_moe(path).tensors, table)  # measured is what was written
    routed = some_of(text.all_held_out, _ROUTED_TOKENS)
    routing = layer_routing(collect(packed, table, routed), job.recipe.seed)
    facts = {
        **_described(job, text, curve),
        **_counted(model.shape, arrays),
        "losses": _losses(engine, packed, table, text),
        "drafters": _agreements(job, engine, packed, table, text),
        "routing_tokens": sum(len(c.tokens) for c in routed),
        "routing": [asdict(layer) for layer in routing],
    }
    moe = PackedMoe(model.shape, weights.fingerprint, arrays, facts)
    write_moe(moe, path)
    _write_card(job.out, moe, curve, routing)
    return path


def _write_card(folder: Path, moe: PackedMoe, curve: Sequence[MoePoint], routing: Sequence[LayerRouting]) -> None:
    picture = f"{_NAME}.png" if importlib.util.find_spec("matplotlib") else None
    if picture:
        plot_routing(folder / picture, routing)
    write_moe_card(folder / f"{_NAME}.md", _NAME, moe, curve, routing, picture)


def _described(job: MoeJob, text: _Text, curve: Sequence[MoePoint]) -> dict[str, Any]:
    return {
        "trunk": _label(job.trunk),
        "recipe": asdict(job.recipe),
        "texts": sorted(text.training),
        "training_tokens": sum(len(c.tokens) for c in text.all_training),
        "held_out_tokens": sum(len(c.tokens) for c in text.all_held_out),
        "minutes": curve[-1].seconds / 60,
        "threads": job.threads,
    }


def _counted(shape: MixtralShape, arrays: dict[str, Any]) -> dict[str, int]:
    """Parameters: all trained ones, the experts' among them, and those that one token uses, without the vocabulary."""
    sizes = {name: int(values.size) for name, values in arrays.items()}
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    inner = sum(sizes.values()) - sizes[INPUT] - sizes[OUTPUT]
    active = inner - experts + experts * shape.active // shape.experts
    return {"parameters": sum(sizes.values()), "expert_parameters": experts, "active_parameters": active}


def _losses(engine: Engine, model: Mixtral, table: Tensor, text: _Text) -> dict[str, Any]:
    tokens = np.concatenate([c.tokens for c in text.all_training])
    unigrams = Unigrams(np.bincount(tokens, minlength=len(table)))
    texts = {f"{name}, held out": found for name, found in text.held_out.items()} | text.foreign
    return {
        name: losses(model, table, engine, unigrams, some_of(found, _MEASURED_TOKENS)) for name, found in texts.items()
    }


def _agreements(job: MoeJob, engine: Engine, model: Mixtral, table: Tensor, text: _Text) -> dict[str, float]:
    """Of each drafter with the model's own greedy answers to held-out prompts."""
    length = min(_ANSWER_TOKENS, job.longest // 2)
    prompts = [c.prompt for c in text.all_held_out if c.prompt and len(c.prompt) + length <= job.longest]
    if not job.drafters or not prompts:
        return {}
    some = prompts[:: max(1, len(prompts) // _ANSWERS)][:_ANSWERS]
    answers = greedy_answers(model, table, some, length=length, ends=engine.info.end_tokens)
    agreements = {}
    for name in job.drafters:
        drafter = open_engine(resolve(name), context=job.longest, sequences=1, threads=job.threads)
        try:
            agreements[_label(name)] = draft_agreement(drafter, answers)
        finally:
            drafter.shutdown()
    return agreements


def _label(model: str) -> str:
    """A catalogue name, or a path without its folder."""
    return Path(model).name if Path(model).exists() else model
