"""A verifier that the operator brings: a program that reads claims and writes judgements, in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from updraft.errors import ConfigError
from updraft.sandbox import run_command
from updraft.verifiers.base import Claim, Judgement
from updraft.verifiers.settings import Command, Resources, Scorer, VerifierSettings

__all__ = ["External"]


class _Answer(BaseModel):
    """One judgement of a program; NaN and numbers out of range are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    score: float | None = Field(ge=0, le=1, allow_inf_nan=False)
    reason: str = Field(default="", max_length=1000)


_ANSWERS = TypeAdapter(list[_Answer])


class External(VerifierSettings):
    """A program that reads `[{"question", "text", "logprob", "finished"}]` on its standard input and writes as many
    `{"score": 0..1 or null, "reason"}` on its standard output.

    It is started for every batch, with limits, and killed with all that it started where it breaks one. What it
    writes is checked; a program that fails leaves answers unverified.

    Attributes:
        name: of the operator's configuration, which alone says what is run.
    """

    kind: ClassVar[str] = "command"

    name: str = Field(min_length=1, max_length=100)

    def scorer(self, resources: Resources) -> Scorer:
        command = resources.commands.get(self.name)
        if command is None:
            known = ", ".join(resources.commands) or "none"
            raise ConfigError(
                f"There is no verifier program {self.name!r} here; there is: {known}.",
                remedy="The operator names programs in the configuration, never a request.",
            )

        async def score(claims: Sequence[Claim]) -> list[Judgement]:
            return await _run(self.name, command, claims)

        return score

    def model(self, resources: Resources) -> str:
        command = resources.commands.get(self.name)
        return json.dumps(command.words) if command else ""


async def _run(name: str, command: Command, claims: Sequence[Claim]) -> list[Judgement]:
    ended = await run_command(command.words, json.dumps([_shown(claim) for claim in claims]).encode(), command.limits)
    if ended.status != 0:
        return [Judgement(None, reason=f"the program {name}: {ended.reason}", failed=True)] * len(claims)
    try:
        answers = _ANSWERS.validate_json(ended.output)
        if len(answers) != len(claims):
            raise ValueError(f"{len(answers)} judgements for {len(claims)} answers")
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'output'}: {first['msg']}"
        return [Judgement(None, reason=f"the program {name} wrote nonsense: {reason}", failed=True)] * len(claims)
    except ValueError as error:
        return [Judgement(None, reason=f"the program {name} wrote {error}", failed=True)] * len(claims)
    return [Judgement(answer.score, reason=answer.reason) for answer in answers]


def _shown(claim: Claim) -> dict[str, Any]:
    return {
        "question": claim.question,
        "text": claim.text,
        "logprob": claim.logprob,
        "finished": claim.finished,
    }
