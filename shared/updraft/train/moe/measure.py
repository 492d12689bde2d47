"""What a mixture of experts is worth: perplexity beside baselines, and who could draft for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from updraft.engine.base import Engine, Run
from updraft.train.conversations import Conversation
from updraft.train.moe.loop import mean_loss
from updraft.train.moe.model import Mixtral

__all__ = ["Unigrams", "draft_agreement", "engine_loss", "greedy_answers", "losses", "some_of"]

_CHUNK = 48  # tokens of a run, below what breaks exactness anywhere


@dataclass(frozen=True, slots=True)
class Losses:
    """Cross-entropy of one text in nats a token, of all tokens but each conversation's first."""

    tokens: int
    model: float
    trunk: float
    unigrams: float


class Unigrams:
    """Each token's frequency in the training text, all counts one higher."""

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self._logs = np.log((counts + 1) / (counts.sum() + len(counts)))

    def loss(self, conversations: Sequence[Conversation]) -> float:
        return float(-np.concatenate([self._logs[c.tokens[1:]] for c in conversations]).mean())


def some_of(conversations: Sequence[Conversation], tokens: int) -> list[Conversation]:
    """Conversations from all over a text, of about so many tokens together."""
    total = sum(len(c.tokens) for c in conversations)
    return list(conversations[:: max(1, round(total / tokens))])


def losses(
    model: Mixtral, table: Tensor, trunk: Engine, unigrams: Unigrams, conversations: Sequence[Conversation]
) -> dict[str, Any]:
    """`Losses` as JSON."""
    tokens = sum(len(c.tokens) - 1 for c in conversations)
    mine = mean_loss(model, table, conversations)
    return asdict(Losses(tokens, mine, engine_loss(trunk, conversations), unigrams.loss(conversations)))


def engine_loss(engine: Engine, conversations: Sequence[Conversation]) -> float:
    """Mean cross-entropy of an engine's model, as `mean_loss`."""
    total = count = 0.0
    for conversation in conversations:
        targets = conversation.tokens[1:]

        def row(start: int, logits: NDArray[np.float32], targets: NDArray[np.int32] = targets) -> float:
            places = targets[start : start + len(logits)]
            highest = logits.max(-1)
            sums = np.exp(logits - highest[:, None]).sum(-1)
            return float((np.log(sums) + highest - logits[np.arange(len(logits)), places]).sum())

        total += sum(_rows(engine, conversation.tokens[:-1], row))
        count += len(targets)
    return total / max(1.0, count)


def greedy_answers(
    model: Mixtral, table: Tensor, prompts: Sequence[Sequence[int]], *, length: int, ends: frozenset[int]
) -> list[Conversation]:
    """The model's own greedy answers of at most `length` tokens."""
    texts = [list(prompt) for prompt in prompts]
    open_texts = list(range(len(texts)))
    output = model.output_rows(table).detach()
    for _ in range(length):
        if not open_texts:
            break
        longest = max(len(texts[n]) for n in open_texts)
        ids = torch.zeros(len(open_texts), longest, dtype=torch.int64)
        for row, number in enumerate(open_texts):
            ids[row, : len(texts[number])] = torch.tensor(texts[number])
        with torch.inference_mode():
            final, _ = model(table[ids])
            last = final[torch.arange(len(open_texts)), torch.tensor([len(texts[n]) - 1 for n in open_texts])]
            best = (last @ output.T).argmax(-1).tolist()
        for number, token in zip(open_texts, best, strict=True):
            texts[number].append(token)
        open_texts = [n for n, token in zip(open_texts, best, strict=True) if token not in ends]
    return [
        Conversation(tuple(prompt), tuple(text[len(prompt) :])) for prompt, text in zip(prompts, texts, strict=True)
    ]


def draft_agreement(drafter: Engine, answers: Sequence[Conversation]) -> float:
    """Share of answer tokens that are the drafter's argmax after the same text: what it would be right about as a
    greedy drafter."""
    agreed = count = 0
    for answer in answers:
        best: list[int] = []
        for rows in _rows(drafter, answer.tokens[:-1], lambda _, logits: logits.argmax(-1).tolist()):
            best += rows
        guesses = best[len(answer.prompt) - 1 :]
        agreed += sum(guess == token for guess, token in zip(guesses, answer.response, strict=True))
        count += len(guesses)
    return agreed / max(1, count)


def _rows(engine: Engine, tokens: NDArray[np.int32], read: Callable[[int, NDArray[np.float32]], Any]) -> list[Any]:
    """What `read` makes of the logits at all positions, run by run; it gets the run's first position, too."""
    sequence = engine.open()
    try:
        results = []
        for start in range(0, len(tokens), _CHUNK):
            run = tokens[start : start + _CHUNK].tolist()
            (output,) = engine.forward([Run(sequence, start, run, len(run))])
            results.append(read(start, output.logits))
        return results
    finally:
        engine.close(sequence)
