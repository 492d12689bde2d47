"""Verifiers by name: what a specification may say, and what they need."""

from __future__ import annotations

import json
from typing import Any

import pytest

from updraft.errors import ConfigError, InvalidRequest, UnknownName
from updraft.verifiers import VERIFIERS, Claim, Judgement, Resources, open_verifier, parse_verifier

SPECS: list[dict[str, Any]] = [
    {"kind": "number", "value": 4, "tolerance": 0.5},
    {"kind": "regex", "pattern": "^4"},
    {"kind": "json-schema", "schema": {"type": "object"}},
    {"kind": "unit-tests", "tests": "assert f(1) == 2"},
    {"kind": "self"},
    {"kind": "generative", "votes": 2},
    {"kind": "reward", "aggregate": "min"},
    {"kind": "logprob", "threshold": 0.25},
    {"kind": "command", "name": "lint"},
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["kind"])
def test_a_specification_is_json_and_comes_back(spec: dict[str, Any]) -> None:
    settings = parse_verifier(json.loads(json.dumps(spec)))
    assert settings.kind == spec["kind"]
    assert settings.spec() == spec
    assert parse_verifier(settings.spec()) == settings


def test_all_of_them_are_tried_here() -> None:
    assert [spec["kind"] for spec in SPECS] == list(VERIFIERS)


def test_a_name_is_enough_where_nothing_must_be_said() -> None:
    assert parse_verifier("reward") == parse_verifier({"kind": "reward"})
    assert parse_verifier("logprob").spec() == {"kind": "logprob"}


@pytest.mark.parametrize(
    ("spec", "error", "param"),
    [
        ("no-such", UnknownName, "verifier"),
        ({"kind": "no-such"}, UnknownName, "verifier"),
        ({}, InvalidRequest, "verifier"),
        ({"kind": 3}, InvalidRequest, "verifier"),
        ([], InvalidRequest, "verifier"),
        (None, InvalidRequest, "verifier"),
        ("regex", InvalidRequest, "verifier.pattern"),
        ({"kind": "regex", "pattern": "("}, InvalidRequest, "verifier.pattern"),
        ({"kind": "regex", "pattern": "a" * 1001}, InvalidRequest, "verifier.pattern"),
        ({"kind": "regex", "pattern": "a", "match": "some"}, InvalidRequest, "verifier.match"),
        ({"kind": "number", "value": float("nan")}, InvalidRequest, "verifier.value"),
        ({"kind": "number", "value": 1, "tolerance": -1}, InvalidRequest, "verifier.tolerance"),
        ({"kind": "number", "value": 1, "extra": 1}, InvalidRequest, "verifier.extra"),
        ({"kind": "json-schema", "schema": {"type": "no-such"}}, InvalidRequest, "verifier.schema"),
        ({"kind": "json-schema", "schema": {"enum": ["a" * 70_000]}}, InvalidRequest, "verifier.schema"),
        ({"kind": "unit-tests", "tests": ""}, InvalidRequest, "verifier.tests"),
        ({"kind": "unit-tests", "tests": "x", "seconds": 1e9}, InvalidRequest, "verifier.seconds"),
        ({"kind": "generative", "votes": 0}, InvalidRequest, "verifier.votes"),
        ({"kind": "reward", "aggregate": "sum"}, InvalidRequest, "verifier.aggregate"),
        ({"kind": "self", "threshold": 2}, InvalidRequest, "verifier.threshold"),
        ({"kind": "command", "name": "x", "words": ["rm"]}, InvalidRequest, "verifier.words"),
    ],
)
def test_what_is_wrong_is_named(spec: Any, error: type[Exception], param: str) -> None:
    with pytest.raises(error) as caught:
        parse_verifier(spec)
    assert isinstance(caught.value, InvalidRequest)
    assert caught.value.param == param and caught.value.remedy


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("self", "--model"),
        ("generative", "--model"),
        ("reward", "--reward"),
        ({"kind": "reward", "model_name": "other"}, "--reward"),
        ({"kind": "unit-tests", "tests": "pass"}, "--execute-code"),
        ({"kind": "command", "name": "lint"}, "configuration"),
    ],
)
def test_what_it_needs_and_is_not_there_is_told(spec: Any, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_verifier(spec, Resources())
    assert remedy in caught.value.remedy


async def test_the_threshold_decides_and_a_reason_is_given() -> None:
    claims = [Claim("q", (), (1,), "a", logprob) for logprob in (-0.1, -3.0, float("nan"))]
    verifier = open_verifier({"kind": "logprob", "threshold": 0.5}, Resources())
    good, bad, unknown = await verifier.judge(claims)
    assert good.passed and good.score == pytest.approx(0.9048, abs=1e-4)
    assert not bad.passed and bad.reason == "the score is below 0.5"
    assert unknown == Judgement(None, reason="the answer's log-probability is not known")
    [given] = await verifier.judge([Claim("q", (), (), "a", -0.1)])  # of labelled data, without tokens
    assert given == good
    assert verifier.judges_steps and verifier.false_positive_rate is None


async def test_an_answer_that_is_not_whole_is_not_judged_but_not_dropped() -> None:
    verifier = open_verifier({"kind": "number", "value": 4}, Resources())
    whole, part = Claim("q", (), (), "4"), Claim("q", (), (), "4", finished=False)
    first, second, third = await verifier.judge([part, whole, part])
    assert (first.score, second.score, third.score) == (None, 1.0, None)
    assert first.reason == "the answer is not whole yet" and not verifier.judges_steps
    assert await verifier.judge([]) == []
