"""The two models that are calibrated, at work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from updraft.calibration.prompts import CalibrationPrompt
from updraft.chat_template import ChatTemplate
from updraft.generation import Completion, GenerationRequest, TokenEvent
from updraft.modes import ModeSettings
from updraft.profiles import ModelIdentity
from updraft.sampling import Sampled

__all__ = ["CalibratedAgent", "Pair"]


class CalibratedAgent(Protocol):
    """What a calibration needs of an agent."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | Completion]:
        """As `updraft.generation.Generator`."""
        ...

    def encode(self, text: str, *, start: bool = True, special: bool = False) -> list[int]:
        """As `updraft.generation.AgentView`."""
        ...

    async def score_branches(
        self,
        prompt: Sequence[int],
        branches: Sequence[Sequence[int]],
        *,
        settings: ModeSettings | None = None,
        top_logprobs: int = 0,
    ) -> list[list[Sampled]]:
        """Scores of the tokens of each branch after the prompt, by the tier that has the mode's last word."""
        ...


@dataclass(frozen=True, slots=True)
class Pair:
    """Both tiers, and what they are."""

    agent: CalibratedAgent
    edge: ModelIdentity
    cloud: ModelIdentity
    tokenizer_hash: str
    template: ChatTemplate
    round_trip_ms: float | None = None

    def tokens(self, prompt: CalibrationPrompt) -> list[int]:
        """The prompt as both tiers read it."""
        turns = [{"role": message.role, "content": message.content} for message in prompt.messages]
        return self.agent.encode(self.template.render(turns), start=False, special=True)
