"""Verifiers that compare, parse and run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft import sandbox
from updraft.errors import ConfigError, InvalidRequest
from updraft.verifiers import Claim, Judgement, Resources, open_verifier, parse_verifier
from updraft.verifiers.blocks import NOTHING, fenced, find_json

CODE = Resources(execute_code=True, unconfined_code=True)


async def judged(spec: dict[str, Any], *answers: str, resources: Resources = CODE) -> list[Judgement]:
    return list(await open_verifier(spec, resources).judge([Claim("q", (), (), answer) for answer in answers]))


async def scores(spec: dict[str, Any], *answers: str) -> list[float | None]:
    return [judgement.score for judgement in await judged(spec, *answers)]


class TestRegex:
    async def test_somewhere_or_all_of_it(self) -> None:
        assert await scores({"kind": "regex", "pattern": "4+"}, "it is 44", "none", "") == [1.0, 0.0, 0.0]
        assert await scores({"kind": "regex", "pattern": "4+", "match": "full"}, "it is 44", "44") == [0.0, 1.0]

    async def test_backtracking_without_end_is_ended(self) -> None:
        hang, fine = await judged({"kind": "regex", "pattern": "^(a|aa)+$"}, "a" * 60 + "b", "aaa")
        assert hang.score is None and hang.failed and "0.5 s" in hang.reason
        assert fine.passed


class TestNumber:
    @pytest.mark.parametrize(
        "answer", ["42", "It is 42.", "#### 42", "so \\boxed{42}", "1 + 41 = 42", "The answer is 42.0 apples", "042"]
    )
    async def test_right_answers(self, answer: str) -> None:
        assert await scores({"kind": "number", "value": 42}, answer) == [1.0]

    @pytest.mark.parametrize("answer", ["43", "-42", "It is 42 or 24", "4.2", "420"])
    async def test_wrong_answers(self, answer: str) -> None:
        assert await scores({"kind": "number", "value": 42}, answer) == [0.0]

    @pytest.mark.parametrize("answer", ["", "none", "forty-two", "\n\n"])
    async def test_answers_that_cannot_be_read_say_so(self, answer: str) -> None:
        [judgement] = await judged({"kind": "number", "value": 42}, answer)
        assert judgement == Judgement(0.0, reason="no number can be read from the answer")

    async def test_tolerance_and_digits(self) -> None:
        near = {"kind": "number", "value": 1.0, "tolerance": 0.1}
        assert await scores(near, "1.1", "0.9", "1.2") == [1.0, 1.0, 0.0]
        assert await scores({"kind": "number", "value": 3.14159265}, "3.14159265", "3.1") == [1.0, 0.0]
        assert await scores({"kind": "number", "value": 1234567}, "1,234,567", "1234568") == [1.0, 0.0]
        assert await scores({"kind": "number", "value": 0.1}, "0.1") == [1.0]

    @settings(deadline=None)
    @given(st.integers(-(10**9), 10**9))
    def test_every_whole_number_is_itself_and_not_the_next(self, value: int) -> None:
        from updraft.verifiers.exact import Number

        compare = Number(value=value)._compared
        assert compare(f"The answer is {value}.").score == 1.0
        assert compare(f"The answer is {value + 1}.").score == 0.0


class TestBlocks:
    def test_the_last_block_counts(self) -> None:
        text = "a\n```python\none\n```\nb\n```\ntwo\n```\n```sh\nthree\n```\n"
        assert fenced(text, frozenset({"python"})) == "two\n"
        assert fenced("```py\nopen", frozenset({"py"})) == "open"
        assert fenced("no block ``` here", frozenset({"py"})) is None

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ('{"a": [1]}', {"a": [1]}),
            (" null ", None),
            ("3", 3),
            ('Here:\n```json\n{"a": 1}\n```\nand so on', {"a": 1}),
            ('The result is {"a": {"b": 2}}, I think.', {"a": {"b": 2}}),
            ("Take {this}: [1, 2]", [1, 2]),
            ("nothing", NOTHING),
            ("", NOTHING),
            ('{"a": NaN}', NOTHING),
            ('{"a": 1, "a": 2}', NOTHING),
            ("[" * 100_000, NOTHING),
            ('{"a": 1', NOTHING),
        ],
    )
    def test_json_is_found_where_it_is(self, text: str, found: object) -> None:
        assert find_json(text) == found

    @settings(deadline=None)
    @given(
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8), st.text("abc \n")
    )
    def test_any_document_is_found_in_a_fence(self, document: object, around: str) -> None:
        text = f"{around}\n```json\n{json.dumps(document, indent=1)}\n```\n{around}"
        assert find_json(text) == document

    @settings(deadline=None)
    @given(st.text())
    def test_any_text_is_read_without_an_error(self, text: str) -> None:
        find_json(text)
        fenced(text, frozenset({"python"}))


class TestJsonSchema:
    async def test_what_the_schema_allows_passes(self) -> None:
        schema = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]}
        right, wrong, none, missing = await judged(
            {"kind": "json-schema", "schema": schema}, 'He is {"age": 3}.', '{"age": -3}', "I do not know", "{}"
        )
        assert right.passed
        assert wrong == Judgement(0.0, reason="$.age breaks the rule minimum")
        assert none == Judgement(0.0, reason="there is no JSON in the answer")
        assert missing.reason == "$ breaks the rule required"

    @pytest.mark.parametrize("key", ["type", "required"])
    def test_long_lists_of_names_that_are_none_are_refused_at_once(self, key: str) -> None:
        schema = {"properties": {"a": {key: ["a", *range(3000)]}}}  # comparing them all takes seconds
        with pytest.raises(InvalidRequest, match="list of names"):
            parse_verifier({"kind": "json-schema", "schema": schema})

    def test_long_lists_of_anything_else_are_taken(self) -> None:
        schema = {"enum": ["a", *range(100)], "anyOf": [{}] * 100, "required": [str(n) for n in range(100)]}
        parse_verifier({"kind": "json-schema", "schema": schema})

    async def test_a_schema_that_takes_for_ever_is_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from updraft.verifiers import json_schema

        monkeypatch.setattr(json_schema, "_LIMITS", sandbox.Limits(seconds=3.0, cpu_seconds=2, processes=8))
        [judgement] = await judged({"kind": "json-schema", "schema": {"pattern": "^(a|a)+$"}}, f'"{"a" * 60}b"')
        assert judgement.score is None and judgement.failed

    @pytest.mark.parametrize("reference", ["#", "http://127.0.0.1:9/schema", "file:///etc/passwd"])
    async def test_references_lead_nowhere_else(self, reference: str) -> None:
        [judgement] = await judged({"kind": "json-schema", "schema": {"$ref": reference}}, "1")
        assert judgement.score is None and judgement.failed


class TestUnitTests:
    SPEC = {"kind": "unit-tests", "tests": "assert double(2) == 4\nassert double(0) == 0"}  # noqa: RUF012

    async def test_code_passes_or_fails(self) -> None:
        right, wrong, none, broken = await judged(
            self.SPEC,
            "Like so:\n```python\ndef double(x):\n    return 2 * x\n```\nDone.",
            "```python\ndef double(x):\n    return x * x + x - 2\n```",
            "It doubles.",
            "```python\ndef double(x:\n```",
        )
        assert right.passed and right.score == 1.0
        assert wrong == Judgement(0.0, reason="AssertionError")
        assert none.reason == "there is no code block in the answer"
        assert broken.score == 0.0 and "SyntaxError" in broken.reason

    @pytest.mark.parametrize("early", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit"])
    async def test_code_that_ends_early_does_not_pass(self, early: str) -> None:
        [judgement] = await judged(self.SPEC, f"```python\n{early}\n```")
        assert judgement.score == 0.0

    async def test_code_that_does_not_end_is_ended(self) -> None:
        [judgement] = await judged({**self.SPEC, "seconds": 1}, "```python\nimport time\ntime.sleep(60)\n```")
        assert judgement == Judgement(0.0, reason="not done in time")

    async def test_nothing_is_run_that_cannot_be_confined(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sandbox, "_tried", ["told so"])
        with pytest.raises(ConfigError, match="told so"):
            await judged(self.SPEC, "```python\n1\n```", resources=Resources(execute_code=True))
