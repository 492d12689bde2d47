"""Every error that Updraft raises on purpose, in one tree.

```
UpdraftError
├── InvalidRequest              the caller's input is wrong
│   ├── PromptTooLong
│   ├── RequestTooLarge
│   └── UnknownName             a mode, model, device or setting that does not exist
├── ConfigError                 settings, files or the environment are wrong
│   ├── MissingExtra
│   ├── AddressInUse
│   ├── InsecureListen
│   ├── GoalUnreachable         no setting that was measured meets the goal of a calibration
│   └── ProfileMismatch         a profile that was calibrated for another pair of models
├── ModelError                  a model file is missing or not what it says it is
│   ├── ModelNotFound
│   ├── BadModelFile
│   └── WrongTrunk              a rung of the ladder that was trained on another model
├── LinkError                   the two tiers cannot work together just now
│   ├── CloudUnavailable
│   ├── AgentUnavailable        a program cannot reach its agent
│   ├── LateReply
│   ├── TokenizerMismatch
│   ├── TrunkMismatch           hidden states that the cloud's model cannot continue from
│   ├── ProtocolViolation
│   └── LogMismatch
├── Unauthenticated
├── Withheld                    a rule keeps the request on the device, or what may be spent is used up
├── Overloaded
├── Cancelled
└── EngineFailure               native code failed; the request is lost, the process is not
```

Each class carries its place in the table that the gRPC and HTTP servers answer with: `code` (stable,
machine-readable), `grpc_status` (name of a `grpc.StatusCode`), `http_status`, `retryable` and a `remedy`.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AddressInUse",
    "AgentUnavailable",
    "BadModelFile",
    "Cancelled",
    "CloudUnavailable",
    "ConfigError",
    "EngineFailure",
    "GoalUnreachable",
    "InsecureListen",
    "InvalidRequest",
    "LateReply",
    "LinkError",
    "LogMismatch",
    "MissingExtra",
    "ModelError",
    "ModelNotFound",
    "Overloaded",
    "ProfileMismatch",
    "PromptTooLong",
    "ProtocolViolation",
    "RequestTooLarge",
    "TokenizerMismatch",
    "TrunkMismatch",
    "Unauthenticated",
    "UnknownName",
    "UpdraftError",
    "Withheld",
    "WrongTrunk",
    "error_classes",
    "from_code",
]


class UpdraftError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what is wrong, with the value that was given and the limit it broke.
        remedy: what to do about it; the class's own remedy when left out.
        param: the request field at fault, where there is one.
    """

    code: ClassVar[str] = "internal"
    grpc_status: ClassVar[str] = "INTERNAL"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    retry_after_s = 0.0  # how long to wait before that, where who raised it says so
    default_remedy: ClassVar[str] = "Report this with the output of `updraft doctor --json`."

    def __init__(self, message: str, *, remedy: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy or self.default_remedy
        self.param = param

    def __str__(self) -> str:
        return self.message


class InvalidRequest(UpdraftError):
    code = "invalid_request"
    grpc_status = "INVALID_ARGUMENT"
    http_status = 400
    default_remedy = "Correct the named field and send the request again."


class PromptTooLong(InvalidRequest):
    code = "context_length_exceeded"
    grpc_status = "OUT_OF_RANGE"
    default_remedy = "Shorten the prompt, ask for fewer tokens, or start the tier with a larger --context."


class RequestTooLarge(InvalidRequest):
    code = "request_too_large"
    http_status = 413
    default_remedy = "Send a smaller body."


class UnknownName(InvalidRequest):
    code = "unknown_name"
    grpc_status = "NOT_FOUND"
    http_status = 404
    default_remedy = "Use one of the names listed in the message."


class ConfigError(UpdraftError):
    code = "bad_configuration"
    grpc_status = "FAILED_PRECONDITION"
    default_remedy = "`updraft config show` prints every setting and where it came from."


class MissingExtra(ConfigError):
    code = "missing_extra"
    default_remedy = "Install the extra named in the message."


class AddressInUse(ConfigError):
    code = "address_in_use"
    default_remedy = "Choose another port with --port, or stop the program that holds this one."


class InsecureListen(ConfigError):
    code = "insecure_listen"
    default_remedy = "Give --tls-cert, --tls-key and a token, listen on 127.0.0.1, or say --insecure."


class GoalUnreachable(ConfigError):
    code = "goal_unreachable"
    default_remedy = "Ask for the nearest goal that the message names, or calibrate on more prompts."


class ProfileMismatch(ConfigError):
    code = "profile_mismatch"
    http_status = 409
    default_remedy = "Calibrate this pair with `updraft calibrate`, or use the models that the profile names."


class ModelError(UpdraftError):
    code = "model_error"
    grpc_status = "FAILED_PRECONDITION"
    default_remedy = "`updraft models list` shows the models that can be used."


class ModelNotFound(ModelError):
    code = "model_not_found"
    grpc_status = "NOT_FOUND"
    http_status = 404


class BadModelFile(ModelError):
    code = "bad_model_file"
    default_remedy = "Fetch the file again and compare its digest; it is damaged or not a GGUF model."


class WrongTrunk(ModelError):
    code = "wrong_trunk"
    default_remedy = "Train the rung on this model, or use the model that the rung was trained on."


class LinkError(UpdraftError):
    code = "link_error"
    grpc_status = "UNAVAILABLE"
    http_status = 503
    retryable = True
    default_remedy = "Check that the cloud service runs and that its address is right."


class CloudUnavailable(LinkError):
    code = "cloud_unavailable"


class AgentUnavailable(LinkError):
    code = "agent_unavailable"
    default_remedy = "Start the agent with `updraft serve edge`, or name its address in UPDRAFT_AGENT."


class LateReply(LinkError):
    code = "late_reply"
    grpc_status = "DEADLINE_EXCEEDED"
    http_status = 504
    default_remedy = "The cloud did not answer in time; raise cloud.reply_timeout_s or try again."


class TokenizerMismatch(LinkError):
    code = "tokenizer_mismatch"
    grpc_status = "FAILED_PRECONDITION"
    http_status = 409
    retryable = False
    default_remedy = "Use two models of one family: token-level modes need the same tokenizer on both tiers."


class TrunkMismatch(LinkError):
    code = "trunk_mismatch"
    grpc_status = "FAILED_PRECONDITION"
    http_status = 409
    retryable = False
    default_remedy = "Serve the staged model that the edge holds, or let the edge send tokens: exit.carry = tokens."


class ProtocolViolation(LinkError):
    code = "protocol_violation"
    grpc_status = "INVALID_ARGUMENT"
    http_status = 502
    retryable = False
    default_remedy = "Run the same version of Updraft on both tiers."


class LogMismatch(LinkError):
    code = "log_mismatch"
    grpc_status = "ABORTED"
    http_status = 502
    default_remedy = "The tiers' token logs differ; the session is opened again from the edge's log."


class Unauthenticated(UpdraftError):
    code = "unauthenticated"
    grpc_status = "UNAUTHENTICATED"
    http_status = 401
    default_remedy = "Send a valid bearer token."


class Withheld(UpdraftError):
    """Nothing leaves the device: the edge goes on alone, unless `final` says that the request fails.

    `rule` names the rule and never what it found.
    """

    code = "withheld"
    grpc_status = "PERMISSION_DENIED"
    http_status = 403
    default_remedy = "Leave out what must not leave the device, or change edge.rules or edge.limits."

    def __init__(
        self,
        message: str,
        *,
        rule: str = "rules",
        final: bool = False,
        remedy: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, param=param)
        self.rule = rule
        self.final = final


class Overloaded(UpdraftError):
    code = "overloaded"
    grpc_status = "RESOURCE_EXHAUSTED"
    http_status = 429
    retryable = True
    default_remedy = "Wait a moment and send the request again."


class Cancelled(UpdraftError):
    code = "cancelled"
    grpc_status = "CANCELLED"
    http_status = 499
    default_remedy = "The caller went away; nothing is left to do."


class EngineFailure(UpdraftError):
    code = "engine_failure"
    retryable = True


def error_classes() -> dict[str, type[UpdraftError]]:
    """All concrete classes of the tree by their `code`."""
    found: dict[str, type[UpdraftError]] = {}
    pending: list[type[UpdraftError]] = [UpdraftError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(cls.__subclasses__())
    return found


def from_code(code: str, message: str, remedy: str | None = None) -> UpdraftError:
    """Rebuild an error that came over a wire; an unknown code becomes the base class."""
    return error_classes().get(code, UpdraftError)(message, remedy=remedy or None)
