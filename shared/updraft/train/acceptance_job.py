"""A whole run of training an acceptance head: text, labels of both models, the head and its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from updraft.acceptance_head import write_acceptance_head
from updraft.engine import open_engine
from updraft.engine.base import Engine
from updraft.errors import InvalidRequest
from updraft.train.acceptance import HeadRecipe, Quality, compare, train_head
from updraft.train.acceptance_labels import collect_labels
from updraft.train.conversations import Conversation, read_conversations, split_held_out
from updraft.train.write import read_prompts, write_text

__all__ = ["AcceptanceJob", "Trained", "train_acceptance"]

T = TypeVar("T")

Progress = Callable[[str, int, int], None]  # stage, done, in all

_WRITERS = 16
_ANSWER = 128  # tokens


@dataclass(frozen=True)
class AcceptanceJob:
    """What training takes.

    Attributes:
        edge, cloud: catalogue names or files of the two models.
        out: the head's file.
        texts: conversations of token ids that the cloud's model wrote.
        prompts: files of prompts that the cloud's model answers first, greedily.
        conversations: at most so many of all of them, evenly taken.
        held_out: share of the prompts that nothing is trained on.
    """

    edge: str
    cloud: str
    out: Path
    texts: tuple[Path, ...] = ()
    prompts: tuple[Path, ...] = ()
    conversations: int = 300
    longest: int = 320
    held_out: float = 0.15
    recipe: HeadRecipe = field(default_factory=HeadRecipe)
    threads: int = 2
    progress: Progress | None = None

    def step(self, stage: str) -> Callable[[int, int], None]:
        """A callback that reports on one stage."""
        return lambda done, total: self.progress(stage, done, total) if self.progress else None


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        qualities: on held-out prompts, of `always`, `confidence` and `head`.
        stood: share of the held-out positions where both models agree.
    """

    path: Path
    positions: int
    held_out: int
    stood: float
    qualities: dict[str, Quality]


def train_acceptance(job: AcceptanceJob) -> Trained:
    """Train a head for a pair of models and write its file.

    Raises:
        InvalidRequest: no text, too little of it, or models of different tokenizers.
        ModelNotFound, BadModelFile: a model or a text is not there or is damaged.
        ConfigError: the file cannot be written.
    """
    torch.set_num_threads(job.threads)
    options: dict[str, Any] = {"context": max(job.longest, 64), "threads": job.threads}
    cloud = open_engine(job.cloud, sequences=_WRITERS if job.prompts else 1, **options)
    try:
        edge = open_engine(job.edge, sequences=1, **options)
        try:
            return _train(job, edge, cloud)
        finally:
            edge.shutdown()
    finally:
        cloud.shutdown()


def _train(job: AcceptanceJob, edge: Engine, cloud: Engine) -> Trained:
    training, held_out = split_held_out(_text(job, cloud), job.held_out)
    if not training or not held_out:
        raise InvalidRequest(
            f"{len(training) + len(held_out)} conversations are too few to hold some out", remedy="Give more text."
        )
    learned = collect_labels(edge, cloud, training, job.step("both models on training text"))
    judged = collect_labels(edge, cloud, held_out, job.step("both models on held-out text"))
    head = train_head(
        learned,
        edge=edge.info.fingerprint,
        cloud=cloud.info.fingerprint,
        recipe=job.recipe,
        facts={"edge_model": edge.info.name, "cloud_model": cloud.info.name},
        progress=job.step("training the head"),
    )
    qualities = compare(head, learned, judged)
    figures = {name: asdict(quality) for name, quality in qualities.items()}
    facts = {**head.facts, "held_out": figures, "held_out_positions": len(judged)}
    write_acceptance_head(job.out, replace(head, facts=facts))
    return Trained(job.out, len(learned), len(judged), float(judged.stood.mean()), qualities)


def _text(job: AcceptanceJob, cloud: Engine) -> list[Conversation]:
    """Conversations to learn from, evenly taken, after the cloud's model has answered the prompts."""
    if not job.texts and not job.prompts:
        raise InvalidRequest("there is nothing to train on", remedy="Give --text or --prompts.", param="text")
    texts = list(job.texts)
    if job.prompts:
        asked = _evenly([prompt for file in job.prompts for prompt in read_prompts(file)], job.conversations)
        texts.append(job.out.with_suffix(".jsonl"))
        longest, step = min(_ANSWER, job.longest // 2), job.step("writing text")
        write_text(cloud, asked, texts[-1], longest=longest, temperatures=(0.0,), progress=step)
    found = read_conversations(texts, vocabulary=cloud.info.vocabulary, longest=job.longest)
    return _evenly(found, job.conversations)


def _evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many, from everywhere in the sequence."""
    step = max(1.0, len(items) / most)
    return [items[int(number * step)] for number in range(min(most, len(items)))]
