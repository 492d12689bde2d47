"""The cloud of one answer of the mode `solve`: a strategy works on the whole of it, and nothing is kept in between."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import grpc.aio

from updraft.engine.base import Tokenizer
from updraft.errors import CloudUnavailable, LateReply, ProtocolViolation, UnknownName, UpdraftError, Withheld
from updraft.generation import FinishReason
from updraft.modes import Origin
from updraft.sampling import Sampled
from updraft.solution import Compute, OtherAnswer, ProgressEvent, Solution
from updraft.strategies.effort import Plan
from updraft.strategies.problem import Spent
from updraft.transport import drop_call
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.answer import Answer
from updraft_edge.link import CloudLink, lost
from updraft_edge.seams import HandOver
from updraft_edge.solving.wire import Asking, Found, Progressed, Solved, read_answer, read_progress, solve_request

__all__ = ["SolveSession"]

log = logging.getLogger(__name__)

if TYPE_CHECKING:  # gRPC's own classes are generic in their type stubs only
    Call = grpc.aio.UnaryStreamCall[pb.SolveRequest, pb.SolveEvent]

T = TypeVar("T")

_SLOWEST_S: Final = 600.0  # whatever the cloud says


class SolveSession:
    """Implements `CloudSide`. What the cloud answers follows from the request alone, so a lost call is made again.

    Args:
        plan: how the cloud is to work; cut to its limits.
        named: the request names the strategy, so that no other will do.
        tokenizer: the edge's, for the texts of alternatives.

    Attributes:
        given: the edge's own answers, which vote.
    """

    def __init__(
        self, link: CloudLink, asking: Asking, plan: Plan, answer: Answer, tokenizer: Tokenizer, *, named: bool
    ) -> None:
        self.given: list[list[Sampled]] = []
        self._link = link
        self._asking = asking
        self._plan = plan
        self._named = named
        self._answer = answer
        self._tokenizer = tokenizer
        self._statistics = answer.statistics
        self._guard = link.rules.guard(answer.log, answer.statistics)
        self._call: Call | None = None
        self._calls = 0
        self._drawn = 0  # tokens that the call under way has told of
        self._slowed_s = 0.0

    @property
    def away(self) -> bool:
        """The cloud failed lately: nobody should wait for it."""
        return not self._link.breaker.closed

    def prepare(self) -> None:
        """Raises Withheld where the prompt must not leave the device."""
        self._guard.open()

    async def write(self, condition: HandOver) -> AsyncGenerator[wire.Span | ProgressEvent, None]:
        """What happens on the way, if it was asked for, then the whole answer as one span.

        Raises:
            LinkError, Overloaded: the cloud is away or late, also when it is asked again, or knows no strategies.
            UnknownName: it does not know the strategy or the verifier that the request names.
            Withheld: the prompt may not leave the device, or what the cloud draws may not be paid for.
            UpdraftError: the cloud refuses the request.
        """
        self._guard.open()
        request = await self._request()
        seen = told = 0
        self._statistics.round_trips += 1
        try:
            with self._answer.watch.ask("solve", position=len(self._answer.log)) as ask:
                while True:
                    calls = self._calls
                    found = await self._retried(lambda: self._advance(request))
                    seen = 0 if self._calls != calls else seen
                    if isinstance(found, Solved):
                        ask.wrote(len(found.whole.drawn))
                        yield self._taken(found)
                        return
                    seen += 1
                    if seen > told:  # the same happens again when a lost call is made again
                        told = seen
                        yield self._event(found)
        finally:
            self.abandon()

    async def close(self) -> None:
        self._guard.close()
        self.abandon()

    def abandon(self) -> None:
        """End the call, which frees what the cloud holds for it."""
        if self._call is not None:
            drop_call(self._call)
            self._call = None

    async def _request(self) -> pb.SolveRequest:
        """The request, within what this cloud offers."""
        cloud = self._link.cloud
        if cloud is None or not cloud.strategies:  # it may be a newer one by now
            cloud = await self._retried(self._link.describe)
        plan = self._plan
        if plan.strategy.name not in cloud.strategies:
            raise self._unknown(cloud)
        if plan.verifier is not None and plan.verifier["kind"] not in cloud.verifiers:
            known = ", ".join(cloud.verifiers) or "none"
            raise UnknownName(
                f"The cloud has no verifier {plan.verifier['kind']!r}; it has: {known}.", param="updraft.verifier"
            )
        plan = plan.within(samples=cloud.max_samples, tokens=cloud.max_solve_tokens, room=self._guard.room())
        self.given = [answer for answer in self.given if self._may_leave(answer)]
        request = solve_request(self._asking, plan, self.given, self._answer.ends)
        self._guard.texts([request.strategy_json, request.verifier_json])
        return request

    def _unknown(self, cloud: pb.DescribeResponse) -> UpdraftError:
        """The error for a cloud that does not know the strategy; what an effort chose is not the request's fault."""
        name, known = self._plan.strategy.name, ", ".join(cloud.strategies) or "none"
        message = f"The cloud has no strategy {name!r}; it has: {known}."
        if self._named and cloud.strategies:
            return UnknownName(message, param="updraft.strategy")
        return CloudUnavailable(message, remedy="Run the same version of Updraft on both tiers.")

    def _may_leave(self, answer: Sequence[Sampled]) -> bool:
        """Whether a rule lets an answer go up; one that it keeps here votes only here."""
        try:
            self._guard.ahead([sampled.token for sampled in answer])
        except Withheld:
            return False
        return True

    async def _advance(self, request: pb.SolveRequest) -> Progressed | Solved:
        """What the call under way says next; a new one is made where there is none."""
        if self._call is None:
            await self._link.rested()
            self._call = self._begin(request)
        while True:
            self._guard.may_read()
            event = await self._read(self._call)
            match event.WhichOneof("body"):
                case "progress":
                    self._count(event.progress.tokens)
                    if (progressed := read_progress(event.progress)) is not None:
                        return progressed
                case "answer":
                    self._count(event.answer.spent.tokens)
                    return read_answer(event.answer, self._asking, self.given)
                case "error":
                    raise wire.read_error(event.error)
                case "notice":
                    self._slowed_s = min(event.notice.retry_after_ms / 1000, _SLOWEST_S)
                    self._answer.watch.noticed("slow_down")

    def _begin(self, request: pb.SolveRequest) -> Call:
        size = request.ByteSize() + wire.FRAME_OVERHEAD
        sent = len(request.prompt) + len(request.question) + sum(len(sample.tokens) for sample in request.given)
        self._guard.spend(tokens_up=sent, size=size)
        self._statistics.bytes_up += size
        self._statistics.reopened += self._calls > 0
        self._calls += 1
        self._drawn, self._slowed_s = 0, 0.0
        watch = self._answer.watch
        call: Call = self._link.stub().Solve(request, metadata=(*self._link.metadata(watch.name), *watch.span.headers))
        return call

    async def _read(self, call: Call) -> pb.SolveEvent:
        patience = self._link.settings.reply_timeout_s + self._slowed_s
        try:
            async with asyncio.timeout(patience):
                event: Any = await call.read()
        except TimeoutError as error:
            raise LateReply(f"The cloud did not answer within {patience:g} s.") from error
        except grpc.aio.AioRpcError as error:
            raise lost(error) from error
        if event is cast("Any", grpc.aio).EOF:
            raise CloudUnavailable("The cloud ended the call without an answer.")
        if not isinstance(event, pb.SolveEvent):  # gRPC's way to say that it could not be decoded
            raise ProtocolViolation("An event of the cloud cannot be read.")
        size = event.ByteSize() + wire.FRAME_OVERHEAD
        self._statistics.bytes_down += size
        self._guard.received(size=size)
        return event

    async def _retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        started = time.perf_counter()
        try:
            return await self._link.retried(attempt, self.abandon, since=started)
        finally:
            self._statistics.waited_seconds += time.perf_counter() - started

    def _count(self, drawn: int) -> None:
        """Tokens of all branches are paid for, whatever becomes of them."""
        if drawn > self._drawn:
            self._guard.received(tokens=drawn - self._drawn)
            self._statistics.cloud_positions += drawn - self._drawn
            self._drawn = drawn

    def _event(self, happened: Progressed) -> ProgressEvent:
        return ProgressEvent(
            kind=happened.kind,
            origin=Origin.CLOUD,
            branch=happened.branch,
            value=happened.value,
            source=happened.source,
            tokens=happened.tokens,
            seconds=time.perf_counter() - self._answer.started,
            stage=happened.stage,
        )

    def _taken(self, solved: Solved) -> wire.Span:
        """The answer as a span, which nothing follows."""
        spent, before = solved.spent, self._answer.solution
        self._statistics.cloud_prefilled += spent.prefilled
        edge = Compute() if before is None else before.compute
        self._answer.solution = Solution(
            strategy=self._plan.strategy.name,
            confidence=solved.confidence,
            verified=solved.verified,
            ended=solved.ended,
            compute=_added(edge, spent),
            unparsed=solved.unparsed,
            complaints=solved.complaints,
            alternatives=tuple(map(self._other, solved.alternatives)),
        )
        drawn = solved.whole.drawn
        self._guard.knows(len(self._answer.log) + len(drawn))
        finish: FinishReason = "stop" if solved.whole.finished else "length"
        return wire.Span(drawn, True, finish, pb.Spent(), solved.whole.origin)

    def _other(self, found: Found) -> OtherAnswer:
        tokens = [sampled.token for sampled in found.whole.drawn]
        pieces = (self._tokenizer.piece(token) for token in tokens if token not in self._answer.ends)
        text = b"".join(pieces).decode(errors="replace")
        return OtherAnswer(text, tuple(tokens), found.weight, found.samples, found.whole.origin.value, found.score)


def _added(edge: Compute, cloud: Spent) -> Compute:
    return Compute(
        samples=edge.samples + cloud.samples,
        edge_tokens=edge.edge_tokens,
        cloud_tokens=cloud.tokens,
        prefilled=cloud.prefilled,
        verifier_calls=cloud.verifier_calls,
        verifier_positions=cloud.verifier_positions,
        seconds=cloud.seconds,
    )
