"""What `updraft bench stopping` records: prompts of Spec-Bench, drafts along the cloud's text, the price of a pass."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from updraft.engine.base import Engine, Run
from updraft.errors import InvalidRequest, ModelNotFound
from updraft.sampling import Sampled, Sampler, SamplingParams

from .judged import Text, write_texts
from .prompts import PROMPTS
from .stopping_replay import Recording
from .tiers import chat_tokens

__all__ = ["TASKS", "Asked", "choose", "read_questions", "record", "verify_times", "write_cloud_texts"]

TASKS: Final = ("mt_bench", "translation", "summarization", "qa", "math_reasoning", "rag")
"""The six tasks of Spec-Bench (arXiv 2401.07851); mt_bench is its first eight categories together."""

_CHUNK: Final = 48
_GREEDY: Final = SamplingParams(seed=0)
_ROUNDS: Final = 7

Done = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt of a task."""

    task: str
    prompt: str


def read_questions(path: Path | None) -> list[Asked]:
    """First turns of Spec-Bench's `question.jsonl`; Updraft's own short prompts without a file.

    Raises:
        ModelNotFound: the file is not there.
        InvalidRequest: a line is not a question.
    """
    if path is None:
        return [Asked("built-in", prompt) for prompt in PROMPTS]
    if not path.is_file():
        raise ModelNotFound(f"there are no questions at {path}", remedy="Give the folder with spec_bench in it.")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            category, prompt = fields["category"], fields["turns"][0]
            if not isinstance(category, str) or not isinstance(prompt, str) or not prompt:
                raise TypeError("category and turns are texts")
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise InvalidRequest(f"{path}, line {number} is not a question: {error}") from error
        found.append(Asked(category if category in TASKS else "mt_bench", prompt))
    if not found:
        raise InvalidRequest(f"{path} holds no questions")
    return found


def choose(questions: Sequence[Asked], engine: Engine, each: int, longest: int) -> list[Asked]:
    """`each` prompts of every task, evenly taken from those of at most `longest` tokens; tasks take turns.

    Raises InvalidRequest if none is left.
    """
    chosen: dict[str, list[Asked]] = {}
    for task in dict.fromkeys(asked.task for asked in questions):
        # A token is hardly ever longer than six letters on average: most long prompts need no tokenizer.
        own = [asked for asked in questions if asked.task == task and len(asked.prompt) <= 6 * longest]
        own = [asked for asked in own if len(chat_tokens(engine, asked.prompt)) <= longest]
        chosen[task] = [own[index * len(own) // min(each, len(own))] for index in range(min(each, len(own)))]
    found = [own[turn] for turn in range(each) for own in chosen.values() if turn < len(own)]
    if not found:
        raise InvalidRequest(f"no prompt has at most {longest} tokens")
    return found


def write_cloud_texts(cloud: Engine, asked: Sequence[Asked], tokens: int, done: Done) -> list[Text]:
    """The cloud's own greedy answers, each up to its end or `tokens` tokens."""
    texts = [Text(number, chat_tokens(cloud, one.prompt), 0.0, 0) for number, one in enumerate(asked)]
    write_texts(cloud, texts, tokens, done=lambda text: done(f"the cloud's text, {asked[text.number].task}"))
    return texts


def record(edge: Engine, text: Text, *, tail: int, hidden: bool = False) -> tuple[Recording, list[float]]:
    """What a model drafts along a text, and the seconds that each drafted token took.

    Args:
        tail: tokens that are drafted on where it leaves the text.
        hidden: tokens carry their hidden states.
    """
    sampler, sequence, times = Sampler(_GREEDY), edge.open(), []
    tokens = list(text.prompt)

    def draw(token: int, position: int) -> Sampled:
        started = time.perf_counter()
        output = edge.forward([Run(sequence, edge.length(sequence), [token], 1, hidden=hidden)])[0]
        sampled = sampler.draw(output.logits[0], position)
        times.append(time.perf_counter() - started)
        if output.hidden is None:
            return sampled
        return Sampled(sampled.token, sampled.logprob, sampled.distribution, hidden=output.hidden[0].copy())

    drafts: list[Sampled] = []
    tails: dict[int, tuple[Sampled, ...]] = {}
    try:
        for start in range(0, len(tokens) - 1, _CHUNK):
            edge.forward([Run(sequence, start, tokens[start : min(start + _CHUNK, len(tokens) - 1)])])
        for place, token in enumerate(text.answer):
            drafts.append(draw(tokens[-1], len(tokens)))
            if drafts[-1].token != token:
                wrong = [drafts[-1]]
                for number in range(min(tail, len(text.answer) - place - 1)):
                    wrong.append(draw(wrong[-1].token, len(tokens) + number + 1))
                tails[place] = tuple(wrong[1:])
                edge.truncate(sequence, len(tokens))
            tokens.append(token)
    finally:
        edge.close(sequence)
    return Recording(tuple(text.answer), tuple(drafts), tails), times


def verify_times(cloud: Engine, text: Text, longest: int) -> tuple[float, ...]:
    """Seconds of a pass over 1 to `longest` positions after a prompt, with a draw of each row, the least of rounds.

    Lengths take turns, so that a pause of the machine hits no length alone; the level is measured elsewhere.
    """
    sampler, sequence = Sampler(_GREEDY), cloud.open()
    prompt, run = list(text.prompt), (list(text.answer) * longest)[:longest]
    try:
        for start in range(0, len(prompt), _CHUNK):
            cloud.forward([Run(sequence, start, prompt[start : start + _CHUNK])])
        found = [math.inf] * longest
        for _ in range(_ROUNDS):
            for positions in range(1, longest + 1):
                started = time.perf_counter()
                output = cloud.forward([Run(sequence, len(prompt), run[:positions], positions)])[0]
                for row in output.logits:
                    sampler.draw(row, len(prompt))
                found[positions - 1] = min(found[positions - 1], time.perf_counter() - started)
                cloud.truncate(sequence, len(prompt))
    finally:
        cloud.close(sequence)
    return tuple(found)
