"""Prompts of further rounds: what a user says, as the model's own chat template puts it."""

from __future__ import annotations

from updraft.chat_template import ChatTemplate
from updraft.engine.base import Engine

__all__ = ["ask"]


def ask(engine: Engine, text: str) -> list[int]:
    """Token ids of a user's message, ready to be answered."""
    template = ChatTemplate(engine.info.chat_template, bos="", eos="")
    return engine.tokenizer.encode(template.render([{"role": "user", "content": text}]), special=True)
