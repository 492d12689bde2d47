"""The cloud of one answer where it is an OpenAI-compatible endpoint: text goes up, text comes back as tokens."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from updraft.engine.base import Tokenizer
from updraft.errors import (
    CloudUnavailable,
    InvalidRequest,
    LinkError,
    Overloaded,
    Withheld,
)
from updraft.generation import GenerationRequest
from updraft.modes import TEXT_MODES, Mode
from updraft.sampling import SamplingParams
from updraft_edge import wire
from updraft_edge.answer import Answer
from updraft_edge.endpoint.calls import (
    Call,
    check_request,
    grading_call,
    read_grades,
    writing_call,
)
from updraft_edge.endpoint.link import EndpointLink, Refusal, read_whole
from updraft_edge.endpoint.reading import Reading
from updraft_edge.endpoint.spans import Spans
from updraft_edge.endpoint.stream import Piece, Usage, parse_json, read_piece
from updraft_edge.policies.rubric import RUBRIC, Scoring, grade
from updraft_edge.seams import HandOver

__all__ = ["EndpointJudge", "EndpointSession", "only_text"]

log = logging.getLogger(__name__)


class EndpointSession:
    """Implements `CloudSide`: what one answer asks of the endpoint. Nothing is kept open between two calls.

    Args:
        tokenizer: the edge's, which text becomes tokens of.

    Raises:
        InvalidRequest: the request asks for what no endpoint can do.
    """

    def __init__(
        self,
        link: EndpointLink,
        request: GenerationRequest,
        sampling: SamplingParams,
        answer: Answer,
        tokenizer: Tokenizer,
    ) -> None:
        check_request(request)
        self.link = link
        self._request = request
        self._sampling = sampling
        self._answer = answer
        self._log = answer.log
        self._statistics = answer.statistics
        self._tokenizer = tokenizer
        self._guard = link.rules.guard(answer.log, answer.statistics, "endpoint")
        self._checked = False

    @property
    def away(self) -> bool:
        """The endpoint failed lately: nobody should wait for it."""
        return not self.link.breaker.closed

    def prepare(self) -> None:
        """Raises Withheld where the request must not leave the device."""
        self._check_texts()
        self._guard.log()

    async def write(self, condition: HandOver) -> AsyncGenerator[wire.Span, None]:
        """Spans of what the endpoint writes, to the end of the answer or of a step.

        Raises:
            LinkError, Overloaded: the endpoint is away, late or broke off; what had arrived was given before.
            Withheld: a rule or a limit keeps the request here.
            Unauthenticated, ModelNotFound, InvalidRequest: the endpoint refuses it.
        """
        self.prepare()
        self._guard.may_read()
        room = min([self._answer.room, *_given(condition.most, self._guard.room())])
        final = room == self._answer.room
        spans = Spans(self._tokenizer, self._text_so_far(), self._answer.ends, step=condition.step)
        usage: Usage | None = None
        failure: LinkError | Overloaded | Withheld | None = None
        asked, counted, cut = self._prompt_tokens(), 0, False
        try:
            async with aclosing(self._pieces(room)) as pieces:
                async for piece in pieces:
                    usage = piece.usage or usage
                    for span in spans.feed(piece):
                        counted += len(span.tokens)
                        self._guard.received(tokens=len(span.tokens))
                        yield self._known(span)
                    if cut := spans.ended:
                        break
                    self._guard.may_read()
            spans.flush()
        except (LinkError, Overloaded, Withheld) as error:
            failure = error
            with suppress(CloudUnavailable):
                spans.flush()
        finally:
            self._settle(usage, asked, spans.written, counted)
        if failure is not None:
            for span in spans.rest():
                yield self._known(span)
            raise failure
        self.link.breaker.success()
        if not cut:
            yield self._known(spans.last(final=final))

    async def grade(self, step: Sequence[int], scoring: Scoring) -> float:
        """The grade, 0 to 9, of a step that would follow the log. Raises as `StepJudge.score_step` does."""
        self._check_texts()
        self._guard.ahead(step)
        data = await self._grading(step)
        grades, exact = read_grades(data)
        if not grades:
            raise CloudUnavailable("The endpoint's grade is no digit.", remedy="Use a model that follows instructions.")
        if not exact:
            self._statistics.grades_without_logprobs += 1
        return grade(grades, scoring)

    async def close(self) -> None:
        self._guard.close()

    def abandon(self) -> None:
        pass  # every call ends with its generator

    async def _pieces(self, most: int) -> AsyncGenerator[Piece, None]:
        """What the endpoint says, piece by piece, up to and with the reason of the end and the usage."""
        self._statistics.round_trips += 1
        async with aclosing(self._stream(most)) as pieces:
            finish: str | None = None
            async for piece in pieces:
                finish = finish or piece.finish
                yield Piece(piece.text, None, piece.usage)
            if finish is None:
                self.link.breaker.failure()
                raise CloudUnavailable("The endpoint broke off before the answer's end.")
            yield Piece("", finish)

    async def _stream(self, most: int) -> AsyncGenerator[Piece, None]:
        """The pieces of a call; a call that is refused is tried once more in plainer words."""
        while True:
            link, state = self.link, (self.link.plain, self.link.continues)
            body = self._admitted(self._writing(most))
            try:
                async with link.post(*body) as response:
                    reading = Reading(response, link, self._statistics, self._guard)
                    async with aclosing(reading.pieces()) as pieces:
                        async for piece in pieces:
                            yield piece
                return
            except Refusal as refusal:
                if not self._go_plainer(state):
                    raise refusal.error from refusal

    def _go_plainer(self, tried: tuple[bool, bool]) -> bool:
        """Whether there is a plainer way to ask than was tried; it is the way from now on."""
        plain, continues = tried
        if continues and self._log.generated_length and self.link.settings.continuation == "auto":
            self.link.continues = False
        elif not plain:
            self.link.plain = True
        else:
            return False
        return True

    async def _grading(self, step: Sequence[int]) -> dict[str, Any]:
        self._statistics.round_trips += 1
        started = time.perf_counter()
        while True:
            logprobs = self.link.offers_logprobs
            text = self._text_so_far() + self._text(step)
            call = grading_call(
                self.link.settings,
                self._request,
                prompt=self._prompt_text(),
                answer=text,
                rubric=RUBRIC,
                logprobs=logprobs,
            )
            body = self._admitted(call, ahead=len(step))
            try:
                async with self.link.post(*body) as response:
                    data = parse_json(await read_whole(response))
            except Refusal as refusal:
                if not logprobs:
                    raise refusal.error from refusal
                self.link.offers_logprobs = False
                log.info("the endpoint gives no log-probabilities: steps get the digit that it writes")
                continue
            finally:
                self._statistics.waited_seconds += time.perf_counter() - started
            self.link.breaker.success()
            self._settle(read_piece(data).usage, self._prompt_tokens() + len(step), 1)
            return data

    def _writing(self, most: int) -> Call:
        settings, link = self.link.settings, self.link
        continuation = settings.continuation
        if continuation == "auto":
            continuation = "continue" if link.continues else "ask"
        return writing_call(
            settings,
            self._request,
            self._sampling,
            prompt=self._prompt_text(),
            so_far=self._text_so_far(),
            most=most,
            continuation=continuation,
            plain=link.plain,
        )

    def _admitted(self, call: Call, ahead: int = 0) -> tuple[str, bytes]:
        """A call that may leave, as it travels. Raises Withheld where it may not be paid for."""
        body = json.dumps(call.body, ensure_ascii=False).encode("utf-8", "replace")
        self._guard.spend(tokens_up=self._prompt_tokens() + ahead, size=len(body))
        self._statistics.bytes_up += len(body)
        self._statistics.endpoint_calls += 1
        return call.path, body

    def _check_texts(self) -> None:
        """Raises Withheld unless what the request itself says may leave; what was written is the log's."""
        if self._checked:
            return
        given = [message.content for message in self._request.messages or ()]
        self._guard.texts([*given, *([self._request.prompt] if self._request.prompt else []), *self._request.stop])
        self._checked = True

    def _known(self, span: wire.Span) -> wire.Span:
        """What the endpoint wrote is no secret from it."""
        self._guard.knows(len(self._log) + len(span.tokens))
        return span

    def _settle(self, usage: Usage | None, asked: int, written: int, counted: int = 0) -> None:
        """Count what was not counted yet, and put the endpoint's own counts in the place of ours."""
        self._guard.received(tokens=written - counted)
        statistics = self._statistics
        statistics.endpoint_prompt_tokens += asked if usage is None else usage.prompt
        statistics.endpoint_answer_tokens += written if usage is None else usage.answer
        if usage is None:
            statistics.endpoint_estimated = True
        else:
            self._guard.correct(prompt=usage.prompt - asked, answer=usage.answer - written)

    def _prompt_tokens(self) -> int:
        return len(self._log)

    def _prompt_text(self) -> str:
        if self._request.messages is not None:
            return ""
        return self._request.prompt or self._text(self._log.tokens[: self._log.prompt_length])

    def _text_so_far(self) -> str:
        return self._text([token for token in self._log.generated if token not in self._answer.ends])

    def _text(self, tokens: Sequence[int]) -> str:
        return b"".join(map(self._tokenizer.piece, tokens)).decode("utf-8", "replace")


class EndpointJudge:
    """A `StepJudge` by way of one chat call for one token and its alternatives."""

    def __init__(self, session: EndpointSession, scoring: Scoring) -> None:
        self._session = session
        self._scoring: Scoring = scoring

    async def score_step(self, step: Sequence[int]) -> float:
        return await self._session.grade(step, self._scoring)


def _given(*limits: int | None) -> list[int]:
    return [limit for limit in limits if limit is not None]


def only_text(mode: Mode) -> InvalidRequest:
    """The error for a mode that exchanges tokens, where there is an endpoint and no cloud service."""
    works = ", ".join(sorted({Mode.EDGE, *TEXT_MODES}))
    return InvalidRequest(
        f"The mode {mode} needs a cloud service of Updraft's own; there is only an endpoint. With it work {works}.",
        remedy="Choose one of these modes, or set edge.cloud.address.",
        param="updraft.mode",
    )
