from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny_model import write_tiny_model
from updraft.chat_template import ChatTemplate
from updraft.engine import Engine, Output, Run, open_engine
from updraft.errors import ConfigError, InvalidRequest, ModelNotFound
from updraft.train.conversations import read_conversations
from updraft.train.write import read_prompts, write_text

PROMPTS = [f"Tell me about number {n}, the {'other ' * (n % 4)}one." for n in range(11)]


@pytest.fixture(scope="module")
def engine(trunk_path: Path) -> Iterator[Engine]:
    engine = open_engine(trunk_path, context=256, sequences=4, threads=1)
    yield engine
    engine.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> bytes:
    """The answers to all prompts, written in one go."""
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    write_text(engine, PROMPTS, path, longest=12, seed=5)
    return path.read_bytes()


def _records(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def test_answers_stand_in_the_order_of_the_prompts(whole: bytes, engine: Engine) -> None:
    records = _records(whole)
    assert [record["number"] for record in records] == list(range(len(PROMPTS)))
    assert [record["temperature"] for record in records[:5]] == [0.0, 0.3, 0.7, 1.0, 0.0]
    template = ChatTemplate(engine.info.chat_template)
    for record, prompt in zip(records, PROMPTS, strict=True):
        text = template.render([{"role": "user", "content": prompt}])
        assert record["prompt"] == list(engine.tokenizer.encode(text, special=True, start=True))
        assert 1 <= len(record["response"]) <= 12


def test_what_was_written_can_be_trained_on(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "text.jsonl").write_bytes(whole)
    found = read_conversations([tmp_path / "text.jsonl"], vocabulary=320, longest=256)
    assert [list(c.response) for c in found] == [record["response"] for record in _records(whole)]


def test_greedy_answers_are_the_models_own(whole: bytes, engine: Engine) -> None:
    record = _records(whole)[4]  # temperature 0
    tokens = record["prompt"] + record["response"]
    sequence = engine.open()
    rows = len(record["response"])
    logits = engine.forward([Run(sequence, 0, tokens[:-1], rows)])[0].logits
    assert logits.argmax(-1).tolist() == record["response"]
    engine.close(sequence)


@pytest.mark.parametrize("kept", [0, 5, 0.3, 0.5, 0.77, -1])
def test_a_file_that_was_cut_anywhere_is_continued_to_the_same(
    tmp_path: Path, engine: Engine, whole: bytes, kept: float
) -> None:
    path = tmp_path / "text.jsonl"
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    write_text(engine, PROMPTS, path, longest=12, seed=5)
    assert path.read_bytes() == whole


def test_a_run_that_was_interrupted_is_continued_to_the_same(
    tmp_path: Path, engine: Engine, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text.jsonl"

    def progress(done: int, _total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_text(engine, PROMPTS, path, longest=12, seed=5, progress=progress)
    for sequence in range(engine.max_sequences):  # the process would be gone
        try:
            engine.close(sequence)
        except InvalidRequest:
            continue
    assert whole.startswith(path.read_bytes())
    write_text(engine, PROMPTS, path, longest=12, seed=5)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("sequences", [1, 3, 11])
def test_how_many_are_written_at_once_does_not_matter(
    tmp_path: Path, trunk_path: Path, whole: bytes, sequences: int
) -> None:
    engine = open_engine(trunk_path, context=256, sequences=sequences, threads=1)
    try:
        written = write_text(engine, PROMPTS, tmp_path / "text.jsonl", longest=12, seed=5)
    finally:
        engine.shutdown()
    assert (tmp_path / "text.jsonl").read_bytes() == whole
    assert written == sum(len(record["response"]) for record in _records(whole))


class _Ending:
    """The engine, but that the end token is by far the most probable one from some length on."""

    def __init__(self, engine: Engine, length: int) -> None:
        self._engine, self._length = engine, length

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        outputs = list(self._engine.forward(runs))
        for place, run in enumerate(runs):
            if run.rows and run.position + len(run.tokens) >= self._length:
                logits = outputs[place].logits.copy()
                logits[-1, min(self._engine.info.end_tokens)] = 1e4
                outputs[place] = replace(outputs[place], logits=logits)
        return outputs


def test_an_end_token_ends_an_answer_and_is_part_of_it(tmp_path: Path, engine: Engine) -> None:
    prompt = _prompt_length(engine, PROMPTS[0])
    ending: Any = _Ending(engine, prompt + 3)
    write_text(ending, PROMPTS[:1], tmp_path / "text.jsonl", longest=50)
    response = _records((tmp_path / "text.jsonl").read_bytes())[0]["response"]
    assert len(response) == 4 and response[-1] in engine.info.end_tokens


def _prompt_length(engine: Engine, prompt: str) -> int:
    text = ChatTemplate(engine.info.chat_template).render([{"role": "user", "content": prompt}])
    return len(engine.tokenizer.encode(text, special=True, start=True))


def test_prompts_that_are_too_long_are_left_out(tmp_path: Path, engine: Engine) -> None:
    seen: list[tuple[int, int]] = []
    prompts = [PROMPTS[0], "too long " * 200, PROMPTS[2]]
    write_text(engine, prompts, tmp_path / "a.jsonl", longest=4, progress=lambda *done: seen.append(done))
    assert [record["number"] for record in _records((tmp_path / "a.jsonl").read_bytes())] == [0, 2]
    assert seen[-1] == (3, 3)
    assert write_text(engine, prompts, tmp_path / "a.jsonl", longest=4) == 0


@pytest.mark.parametrize(
    "content", ['{"prompt": [1], "response": [2]}\n', "my notes\n", "my notes", "[" * 99999 + "\n"]
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, engine: Engine, content: str) -> None:
    (tmp_path / "notes").write_text(content)
    with pytest.raises(InvalidRequest, match="there already"):
        write_text(engine, PROMPTS, tmp_path / "notes", longest=4)
    assert (tmp_path / "notes").read_text() == content


def test_a_file_that_cannot_be_written(tmp_path: Path, engine: Engine) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file/text.jsonl", tmp_path):
        with pytest.raises(ConfigError, match="cannot be written"):
            write_text(engine, PROMPTS, target, longest=4)


def test_a_model_without_a_template_still_answers(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "plain.gguf", template=None)
    engine = open_engine(path, context=128, sequences=2, threads=1)
    try:
        assert write_text(engine, PROMPTS[:2], tmp_path / "a.jsonl", longest=3) == 6
    finally:
        engine.shutdown()


def test_prompts_in_every_format(tmp_path: Path) -> None:
    items = [{"prompt": "one"}, {"instruction": "two", "input": "with this"}, {"question": "three", "input": ""}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(item) for item in items) + "\n\n")
    (tmp_path / "a.json").write_text(json.dumps(items))
    (tmp_path / "a.txt").write_text("one\n\n  \ntwo words\n")
    assert read_prompts(tmp_path / "a.jsonl") == ["one", "two\n\nwith this", "three"]
    assert read_prompts(tmp_path / "a.json") == read_prompts(tmp_path / "a.jsonl")
    assert read_prompts(tmp_path / "a.txt") == ["one", "two words"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", "{", "cannot be read"),
        ("a.jsonl", '{"prompt": "x"}\n{"text": "y"}', "line 2 has none of the fields prompt, instruction, question"),
        ("a.jsonl", '{"prompt": ""}', "none of the fields"),
        ("a.jsonl", '{"prompt": 3}', "none of the fields"),
        ("a.jsonl", '"words"', "none of the fields"),
        ("a.json", "3", "cannot be read"),
        ("a.json", '{"prompt": "x"}', "item 1 has none"),
        ("a.json", "[" * 100_000, "cannot be read"),
        ("a.txt", b"\xff", "cannot be read"),
    ],
)
def test_prompts_that_cannot_be_read(tmp_path: Path, name: str, content: str | bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidRequest, match=reason):
        read_prompts(tmp_path / name)


def test_prompts_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no prompts at"):
        read_prompts(tmp_path / "a.txt")
