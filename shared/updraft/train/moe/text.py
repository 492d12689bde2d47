"""What a mixture of experts is trained on: conversations of token ids, and questions with answers that people wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.chat_template import CHATML, ChatTemplate
from updraft.engine.base import Tokenizer
from updraft.errors import InvalidRequest, ModelNotFound
from updraft.train.conversations import Conversation, read_conversations

__all__ = ["Rows", "read_texts"]

_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".txt", ".md")
_QUESTIONS, _ANSWERS = ("instruction", "question", "prompt"), ("output", "answer", "response")
_CALCULATIONS = re.compile(r"<<[^<>]*>>")  # GSM8K's notes to a calculator, which is not here
_END = "<|im_end|>"


def read_texts(
    paths: Sequence[Path], *, vocabulary: int, longest: int, tokenizer: Tokenizer
) -> dict[str, list[Conversation]]:
    """Conversations by file, cut to `longest` tokens; a folder stands for all text files in it. What is given twice
    counts twice.

    Read are token ids and plain text, as `read_conversations` does, and JSON records of a question and its answer
    (`instruction` with `input` and `output`, or with `instances` of these; `question` and `answer`).

    Raises:
        ModelNotFound: a file is not there.
        InvalidRequest: a record is nothing of this.
    """
    found: dict[str, list[Conversation]] = {}
    for path in _files(paths):
        records = _records(path)
        if records is None:
            conversations = read_conversations([path], vocabulary=vocabulary, longest=longest, tokenizer=tokenizer)
        else:
            pairs = (pair for number, record in enumerate(records, 1) for pair in _pairs(path, number, record))
            conversations = [c for q, a in pairs if (c := _conversation(q, a, longest, tokenizer)) is not None]
        found.setdefault(f"{path.parent.name}/{path.name}", []).extend(conversations)
    if not any(found.values()):
        raise InvalidRequest("there is no text to train on")
    return found


class Rows:
    """Conversations one after the other, in another order every epoch, cut into rows of equal length."""

    def __init__(self, conversations: Sequence[Conversation], length: int, seed: int) -> None:
        self._tokens = [conversation.tokens for conversation in conversations]
        self._length, self._seed = length, seed
        total = sum(map(len, self._tokens))
        self.an_epoch = (total - 1) // length
        self._epoch: tuple[int, NDArray[np.int32]] = (-1, np.zeros(0, np.int32))
        if not self.an_epoch:
            raise InvalidRequest(f"{total} tokens of text do not fill one row of {length}", remedy="Give more text.")

    def load(self, first: int, count: int) -> NDArray[np.int64]:
        """Rows number `first` to `first + count - 1` of all epochs, shape (count, length + 1): a row's tokens and the
        one after them."""
        return np.stack([self._row(number) for number in range(first, first + count)]).astype(np.int64)

    def _row(self, number: int) -> NDArray[np.int32]:
        epoch, place = divmod(number, self.an_epoch)
        if self._epoch[0] != epoch:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._tokens))
            self._epoch = (epoch, np.concatenate([self._tokens[n] for n in order]))
        return self._epoch[1][place * self._length : (place + 1) * self._length + 1]


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.name.endswith(_SUFFIXES))
        elif path.is_file():
            yield path
        else:
            raise ModelNotFound(f"there is no text at {path}", remedy="Give a folder or a .jsonl, .json or .txt file.")


def _records(path: Path) -> list[Any] | None:
    """The records of a file of questions and answers, None for other text."""
    if path.suffix not in (".json", ".jsonl"):
        return None
    try:
        text = path.read_text(encoding="utf-8")
        records = json.loads(text) if path.suffix == ".json" else [json.loads(s) for s in text.split("\n") if s.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from error
    if not isinstance(records, list) or not records:
        raise InvalidRequest(f"{path} holds no list of records")
    tokens = isinstance(records[0], dict) and isinstance(records[0].get("response"), list)
    return None if tokens and path.suffix == ".jsonl" else records


def _pairs(path: Path, number: int, record: Any) -> Iterator[tuple[str, str]]:
    """Questions and their answers in one record."""
    try:
        question = next(record[name] for name in _QUESTIONS if name in record)
        for instance in record.get("instances", [record]):
            given = instance.get("input") or ""
            answer = next(instance[name] for name in _ANSWERS if name in instance)
            yield (f"{question}\n\n{given}" if given else question).strip(), _CALCULATIONS.sub("", answer).strip()
    except (StopIteration, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"{path}, record {number} is no question with an answer") from error


def _conversation(question: str, answer: str, longest: int, tokenizer: Tokenizer) -> Conversation | None:
    """None where the question leaves no room for an answer."""
    text = ChatTemplate(CHATML).render([{"role": "user", "content": question}])
    prompt = tokenizer.encode(text, special=True)
    response = tokenizer.encode(answer) + tokenizer.encode(_END, special=True)
    return Conversation(tuple(prompt), tuple(response[: longest - len(prompt)])) if len(prompt) < longest else None
