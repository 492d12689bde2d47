"""Code in the answer passes tests, in the sandbox."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import ClassVar, Final

from pydantic import Field

from updraft.errors import ConfigError
from updraft.sandbox import Limits, Verdict, run_program
from updraft.verifiers.base import Claim, Judgement
from updraft.verifiers.blocks import PYTHON, fenced
from updraft.verifiers.settings import Resources, Scorer, VerifierSettings

__all__ = ["UnitTests", "run_tested"]

_TOGETHER: Final = 4  # programs at once


class UnitTests(VerifierSettings):
    """The Python code of the answer's last fenced block, followed by tests, runs to its end.

    Few tests let wrong code pass (Inference Scaling fLaws): measure how often. Code that reads the tests' source could
    cheat them; code that ends early does not pass.

    Attributes:
        tests: Python code that raises where the answer's is wrong.
        seconds: for one answer.
    """

    kind: ClassVar[str] = "unit-tests"
    of_question: ClassVar[frozenset[str]] = frozenset({"tests"})

    tests: str = Field(min_length=1, max_length=1 << 16)
    seconds: float = Field(default=10.0, gt=0, le=60)

    def scorer(self, resources: Resources) -> Scorer:
        if not resources.execute_code:
            raise ConfigError(
                "The verifier unit-tests runs programs that a model wrote; that is off.",
                remedy="Allow it with --execute-code, best in a container: see docs/verifiers.md.",
            )
        limits = Limits(seconds=self.seconds, cpu_seconds=max(1, int(self.seconds)))
        gate = asyncio.Semaphore(_TOGETHER)

        async def run(claim: Claim) -> Judgement:
            code = fenced(claim.text, PYTHON)
            if code is None:
                return Judgement(0.0, reason="there is no code block in the answer")
            async with gate:
                verdict = await run_tested(code, self.tests, limits, unconfined=resources.unconfined_code)
            return Judgement(float(verdict.outcome == "passed"), reason=verdict.reason)

        async def score(claims: Sequence[Claim]) -> list[Judgement]:
            return list(await asyncio.gather(*map(run, claims)))

        return score


async def run_tested(program: str, tests: str, limits: Limits, *, unconfined: bool = False) -> Verdict:
    """Run a program and then its tests; only what reaches the tests' end passes.

    Raises:
        ConfigError: it cannot be confined here.
    """
    status = secrets.randbelow(190) + 64  # a program that ends itself early does not know it
    whole = f"{program}\n\n{tests}\n\nimport os as _os\n_os._exit({status})\n"
    return await run_program(whole, limits, success=status, unconfined=unconfined)
