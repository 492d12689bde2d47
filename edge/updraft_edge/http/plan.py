"""From a decoded request body to the generations that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from updraft.errors import ModelNotFound
from updraft.generation import GenerationRequest
from updraft.modes import ModeSettings
from updraft_edge.http.fields import invalid_field, supported_fields
from updraft_edge.http.schemas import ChatBody, CompletionBody, Prompt, SamplingBody

__all__ = ["Plan", "Planner", "chat_plan", "completion_plan", "no_model"]

Body = TypeVar("Body", bound=SamplingBody)


@dataclass(frozen=True, slots=True)
class Plan:
    """`candidates` generations for the first prompt, then as many for the second, in the order of their indices; of
    each prompt's, `n` are returned as choices.

    Attributes:
        logprobs: the answer lists log-probabilities; each request's `top_logprobs` says how many alternatives.
        echo: the prompts, one each, if they are to precede the answers.
        write: there are answers to write, not prompts alone to echo.
    """

    requests: tuple[GenerationRequest, ...]
    n: int
    stream: bool
    include_usage: bool
    logprobs: bool
    echo: tuple[Prompt, ...] = ()
    write: bool = True
    candidates: int = 1


Planner = Callable[[dict[str, Any], str, ModeSettings | None], Plan]
"""A function of a decoded body, the agent's model name and its default mode settings, like the two below."""


def chat_plan(data: dict[str, Any], model: str, defaults: ModeSettings | None) -> Plan:
    """The plan of a `/v1/chat/completions` body.

    Raises:
        ModelNotFound: it names another model.
        UnknownName: it names a mode that does not exist.
        InvalidRequest: any other field is unknown, unsupported, of a wrong type or out of range.
    """
    body = _validated(ChatBody, data, model)
    common = {
        "messages": tuple(message.plain() for message in body.messages),
        "max_tokens": body.max_completion_tokens if body.max_tokens is None else body.max_tokens,
        "top_logprobs": body.top_logprobs or 0,
    }
    return _plan(body, [common], bool(body.logprobs), defaults)


def completion_plan(data: dict[str, Any], model: str, defaults: ModeSettings | None) -> Plan:
    """The plan of a `/v1/completions` body; raises as `chat_plan` does."""
    body = _validated(CompletionBody, data, model)
    common = {"max_tokens": body.max_tokens if body.writes else 1, "top_logprobs": body.logprobs or 0}
    inputs = [common | {"prompt" if isinstance(item, str) else "prompt_tokens": item} for item in body.prompt]
    echo = tuple(body.prompt) if body.echo else ()
    return replace(_plan(body, inputs, body.logprobs is not None, defaults), echo=echo, write=body.writes)


def no_model(name: str, model: str) -> ModelNotFound:
    """The error for a model name other than the agent's."""
    return ModelNotFound(
        f"There is no model {name[:100]!r}; this agent serves {model!r}.",
        remedy="GET /v1/models lists the names that can be used.",
        param="model",
    )


def _validated(kind: type[Body], data: dict[str, Any], model: str) -> Body:
    name = data.get("model")
    if isinstance(name, str) and name != model:
        raise no_model(name, model)
    try:
        return kind.model_validate(supported_fields(data))
    except ValidationError as error:
        raise invalid_field(error) from None


def _plan(
    body: SamplingBody,
    inputs: Sequence[dict[str, Any]],
    logprobs: bool,
    defaults: ModeSettings | None,
) -> Plan:
    n = 1 if body.n is None else body.n
    settings = body.settings(defaults)
    sampling = [body.sampling(choice) for choice in range(body.candidates)]
    requests = tuple(
        GenerationRequest(
            **given,
            sampling=params,
            stop=tuple(body.stop),
            settings=settings,
            logprobs=logprobs or body.candidates > n,  # candidates are compared by one tier's
            ignore_end=bool(body.ignore_eos),
            **body.reports(),
        )
        for given in inputs
        for params in sampling
    )
    return Plan(requests, n, bool(body.stream), body.include_usage, logprobs, candidates=body.candidates)
