"""The settings of each part of a mode, with the method and section they come from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AcceptanceSettings",
    "AutoSettings",
    "BudgetSettings",
    "ExitSettings",
    "LookupSettings",
    "ReasonSettings",
    "RouteSettings",
    "SolveSettings",
    "SpanSettings",
    "StopSettings",
]


class StopSettings(BaseModel):
    """How long a drafted run gets before a verdict is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: Literal["fixed", "risk", "entropy"] = Field(
        default="risk",
        description="fixed: `length` tokens; risk: until the probability that some token is rejected passes the "
        "threshold given by measured costs (SpecDec++, arXiv 2405.19715) or `risk`; entropy: until a token's entropy "
        "passes `entropy`.",
    )
    predictor: Literal["confidence", "head"] = Field(
        default="confidence",
        description="What estimates that a drafted token stands, for the rule `risk`: confidence: the edge's own, "
        "calibrated online from verdicts; head: a trained head on the edge's last hidden state (`updraft train "
        "acceptance`).",
    )
    length: int = Field(default=6, ge=1, le=48, description="Run length of the rule `fixed`, tokens.")
    shortest: int = Field(default=1, ge=1, le=48, description="Shortest run of the rule `risk`, tokens.")
    longest: int = Field(default=16, ge=1, le=48, description="Longest run of the other rules, tokens.")
    entropy: float = Field(default=2.0, gt=0, le=20, description="Threshold of the rule `entropy`, nats.")
    risk: float | None = Field(
        default=None, gt=0, lt=1, description="Threshold of the rule `risk`; measured costs decide when left out."
    )
    heed_load: bool = Field(
        default=True,
        description="With measured costs: while other sessions wait for the cloud, draft less, and let the cloud write "
        "where that is faster for all of them. The text is the same.",
    )

    @property
    def heeds_load(self) -> bool:
        """Measured costs decide, and the cloud's load is one of them."""
        return self.heed_load and self.rule == "risk" and self.risk is None

    @model_validator(mode="after")
    def _ordered(self) -> StopSettings:
        if self.shortest > self.longest:
            raise ValueError(f"shortest ({self.shortest}) must not be above longest ({self.longest})")
        return self


class SpanSettings(BaseModel):
    """When the edge hands the writing over: a score of every token, compared over a window.

    Entropy Adaptive Decoding (arXiv 2502.06833) is the score `entropy`, with hysteresis: two thresholds instead of one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    score: Literal["entropy", "two_sided", "energy", "margin", "learned", "random"] = Field(
        default="entropy",
        description="entropy: rolling mean (EAD); two_sided: also where it is suspiciously low; energy: mean "
        "log-sum-exp of the logits, low is unsure (E-LANG, arXiv 2203.00748); margin: one less the lead of the best "
        "token; learned: the trained router's probability that the token would be rejected; random: the baseline.",
    )
    window: int = Field(default=5, ge=1, le=256, description="Tokens in the rolling mean of the score.")
    escalate: float | None = Field(
        default=None,
        ge=-1000,
        le=1000,
        description="Hand over when the mean reaches this. Left out: 2 nats of entropy, 0.75 of margin, 0.5 of "
        "learned; for energy and random so often that the budget's share (20 % without a budget) comes out.",
    )
    hand_back: float = Field(
        default=1.2, ge=0, le=20, description="Take back when the cloud's mean entropy falls to this, nats."
    )
    floor: float = Field(
        default=0.05, ge=0, le=20, description="Score `two_sided`: also hand over when the mean falls to this, nats."
    )
    min_stay: int = Field(default=10, ge=1, le=4096, description="Fewest tokens between two switches.")
    ask: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Scores `learned` and `margin`: from this score of a token on, it alone is put to the cloud (R2R, "
        "Co-LLM); `escalate` hands over.",
    )
    give_up: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Score `learned`: from this probability on that all that follows would be rejected, hand over at "
        "once and drop the token (stop-and-exit, ICSE 2024).",
    )

    @model_validator(mode="after")
    def _ordered(self) -> SpanSettings:
        if self.score == "entropy" and self.escalate is not None and self.hand_back > self.escalate:
            raise ValueError(f"hand_back ({self.hand_back:g}) must not be above escalate ({self.escalate:g})")
        return self


class ExitSettings(BaseModel):
    """Early exit on the edge: when a token may leave, and what the cloud gets of those that may not (CE-CoLLM)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    criterion: Literal["probability", "entropy", "patience", "q"] = Field(
        default="probability",
        description="probability: the largest probability; entropy: exp(-entropy in nats), one over the number of "
        "likely tokens; patience: exits in a row that agree (PABEE, arXiv 2006.04152); q: cumulative probability of "
        "the trained exit heads (PALBERT, arXiv 2204.03276).",
    )
    threshold: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="A token leaves where `probability` or `entropy` is above this; with `calibrated`, where the "
        "probability of agreeing with the full model is, for every criterion. At 1 no token leaves.",
    )
    patience: int = Field(default=1, ge=1, le=64, description="Exits in a row that `patience` waits for.")
    q: float = Field(default=0.5, ge=0, le=1, description="Cumulative probability that `q` must be above.")
    calibrated: bool = Field(default=False, description="Compare calibrated probabilities; needs calibration.json.")
    hand_over: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Ask the cloud at once, without the edge's deeper layers, where the probability that one of its "
        "exits agrees with the full model is below this; 0 never.",
    )
    carry: Literal["hidden", "tokens"] = Field(
        default="hidden",
        description="hidden: hidden states go to the cloud, which computes the remaining layers only; tokens: token "
        "ids go, and the cloud computes all layers.",
    )
    dtype: Literal["float32", "float16", "int8"] | None = Field(
        default=None,
        description="Precision in which hidden states go up; the edge engine's own when left out (float16 if none).",
    )
    split: int | None = Field(
        default=None, ge=0, le=4095, description="Stage after which hidden states go up; the first when left out."
    )
    deepest: int | None = Field(
        default=None, ge=0, le=4095, description="Deepest stage that the edge computes; its deepest exit when left out."
    )


class LookupSettings(BaseModel):
    """Drafts without a model: a trie over prompt and past answers (Lookahead, arXiv 2312.12728) and an adaptive trigram
    table (ADED, AAAI 2025)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[Literal["trie", "trigram"], ...] = Field(
        default=("trie", "trigram"), min_length=1, description="Where drafts come from, in this order."
    )
    before_model: bool = Field(
        default=False, description="Modes `draft` and `cascade`: look up first, and let the edge model draft the rest."
    )
    longest: int = Field(default=12, ge=1, le=48, description="Longest branch, tokens.")
    match: int = Field(default=2, ge=1, le=8, description="Longest suffix of the log that is looked up, tokens.")
    branches: int | None = Field(
        default=None,
        ge=1,
        le=16,
        description="Branches that one verdict may judge; left out, measured costs decide whether more than one pays.",
    )
    remember: bool = Field(default=True, description="Look up in earlier answers too, while the agent runs.")


class AcceptanceSettings(BaseModel):
    """How much of a draft the cloud lets stand (mode `cascade`; every other mode is lossless)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: Literal["tolerance", "likelihood"] = Field(
        default="tolerance",
        description="tolerance: while p(token) >= (1 - alpha) max p (speculative cascades, arXiv 2405.19261); "
        "likelihood: while p(token) at `temperature` is at least `threshold` (Sirius, arXiv 2409.03856).",
    )
    alpha: float = Field(default=0.5, ge=0, le=1, description="Tolerance; 0 keeps the cloud's own greedy text.")
    threshold: float = Field(default=0.1, ge=0, le=1, description="Least likelihood of the rule `likelihood`.")
    temperature: float = Field(default=0.6, gt=0, le=10, description="Temperature of the rule `likelihood`.")


class RouteSettings(BaseModel):
    """One score sends the whole answer to one tier (mode `route`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    score: Literal["prompt_energy", "prompt_entropy", "answer_energy", "consistency", "learned", "random"] = Field(
        default="prompt_energy",
        description="prompt_energy, prompt_entropy: mean over the prompt's last tokens, before anything is written; "
        "answer_energy: mean log-sum-exp of the edge's answer so far (E-LANG); consistency: one less the share of "
        "perplexity-weighted samples that agree (RPC, NeurIPS 2025); learned: the trained router; "
        "random: the baseline.",
    )
    threshold: float | None = Field(
        default=None,
        ge=-1000,
        le=1000,
        description="The cloud answers from this score on. Left out: a profile's, else what gives the budget's share "
        "(20 % without a budget) of the scores seen lately, and the edge answers until enough are seen.",
    )
    window: int = Field(default=32, ge=1, le=512, description="Tokens of prompt or answer that the score looks at.")
    samples: int = Field(default=4, ge=2, le=8, description="Answers that `consistency` draws on the edge.")


class ReasonSettings(BaseModel):
    """The edge writes a step, the cloud scores it and rewrites the bad ones (SpecReason, arXiv 2504.07891)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(default=7.0, ge=0, le=10, description="Least score, 0 to 9, that a step stands with.")
    scoring: Literal["average", "greedy", "likelihood"] = Field(
        default="average",
        description="average, greedy: of the grade that the cloud's model is asked for, the expected digit or the most "
        "probable one; likelihood: nine times the geometric mean of the probabilities that it gives the step's tokens, "
        "for models that cannot grade.",
    )
    step_tokens: int = Field(default=128, ge=4, le=512, description="Longest step, tokens.")
    first_steps: int = Field(default=0, ge=0, le=64, description="So many first steps are the cloud's own.")


class SolveSettings(BaseModel):
    """The edge's part in the mode `solve`: its answers vote first, and vote on in the cloud."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    edge_samples: int | None = Field(
        default=None,
        ge=0,
        le=8,
        description="Answers that the edge draws before the cloud is asked; the effort says when left out.",
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The edge's answer stands where its part of the vote reaches this (RPC confidence, NeurIPS 2025), "
        "and the cloud is asked below it; the effort says when left out.",
    )


class BudgetSettings(BaseModel):
    """`share`, `cost` and `token_ms` hold the escalation policy of `span` and `route` to a budget over a window.

    The others bound what one answer of the mode `solve` may compute.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float | None = Field(default=None, ge=0, le=1, description="Most cloud-written tokens, as a share.")
    cost: float | None = Field(
        default=None, ge=0, le=1e9, description="Most money, in the price table's currency, per 1000 tokens."
    )
    token_ms: float | None = Field(default=None, gt=0, le=1e9, description="Most time per token, milliseconds.")
    window: int = Field(
        default=256,
        ge=8,
        le=100_000,
        description="Tokens over which the budget is held; 64 times as many in mode `route`, which escalates answers.",
    )
    samples: int | None = Field(
        default=None, ge=1, le=1024, description="Most answers, particles or expansions, whatever the strategy counts."
    )
    tokens: int | None = Field(
        default=None, ge=1, le=1 << 20, description="Most tokens that the cloud draws, of all branches together."
    )
    calls: int | None = Field(
        default=None, ge=1, le=1 << 16, description="Most answers or steps that a verifier judges."
    )
    seconds: float | None = Field(
        default=None, gt=0, le=3600, description="After so long the strategy stops with what it has."
    )


class AutoSettings(BaseModel):
    """What the mode `auto` optimises when it chooses a mode (contextual bandit, LinUCB, arXiv 1003.0146)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    goal: Literal["balanced", "quality", "latency", "cost"] = Field(
        default="balanced", description="What the reward weighs most."
    )
    modes: tuple[Literal["edge", "cloud", "draft", "lookup", "cascade", "span", "route", "reason", "exit"], ...] = (
        Field(
            default=("edge", "cloud", "draft", "lookup", "cascade", "span"),
            min_length=1,
            description="What it may choose from.",
        )
    )
    explore: float = Field(default=0.5, ge=0, le=10, description="Width of the confidence bound; 0 never explores.")
    random_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of answers whose arm is drawn, so that `updraft auto show` can judge the others without a "
        "model.",
    )
