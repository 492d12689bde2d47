"""The one place that decides what leaves the device: what may never leave it, and what may be spent.

Every session of our own protocol and every call of an endpoint has a `Guard`, and sends nothing that did not pass it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from updraft.config import EdgeSettings
from updraft.errors import Withheld
from updraft.generation import Statistics
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge.rules.detectors import OVERLAP, Detectors, names_of
from updraft_edge.rules.ledger import Ledger, Spending

__all__ = ["Guard", "Rules"]

_OPENING_BYTES = 200  # a session's first frame without its tokens, and the headers

Piece = Callable[[int], bytes]


class Rules:
    """The rules of one agent.

    Args:
        piece: the bytes of a token.

    Raises:
        ConfigError: as `Detectors` and `Ledger` do.
    """

    def __init__(self, settings: EdgeSettings, piece: Piece) -> None:
        self.detectors = Detectors(settings.rules)
        self.ledger = Ledger(settings.limits)
        self.piece = piece
        self._settings = settings

    @property
    def final(self) -> bool:
        """A request that a rule keeps here fails."""
        return self._settings.rules.action == "refuse"

    def guard(self, token_log: TokenLog, statistics: Statistics, way: Literal["cloud", "endpoint"] = "cloud") -> Guard:
        """The guard of one answer on its way to the cloud service or to the endpoint."""
        prices = self._settings.prices
        if way == "cloud":
            return Guard(self, token_log, statistics, prices.cloud_input, prices.cloud_output)
        return Guard(self, token_log, statistics, prices.endpoint_input, prices.endpoint_output)

    def describe(self) -> dict[str, object]:
        """For `/v1/info`: which rules hold, and what was spent today; never a pattern itself."""
        spent, limits = self.ledger.spent, self.ledger.limits
        named = {"tokens_up": limits.tokens_up, "tokens_down": limits.tokens_down, "bytes": limits.bytes}
        return {
            "keep_local": list(names_of(self._settings.rules)),
            "action": self._settings.rules.action,
            "limits": named | {"money": limits.money},
            "spent_today": {
                "tokens_up": spent.tokens_up,
                "tokens_down": spent.tokens_down,
                "bytes": spent.bytes,
                "money": spent.money,
            },
            "currency": self._settings.prices.currency,
        }


class Guard:
    """Watches what one answer sends, and counts what that costs.

    A secret counts where some of it is new to the cloud: text that the cloud wrote itself is no secret from it.

    Args:
        input_price, output_price: of a million tokens.
    """

    def __init__(
        self, rules: Rules, token_log: TokenLog, statistics: Statistics, input_price: float, output_price: float
    ) -> None:
        self._rules = rules
        self._log = token_log
        self._statistics = statistics
        self._prices = input_price, output_price
        self._read = 0  # tokens of the log that are in the tail, or before it
        self._tail = b""  # the end of what the cloud knows
        self._before = ""  # the same as text
        self._granted = 0  # tokens of the log that the cloud knows

    def texts(self, texts: Iterable[str]) -> None:
        """Raises Withheld unless these texts may leave."""
        for text in texts:
            self._keep(self._rules.detectors.find(text))

    def log(self) -> None:
        """Raises Withheld unless the whole log may leave; then it counts as known to the cloud."""
        new = self._new()
        growing = len(self._log) > self._log.prompt_length
        self._keep(self._found(new, growing=growing))
        self._advance(len(self._log))

    def open(self) -> None:
        """Raises Withheld unless the whole log may leave and what it takes at least may be spent: not even the opening
        of a session leaves otherwise."""
        self.log()
        count = len(self._log)
        self._rules.ledger.check(Spending(count, 0, 2 * count + _OPENING_BYTES, count * self._prices[0] / 1e6))

    def ahead(self, tokens: Sequence[int]) -> None:
        """Raises Withheld unless these tokens after the log may leave, with the log."""
        self.log()
        self._keep(self._found(self._bytes(tokens), growing=True))

    def clip(self, run: Sequence[int]) -> Sequence[int]:
        """As much of a draft as may leave: what comes before the first token of something that stays here."""
        new = self._bytes(run)
        if not run or self._found(new, growing=True) is None:
            return run
        low, high = 0, len(run) - 1  # whatever follows a secret follows it in every longer run, too
        while low < high:
            middle = (low + high + 1) // 2
            kept = self._found(self._bytes(run[:middle]), growing=True)
            low, high = (middle, high) if kept is None else (low, middle - 1)
        return run[:low]

    def frame(self, frame: pb.EdgeFrame, size: int) -> None:
        """Raises Withheld unless a frame of our own protocol may leave; then it is counted, `size` bytes."""
        body = frame.WhichOneof("body")
        if body in {"close", "cancel"}:
            self._rules.ledger.add(Spending(bytes=size))
            return
        self.log()
        for tokens in _continuations(frame):
            self._keep(self._found(self._bytes(tokens), growing=body == "draft"))
        sent = _tokens_up(frame)
        self.spend(tokens_up=sent, size=size)

    def spend(self, *, tokens_up: int, size: int) -> None:
        """Raises Withheld where a limit does not allow to send so much; then it is counted."""
        cost = Spending(tokens_up=tokens_up, bytes=size, money=tokens_up * self._prices[0] / 1e6)
        self._rules.ledger.check(cost)
        self._count(cost)

    def received(self, *, tokens: int = 0, size: int = 0) -> None:
        """Count what the cloud has sent: tokens that it wrote, and bytes."""
        self._count(Spending(tokens_down=tokens, bytes=size, money=tokens * self._prices[1] / 1e6))

    def correct(self, *, prompt: int, answer: int) -> None:
        """The cloud counts otherwise: differences to what was counted, in tokens."""
        money = (prompt * self._prices[0] + answer * self._prices[1]) / 1e6
        self._count(Spending(prompt, answer, 0, money))

    def may_read(self) -> None:
        """Raises Withheld where what the cloud writes may not be paid for any more."""
        self._rules.ledger.check(sending=False)
        if self.room() == 0:
            raise Withheld("What is left of today's money pays for no further token.", rule="limit_money")

    def room(self) -> int | None:
        """Tokens that the cloud may still write; None for no limit."""
        return self._rules.ledger.answer_room(self._prices[1])

    def knows(self, length: int) -> None:
        """The cloud knows so many tokens of the log: it has them or wrote them itself."""
        self._granted = max(self._granted, length)

    def close(self) -> None:
        """The answer has ended."""
        self._rules.ledger.save()

    def _new(self) -> bytes:
        """The bytes of the log that are new to the cloud; what is not is in the tail afterwards."""
        self._advance(min(self._granted, len(self._log)))
        return self._bytes(self._log.tokens[self._read :])

    def _advance(self, length: int) -> None:
        if length > self._read:
            known = self._tail + self._bytes(self._log.tokens[self._read : length])
            self._tail = known[-4 * OVERLAP :]
            self._before = self._tail.decode("utf-8", "ignore")[-OVERLAP:]
            self._read = length

    def _found(self, new: bytes, *, growing: bool) -> str | None:
        if not new:
            return None
        before = self._before
        # A character that is cut in two shows as U+FFFD, in no rule's way.
        text = before + new.decode("utf-8", "replace")
        detectors = self._rules.detectors
        return detectors.find_growing(text, len(before)) if growing else detectors.find(text, len(before))

    def _bytes(self, tokens: Sequence[int]) -> bytes:
        return b"".join(map(self._rules.piece, tokens))

    def _keep(self, rule: str | None) -> None:
        if rule is not None:
            raise Withheld(f"The rule {rule} keeps this on the device.", rule=rule, final=self._rules.final)

    def _count(self, cost: Spending) -> None:
        self._statistics.cost += cost.money
        self._rules.ledger.add(cost)


def _continuations(frame: pb.EdgeFrame) -> list[Sequence[int]]:
    """What a frame holds beyond the log, each as it would follow it."""
    if frame.HasField("draft"):
        run = list(frame.draft.run)
        return [run, *([*run[: branch.shared], *branch.tokens] for branch in frame.draft.branches)]
    if frame.HasField("score"):
        return [list(frame.score.tokens)]
    return []


def _tokens_up(frame: pb.EdgeFrame) -> int:
    if frame.HasField("open"):
        return len(frame.open.prompt) + len(frame.open.generated)
    if frame.HasField("draft"):
        draft = frame.draft
        return len(draft.committed) + len(draft.run) + sum(len(branch.tokens) for branch in draft.branches)
    if frame.HasField("score"):
        return len(frame.score.committed) + len(frame.score.tokens)
    return len(frame.take_over.committed) if frame.HasField("take_over") else 0
