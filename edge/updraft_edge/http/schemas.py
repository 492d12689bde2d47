"""Request bodies of OpenAI's API: which fields there are, their types and ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from updraft.errors import InvalidRequest
from updraft.generation import ChatMessage
from updraft.modes import Effort, ModeSettings, parse_settings
from updraft.sampling import MAX_SEED, MAX_TOP_LOGPROBS, SamplingParams

__all__ = [
    "MAX_BEST_OF",
    "MAX_CHOICES",
    "MAX_PROMPTS",
    "ChatBody",
    "CompletionBody",
    "Message",
    "Prompt",
    "SamplingBody",
]

MAX_CHOICES = 8
MAX_PROMPTS = 64
MAX_BEST_OF = 20

REPORTS = ("trace", "progress", "alternatives")
"""Keys of `updraft` that are no settings of a mode: what the answer is to tell beside its text."""

_EFFORTS = {
    "none": Effort.NONE,
    "minimal": Effort.NONE,
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "xhigh": Effort.MAX,
}
"""OpenAI's names."""

Prompt = str | list[int]


def _stop_list(value: object) -> object:
    return [value] if isinstance(value, str) else [] if value is None else value


def _prompt_list(value: object) -> list[Prompt]:
    """One prompt or a list of them, each a text or a non-empty list of token ids, as a list."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise ValueError("it must be a text, a list of texts, a list of token ids or a list of such lists")
    if _are_ids(value):
        return [value]
    if len(value) > MAX_PROMPTS:
        raise ValueError(f"{len(value)} prompts; at most {MAX_PROMPTS} are allowed")
    if all(isinstance(item, str) for item in value) or all(isinstance(item, list) and _are_ids(item) for item in value):
        return value
    raise ValueError("its items must be all texts, all token ids from 0 on or all non-empty lists of these")


def _are_ids(items: list[object]) -> bool:
    return bool(items) and all(type(item) is int and 0 <= item < 2**31 for item in items)


class _Strict(BaseModel):
    # Strict: true is not 1, "1" is not 1, 1.0 is not 1. 1e999 and the like are no numbers.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class StreamOptions(_Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # accepted; padding against traffic analysis means nothing on loopback


class SamplingBody(_Strict):
    """Fields of both endpoints. `top_k`, `min_p`, `repetition_penalty` and `ignore_eos` are other local servers'."""

    model: str
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Annotated[list[str], BeforeValidator(_stop_list)] = []
    seed: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    ignore_eos: bool | None = None
    updraft: object = None

    @model_validator(mode="after")
    def _options_need_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream=true")
        return self

    def sampling(self, choice: int) -> SamplingParams:
        """Parameters of one of a prompt's choices: choice i draws with seed + i."""
        return SamplingParams(
            temperature=_given(self.temperature, 1.0),
            top_k=0 if self.top_k is None or self.top_k == -1 else self.top_k,  # -1: no limit, as in vLLM
            top_p=_given(self.top_p, 1.0),
            min_p=_given(self.min_p, 0.0),
            repetition_penalty=_given(self.repetition_penalty, 1.0),
            frequency_penalty=_given(self.frequency_penalty, 0.0),
            presence_penalty=_given(self.presence_penalty, 0.0),
            logit_bias=_token_biases(self.logit_bias or {}),
            seed=_shifted(self.seed, choice),
        )

    def settings(self, defaults: ModeSettings | None) -> ModeSettings | None:
        given = self.updraft
        if isinstance(given, dict):
            given = {key: value for key, value in given.items() if key not in REPORTS}
        if (effort := self.effort) is not None:
            given = _with_effort(effort, {} if given is None else given)
        return None if given is None else parse_settings(given, defaults)

    @property
    def effort(self) -> Effort | None:
        """What OpenAI's own field asks for, on the endpoint that has it."""
        return None

    def reports(self) -> dict[str, Any]:
        """What the answer is to tell beside its text. Raises InvalidRequest."""
        given = self.updraft if isinstance(self.updraft, dict) else {}
        asked = {name: given.get(name, False) for name in REPORTS}
        for name, value in asked.items():
            if not isinstance(value, bool):
                raise InvalidRequest(f"updraft.{name} must be true or false.", param=f"updraft.{name}")
        return asked

    @property
    def candidates(self) -> int:
        """Answers to write for each prompt, of which `n` are returned."""
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


def _with_effort(effort: Effort, given: object) -> object:
    """The extension key with OpenAI's effort in it, where it does not say itself how the answer is to be written."""
    if not isinstance(given, dict) or given.keys() & {"mode", "strategy", "profile"}:
        return given
    if given.get("effort") not in (None, effort):
        raise InvalidRequest("reasoning_effort and updraft.effort differ; give one of them.", param="reasoning_effort")
    return given | {"effort": effort}


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _shifted(seed: int | None, choice: int) -> int | None:
    """Seeds out of range stay as they are, for SamplingParams to refuse."""
    return seed if seed is None or not 0 <= seed <= MAX_SEED else (seed + choice) & MAX_SEED


def _token_biases(biases: dict[str, float]) -> dict[int, float]:
    for name in biases:
        if not (name.isascii() and name.isdecimal() and len(name) <= 10):
            raise InvalidRequest(f"logit_bias names {name[:20]!r}; keys must be token ids.", param="logit_bias")
    return {int(name): bias for name, bias in biases.items()}


def _content(value: object) -> object:
    """Parts of type text joined by line breaks, as other local servers do."""
    return "\n".join(_part_text(part) for part in value) if isinstance(value, list) else value


def _part_text(part: object) -> str:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise ValueError("content parts must be objects with a type")
    if part["type"] != "text":
        raise ValueError(f"content parts of type {part['type'][:40]!r} are not supported; send text")
    text = part.get("text")
    if not isinstance(text, str) or part.keys() != {"type", "text"}:
        raise ValueError("a content part of type text must have a text and nothing else")
    return text


class Message(_Strict):
    """A chat message. Of an earlier answer's fields, those that are empty may come along."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, BeforeValidator(_content)]
    name: str | None = None  # accepted; chat templates have no place for it
    tool_call_id: str | None = None  # likewise
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: list[object] | None = Field(default=None, max_length=0)
    annotations: list[object] | None = Field(default=None, max_length=0)

    def plain(self) -> ChatMessage:
        """Developer is OpenAI's newer name for system; models' templates know only the latter."""
        return ChatMessage("system" if self.role == "developer" else self.role, self.content)


class ChatBody(SamplingBody):
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None

    @property
    def effort(self) -> Effort | None:
        return None if self.reasoning_effort is None else _EFFORTS[self.reasoning_effort]

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs is only allowed with logprobs=true")
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError("max_tokens and max_completion_tokens differ; give one of them")
        return self


class CompletionBody(SamplingBody):
    prompt: Annotated[list[Prompt], BeforeValidator(_prompt_list)]
    logprobs: int | None = Field(default=None, ge=0, le=5)
    echo: bool | None = None
    best_of: int | None = Field(default=None, ge=1, le=MAX_BEST_OF)

    @model_validator(mode="after")
    def _best_is_chosen_at_the_end(self) -> Self:
        if self.best_of is None:
            return self
        if self.best_of < (self.n or 1):
            raise ValueError(f"best_of ({self.best_of}) must not be below n ({self.n or 1})")
        if self.stream and self.best_of > (self.n or 1):
            raise ValueError("best_of cannot be streamed: which answers are the best is known at the end")
        return self

    @property
    def candidates(self) -> int:
        return self.best_of or self.n or 1

    @property
    def writes(self) -> bool:
        """There is an answer to write: `max_tokens` 0 with `echo` asks for the prompt alone, as in OpenAI's API."""
        return not (self.echo and self.max_tokens == 0)
