"""Prompts of further rounds: what a user says, as the model's own chat template puts it."""

from __future__ import annotations

from typing import Final

from updraft.chat_template import ChatTemplate
from updraft.engine.base import Engine

__all__ = ["ask", "follow_up"]

_ANSWER: Final = "[[[an answer]]]"


def ask(engine: Engine, text: str) -> list[int]:
    """Token ids of a user's message, ready to be answered."""
    template = ChatTemplate(engine.info.chat_template, bos="", eos="")
    return engine.tokenizer.encode(template.render([{"role": "user", "content": text}]), special=True)


def follow_up(engine: Engine, text: str) -> list[int]:
    """Token ids that go after an answer's own: its turn ends, a user's message says this, and is to be answered."""
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": _ANSWER},
        {"role": "user", "content": text},
    ]
    rendered = ChatTemplate(engine.info.chat_template, bos="", eos="").render(messages)
    return engine.tokenizer.encode(rendered.rpartition(_ANSWER)[2], special=True)
