"""The agent's wire messages, made and read: requests, token events and completions."""

from __future__ import annotations

import json
from collections.abc import Mapping

from google.protobuf.message import DecodeError
from pydantic import TypeAdapter, ValidationError

from updraft.errors import InvalidRequest, ProtocolViolation
from updraft.generation import ChatMessage, Completion, GenerationRequest, TokenEvent
from updraft.modes import ModeSettings, Origin, parse_settings
from updraft.sampling_wire import sampling_from_proto, sampling_to_proto
from updraft.solution import ProgressEvent
from updraft.v1 import agent_pb2 as pb

__all__ = [
    "completion_from_json",
    "completion_to_json",
    "info_from_json",
    "parse_request",
    "progress_from_proto",
    "progress_to_proto",
    "request_from_proto",
    "request_to_proto",
    "token_from_proto",
    "token_to_proto",
]

_COMPLETION = TypeAdapter(Completion)


def request_to_proto(
    request: GenerationRequest, *, settings: Mapping[str, object] | None = None, local_only: bool = False
) -> pb.GenerateRequest:
    """The wire message of a request.

    Args:
        request: what to write; its `settings`, if any, travel whole.
        settings: instead of `request.settings`, only these keys, which the agent lays over its defaults.
        local_only: never open a connection for this request, whatever the settings say.

    Raises:
        InvalidRequest: a value does not fit its field.
    """
    try:
        message = pb.GenerateRequest(
            sampling=sampling_to_proto(request.sampling),
            max_tokens=request.max_tokens or 0,
            stop=request.stop,
            settings_json=_settings_json(request.settings, settings),
            logprobs=request.logprobs,
            top_logprobs=request.top_logprobs,
            local_only=local_only,
            ignore_end=request.ignore_end,
            trace=request.trace,
            progress=request.progress,
            alternatives=request.alternatives,
        )
        _put_input(request, message)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"The request does not fit the message: {error}.") from error
    return message


def _settings_json(whole: ModeSettings | None, partial: Mapping[str, object] | None) -> str:
    if partial is not None:
        return json.dumps(dict(partial), allow_nan=False)
    return "" if whole is None else whole.model_dump_json()


def _put_input(request: GenerationRequest, message: pb.GenerateRequest) -> None:
    if request.messages is not None:
        chat = [pb.Message(role=turn.role, content=turn.content) for turn in request.messages]
        message.chat.CopyFrom(pb.Chat(messages=chat))
    elif request.prompt is not None:
        message.text = request.prompt
    else:
        message.tokens.CopyFrom(pb.Tokens(ids=request.prompt_tokens))


def parse_request(raw: bytes) -> pb.GenerateRequest:
    """A request message from its bytes.

    Raises:
        InvalidRequest: the bytes are no such message, or a text in them is not valid UTF-8.
    """
    try:
        return pb.GenerateRequest.FromString(raw)
    except DecodeError as error:
        raise InvalidRequest("The request is not a GenerateRequest message with texts in UTF-8.") from error


def request_from_proto(message: pb.GenerateRequest, defaults: ModeSettings | None = None) -> GenerationRequest:
    """The checked request of a wire message.

    Args:
        message: as it came from the program.
        defaults: the agent's own mode settings, under those that the message names.

    Raises:
        InvalidRequest: a field is missing or out of range.
        UnknownName: the mode does not exist.
    """
    given = message.WhichOneof("input")
    turns = [ChatMessage(turn.role, turn.content) for turn in message.chat.messages]
    return GenerationRequest(
        messages=turns if given == "chat" else None,
        prompt=message.text if given == "text" else None,
        prompt_tokens=list(message.tokens.ids) if given == "tokens" else None,
        sampling=sampling_from_proto(message.sampling),
        max_tokens=message.max_tokens or None,
        stop=tuple(message.stop),
        settings=_settings_from_proto(message, defaults),
        logprobs=message.logprobs,
        top_logprobs=message.top_logprobs,
        ignore_end=message.ignore_end,
        trace=message.trace,
        progress=message.progress,
        alternatives=message.alternatives,
    )


def _settings_from_proto(message: pb.GenerateRequest, defaults: ModeSettings | None) -> ModeSettings | None:
    """None when the message names nothing, so that the agent takes its own defaults."""
    settings: ModeSettings | None = None
    if message.settings_json:
        try:
            data = json.loads(message.settings_json)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"settings_json is not JSON: {error}.", param="updraft") from error
        settings = parse_settings(data, defaults)
    if message.local_only:
        settings = (settings or defaults or ModeSettings()).model_copy(update={"local_only": True})
    return settings


def token_to_proto(event: TokenEvent) -> pb.TokenCommitted:
    return pb.TokenCommitted(
        index=event.index,
        token=event.token,
        text=event.text,
        logprob=event.logprob,
        entropy=event.entropy,
        energy=event.energy,
        origin=event.origin.value,
        verified=event.verified,
        top=[pb.Alternative(token=token, logprob=logprob) for token, logprob in event.top],
        seconds=event.seconds,
        piece=event.piece,
        layer=event.layer,
    )


def token_from_proto(message: pb.TokenCommitted) -> TokenEvent:
    """The event of a wire message; log-probabilities, entropy and energy have float32's precision.

    Raises:
        ProtocolViolation: the origin is none that this version knows.
    """
    return TokenEvent(
        index=message.index,
        token=message.token,
        text=message.text,
        logprob=message.logprob,
        entropy=message.entropy,
        energy=message.energy,
        origin=_origin(message.origin),
        verified=message.verified,
        seconds=message.seconds,
        top=tuple((item.token, item.logprob) for item in message.top),
        piece=message.piece,
        layer=message.layer if message.HasField("layer") else None,
    )


def progress_to_proto(event: ProgressEvent) -> pb.Progress:
    return pb.Progress(
        kind=event.kind,
        origin=event.origin.value,
        branch=event.branch,
        value=event.value,
        source=event.source,
        tokens=event.tokens,
        seconds=event.seconds,
        stage=event.stage,
    )


def progress_from_proto(message: pb.Progress) -> ProgressEvent:
    """The event of a wire message. Raises as `token_from_proto` does."""
    return ProgressEvent(
        kind=message.kind,
        origin=_origin(message.origin),
        branch=message.branch if message.HasField("branch") else None,
        value=message.value if message.HasField("value") else None,
        source=message.source if message.HasField("source") else None,
        tokens=message.tokens,
        seconds=message.seconds,
        stage=message.stage,
    )


def _origin(name: str) -> Origin:
    try:
        return Origin(name)
    except ValueError as error:
        raise ProtocolViolation(f"The agent sent an event of unknown origin {name!r}.") from error


def completion_to_json(completion: Completion) -> str:
    """A JSON object with every field, statistics included."""
    return _COMPLETION.dump_json(completion).decode()


def completion_from_json(text: str) -> Completion:
    """The inverse of `completion_to_json`; keys of a newer agent are ignored.

    Raises:
        ProtocolViolation: it is not JSON, or a field is missing or of another type.
    """
    try:
        return _COMPLETION.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "completion"
        raise ProtocolViolation(f"The agent sent a bad completion: {where}: {first['msg']}.") from error


def info_from_json(text: str) -> dict[str, object]:
    """The agent's description.

    Raises:
        ProtocolViolation: it is not a JSON object.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation("The agent's description is not JSON.") from error
    if not isinstance(data, dict):
        raise ProtocolViolation(f"The agent's description is a {type(data).__name__}, not an object.")
    return data
