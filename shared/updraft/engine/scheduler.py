"""What tasks of the engine loop want, and which of them get a place in the next pass.

Pure: it knows neither engine nor clock, and counts time in passes.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from updraft.engine.base import Run

__all__ = ["PATIENCE", "Grouping", "Pass", "Priority", "Scheduler", "Want"]

PATIENCE: Final = 4  # passes; who waited for so many may go before everybody
_PREFILL_SHARE: Final = 4  # a pass has room for prefill in one of so many positions at least
_LEAST_CUT: Final = 16  # positions; a shorter piece of a prompt costs more per position than it is worth

T = TypeVar("T")


class Priority(IntEnum):
    """Order in which runs get a place in a pass."""

    VERIFY = 0  # somebody waits for it across a network
    WRITE = 1
    SCORE = 2
    PREFILL = 3


class Want(NamedTuple):
    """What a task wants computed next.

    Attributes:
        priority: the pass may take just the beginning of a PREFILL run without rows.
        run: of the task's own sequence.
        tenant: on whose account it is computed; passes are shared out fairly among them.
        deadline: `time.monotonic()` after which nobody needs the result any more.
    """

    priority: Priority
    run: Run
    tenant: str = ""
    deadline: float = math.inf


class Grouping(Protocol):
    """Knows which runs had better share a pass, such as those that are likely to need the same experts."""

    def __call__(self, placed: Sequence[Run], waiting: Sequence[Run], room: int) -> Sequence[int]:
        """Numbers of waiting runs, in the order in which they had better join those that are placed.

        As many as `room` positions hold will do: what is not named comes after, as it stands.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pass(Generic[T]):
    """What goes into a pass.

    Attributes:
        places: who gets one, with the run as far as it is computed; the most urgent first.
        late: whose deadline has passed; nothing of theirs is computed.
        waiting: how many wanted a place, were in time, and got none.
    """

    places: list[tuple[T, Want]]
    late: list[T]
    waiting: int


class Scheduler(Generic[T]):
    """Shares passes of at most `pass_tokens` positions out among those who want something computed.

    Where all fits, all is computed. Else, in this order:

    1. whoever has waited longest, once that is `PATIENCE` passes: so with n tasks nobody waits longer than
       PATIENCE + n passes, whatever the others want;
    2. by priority, but a quarter of the pass is kept for prefill, so that some prompt goes on in every pass;
    3. within a priority, the tenant that has had the fewest positions so far, and of its tasks the one that has
       waited longest. As in start-time fair queueing (Goyal et al., SIGCOMM 1996), who comes back from idling is
       level with the others but for a credit of two passes.

    Prefill takes what room is left, cut to it: results do not depend on how a prompt is cut (`Engine`).

    A grouping has a say in the last of these alone. Of a tenant's runs of one priority, the longest waiting still goes
    first, and the grouping passes nobody over who has waited `PATIENCE` passes longer than all of them take, or who
    would be late after as many more.

    Args:
        pass_tokens: positions in one pass; no run that cannot be cut may be longer.
        grouping: picks the company of the runs that must go.
    """

    def __init__(self, pass_tokens: int, grouping: Grouping | None = None) -> None:
        self.pass_tokens = pass_tokens
        self._grouping = grouping
        self._chose, self._pace = 0.0, 0.0  # when the last pass was chosen, and seconds from one to the next
        self._waited: dict[T, int] = {}  # passes, of those who got no place in the last
        self._served: dict[str, int] = {}  # positions of a tenant, on a scale where idling does not count

    def choose(self, wants: Sequence[tuple[T, Want]], now: float) -> Pass[T]:
        """The next pass. `wants` holds each task once, longest known first; `now` is on the clock of deadlines."""
        late = [task for task, want in wants if want.deadline < now]
        if late:
            wants = [(task, want) for task, want in wants if want.deadline >= now]
        if self._waited:  # else there was nothing to do in between, perhaps
            self._pace = now - self._chose
        self._chose = now
        if self._fits(wants):
            places = sorted(wants, key=_urgency)
            self._waited.clear()
            self._charge_all(wants)
        else:
            soon = now + PATIENCE * self._pace
            sharing = _Sharing(self.pass_tokens, self._level(wants), self._waited, self._grouping, soon)
            places = sharing.share_out(wants)
            placed = {task for task, _ in places}
            self._waited = {task: self._waited.get(task, 0) + 1 for task, _ in wants if task not in placed}
        return Pass(places, late, len(wants) - len(places))

    def _fits(self, wants: Sequence[tuple[T, Want]]) -> bool:
        if len(wants) == 1:
            return len(wants[0][1].run.tokens) <= self.pass_tokens
        total = sum([len(want.run.tokens) for _, want in wants])
        return total <= self.pass_tokens and len({want.run.sequence for _, want in wants}) == len(wants)

    def _charge_all(self, wants: Sequence[tuple[T, Want]]) -> None:
        """Accounts matter only where there are several tenants."""
        if len(wants) == 1 or len({want.tenant for _, want in wants}) == 1:
            return
        served = self._level(wants)
        for _, want in wants:
            served[want.tenant] += len(want.run.tokens)

    def _level(self, wants: Sequence[tuple[T, Want]]) -> dict[str, int]:
        """Bring the accounts of those who want something together, and forget those that no longer matter."""
        credit = 2 * self.pass_tokens
        active = {want.tenant for _, want in wants}
        floor = max((self._served.get(tenant, 0) for tenant in active), default=0) - credit
        idle = {tenant: had for tenant, had in self._served.items() if tenant not in active and had > floor}
        self._served = idle | {tenant: max(self._served.get(tenant, floor), floor) for tenant in active}
        return self._served


def _urgency(entry: tuple[T, Want]) -> int:
    return entry[1].priority


class _Sharing(Generic[T]):
    """One pass that has not room for all.

    Args:
        served: positions that each tenant has had; counted on.
        waited: passes that tasks have waited.
        soon: whose deadline is before this is not passed over by the grouping.
    """

    def __init__(
        self, room: int, served: dict[str, int], waited: dict[T, int], grouping: Grouping | None, soon: float
    ) -> None:
        self._room = room
        self._kept = max(_LEAST_CUT, room // _PREFILL_SHARE)
        self._served = served
        self._waited = waited
        self._grouping = grouping
        self._soon = soon
        self._sequences: set[int] = set()
        self._places: list[tuple[T, Want]] = []

    def share_out(self, wants: Sequence[tuple[T, Want]]) -> list[tuple[T, Want]]:
        ranked = sorted(wants, key=lambda entry: -self._waited.get(entry[0], 0))
        if self._waited.get(ranked[0][0], 0) >= PATIENCE:
            self._place(*ranked.pop(0))
        lines: dict[Priority, dict[str, deque[tuple[T, Want]]]] = defaultdict(lambda: defaultdict(deque))
        for task, want in ranked:
            lines[want.priority][want.tenant].append((task, want))
        longest = max((len(want.run.tokens) for _, want in ranked if want.priority is Priority.PREFILL), default=0)
        kept = min(self._kept, self._room, longest)
        self._room -= kept
        for priority in Priority:
            if priority is Priority.PREFILL:
                self._room += kept
            self._fill(lines[priority])
        return sorted(self._places, key=_urgency)

    def _fill(self, lines: dict[str, deque[tuple[T, Want]]]) -> None:
        """Serve one priority, always the tenant next that has had least."""
        if self._grouping is not None and self._room > 0:
            lines = {tenant: self._grouped(line, self._grouping) for tenant, line in lines.items()}
        order = [(self._served[tenant], tenant) for tenant in lines]
        heapq.heapify(order)
        while order and self._room > 0:
            _, tenant = heapq.heappop(order)
            self._place(*lines[tenant].popleft())
            if lines[tenant]:
                heapq.heappush(order, (self._served[tenant], tenant))

    def _grouped(self, line: deque[tuple[T, Want]], grouping: Grouping) -> deque[tuple[T, Want]]:
        """Who must not be passed over in the order of waiting, then the others as the grouping says."""
        longest = PATIENCE + _positions(line) // self._room
        first: list[tuple[T, Want]] = [line[0]]
        rest: list[tuple[T, Want]] = []
        for entry in itertools.islice(line, 1, None):
            presses = self._waited.get(entry[0], 0) >= longest or entry[1].deadline < self._soon
            (first if presses else rest).append(entry)
        room = self._room - _positions(first)
        if len(rest) < 2 or room <= 0:
            return line
        placed = [want.run for _, want in (*self._places, *first)]
        named = grouping(placed, [want.run for _, want in rest], room)
        return deque([*first, *(rest[number] for number in dict.fromkeys((*named, *range(len(rest)))))])

    def _place(self, task: T, want: Want) -> None:
        """Give a run, or the beginning of one that may be cut, a place if there is room."""
        size = len(want.run.tokens)
        if size > self._room and _cuttable(want) and self._room >= _LEAST_CUT:
            size = self._room
            want = want._replace(run=_beginning(want.run, size))
        if size > self._room or want.run.sequence in self._sequences:
            return
        self._room -= size
        self._served[want.tenant] += size
        self._sequences.add(want.run.sequence)
        self._places.append((task, want))


def _positions(entries: Iterable[tuple[T, Want]]) -> int:
    return sum(len(want.run.tokens) for _, want in entries)


def _cuttable(want: Want) -> bool:
    return want.priority is Priority.PREFILL and not want.run.rows


def _beginning(run: Run, size: int) -> Run:
    inputs = None if run.inputs is None else run.inputs[:size]
    return replace(run, tokens=run.tokens[:size], inputs=inputs)
