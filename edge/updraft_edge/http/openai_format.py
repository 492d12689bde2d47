"""Answers in the shapes of OpenAI's API, whole and in chunks."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from updraft.generation import AgentView, Completion, TokenEvent
from updraft.solution import ProgressEvent
from updraft_edge.http.candidates import best
from updraft_edge.http.extension import answer_label, chunk_label, progress_label, token_labels
from updraft_edge.http.logprobs import ChatLogprobs, CompletionLogprobs
from updraft_edge.http.plan import Plan
from updraft_edge.http.schemas import Prompt

__all__ = ["AnswerFormat", "ChatFormat", "CompletionFormat", "fingerprint"]


def fingerprint(info: dict[str, object]) -> str:
    """Names what, besides a request, decides on its answer: this version of Updraft and the models of both tiers."""
    cloud = info.get("cloud")
    cloud_model = cloud.get("model") if isinstance(cloud, dict) else None
    described = json.dumps([info.get("version"), info.get("edge"), cloud_model], sort_keys=True, default=str)
    return f"fp_{hashlib.sha256(described.encode()).hexdigest()[:12]}"


class AnswerFormat(ABC):
    """Shapes one response. Chunks of a choice must be asked for in order.

    The extension `updraft` stands at the top of an answer with one choice, and in each choice of one with several; at
    the top of every chunk, which never carries more than one choice.
    """

    id_prefix: ClassVar[str]
    whole_object: ClassVar[str]
    chunk_object: ClassVar[str]

    def __init__(self, plan: Plan, agent: AgentView) -> None:
        self._plan = plan
        self._agent = agent
        self._header = {
            "id": self.id_prefix + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": agent.model,
            "system_fingerprint": fingerprint(agent.info()),
        }
        # Chunks carry a null where the usage will be, as OpenAI's do.
        self._pending_usage = {"usage": None} if plan.include_usage else {}

    @abstractmethod
    def opening(self, index: int) -> dict[str, Any] | None:
        """The chunk before a choice's first token, if there is one."""

    @abstractmethod
    def _piece_of(self, index: int, text: str, events: Sequence[TokenEvent]) -> dict[str, Any]:
        """The part of a chunk's choice that carries `text`; `events` are the tokens of its log-probabilities."""

    @abstractmethod
    def _whole_of(self, index: int, completion: Completion, events: Sequence[TokenEvent]) -> dict[str, Any]:
        """The part of a whole answer's choice that carries its text."""

    def token(self, index: int, event: TokenEvent) -> dict[str, Any] | None:
        """The chunk of one token; None if it has nothing to show, for instance inside a character."""
        if not event.text and not self._plan.logprobs:
            return None
        choice = {"index": index, **self._piece_of(index, event.text, [event]), "finish_reason": None}
        return self._chunk(choice, updraft=chunk_label(event))

    def progress(self, index: int, event: ProgressEvent) -> dict[str, Any]:
        """The chunk of something that happened on the way; it adds no text, and clients of OpenAI's pass over it."""
        choice = {"index": index, **self._piece_of(index, "", []), "finish_reason": None}
        return self._chunk(choice, updraft=progress_label(event))

    def last(self, index: int, completion: Completion) -> dict[str, Any]:
        """The chunk after a choice's last token."""
        choice = {"index": index, **self._piece_of(index, "", []), "finish_reason": completion.finish_reason}
        return self._chunk(choice, updraft=answer_label(completion))

    def usage(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The chunk after all choices, sent if the request includes the usage."""
        return {**self._header, "object": self.chunk_object, "choices": [], "usage": self._usage(completions)}

    def whole(self, completions: Sequence[Completion], events: Sequence[Sequence[TokenEvent]]) -> dict[str, Any]:
        """The answer to a request that does not stream; both arguments hold one item a candidate, and the best become
        choices. All of them count in the usage."""
        usage = self._usage(completions)
        pairs = [(completions[place], events[place]) for place in best(self._plan, events)]
        choices = [
            {"index": index, **self._whole_of(index, completion, seen), "finish_reason": completion.finish_reason}
            for index, (completion, seen) in enumerate(pairs)
        ]
        body = {**self._header, "object": self.whole_object, "choices": choices, "usage": usage}
        labels = [answer_label(completion) | token_labels(seen) for completion, seen in pairs]
        if len(labels) == 1:
            return body | {"updraft": labels[0]}
        for choice, label in zip(choices, labels, strict=True):
            choice["updraft"] = label
        return body

    def _chunk(self, choice: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {**self._header, "object": self.chunk_object, "choices": [choice], **self._pending_usage, **more}

    def _usage(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """A prompt counts once, however many choices it has. The agent computes each prompt anew: none is cached."""
        prompt = sum(completion.statistics.prompt_tokens for completion in completions[:: self._plan.candidates])
        written = sum(len(completion.token_ids) for completion in completions)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": 0},
        }


class ChatFormat(AnswerFormat):
    """`/v1/chat/completions`."""

    id_prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self, plan: Plan, agent: AgentView) -> None:
        super().__init__(plan, agent)
        self._logprobs = ChatLogprobs(agent.piece)

    def opening(self, index: int) -> dict[str, Any]:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._chunk({"index": index, "delta": delta, "logprobs": None, "finish_reason": None})

    def _piece_of(self, index: int, text: str, events: Sequence[TokenEvent]) -> dict[str, Any]:
        return {"delta": {"content": text} if events else {}, "logprobs": self._scores(events) if events else None}

    def _whole_of(self, index: int, completion: Completion, events: Sequence[TokenEvent]) -> dict[str, Any]:
        message = {"role": "assistant", "content": completion.text, "refusal": None}
        return {"message": message, "logprobs": self._scores(events)}

    def _scores(self, events: Sequence[TokenEvent]) -> dict[str, Any] | None:
        return self._logprobs.take(events) if self._plan.logprobs else None


class CompletionFormat(AnswerFormat):
    """`/v1/completions`."""

    id_prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def __init__(self, plan: Plan, agent: AgentView) -> None:
        super().__init__(plan, agent)
        self._logprobs = [CompletionLogprobs(agent.piece) for _ in plan.requests]
        self._echo = [self._readable(prompt) for prompt in plan.echo]

    def opening(self, index: int) -> dict[str, Any] | None:
        if not self._echo:
            return None
        text = self._echo[index // self._plan.n]
        return self._chunk({"index": index, "text": text, "logprobs": None, "finish_reason": None})

    def _piece_of(self, index: int, text: str, events: Sequence[TokenEvent]) -> dict[str, Any]:
        return {"text": text, "logprobs": self._scores(index, events) if events else None}

    def _whole_of(self, index: int, completion: Completion, events: Sequence[TokenEvent]) -> dict[str, Any]:
        before = self._echo[index // self._plan.n] if self._echo else ""
        return {"text": before + completion.text, "logprobs": self._scores(index, events)}

    def _scores(self, index: int, events: Sequence[TokenEvent]) -> dict[str, Any] | None:
        return self._logprobs[index].take(events) if self._plan.logprobs else None

    def _readable(self, prompt: Prompt) -> str:
        if isinstance(prompt, str):
            return prompt
        return b"".join(map(self._agent.piece, prompt)).decode("utf-8", "replace")
