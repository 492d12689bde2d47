"""From the SDK's keyword arguments to a checked request message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from updraft.agent_wire import request_to_proto
from updraft.errors import InvalidRequest
from updraft.generation import ChatMessage, GenerationRequest
from updraft.modes import ModeSettings
from updraft.sampling import SamplingParams
from updraft.v1 import agent_pb2 as pb

__all__ = ["GenerateOptions", "build_request"]


class GenerateOptions(TypedDict, total=False):
    """Keyword arguments of `generate` and `stream`.

    Give exactly one of the prompt, `messages` and `prompt_tokens`. `settings` as a mapping, `mode` and `local_only`
    are laid over the agent's defaults; a `ModeSettings` object replaces them all. `effort`, `strategy`, `verifier` and
    `budget` are settings, too. Sampling parameters, their ranges
    and defaults are those of `updraft.sampling.SamplingParams`.
    """

    messages: Sequence[ChatMessage | Mapping[str, str]] | None
    prompt_tokens: Sequence[int] | None
    mode: str | None
    settings: ModeSettings | Mapping[str, object] | None
    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: Mapping[int, float]
    seed: int | None
    stop: str | Sequence[str]
    logprobs: bool
    top_logprobs: int
    ignore_end: bool
    local_only: bool
    trace: bool
    effort: str | None
    strategy: str | Mapping[str, object] | None
    verifier: str | Mapping[str, object] | None
    budget: Mapping[str, object] | None
    progress: bool
    alternatives: bool


def build_request(prompt: str | None, options: GenerateOptions) -> pb.GenerateRequest:
    """The message that asks for an answer.

    Raises:
        InvalidRequest: an option is out of range or of a wrong type, or not exactly one input is given.
        TypeError: there is no option of that name.
    """
    unknown = options.keys() - GenerateOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    messages, stop = options.get("messages"), options.get("stop", ())
    try:
        request = GenerationRequest(
            messages=None if messages is None else [_message(item) for item in messages],
            prompt=prompt,
            prompt_tokens=options.get("prompt_tokens"),
            sampling=_sampling(options),
            max_tokens=options.get("max_tokens"),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            logprobs=options.get("logprobs", False),
            top_logprobs=options.get("top_logprobs", 0),
            ignore_end=options.get("ignore_end", False),
            trace=options.get("trace", False),
            progress=options.get("progress", False),
            alternatives=options.get("alternatives", False),
        )
    except TypeError as error:
        raise InvalidRequest(f"An option is of a wrong type: {error}.") from error
    return request_to_proto(request, settings=_settings(options), local_only=options.get("local_only", False))


def _message(item: ChatMessage | Mapping[str, str]) -> ChatMessage:
    if isinstance(item, ChatMessage):
        return item
    if not isinstance(item, Mapping) or item.keys() != {"role", "content"}:
        raise InvalidRequest(
            f"A message is {item!r}; it must be a mapping with role and content alone.", param="messages"
        )
    return ChatMessage(item["role"], item["content"])


def _sampling(options: GenerateOptions) -> SamplingParams:
    default = SamplingParams()
    return SamplingParams(
        temperature=options.get("temperature", default.temperature),
        top_k=options.get("top_k", default.top_k),
        top_p=options.get("top_p", default.top_p),
        min_p=options.get("min_p", default.min_p),
        repetition_penalty=options.get("repetition_penalty", default.repetition_penalty),
        frequency_penalty=options.get("frequency_penalty", default.frequency_penalty),
        presence_penalty=options.get("presence_penalty", default.presence_penalty),
        logit_bias=options.get("logit_bias", default.logit_bias),
        seed=options.get("seed"),
    )


def _settings(options: GenerateOptions) -> dict[str, object] | None:
    """The keys that the agent lays over its defaults; None when there are none."""
    settings = options.get("settings")
    if isinstance(settings, ModeSettings):
        partial: dict[str, object] = settings.model_dump(mode="json")
    elif settings is None or isinstance(settings, Mapping):
        partial = dict(settings or {})
    else:
        raise InvalidRequest(f"settings is {settings!r}; it must be ModeSettings or a mapping.", param="settings")
    for name in ("mode", "effort", "strategy", "verifier", "budget"):
        value = options.get(name)
        if value is not None:
            partial[name] = dict(value) if isinstance(value, Mapping) else value
    return partial or None
