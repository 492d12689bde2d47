"""Text to train on: conversations as token ids, one JSON object a line with `prompt` and `response`."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import InvalidRequest, ModelNotFound

if TYPE_CHECKING:
    from updraft.engine.base import Tokenizer

__all__ = ["Conversation", "common_prefix", "read_conversations", "split_held_out"]

_TEXT_SUFFIXES = (".txt", ".md")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Token ids of a prompt, with the chat template in it, and of the answer; plain text has no prompt."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]

    @property
    def tokens(self) -> NDArray[np.int32]:
        return np.array(self.prompt + self.response, np.int32)


def read_conversations(
    paths: Iterable[Path], *, vocabulary: int, longest: int, tokenizer: Tokenizer | None = None
) -> list[Conversation]:
    """Read conversations (.jsonl, .jsonl.gz) and plain text (.txt, .md), cut to `longest` tokens.

    Raises:
        ModelNotFound: a file is not there.
        InvalidRequest: a line is not a conversation, or a token is not of this vocabulary.
    """
    found: list[Conversation] = []
    for path in paths:
        if not path.is_file():
            raise ModelNotFound(f"there is no text at {path}", remedy="Give a .jsonl, .jsonl.gz, .txt or .md file.")
        if path.suffix in _TEXT_SUFFIXES:
            found += _plain(path, longest, tokenizer)
        else:
            found += _lines(path, vocabulary, longest)
    if not found:
        raise InvalidRequest("there is no text to train on")
    return found


def split_held_out(
    conversations: Sequence[Conversation], share: float
) -> tuple[list[Conversation], list[Conversation]]:
    """Text for training and held-out text; all answers to one prompt fall on the same side, whatever else is given."""

    def held_out(conversation: Conversation) -> bool:
        key = conversation.prompt or conversation.response
        digest = hashlib.sha256(np.array(key, np.int32).tobytes()).digest()
        return int.from_bytes(digest[:4], "big") < share * 2**32

    training = [c for c in conversations if not held_out(c)]
    return training, [c for c in conversations if held_out(c)]


def common_prefix(conversations: Sequence[Conversation]) -> int:
    """How many tokens all prompts begin with (the chat template's): nothing can be learned from them twice."""
    prompts = [c.prompt for c in conversations if c.prompt]
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _lines(path: Path, vocabulary: int, longest: int) -> Iterator[Conversation]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _conversation(f"{path}, line {number}", line, vocabulary, longest)
        except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
            raise InvalidRequest(f"{path} cannot be read: {error}") from error


def _conversation(where: str, line: str, vocabulary: int, longest: int) -> Conversation:
    try:
        fields: Any = json.loads(line)
        prompt, response = tuple(fields.get("prompt", ())), tuple(fields["response"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRequest(f"{where} is not a conversation of token ids: {error}") from error
    if not all(type(token) is int and 0 <= token < vocabulary for token in prompt + response):
        raise InvalidRequest(f"{where} has token ids that are not among the model's {vocabulary}")
    if not response or len(prompt) >= longest:
        raise InvalidRequest(f"{where} has {len(prompt)} prompt and {len(response)} answer tokens of {longest}")
    return Conversation(prompt, response[: longest - len(prompt)])


def _plain(path: Path, longest: int, tokenizer: Tokenizer | None) -> Iterator[Conversation]:
    if tokenizer is None:
        raise InvalidRequest(f"{path} is plain text, which needs the model's tokenizer; give the model as a GGUF")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as UTF-8 text: {error}") from error
    tokens = tuple(tokenizer.encode(text))
    for start in range(0, len(tokens), longest):
        yield Conversation((), tokens[start : start + longest])
