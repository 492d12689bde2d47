"""The answer of a session as the cloud knows it: its log, what is drawn next, and when it ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from updraft.engine.base import FloatRows
from updraft.errors import LogMismatch, ProtocolViolation
from updraft.sampling import Sampled, Sampler
from updraft.token_log import TokenLog
from updraft_cloud.frames import Draft, End, Open, Score, TakeOver

__all__ = ["Answer"]


class Answer:
    """Log and sampler, which are always at the same token.

    Args:
        opening: the checked Open frame.
        context: tokens that a sequence of the engine holds.
        end_tokens: the model's own.

    Attributes:
        most: tokens that the answer may have.
    """

    def __init__(self, opening: Open, *, context: int, end_tokens: Collection[int]) -> None:
        self.log = TokenLog(opening.prompt, opening.generated)
        self.sampler = Sampler(opening.sampling, opening.prompt, top_logprobs=opening.top_logprobs)
        self.sampler.commit(opening.generated)
        self.most = min(opening.max_tokens, context - len(opening.prompt))
        self._ends = frozenset() if opening.ignore_end else opening.stop_tokens.union(end_tokens)

    @property
    def left(self) -> int:
        """Tokens that may still be written."""
        return self.most - self.log.generated_length

    def agree(self, frame: Draft | Score | TakeOver) -> None:
        """Take in what the edge committed alone. Raises LogMismatch or ProtocolViolation if both logs then differ."""
        if frame.position != len(self.log):
            raise LogMismatch(f"The edge's log has {frame.position} tokens, the cloud's {len(self.log)}.")
        if len(frame.committed) > self.left:
            raise ProtocolViolation(f"The edge committed more than the {self.most} tokens of this answer.")
        self.commit(frame.committed)
        if frame.log_hash != self.log.hash:
            raise LogMismatch(f"The logs differ before token {len(self.log)}.")

    def draw(self, row: FloatRows) -> Sampled:
        """The cloud's own next token, from logits of shape (vocabulary,)."""
        return self.sampler.draw(row, len(self.log))

    def commit(self, tokens: Sequence[int]) -> None:
        self.log.extend(tokens)
        self.sampler.commit(tokens)

    def end_after(self, token: int) -> End:
        """Why the answer ends with this token, which is its last; NOT_YET if it goes on."""
        if token in self._ends:
            return End.STOP
        return End.LENGTH if self.left <= 0 else End.NOT_YET
