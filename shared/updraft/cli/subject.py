"""The model that commands try strategies on, with who judges its answers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from updraft.cli.verifier_options import resources_of, spec_of
from updraft.errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    from updraft.strategies.subject import Subject

__all__ = ["Setup", "check_out", "opened"]


@dataclass(frozen=True, slots=True)
class Setup:
    """Who answers, who judges, and how answers are drawn."""

    model: str
    verifier: str | None
    reward: str | None
    step: str
    temperature: float
    max_tokens: int
    run_code: bool = False


@contextlib.asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Subject]:
    from updraft.engine import open_engine
    from updraft.sampling import SamplingParams
    from updraft.strategies.subject import Subject
    from updraft.verifiers.rates import rates_folder
    from updraft.verifiers.registry import open_verifier

    step = setup.step.replace("\\n", "\n").replace("\\t", "\t")  # as shells pass them
    if not step:
        raise InvalidRequest("--step is empty; it must be the text that ends a step.", param="step")
    sampling = SamplingParams(temperature=setup.temperature, seed=0)
    engine = open_engine(setup.model, context=2048, sequences=16)
    async with Subject(
        engine, step=step, max_tokens=setup.max_tokens, sampling=sampling, runs_code=setup.run_code
    ) as subject:
        lent = (None, setup.reward, None, setup.run_code, False, rates_folder())
        with resources_of(*lent, reader=subject.forks(0)) as resources:
            if setup.verifier is not None:
                subject.verifier = open_verifier(spec_of(setup.verifier), resources)
            yield subject


def check_out(path: Path | None) -> None:
    """See before the work begins that its result can be written. Raises ConfigError."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise ConfigError(f"--out {path} cannot be written: it must be a file in a folder that is there.")
