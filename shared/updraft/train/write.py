"""On-policy text: the model answers prompts itself, many at once, and the answers are what its rungs are trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from updraft.chat_template import ChatTemplate
from updraft.engine.base import Engine, Output, Run
from updraft.engine.loop import next_run
from updraft.errors import InvalidRequest, ModelNotFound
from updraft.sampling import Sampler, SamplingParams
from updraft.train.disk import disk_errors

__all__ = ["read_prompts", "write_text"]

TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
_TOP_K = 40
_CHUNK = 48
_FIELDS = ("prompt", "instruction", "question")

Progress = Callable[[int, int], None]


def read_prompts(path: Path) -> list[str]:
    """Prompts from .jsonl (`prompt`, `instruction` with `input`, `question`, the first of `turns`), .json (a list of
    such) or lines of text.

    Raises ModelNotFound if the file is not there, InvalidRequest if a line has none of these fields.
    """
    if not path.is_file():
        raise ModelNotFound(f"there are no prompts at {path}", remedy="Give a .jsonl, .json or .txt file.")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return [_prompt(f"{path}, item {n}", item) for n, item in enumerate(json.loads(text), 1)]
        lines = [line for line in text.splitlines() if line.strip()]
        if path.suffix == ".jsonl":
            return [_prompt(f"{path}, line {n}", json.loads(line)) for n, line in enumerate(lines, 1)]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from error
    return lines


def write_text(
    engine: Engine,
    prompts: Sequence[str],
    target: Path,
    *,
    longest: int = 180,
    temperatures: Sequence[float] = TEMPERATURES,
    seed: int = 0,
    progress: Progress | None = None,
) -> int:
    """Answer prompts, one conversation of token ids a line; prompts whose answers are in the file already are skipped.

    Args:
        longest: tokens an answer, at most.
        temperatures: the n-th prompt is answered at the n-th of them, in turn.
        progress: called with prompts done and prompts in all.

    Returns:
        How many tokens were written.

    Raises:
        InvalidRequest: the file is there and holds something else.
        ConfigError: the file cannot be written, or the model has no usable chat template.
    """
    with disk_errors(target):
        return _write(engine, prompts, target, longest, temperatures, seed, progress)


def _write(
    engine: Engine,
    prompts: Sequence[str],
    target: Path,
    longest: int,
    temperatures: Sequence[float],
    seed: int,
    progress: Progress | None,
) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    done = _done(target)
    template = ChatTemplate(engine.info.chat_template)
    waiting = iter([number for number in range(len(prompts)) if number not in done])
    active: list[_Answer] = []
    written, finished = 0, len(done)
    with target.open("a", encoding="utf-8") as lines:
        queue = _InOrder(lines)
        while True:
            for number in _take(waiting, engine.max_sequences - len(active)):
                queue.expect(number)
                text = template.render([{"role": "user", "content": prompts[number]}])
                prompt = engine.tokenizer.encode(text, special=True, start=True)
                if len(prompt) + longest < engine.context:
                    params = SamplingParams(temperatures[number % len(temperatures)], top_k=_TOP_K, seed=seed + number)
                    active.append(_Answer(engine, number, prompt, params))
                else:
                    queue.put(number, "")  # too long for the context it is trained with
                    finished += 1
            if not active:
                return written
            runs = [answer.run() for answer in active]
            for answer, run, output in zip(list(active), runs, engine.forward(runs), strict=True):
                if run.rows and answer.take(output, longest):
                    active.remove(answer)
                    engine.close(answer.sequence)
                    queue.put(answer.number, json.dumps(answer.record()) + "\n")
                    written += len(answer.tokens) - len(answer.prompt)
                    finished += 1
            if progress:
                progress(finished, len(prompts))


class _InOrder:
    """Writes lines in the order in which they were expected, so that a run that was cut leaves the same file."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: dict[int, str | None] = {}

    def expect(self, number: int) -> None:
        self._lines[number] = None

    def put(self, number: int, line: str) -> None:
        self._lines[number] = line
        while self._lines:
            first, text = next(iter(self._lines.items()))
            if text is None:
                break
            self._file.write(text)
            del self._lines[first]
        self._file.flush()


@dataclass(slots=True)
class _Answer:
    engine: Engine
    number: int
    prompt: list[int]
    params: SamplingParams
    tokens: list[int]
    sequence: int
    sampler: Sampler

    def __init__(self, engine: Engine, number: int, prompt: list[int], params: SamplingParams) -> None:
        self.engine, self.number, self.prompt, self.params = engine, number, prompt, params
        self.tokens = list(prompt)
        self.sampler = Sampler(params)
        self.sequence = engine.open()

    def run(self) -> Run:
        return next_run(self.engine, self.sequence, self.tokens, 1, _CHUNK)

    def take(self, output: Output, longest: int) -> bool:
        """Draw the next token; whether the answer is finished."""
        token = self.sampler.draw(output.logits[0], len(self.tokens)).token
        self.tokens.append(token)
        return token in self.engine.info.end_tokens or len(self.tokens) - len(self.prompt) >= longest

    def record(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "temperature": self.params.temperature,
            "prompt": self.prompt,
            "response": self.tokens[len(self.prompt) :],
        }


def _done(target: Path) -> set[int]:
    """Prompts that have answers; a last line that was cut short is taken off the file.

    Raises InvalidRequest if the file holds anything else: it is not overwritten.
    """
    if not target.is_file():
        return set()
    data = target.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    numbers = set()
    for place, line in enumerate(whole.splitlines(), 1):
        try:
            numbers.add(int(json.loads(line)["number"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidRequest(
                f"{target} is there already, and its line {place} is no numbered answer",
                remedy="Choose another file to write.",
            ) from error
    if len(whole) < len(data):
        if not data[len(whole) :].startswith(b"{"):
            raise InvalidRequest(f"{target} is there already and holds no answers", remedy="Choose another file.")
        with target.open("r+b") as file:
            file.truncate(len(whole))
    return numbers


def _take(numbers: Iterator[int], count: int) -> list[int]:
    return [number for _, number in zip(range(count), numbers, strict=False)]


def _prompt(where: str, item: Any) -> str:
    turns = item.get("turns") if isinstance(item, dict) else None
    if isinstance(turns, list) and turns:
        item = {"prompt": turns[0], **item}
    text = next((item[name] for name in _FIELDS if isinstance(item, dict) and isinstance(item.get(name), str)), None)
    if not text:
        raise InvalidRequest(f"{where} has none of the fields {', '.join(_FIELDS)}, turns")
    context = item.get("input")
    return f"{text}\n\n{context}" if isinstance(context, str) and context else text
