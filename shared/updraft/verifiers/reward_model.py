"""Reward models: an engine whose next-token probabilities, or whose score head, say how good a step is.

Math-Shepherd (arXiv 2312.08935) and RLHFlow's models answer "+" or "-" after a step; models of Hugging Face's classes
`ForSequenceClassification` and `ForTokenClassification` have labels in place of a vocabulary. Both are read alike.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from updraft.engine import Engine, open_engine
from updraft.engine.loop import EngineLoop
from updraft.errors import ConfigError, InvalidRequest
from updraft.sampling import SamplingParams
from updraft.strategies.branches import Forks, Work
from updraft.strategies.places import EnginePlaces
from updraft.strategies.prompts import ask
from updraft.verifiers.base import Claim, Judgement

__all__ = ["RewardFormat", "RewardModel", "RewardSource", "open_reward", "reward_source"]

Text = tuple[int, ...]
_REMEMBERED: Final = 8192  # scores of prefixes


class RewardFormat(BaseModel):
    """How a model is shown an answer, and what it says.

    Attributes:
        judges: each step of an answer, or whole answers.
        good, bad: what it says next where a step is right and where it is wrong: a text that is one token, or an id.
        question: what stands before the answer, with `{question}` in it; the model's chat template when left out.
        step: the text that ends a step of an answer.
        mark: what is shown in its place, after each step; the score is read after it.
        joint: what follows the mark before the next step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    judges: Literal["steps", "answers"] = "steps"
    good: str | int = "+"
    bad: str | int = "-"
    question: str | None = Field(default=None, max_length=10_000)
    step: str = Field(default="\n\n", min_length=1, max_length=100)
    mark: str = Field(default="\n\n", max_length=1000)
    joint: str = Field(default="", max_length=1000)


class RewardSource(RewardFormat):
    """A reward model in the operator's configuration.

    Attributes:
        model: a name of the catalogue, a GGUF file, or a Hugging Face folder.
        head: the folder has a score head (`score.weight`); its label 1 is `good` unless told otherwise.
        context, sequences: of its engine.
        options: of its engine, such as device or threads.
    """

    model: str
    head: bool = False
    context: int = Field(default=2048, ge=16)
    sequences: int = Field(default=8, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)

    def format(self) -> RewardFormat:
        fields = {name: getattr(self, name) for name in RewardFormat.model_fields}
        if self.head and not self.model_fields_set & {"good", "bad"}:
            fields |= {"good": 1, "bad": 0}
        return RewardFormat(**fields)


def reward_source(text: str) -> RewardSource:
    """A reward model as an operator names it: a model, a JSON file that says how it is asked, or that JSON itself.

    Raises:
        ConfigError: the file cannot be read.
        InvalidRequest: the JSON is none, or a value in it is wrong.
    """
    try:
        if text.lstrip().startswith("{"):
            return RewardSource.model_validate_json(text)
        if text.endswith(".json"):
            return RewardSource.model_validate_json(Path(text).read_bytes())
        return RewardSource.model_validate({"model": text})
    except OSError as error:
        raise ConfigError(f"{text} cannot be read: {error.strerror}.", remedy="Correct the path.") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(["reward", *map(str, first["loc"])])
        raise InvalidRequest(f"{where}: {first['msg']}.", param=where) from error


def open_reward(source: RewardSource) -> RewardModel:
    """Load a reward model. Raises what `open_engine` raises, and ConfigError: `good` or `bad` is not one token."""
    own: dict[str, Any] = {"head": True} if source.head else {}
    engine = open_engine(source.model, context=source.context, sequences=source.sequences, **own, **source.options)
    try:
        return RewardModel(engine, source.format())
    except BaseException:
        engine.shutdown()
        raise


class RewardModel:
    """Owns an engine and the loop that runs it. Used from one event loop; `close` frees all of it.

    What was computed of an answer's beginning stays in the engine's caches, and scores of prefixes are remembered: a
    step more costs what the step is long.

    Attributes:
        work: what was computed so far.
    """

    def __init__(self, engine: Engine, form: RewardFormat) -> None:
        self.format = form
        self._choices = [_token(engine, form.good), _token(engine, form.bad)]
        self._loop = EngineLoop(engine)
        self._places = EnginePlaces(engine)
        self.work = Work()
        self._known: OrderedDict[bytes, float] = OrderedDict()  # by digests of texts
        self._loop.start()

    @property
    def engine(self) -> Engine:
        return self._loop.engine

    @property
    def identity(self) -> str:
        """A digest of the model and of how it is asked."""
        text = self.engine.info.fingerprint + self.format.model_dump_json()
        return hashlib.sha256(text.encode()).hexdigest()

    def close(self) -> None:
        """Free the engine. Safe to call twice."""
        self._loop.stop()

    async def scores(
        self, claims: Sequence[Claim], work: Work | None = None, *, tenant: str = ""
    ) -> list[list[float] | Judgement]:
        """For each claim the probability of `good` against `bad` after each step, or why there is none.

        Args:
            work: what is computed for these claims is added to it.
            tenant: who asks; what was computed and remembered is for the same one alone.
        """
        texts = [self._texts(claim) for claim in claims]
        forks = Forks(self._loop, self._places, SamplingParams(seed=0), tenant=tenant)
        try:
            found = await self._read(forks, tenant, [each for each in texts if not isinstance(each, Judgement)])
        finally:
            for bill in (self.work, *([] if work is None else [work])):
                bill.positions += forks.work.positions
        return [each if isinstance(each, Judgement) else [found[text] for text in each[1:]] for each in texts]

    async def _read(self, forks: Forks, tenant: str, texts: Sequence[Sequence[Text]]) -> dict[Text, float]:
        """The scores of all texts, beginnings first: what is alike is computed once, a new answer's question too."""
        new = [each[0] for each in texts if each[0] and _key(tenant, each[1]) not in self._known]
        found = await self._wave(forks, tenant, new)
        for depth in range(1, max(map(len, texts), default=0)):
            found |= await self._wave(forks, tenant, [each[depth] for each in texts if depth < len(each)])
        return found

    async def _wave(self, forks: Forks, tenant: str, texts: Sequence[Text]) -> dict[Text, float]:
        keys = {text: _key(tenant, text) for text in texts}
        # Taken before the wait, in which others may push out what was remembered.
        found = {text: self._known[key] for text, key in keys.items() if key in self._known}
        wanted = [text for text in keys if text not in found]
        rows = await forks.choices(wanted, self._choices)
        for text, (good, bad) in zip(wanted, rows.astype(np.float64), strict=True):
            found[text] = float(0.5 * (1.0 + np.tanh((good - bad) / 2.0)))
        for text, key in keys.items():
            self._known[key] = found[text]
            self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED:  # those that were asked for longest ago
            self._known.popitem(last=False)
        return found

    def _texts(self, claim: Claim) -> list[Text] | Judgement:
        """The question's tokens, then with each step more of the answer; the score is read after each."""
        form, encode = self.format, self.engine.tokenizer.encode
        steps = self._steps(claim)
        if not steps:
            return Judgement(None, reason="no step of the answer is whole yet")
        mark, joint = encode(form.mark, special=True), encode(form.joint, special=True)
        text = self._start(claim.question)
        texts = [tuple(text)]
        for number, step in enumerate(steps):
            text += [*(joint if number else ()), *encode(step), *mark]
            texts.append(tuple(text))
        if not text or len(text) > self.engine.context:
            return Judgement(None, reason="the answer is too long for the reward model")
        return texts

    def _steps(self, claim: Claim) -> list[str]:
        if self.format.judges == "answers":
            return [claim.text]
        parts = claim.text.split(self.format.step)
        if not claim.finished:
            parts.pop()  # a step that is still being written
        return [part for part in parts if part.strip()]

    def _start(self, question: str) -> list[int]:
        if self.format.question is None:
            return ask(self.engine, question)
        before, _, after = self.format.question.partition("{question}")
        encode = self.engine.tokenizer.encode
        return [*encode(before, special=True, start=True), *encode(question), *encode(after, special=True)]


def _key(tenant: str, text: Text) -> bytes:
    whose = hashlib.blake2b(tenant.encode(), digest_size=16).digest()
    return hashlib.blake2b(np.array(text, np.int32).tobytes(), digest_size=16, key=whose).digest()


def _token(engine: Engine, said: str | int) -> int:
    """The id of what a model says. Nothing in it is of a request."""
    if isinstance(said, int):
        if 0 <= said < engine.info.vocabulary:
            return said
        raise ConfigError(f"The reward model's token {said} is outside of its {engine.info.vocabulary} tokens.")
    tokens = engine.tokenizer.encode(said, special=True)
    if len(tokens) != 1:
        raise ConfigError(
            f"The reward model's verdict {said!r} is {len(tokens)} tokens of its tokenizer; it must be one.",
            remedy="Name what the model says after a step as good and bad, by a text that is one token or by its id.",
        )
    return tokens[0]
