from updraft.v1 import sampling_pb2 as _sampling_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Carry(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CARRY_UNSPECIFIED: _ClassVar[Carry]
    CARRY_FLOAT32: _ClassVar[Carry]
    CARRY_FLOAT16: _ClassVar[Carry]
    CARRY_INT8: _ClassVar[Carry]

class End(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    END_UNSPECIFIED: _ClassVar[End]
    END_STOP: _ClassVar[End]
    END_LENGTH: _ClassVar[End]
    END_HAND_BACK: _ClassVar[End]
    END_CANCELLED: _ClassVar[End]
CARRY_UNSPECIFIED: Carry
CARRY_FLOAT32: Carry
CARRY_FLOAT16: Carry
CARRY_INT8: Carry
END_UNSPECIFIED: End
END_STOP: End
END_LENGTH: End
END_HAND_BACK: End
END_CANCELLED: End

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("model", "fingerprint", "tokenizer_hash", "vocabulary", "context", "max_draft", "version", "layers", "weight_bytes", "boundaries", "width", "strategies", "verifiers", "max_samples", "max_solve_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_HASH_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    BOUNDARIES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    VERIFIERS_FIELD_NUMBER: _ClassVar[int]
    MAX_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    MAX_SOLVE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    fingerprint: str
    tokenizer_hash: str
    vocabulary: int
    context: int
    max_draft: int
    version: str
    layers: int
    weight_bytes: int
    boundaries: _containers.RepeatedScalarFieldContainer[int]
    width: int
    strategies: _containers.RepeatedScalarFieldContainer[str]
    verifiers: _containers.RepeatedScalarFieldContainer[str]
    max_samples: int
    max_solve_tokens: int
    def __init__(self, model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., tokenizer_hash: _Optional[str] = ..., vocabulary: _Optional[int] = ..., context: _Optional[int] = ..., max_draft: _Optional[int] = ..., version: _Optional[str] = ..., layers: _Optional[int] = ..., weight_bytes: _Optional[int] = ..., boundaries: _Optional[_Iterable[int]] = ..., width: _Optional[int] = ..., strategies: _Optional[_Iterable[str]] = ..., verifiers: _Optional[_Iterable[str]] = ..., max_samples: _Optional[int] = ..., max_solve_tokens: _Optional[int] = ...) -> None: ...

class EdgeFrame(_message.Message):
    __slots__ = ("sequence", "open", "draft", "take_over", "cancel", "close", "hidden", "score")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    TAKE_OVER_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    open: Open
    draft: Draft
    take_over: TakeOver
    cancel: Cancel
    close: Close
    hidden: Hidden
    score: Score
    def __init__(self, sequence: _Optional[int] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., draft: _Optional[_Union[Draft, _Mapping]] = ..., take_over: _Optional[_Union[TakeOver, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., hidden: _Optional[_Union[Hidden, _Mapping]] = ..., score: _Optional[_Union[Score, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("tokenizer_hash", "prompt", "generated", "sampling", "max_tokens", "stop_tokens", "report", "top_logprobs", "ignore_end", "fingerprint", "entry", "acceptance")
    TOKENIZER_HASH_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    GENERATED_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_END_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_FIELD_NUMBER: _ClassVar[int]
    tokenizer_hash: str
    prompt: _containers.RepeatedScalarFieldContainer[int]
    generated: _containers.RepeatedScalarFieldContainer[int]
    sampling: _sampling_pb2.Sampling
    max_tokens: int
    stop_tokens: _containers.RepeatedScalarFieldContainer[int]
    report: bool
    top_logprobs: int
    ignore_end: bool
    fingerprint: str
    entry: HiddenEntry
    acceptance: Acceptance
    def __init__(self, tokenizer_hash: _Optional[str] = ..., prompt: _Optional[_Iterable[int]] = ..., generated: _Optional[_Iterable[int]] = ..., sampling: _Optional[_Union[_sampling_pb2.Sampling, _Mapping]] = ..., max_tokens: _Optional[int] = ..., stop_tokens: _Optional[_Iterable[int]] = ..., report: _Optional[bool] = ..., top_logprobs: _Optional[int] = ..., ignore_end: _Optional[bool] = ..., fingerprint: _Optional[str] = ..., entry: _Optional[_Union[HiddenEntry, _Mapping]] = ..., acceptance: _Optional[_Union[Acceptance, _Mapping]] = ...) -> None: ...

class Acceptance(_message.Message):
    __slots__ = ("tolerance", "likelihood")
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    LIKELIHOOD_FIELD_NUMBER: _ClassVar[int]
    tolerance: float
    likelihood: Likelihood
    def __init__(self, tolerance: _Optional[float] = ..., likelihood: _Optional[_Union[Likelihood, _Mapping]] = ...) -> None: ...

class Likelihood(_message.Message):
    __slots__ = ("threshold", "temperature")
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    threshold: float
    temperature: float
    def __init__(self, threshold: _Optional[float] = ..., temperature: _Optional[float] = ...) -> None: ...

class HiddenEntry(_message.Message):
    __slots__ = ("layers", "carry", "fingerprint")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    CARRY_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    layers: int
    carry: Carry
    fingerprint: str
    def __init__(self, layers: _Optional[int] = ..., carry: _Optional[_Union[Carry, str]] = ..., fingerprint: _Optional[str] = ...) -> None: ...

class Hidden(_message.Message):
    __slots__ = ("position", "count", "width", "carry", "data", "scales")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CARRY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    position: int
    count: int
    width: int
    carry: Carry
    data: bytes
    scales: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, position: _Optional[int] = ..., count: _Optional[int] = ..., width: _Optional[int] = ..., carry: _Optional[_Union[Carry, str]] = ..., data: _Optional[bytes] = ..., scales: _Optional[_Iterable[float]] = ...) -> None: ...

class Draft(_message.Message):
    __slots__ = ("position", "committed", "log_hash", "run", "branches")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    LOG_HASH_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    position: int
    committed: _containers.RepeatedScalarFieldContainer[int]
    log_hash: int
    run: _containers.RepeatedScalarFieldContainer[int]
    branches: _containers.RepeatedCompositeFieldContainer[Branch]
    def __init__(self, position: _Optional[int] = ..., committed: _Optional[_Iterable[int]] = ..., log_hash: _Optional[int] = ..., run: _Optional[_Iterable[int]] = ..., branches: _Optional[_Iterable[_Union[Branch, _Mapping]]] = ...) -> None: ...

class Branch(_message.Message):
    __slots__ = ("shared", "tokens")
    SHARED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    shared: int
    tokens: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shared: _Optional[int] = ..., tokens: _Optional[_Iterable[int]] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("position", "committed", "log_hash", "tokens", "each", "top_logprobs", "choices")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    LOG_HASH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    EACH_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    position: int
    committed: _containers.RepeatedScalarFieldContainer[int]
    log_hash: int
    tokens: _containers.RepeatedScalarFieldContainer[int]
    each: bool
    top_logprobs: int
    choices: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, position: _Optional[int] = ..., committed: _Optional[_Iterable[int]] = ..., log_hash: _Optional[int] = ..., tokens: _Optional[_Iterable[int]] = ..., each: _Optional[bool] = ..., top_logprobs: _Optional[int] = ..., choices: _Optional[_Iterable[int]] = ...) -> None: ...

class TakeOver(_message.Message):
    __slots__ = ("position", "committed", "log_hash", "max_tokens", "hand_back", "step", "written")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    LOG_HASH_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    HAND_BACK_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    position: int
    committed: _containers.RepeatedScalarFieldContainer[int]
    log_hash: int
    max_tokens: int
    hand_back: HandBack
    step: bool
    written: int
    def __init__(self, position: _Optional[int] = ..., committed: _Optional[_Iterable[int]] = ..., log_hash: _Optional[int] = ..., max_tokens: _Optional[int] = ..., hand_back: _Optional[_Union[HandBack, _Mapping]] = ..., step: _Optional[bool] = ..., written: _Optional[int] = ...) -> None: ...

class HandBack(_message.Message):
    __slots__ = ("threshold", "window", "min_stay", "recent")
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    MIN_STAY_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    threshold: float
    window: int
    min_stay: int
    recent: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, threshold: _Optional[float] = ..., window: _Optional[int] = ..., min_stay: _Optional[int] = ..., recent: _Optional[_Iterable[float]] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CloudFrame(_message.Message):
    __slots__ = ("sequence", "opened", "verdict", "span", "notice", "error", "scored")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SCORED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    opened: Opened
    verdict: Verdict
    span: Span
    notice: Notice
    error: Error
    scored: Scored
    def __init__(self, sequence: _Optional[int] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., span: _Optional[_Union[Span, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., scored: _Optional[_Union[Scored, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("session", "fingerprint", "max_draft", "context", "cost")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    session: str
    fingerprint: str
    max_draft: int
    context: int
    cost: Cost
    def __init__(self, session: _Optional[str] = ..., fingerprint: _Optional[str] = ..., max_draft: _Optional[int] = ..., context: _Optional[int] = ..., cost: _Optional[_Union[Cost, _Mapping]] = ...) -> None: ...

class Cost(_message.Message):
    __slots__ = ("pass_micros", "position_micros", "load", "sessions", "crowd")
    PASS_MICROS_FIELD_NUMBER: _ClassVar[int]
    POSITION_MICROS_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    CROWD_FIELD_NUMBER: _ClassVar[int]
    pass_micros: int
    position_micros: int
    load: float
    sessions: int
    crowd: Crowd
    def __init__(self, pass_micros: _Optional[int] = ..., position_micros: _Optional[int] = ..., load: _Optional[float] = ..., sessions: _Optional[int] = ..., crowd: _Optional[_Union[Crowd, _Mapping]] = ...) -> None: ...

class Crowd(_message.Message):
    __slots__ = ("acceptance", "away_micros", "prompt")
    ACCEPTANCE_FIELD_NUMBER: _ClassVar[int]
    AWAY_MICROS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    acceptance: float
    away_micros: int
    prompt: float
    def __init__(self, acceptance: _Optional[float] = ..., away_micros: _Optional[int] = ..., prompt: _Optional[float] = ...) -> None: ...

class TokenReport(_message.Message):
    __slots__ = ("logprob", "entropy", "energy", "top_ids", "top_logprobs")
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    TOP_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    logprob: float
    entropy: float
    energy: float
    top_ids: _containers.RepeatedScalarFieldContainer[int]
    top_logprobs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, logprob: _Optional[float] = ..., entropy: _Optional[float] = ..., energy: _Optional[float] = ..., top_ids: _Optional[_Iterable[int]] = ..., top_logprobs: _Optional[_Iterable[float]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("position", "accepted", "token", "has_token", "log_hash", "end", "reports", "spent", "branch", "tolerated", "cost")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    HAS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LOG_HASH_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    TOLERATED_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    position: int
    accepted: int
    token: int
    has_token: bool
    log_hash: int
    end: End
    reports: _containers.RepeatedCompositeFieldContainer[TokenReport]
    spent: Spent
    branch: int
    tolerated: int
    cost: Cost
    def __init__(self, position: _Optional[int] = ..., accepted: _Optional[int] = ..., token: _Optional[int] = ..., has_token: _Optional[bool] = ..., log_hash: _Optional[int] = ..., end: _Optional[_Union[End, str]] = ..., reports: _Optional[_Iterable[_Union[TokenReport, _Mapping]]] = ..., spent: _Optional[_Union[Spent, _Mapping]] = ..., branch: _Optional[int] = ..., tolerated: _Optional[int] = ..., cost: _Optional[_Union[Cost, _Mapping]] = ...) -> None: ...

class Scored(_message.Message):
    __slots__ = ("choices", "reports", "spent")
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    choices: _containers.RepeatedScalarFieldContainer[float]
    reports: _containers.RepeatedCompositeFieldContainer[TokenReport]
    spent: Spent
    def __init__(self, choices: _Optional[_Iterable[float]] = ..., reports: _Optional[_Iterable[_Union[TokenReport, _Mapping]]] = ..., spent: _Optional[_Union[Spent, _Mapping]] = ...) -> None: ...

class Spent(_message.Message):
    __slots__ = ("passes", "positions", "prefilled", "micros", "layers")
    PASSES_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    PREFILLED_FIELD_NUMBER: _ClassVar[int]
    MICROS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    passes: int
    positions: int
    prefilled: int
    micros: int
    layers: int
    def __init__(self, passes: _Optional[int] = ..., positions: _Optional[int] = ..., prefilled: _Optional[int] = ..., micros: _Optional[int] = ..., layers: _Optional[int] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("position", "tokens", "reports", "end", "log_hash", "spent", "cost")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    LOG_HASH_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    position: int
    tokens: _containers.RepeatedScalarFieldContainer[int]
    reports: _containers.RepeatedCompositeFieldContainer[TokenReport]
    end: End
    log_hash: int
    spent: Spent
    cost: Cost
    def __init__(self, position: _Optional[int] = ..., tokens: _Optional[_Iterable[int]] = ..., reports: _Optional[_Iterable[_Union[TokenReport, _Mapping]]] = ..., end: _Optional[_Union[End, str]] = ..., log_hash: _Optional[int] = ..., spent: _Optional[_Union[Spent, _Mapping]] = ..., cost: _Optional[_Union[Cost, _Mapping]] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("kind", "message", "retry_after_ms")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Notice.Kind]
        KIND_DRAIN: _ClassVar[Notice.Kind]
        KIND_SLOW_DOWN: _ClassVar[Notice.Kind]
    KIND_UNSPECIFIED: Notice.Kind
    KIND_DRAIN: Notice.Kind
    KIND_SLOW_DOWN: Notice.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    kind: Notice.Kind
    message: str
    retry_after_ms: int
    def __init__(self, kind: _Optional[_Union[Notice.Kind, str]] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "remedy", "retryable", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    remedy: str
    retryable: bool
    retry_after_ms: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., remedy: _Optional[str] = ..., retryable: _Optional[bool] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class SolveRequest(_message.Message):
    __slots__ = ("tokenizer_hash", "fingerprint", "prompt", "question", "sampling", "max_tokens", "stop_tokens", "top_logprobs", "strategy", "strategy_json", "verifier_json", "budget", "given", "progress", "alternatives")
    TOKENIZER_HASH_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_JSON_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_JSON_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    tokenizer_hash: str
    fingerprint: str
    prompt: _containers.RepeatedScalarFieldContainer[int]
    question: _containers.RepeatedScalarFieldContainer[int]
    sampling: _sampling_pb2.Sampling
    max_tokens: int
    stop_tokens: _containers.RepeatedScalarFieldContainer[int]
    top_logprobs: int
    strategy: str
    strategy_json: str
    verifier_json: str
    budget: SolveBudget
    given: _containers.RepeatedCompositeFieldContainer[GivenSample]
    progress: bool
    alternatives: bool
    def __init__(self, tokenizer_hash: _Optional[str] = ..., fingerprint: _Optional[str] = ..., prompt: _Optional[_Iterable[int]] = ..., question: _Optional[_Iterable[int]] = ..., sampling: _Optional[_Union[_sampling_pb2.Sampling, _Mapping]] = ..., max_tokens: _Optional[int] = ..., stop_tokens: _Optional[_Iterable[int]] = ..., top_logprobs: _Optional[int] = ..., strategy: _Optional[str] = ..., strategy_json: _Optional[str] = ..., verifier_json: _Optional[str] = ..., budget: _Optional[_Union[SolveBudget, _Mapping]] = ..., given: _Optional[_Iterable[_Union[GivenSample, _Mapping]]] = ..., progress: _Optional[bool] = ..., alternatives: _Optional[bool] = ...) -> None: ...

class SolveBudget(_message.Message):
    __slots__ = ("samples", "tokens", "calls", "milliseconds")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    samples: int
    tokens: int
    calls: int
    milliseconds: int
    def __init__(self, samples: _Optional[int] = ..., tokens: _Optional[int] = ..., calls: _Optional[int] = ..., milliseconds: _Optional[int] = ...) -> None: ...

class GivenSample(_message.Message):
    __slots__ = ("tokens", "logprob", "finished", "entropy", "energy")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    logprob: float
    finished: bool
    entropy: float
    energy: float
    def __init__(self, tokens: _Optional[_Iterable[int]] = ..., logprob: _Optional[float] = ..., finished: _Optional[bool] = ..., entropy: _Optional[float] = ..., energy: _Optional[float] = ...) -> None: ...

class SolveEvent(_message.Message):
    __slots__ = ("progress", "answer", "error", "notice", "working")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    WORKING_FIELD_NUMBER: _ClassVar[int]
    progress: SolveProgress
    answer: SolveAnswer
    error: Error
    notice: Notice
    working: SolveWorking
    def __init__(self, progress: _Optional[_Union[SolveProgress, _Mapping]] = ..., answer: _Optional[_Union[SolveAnswer, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., working: _Optional[_Union[SolveWorking, _Mapping]] = ...) -> None: ...

class SolveWorking(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SolveProgress(_message.Message):
    __slots__ = ("kind", "branch", "value", "source", "tokens", "stage")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[SolveProgress.Kind]
        KIND_SAMPLE: _ClassVar[SolveProgress.Kind]
        KIND_STEP: _ClassVar[SolveProgress.Kind]
        KIND_SCORE: _ClassVar[SolveProgress.Kind]
        KIND_PRUNE: _ClassVar[SolveProgress.Kind]
        KIND_RESAMPLE: _ClassVar[SolveProgress.Kind]
        KIND_ANSWER: _ClassVar[SolveProgress.Kind]
        KIND_STAGE: _ClassVar[SolveProgress.Kind]
    KIND_UNSPECIFIED: SolveProgress.Kind
    KIND_SAMPLE: SolveProgress.Kind
    KIND_STEP: SolveProgress.Kind
    KIND_SCORE: SolveProgress.Kind
    KIND_PRUNE: SolveProgress.Kind
    KIND_RESAMPLE: SolveProgress.Kind
    KIND_ANSWER: SolveProgress.Kind
    KIND_STAGE: SolveProgress.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    kind: SolveProgress.Kind
    branch: int
    value: float
    source: int
    tokens: int
    stage: str
    def __init__(self, kind: _Optional[_Union[SolveProgress.Kind, str]] = ..., branch: _Optional[int] = ..., value: _Optional[float] = ..., source: _Optional[int] = ..., tokens: _Optional[int] = ..., stage: _Optional[str] = ...) -> None: ...

class SolveSample(_message.Message):
    __slots__ = ("tokens", "logprob", "finished", "given", "reports")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    logprob: float
    finished: bool
    given: int
    reports: _containers.RepeatedCompositeFieldContainer[TokenReport]
    def __init__(self, tokens: _Optional[_Iterable[int]] = ..., logprob: _Optional[float] = ..., finished: _Optional[bool] = ..., given: _Optional[int] = ..., reports: _Optional[_Iterable[_Union[TokenReport, _Mapping]]] = ...) -> None: ...

class SolveAlternative(_message.Message):
    __slots__ = ("sample", "weight", "samples", "score")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    sample: SolveSample
    weight: float
    samples: int
    score: float
    def __init__(self, sample: _Optional[_Union[SolveSample, _Mapping]] = ..., weight: _Optional[float] = ..., samples: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class SolveAnswer(_message.Message):
    __slots__ = ("sample", "confidence", "verified", "alternatives", "unparsed", "ended", "spent", "complaints", "cost")
    class Verified(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERIFIED_UNKNOWN: _ClassVar[SolveAnswer.Verified]
        VERIFIED_YES: _ClassVar[SolveAnswer.Verified]
        VERIFIED_NO: _ClassVar[SolveAnswer.Verified]
    VERIFIED_UNKNOWN: SolveAnswer.Verified
    VERIFIED_YES: SolveAnswer.Verified
    VERIFIED_NO: SolveAnswer.Verified
    class Ended(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ENDED_UNSPECIFIED: _ClassVar[SolveAnswer.Ended]
        ENDED_DONE: _ClassVar[SolveAnswer.Ended]
        ENDED_CONFIDENT: _ClassVar[SolveAnswer.Ended]
        ENDED_SATURATED: _ClassVar[SolveAnswer.Ended]
        ENDED_SAMPLES: _ClassVar[SolveAnswer.Ended]
        ENDED_TOKENS: _ClassVar[SolveAnswer.Ended]
        ENDED_CALLS: _ClassVar[SolveAnswer.Ended]
        ENDED_TIME: _ClassVar[SolveAnswer.Ended]
    ENDED_UNSPECIFIED: SolveAnswer.Ended
    ENDED_DONE: SolveAnswer.Ended
    ENDED_CONFIDENT: SolveAnswer.Ended
    ENDED_SATURATED: SolveAnswer.Ended
    ENDED_SAMPLES: SolveAnswer.Ended
    ENDED_TOKENS: SolveAnswer.Ended
    ENDED_CALLS: SolveAnswer.Ended
    ENDED_TIME: SolveAnswer.Ended
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    UNPARSED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    COMPLAINTS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    sample: SolveSample
    confidence: float
    verified: SolveAnswer.Verified
    alternatives: _containers.RepeatedCompositeFieldContainer[SolveAlternative]
    unparsed: int
    ended: SolveAnswer.Ended
    spent: SolveSpent
    complaints: _containers.RepeatedScalarFieldContainer[str]
    cost: Cost
    def __init__(self, sample: _Optional[_Union[SolveSample, _Mapping]] = ..., confidence: _Optional[float] = ..., verified: _Optional[_Union[SolveAnswer.Verified, str]] = ..., alternatives: _Optional[_Iterable[_Union[SolveAlternative, _Mapping]]] = ..., unparsed: _Optional[int] = ..., ended: _Optional[_Union[SolveAnswer.Ended, str]] = ..., spent: _Optional[_Union[SolveSpent, _Mapping]] = ..., complaints: _Optional[_Iterable[str]] = ..., cost: _Optional[_Union[Cost, _Mapping]] = ...) -> None: ...

class SolveSpent(_message.Message):
    __slots__ = ("samples", "tokens", "prefilled", "verifier_calls", "verifier_positions", "milliseconds")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREFILLED_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_CALLS_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    samples: int
    tokens: int
    prefilled: int
    verifier_calls: int
    verifier_positions: int
    milliseconds: int
    def __init__(self, samples: _Optional[int] = ..., tokens: _Optional[int] = ..., prefilled: _Optional[int] = ..., verifier_calls: _Optional[int] = ..., verifier_positions: _Optional[int] = ..., milliseconds: _Optional[int] = ...) -> None: ...
