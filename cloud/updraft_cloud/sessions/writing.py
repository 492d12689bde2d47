"""A span that the cloud writes, and when it ends."""

from __future__ import annotations

from collections import deque

from updraft.engine.base import Tokenizer
from updraft.errors import ProtocolViolation
from updraft.steps import StepText
from updraft.token_log import TokenLog
from updraft_cloud.frames import HandBack

__all__ = ["Writing", "step_so_far"]


class Writing:
    """A span under way, with the rolling mean of its entropies (EAD, arXiv 2502.06833).

    Args:
        most: longest span, tokens; 0 for no limit.
        step: what is written already of the step with whose end the span ends, too.
    """

    def __init__(self, hand_back: HandBack | None, most: int, step: StepText | None = None) -> None:
        self._hand_back = hand_back
        self._step = step
        self._left = most or None
        self._written = 0
        self._window: deque[float] = deque(hand_back.recent if hand_back else (), hand_back.window if hand_back else 1)

    def note(self, entropy: float, piece: bytes) -> None:
        """A token was written: the entropy (nats) it was drawn from, and its bytes."""
        if self._step is not None:
            self._step.feed(piece)
        self._written += 1
        self._window.append(entropy)

    @property
    def done(self) -> bool:
        if self._left is not None and self._written >= self._left:
            return True
        if self._step is not None and self._step.ended:
            return True
        condition = self._hand_back
        if condition is None or self._written < condition.min_stay:
            return False
        return sum(self._window) / len(self._window) <= condition.threshold


def step_so_far(log: TokenLog, written: int, tokenizer: Tokenizer) -> StepText:
    """The step that a span ends with, as far as a lost span had written it: the last tokens of the log.

    Raises ProtocolViolation where the answer has fewer tokens.
    """
    if written > log.generated_length:
        raise ProtocolViolation(f"{written} tokens of a span in an answer of {log.generated_length}.")
    step = StepText()
    for token in log.generated[log.generated_length - written :]:
        step.feed(tokenizer.piece(token))
    return step
