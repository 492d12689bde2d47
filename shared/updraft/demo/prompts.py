"""What the demonstration asks."""

from __future__ import annotations

from typing import Final

__all__ = ["OUTAGE_PROMPT", "PROMPTS", "SPAN_PROMPT", "WARM_UP_PROMPT"]

PROMPTS: Final = (
    "Why is the sky blue? Answer in two sentences.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "Write the first lines of a story about a lighthouse in a storm.",
    "Give me three tips for a good night's sleep.",
    "Explain to a child what a cloud is made of.",
    "Write a polite e-mail that moves a meeting to Friday.",
    "List five fruits and say which of them floats on water.",
    "What is the difference between weather and climate?",
)
SPAN_PROMPT: Final = PROMPTS[2]
OUTAGE_PROMPT: Final = "Describe a walk through a forest in autumn."
WARM_UP_PROMPT: Final = "Say hello."
