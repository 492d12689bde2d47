"""Prompts of further rounds: what a user says, as the model's own chat template puts it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from updraft.chat_template import ChatTemplate
from updraft.engine.base import Engine
from updraft.errors import ConfigError

__all__ = ["ask", "first_tokens", "follow_up"]

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


def first_tokens(engine: Engine, words: Sequence[str]) -> list[int]:
    """The token that each word begins with: what a model is read for that is to say one of them.

    Raises:
        ConfigError: the vocabulary cannot tell the words apart by it.
    """
    found = [engine.tokenizer.encode(word)[:1] for word in words]
    if len({token for [token] in filter(None, found)}) < len(words):
        raise ConfigError(
            f"In this model's vocabulary {', '.join(words)} do not begin with a token each, so it cannot be asked to "
            "choose among them.",
            remedy="Choose a verifier that does not ask this model.",
        )
    return [token for [token] in found]
