"""Pipelines are checked when they are loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.composition import load_pipeline, parse_pipeline
from updraft.errors import ConfigError, InvalidRequest, UpdraftError
from updraft.strategies import parse_strategy

GENERATE = {"kind": "generate", "id": "g", "samples": 3}


def parts(*components: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"component": list(components), **settings}


def test_components_run_after_what_they_take_from() -> None:
    pipeline = parse_pipeline(
        parts(
            {"kind": "run-tests", "id": "scored", "inputs": ["tests", "best"]},
            {"kind": "rank", "id": "best", "inputs": ["g", "fused"], "keep": 2},
            {"kind": "fuse", "id": "fused", "inputs": ["g"]},
            {"kind": "write-tests", "id": "tests"},
            GENERATE,
        )
    )
    assert [part.id for part in pipeline.order] == ["tests", "g", "fused", "best", "scored"]
    assert pipeline.output == "scored"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, "component: Field required"),
        (parts(), "at least 1 item"),
        (parts({"kind": "guess", "id": "a"}), "no component of kind 'guess'; kinds are generate, rank"),
        (parts({"id": "a"}), "kind is missing"),
        (parts(GENERATE, GENERATE), "two components are called 'g'"),
        (parts({"kind": "write-tests", "id": "t"}), "no generator"),
        (parts(GENERATE, {"kind": "rank", "id": "r"}), r"'r' \(rank\) needs an input that gives answers"),
        (parts(GENERATE, {"kind": "rank", "id": "r", "inputs": ["x"]}), "no component 'x'"),
        (parts(GENERATE, {"kind": "run-tests", "id": "r", "inputs": ["g"]}), "needs an input that gives tests"),
        (
            parts(GENERATE, {"kind": "write-tests", "id": "t"}, {"kind": "fuse", "id": "f", "inputs": ["g", "t"]}),
            "takes no tests",
        ),
        (parts({**GENERATE, "inputs": ["g"]}), "takes no answers"),
        (
            parts(
                GENERATE,
                {"kind": "rank", "id": "a", "inputs": ["b", "g"]},
                {"kind": "fuse", "id": "b", "inputs": ["a"]},
            ),
            "wait for each other: ",
        ),
        (parts(GENERATE, {"kind": "rank", "id": "r", "inputs": ["r"]}), "wait for each other: r -> r"),
        (parts({**GENERATE, "samples": 0}), "component.0.samples: .*greater than or equal to 1"),
        (parts({**GENERATE, "hurry": 1}), "component.0.hurry: Extra inputs"),
        (parts(GENERATE, calls=0), "calls: .*greater than or equal to 1"),
        (parts(GENERATE, answer="x"), "no component 'x'"),
        (parts(GENERATE, {"kind": "write-tests", "id": "t"}, answer="t"), "'t', which gives no answers"),
    ],
)
def test_what_is_wrong_is_named(data: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse_pipeline(data)


def test_a_request_brings_a_pipeline_as_a_strategy() -> None:
    assert parse_strategy("pipeline", {"pipeline": parts(GENERATE)}).name == "pipeline"
    with pytest.raises(InvalidRequest, match="no generator"):
        parse_strategy("pipeline", {"pipeline": parts({"kind": "write-tests", "id": "t"})})


def test_files_are_toml_or_json(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(parts(GENERATE)))
    (tmp_path / "p.toml").write_text('calls = 64\n[[component]]\nkind = "generate"\nid = "g"\nsamples = 3\n')
    assert load_pipeline(tmp_path / "p.json") == load_pipeline(tmp_path / "p.toml")
    for name, text in (("a.toml", "= ="), ("b.json", "[1"), ("c.json", "[]"), ("d.json", "[" * 100_000)):
        (tmp_path / name).write_text(text)
    (tmp_path / "big.toml").write_text("#" * 300_000)
    for name in ("missing.toml", "a.toml", "b.json", "c.json", "d.json", "big.toml"):
        with pytest.raises(ConfigError):
            load_pipeline(tmp_path / name)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text("abg", max_size=3)
    | st.sampled_from(["generate", "rank", "g", "r"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["component", "kind", "id", "inputs", "calls", "samples"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["component", "kind", "calls", "answer"]), _JSON))
def test_anything_is_a_pipeline_or_an_error_of_ours(data: dict[str, Any]) -> None:
    try:
        pipeline = parse_pipeline(data)
    except UpdraftError:
        return
    seen: set[str] = set()
    for part in pipeline.order:
        assert seen.issuperset(part.inputs)
        seen.add(part.id)
