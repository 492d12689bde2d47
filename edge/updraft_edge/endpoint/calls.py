"""What an OpenAI-compatible endpoint is asked: the bodies of its calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from updraft.config import EndpointSettings
from updraft.errors import InvalidRequest
from updraft.generation import GenerationRequest
from updraft.sampling import SamplingParams

__all__ = ["CONTINUE", "Call", "check_request", "grading_call", "read_grades", "writing_call"]

Continuation = Literal["continue", "prefill", "ask"]

CONTINUE = "Go on with your answer exactly where it stops. Repeat nothing of it and add no remark."
MOST_STOPS = 4  # OpenAI takes no more; the agent watches all of them itself
MOST_ALTERNATIVES = 20


@dataclass(frozen=True, slots=True)
class Call:
    """A path below the base URL, and its body."""

    path: str
    body: dict[str, Any]


def check_request(request: GenerationRequest) -> None:
    """Raises InvalidRequest where an endpoint could not do what is asked."""
    if request.sampling.logit_bias:
        raise InvalidRequest(
            "logit_bias names tokens of the edge's model, which the endpoint does not share.",
            remedy="Leave it out, or choose a mode that uses edge.cloud.",
            param="logit_bias",
        )


def writing_call(
    settings: EndpointSettings,
    request: GenerationRequest,
    sampling: SamplingParams,
    *,
    prompt: str,
    so_far: str,
    most: int,
    continuation: Continuation,
    plain: bool,
) -> Call:
    """Ask for the answer, or for its rest.

    Args:
        prompt: the text of a request without messages.
        so_far: the answer that there is.
        most: tokens that may follow.
        continuation: how a chat is made to go on with the answer so far.
        plain: name no field beyond OpenAI's oldest ones.
    """
    body: dict[str, Any] = {"model": settings.model, settings.length_field: most, "stream": True}
    body |= _sampling_fields(sampling, plain=plain)
    if not plain:
        body["stream_options"] = {"include_usage": True}
    if request.stop:
        body["stop"] = list(request.stop[:MOST_STOPS])
    if request.ignore_end:
        body["ignore_eos"] = True
    if request.messages is None:
        return Call("completions", body | {"prompt": prompt + so_far})
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    if so_far:
        messages.append({"role": "assistant", "content": so_far})
        if continuation == "continue":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        elif continuation == "ask":
            messages.append({"role": "user", "content": CONTINUE})
    return Call("chat/completions", body | {"messages": messages})


def _sampling_fields(sampling: SamplingParams, *, plain: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"temperature": sampling.temperature}
    if sampling.top_p != 1.0:
        fields["top_p"] = sampling.top_p
    if sampling.frequency_penalty:
        fields["frequency_penalty"] = sampling.frequency_penalty
    if sampling.presence_penalty:
        fields["presence_penalty"] = sampling.presence_penalty
    if sampling.seed is not None and not plain:
        fields["seed"] = sampling.seed & (2**63 - 1)
    # Not OpenAI's, but of all local servers; they go only where they ask for something.
    if sampling.top_k:
        fields["top_k"] = sampling.top_k
    if sampling.min_p:
        fields["min_p"] = sampling.min_p
    if sampling.repetition_penalty != 1.0:
        fields["repetition_penalty"] = sampling.repetition_penalty
    return fields


def grading_call(
    settings: EndpointSettings,
    request: GenerationRequest,
    *,
    prompt: str,
    answer: str,
    rubric: str,
    logprobs: bool,
) -> Call:
    """Ask for the grade of the end of an answer: one token, greedily."""
    given = request.messages or ()
    messages = [{"role": message.role, "content": message.content} for message in given]
    if request.messages is None:
        messages = [{"role": "user", "content": prompt}]
    messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": rubric}]
    body: dict[str, Any] = {"model": settings.model, "messages": messages, settings.length_field: 1, "temperature": 0}
    if logprobs:
        body |= {"logprobs": True, "top_logprobs": MOST_ALTERNATIVES}
    return Call("chat/completions", body)


def read_grades(data: Mapping[str, Any]) -> tuple[dict[int, float], bool]:
    """Log-probabilities by digit, and whether they are the endpoint's own; else the digit that it wrote has all.

    Empty where there is neither.
    """
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    found: dict[int, float] = {}
    for item in _alternatives(choice):
        token, logprob = item.get("token"), item.get("logprob")
        digit = token.strip() if isinstance(token, str) else ""
        if len(digit) != 1 or digit not in "0123456789" or isinstance(logprob, bool):
            continue
        if not isinstance(logprob, int | float) or not math.isfinite(logprob) or logprob > 1e-3:
            continue
        before = found.get(int(digit), -math.inf)
        found[int(digit)] = max(before, logprob) + math.log1p(math.exp(-abs(before - logprob)))
    if found:
        return found, True
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    digits = [letter for letter in text or "" if letter in "0123456789"] if isinstance(text, str | None) else []
    return ({int(digits[0]): 0.0} if digits else {}), False


def _alternatives(choice: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
    top = first.get("top_logprobs")
    return [item for item in top if isinstance(item, dict)] if isinstance(top, list) else []
