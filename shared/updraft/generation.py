"""What goes into a generation and what comes out: the types that every interface shares."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from updraft.errors import InvalidRequest
from updraft.modes import ModeSettings, Origin
from updraft.sampling import MAX_TOP_LOGPROBS, Sampled, SamplingParams
from updraft.solution import ProgressEvent, Solution
from updraft.traces.steps import Trace

__all__ = [
    "MAX_STOP_BYTES",
    "MAX_STOP_STRINGS",
    "AgentView",
    "ChatMessage",
    "Completion",
    "FinishReason",
    "GenerationEvent",
    "GenerationRequest",
    "Generator",
    "Statistics",
    "TokenEvent",
]

FinishReason = Literal["stop", "length", "cancelled"]

MAX_STOP_STRINGS = 16
MAX_STOP_BYTES = 1024


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer to write. Exactly one of `messages`, `prompt` and `prompt_tokens` is given.

    Attributes:
        settings: mode and its settings; None takes the agent's default.
        logprobs: report log-probabilities by the tier that decides on each token.
        top_logprobs: alternatives for each token, 0 to 20.
        ignore_end: do not end at the model's end tokens (for benchmarks).
        trace: record every decision in the completion.
        progress: tell what happens on the way to an answer of the mode `solve`.
        alternatives: list the other final answers that were found, in the mode `solve`.
    """

    messages: Sequence[ChatMessage] | None = None
    prompt: str | None = None
    prompt_tokens: Sequence[int] | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    settings: ModeSettings | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    ignore_end: bool = False
    trace: bool = False
    progress: bool = False
    alternatives: bool = False

    def __post_init__(self) -> None:
        given = [self.messages, self.prompt, self.prompt_tokens]
        if sum(value is not None for value in given) != 1:
            raise InvalidRequest("Give exactly one of messages, prompt and prompt_tokens.", param="prompt")
        if self.max_tokens is not None and not 1 <= self.max_tokens <= 2**31 - 1:
            raise InvalidRequest(f"max_tokens is {self.max_tokens}; it must be at least 1.", param="max_tokens")
        if not 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS:
            raise InvalidRequest(
                f"top_logprobs is {self.top_logprobs}; it must be from 0 to {MAX_TOP_LOGPROBS}.", param="top_logprobs"
            )
        if len(self.stop) > MAX_STOP_STRINGS:
            raise InvalidRequest(
                f"{len(self.stop)} stop strings; at most {MAX_STOP_STRINGS} are allowed.", param="stop"
            )
        for text in self.stop:
            if not text or len(text) > MAX_STOP_BYTES:
                raise InvalidRequest(f"A stop string must have 1 to {MAX_STOP_BYTES} characters.", param="stop")


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One committed token.

    Attributes:
        index: place in the answer, from 0.
        text: text that became complete with this token and that no stop string can take back.
        logprob, entropy, energy: of the distribution that the tier used (nats); the cloud's for every token if
            the request asked for log-probabilities, else those of the tier that wrote the token.
        origin: the tier that wrote it.
        verified: the cloud judged it or wrote it.
        seconds: since the request arrived, on the agent's monotonic clock.
        piece: the token's own bytes, whatever became of them in `text`.
        layer: layers of the model below the early exit that it left at; None if the whole model wrote it.
    """

    index: int
    token: int
    text: str
    logprob: float
    entropy: float
    energy: float
    origin: Origin
    verified: bool
    seconds: float
    top: tuple[tuple[int, float], ...] = ()
    piece: bytes = b""
    layer: int | None = None


@dataclass(slots=True)
class Statistics:
    """Counts of one answer. Cloud passes and positions leave out the prompt, which is in `cloud_prefilled`."""

    prompt_tokens: int = 0
    tokens: int = 0
    edge_tokens: int = 0
    cloud_tokens: int = 0
    drafted: int = 0  # draft tokens sent for a verdict
    accepted: int = 0  # of these, how many stood
    lookup_drafted: int = 0  # draft tokens that were looked up, branches included
    lookup_accepted: int = 0  # of these, how many stood
    tolerated: int = 0  # of the accepted, how many the cloud would not have drawn itself (mode `cascade`)
    steps: int = 0  # steps that the edge wrote or was to write (mode `reason`)
    steps_rewritten: int = 0  # of these, how many the cloud wrote in the edge's place
    step_scores: list[float] = field(default_factory=list)  # what the cloud gave, 0 to 9, in order
    route_score: float | None = None  # what mode `route` compared with its threshold
    scored: int = 0  # tokens whose probabilities were asked of the cloud without writing them
    unverified: int = 0  # edge tokens that the cloud never saw
    unverified_probability: float = 0.0  # sum of what the edge gave them, each from 0 to 1
    exit_tokens: dict[int, int] = field(default_factory=dict)  # edge tokens by the layer at which they left early
    cloud_passes: int = 0
    cloud_positions: int = 0
    cloud_prefilled: int = 0
    cloud_layers: int = 0  # positions x layers that the cloud computed for this answer, prompt included
    bytes_up: int = 0  # gRPC messages with their 5-byte prefix and the 9-byte HTTP/2 frame header
    hidden_bytes_up: int = 0  # of these, hidden states (mode `exit`)
    bytes_down: int = 0
    round_trips: int = 0
    reopened: int = 0
    cost: float = 0.0  # money, in the price table's currency
    endpoint_calls: int = 0  # of an OpenAI-compatible endpoint
    endpoint_prompt_tokens: int = 0  # as the endpoint counts them
    endpoint_answer_tokens: int = 0
    endpoint_estimated: bool = False  # it did not say, and the edge's tokenizer counted
    grades_without_logprobs: int = 0  # steps that it graded with a digit alone
    waited_seconds: float = 0.0  # time in which the answer waited for the cloud
    first_token_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def cloud_share(self) -> float:
        return self.cloud_tokens / self.tokens if self.tokens else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Rate after the first token (0 for answers of one token)."""
        span = self.seconds - self.first_token_seconds
        return (self.tokens - 1) / span if self.tokens > 1 and span > 0 else 0.0


@dataclass(slots=True)
class Completion:
    """A whole answer.

    Attributes:
        degraded: the cloud was asked for but away or late, and the edge finished alone.
        degraded_reason: the error code that made it so.
        chosen: the mode that `auto` chose; None in other modes.
        trace: the decisions, where the request asked for them.
        routed: the tier that answered in mode `route`, edge or cloud; None in other modes.
        withheld: the rule or the limit that kept the answer, or the rest of it, on the device; never what it found.
        solution: how it came about in mode `solve`; None in other modes.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    mode: str
    model: str
    seed: int
    degraded: bool = False
    degraded_reason: str | None = None
    statistics: Statistics = field(default_factory=Statistics)
    chosen: str | None = None
    trace: Trace | None = None
    withheld: str | None = None
    routed: str | None = None
    solution: Solution | None = None


GenerationEvent = TokenEvent | ProgressEvent | Completion


class Generator(Protocol):
    """What the HTTP server, the gRPC server and the command line need of an agent."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | Completion]:
        """Token events, then exactly one Completion. Closing the iterator early frees everything it holds."""
        ...


class AgentView(Generator, Protocol):
    """What the servers need besides: progress, description and readiness."""

    def follow(self, request: GenerationRequest) -> AsyncIterator[GenerationEvent]:
        """As `generate`, with the progress that the request asks for before the first token."""
        ...

    @property
    def model(self) -> str:
        """Name under which answers are labelled and `/v1/models` lists the pair."""
        ...

    @property
    def context(self) -> int:
        """Longest prompt and answer together, tokens."""
        ...

    @property
    def ready(self) -> bool:
        """The model is loaded and requests are taken."""
        ...

    def info(self) -> dict[str, object]:
        """JSON object for `/v1/info`: version, device, models of both tiers, modes, state of the link."""
        ...

    def encode(self, text: str, *, start: bool = True, special: bool = False) -> list[int]:
        """Token ids of a text, as the edge model's tokenizer gives them.

        `start` adds the model's BOS if it wants one, `special` reads control tokens in the text.
        """
        ...

    def tokenizer_info(self) -> dict[str, object]:
        """JSON object for `/tokenizer_info`: the names of the end and start tokens, and the chat template."""
        ...

    async def score(
        self, tokens: Sequence[int], *, settings: ModeSettings | None = None, top_logprobs: int = 0
    ) -> list[Sampled]:
        """How probable the tokens of a given text are: one for each token but the first, which nothing comes before.

        The tier that has the last word in the mode judges: the edge in mode `edge`, else the cloud.
        Raises InvalidRequest where the tokens do not fit the model or its context, LinkError where the cloud is away.
        """
        ...

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for. Raises InvalidRequest for an id outside the vocabulary."""
        ...
