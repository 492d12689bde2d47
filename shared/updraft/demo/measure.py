"""The same prompts answered in every way, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from updraft.demo.report import Way, WayFigures, figures
from updraft.errors import ProtocolViolation
from updraft.generation import ChatMessage, Completion, GenerationRequest, Generator
from updraft.modes import Mode, ModeSettings
from updraft.sampling import SamplingParams

__all__ = ["SEED", "WAYS", "completed", "measure", "request_for"]

SEED: Final = 7
_WARM: Final = 0.8  # temperature of the sampled ways

WAYS: Final = (
    Way(Mode.EDGE, 0.0),
    Way(Mode.CLOUD, 0.0),
    Way(Mode.DRAFT, 0.0),
    Way(Mode.SPAN, 0.0),
    Way(Mode.CLOUD, _WARM),
    Way(Mode.DRAFT, _WARM),
)


def request_for(way: Way, prompt: str, tokens: int, *, ignore_end: bool = False) -> GenerationRequest:
    """A request through the chat template for at most `tokens` tokens."""
    return GenerationRequest(
        messages=[ChatMessage("user", prompt)],
        sampling=SamplingParams(temperature=way.temperature, seed=SEED),
        max_tokens=tokens,
        settings=ModeSettings(mode=way.mode),
        ignore_end=ignore_end,
    )


async def completed(agent: Generator, request: GenerationRequest) -> Completion:
    """The whole answer."""
    async for item in agent.generate(request):
        if isinstance(item, Completion):
            return item
    raise ProtocolViolation("The answer ended without its completion.")


async def measure(
    agent: Generator, prompts: Sequence[str], tokens: int, *, on_answer: Callable[[Way], None]
) -> tuple[WayFigures, ...]:
    """Figures of every way over the prompts.

    A prompt is answered in all ways before the next one's turn, so that a machine that grows slower treats them alike.

    Args:
        on_answer: called before each of the `len(WAYS) * len(prompts)` answers.
    """
    answers: dict[Way, list[Completion]] = {way: [] for way in WAYS}
    for prompt in prompts:
        for way in WAYS:
            on_answer(way)
            answers[way].append(await completed(agent, request_for(way, prompt, tokens)))
    return tuple(figures(way, answers[way], answers[way.reference]) for way in WAYS)
