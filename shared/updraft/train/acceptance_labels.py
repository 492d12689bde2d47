"""What an acceptance head learns from: the edge's hidden states along the cloud's text, and where both agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.acceptance_head import features_of
from updraft.engine.base import Engine, FloatRows, Output, Run
from updraft.errors import InvalidRequest
from updraft.sampling import measure
from updraft.train.conversations import Conversation

__all__ = ["Labels", "collect_labels"]

_CHUNK = 48

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Labels:
    """Positions of answers, one row each.

    Attributes:
        hidden: float16, the edge's last normalised states, shape (n, width).
        features: float32, shape (n, 3), as `features_of`.
        confidence: the edge's largest probability.
        stood: the edge's most probable token is the cloud's, so that a greedy verdict would let it stand.
    """

    hidden: NDArray[np.float16]
    features: NDArray[np.float32]
    confidence: NDArray[np.float32]
    stood: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.stood)


def collect_labels(
    edge: Engine, cloud: Engine, conversations: Sequence[Conversation], progress: Progress | None = None
) -> Labels:
    """Run both models over the conversations and compare them at every token of the answers.

    The texts are taken to be the cloud's own (its greedy answers, or sampled ones). SpecDec++ mixes 85 % drafted tokens
    into them (arXiv 2405.19715, section 3.3); here none are, because the rule multiplies the head's probabilities: each
    is needed under the condition that all tokens before it stand, and then they are the cloud's.

    Raises:
        InvalidRequest: the models have different tokenizers, or no conversation has an answer that fits both contexts.
    """
    if edge.info.tokenizer_hash != cloud.info.tokenizer_hash:
        raise InvalidRequest(
            f"{edge.info.name} and {cloud.info.name} have different tokenizers",
            remedy="Use two models of one family.",
        )
    longest = min(edge.context, cloud.context)
    usable = [c for c in conversations if c.prompt and len(c.prompt) + len(c.response) <= longest]
    if not usable:
        raise InvalidRequest(f"no conversation has a prompt and fits {longest} tokens")
    parts = []
    for number, conversation in enumerate(usable):
        best = np.concatenate([out.logits.argmax(axis=1) for out in _outputs(cloud, conversation, hidden=False)])
        parts.append(_of_edge(edge, conversation, best))
        if progress:
            progress(number + 1, len(usable))
    fields = zip(*((p.hidden, p.features, p.confidence, p.stood) for p in parts), strict=True)
    return Labels(*(np.concatenate(field) for field in fields))


def _of_edge(edge: Engine, conversation: Conversation, best: NDArray[np.intp]) -> Labels:
    """One conversation's rows; `best`: the cloud's most probable tokens."""
    hidden, features, confidence, drawn = [], [], [], []
    for output in _outputs(edge, conversation, hidden=True):
        if output.hidden is None:
            raise InvalidRequest(f"{edge.info.name} gives no hidden states")
        hidden.append(output.hidden.astype(np.float16))
        for row in output.logits:
            token, seen = int(row.argmax()), measure(row)
            drawn.append(token)
            confidence.append(min(seen.top_probability, 1.0))
            features.append(features_of(seen.top_probability, seen.entropy, float(row[token]) - seen.energy))
    return Labels(
        np.concatenate(hidden),
        np.array(features, np.float32),
        np.array(confidence, np.float32),
        np.array(drawn) == best,
    )


def _outputs(engine: Engine, conversation: Conversation, *, hidden: bool) -> Iterator[Output]:
    """Rows for every token of the answer, in chunks that stay valid until the next one."""
    tokens, first = [*conversation.prompt, *conversation.response], len(conversation.prompt) - 1
    chunk, sequence = min(_CHUNK, engine.max_run), engine.open()
    try:
        for start in range(0, first, chunk):
            engine.forward([Run(sequence, start, tokens[start : min(start + chunk, first)])])
        for start in range(first, len(tokens) - 1, chunk):
            part = tokens[start : min(start + chunk, len(tokens) - 1)]
            yield _finite(engine.forward([Run(sequence, start, part, len(part), hidden=hidden)])[0])
    finally:
        engine.close(sequence)


def _finite(output: Output) -> Output:
    rows: list[FloatRows] = [output.logits] if output.hidden is None else [output.logits, output.hidden]
    if not all(np.isfinite(values).all() for values in rows):
        raise InvalidRequest("The model returned numbers that are not finite.", remedy="The model file is damaged.")
    return output
