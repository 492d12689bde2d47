"""Policies as they are written on the command line."""

from __future__ import annotations

import pytest

from updraft.errors import InvalidRequest, UnknownName
from updraft.evaluation.tasks.base import TaskOptions
from updraft.evaluation.variants import CLOUD, EDGE, digest, mode_policy, parse_policy
from updraft.modes import Mode
from updraft.sampling import SamplingParams

GREEDY = SamplingParams(seed=0)


def test_swept_numbers_are_points_and_the_rest_names_the_policy() -> None:
    variants = parse_policy("span score=entropy window=3 escalate=2,3 hand_back=0.5,1")
    assert {variant.policy for variant in variants} == {"span score=entropy window=3"}
    assert [variant.point for variant in variants] == [
        "escalate=2 hand_back=0.5",
        "escalate=2 hand_back=1",
        "escalate=3 hand_back=0.5",
        "escalate=3 hand_back=1",
    ]
    settings = variants[1].settings
    assert (settings.mode, settings.span.window, settings.span.escalate, settings.span.hand_back) == (
        Mode.SPAN,
        3,
        2,
        1,
    )
    assert variants[0].name == "span score=entropy window=3 escalate=2 hand_back=0.5"


def test_swept_words_are_policies_of_their_own() -> None:
    variants = parse_policy("span score=entropy,margin escalate=1,2 hand_back=0.1")
    assert [variant.policy for variant in variants] == [
        "span score=entropy hand_back=0.1",
        "span score=entropy hand_back=0.1",
        "span score=margin hand_back=0.1",
        "span score=margin hand_back=0.1",
    ]


def test_keys_belong_to_the_modes_own_section_unless_they_name_another() -> None:
    cascade = parse_policy("cascade alpha=0.2 stop.rule=fixed")[0]
    assert (cascade.settings.acceptance.alpha, cascade.settings.stop.rule) == (0.2, "fixed")
    assert cascade.name == "cascade alpha=0.2 stop.rule=fixed"
    assert parse_policy("draft")[0].settings.mode is Mode.DRAFT


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", InvalidRequest, "empty"),
        ("swim", UnknownName, "no mode 'swim'"),
        ("span escalate", InvalidRequest, "not KEY=VALUE"),
        ("span escalate=", InvalidRequest, "not KEY=VALUE"),
        ("span no_such=1", InvalidRequest, "span.no_such"),
        ("span window=0", InvalidRequest, "span.window"),
        ("edge window=1", InvalidRequest, "no settings of its own"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_policy(text)


def test_a_mode_takes_the_sweeps_of_its_section() -> None:
    sweeps = ["span.escalate=1,2", "acceptance.alpha=0.5"]
    assert mode_policy("span", sweeps, ["span.window=2"]) == "span span.window=2 span.escalate=1,2"
    assert mode_policy("cascade", sweeps, []) == "cascade acceptance.alpha=0.5"
    assert mode_policy("edge", sweeps, []) == "edge"


def test_a_digest_tells_apart_what_changes_a_result() -> None:
    base = digest(EDGE.settings, TaskOptions(), GREEDY)
    assert base == digest(EDGE.settings, TaskOptions(), SamplingParams(seed=0))
    others = [
        digest(CLOUD.settings, TaskOptions(), GREEDY),
        digest(EDGE.settings, TaskOptions(shots=1), GREEDY),
        digest(EDGE.settings, TaskOptions(), SamplingParams(seed=1)),
        digest(EDGE.settings, TaskOptions(), SamplingParams(seed=0, logit_bias={3: 1.0})),
    ]
    assert len({base, *others}) == 5
    learned = parse_policy("span score=learned")[0].settings
    assert digest(learned, TaskOptions(), GREEDY, "one") != digest(learned, TaskOptions(), GREEDY, "other")
    assert digest(EDGE.settings, TaskOptions(), GREEDY, "one") == base  # it reads no router
