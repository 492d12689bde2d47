"""A real, tiny mixture of experts answers prompts, and its trace says what went through it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes.hf_model import write_hf_model
from updraft.engine import open_engine
from updraft.errors import ConfigError, GoalUnreachable
from updraft_cloud.experts.advice import advise
from updraft_cloud.experts.costs import Costs
from updraft_cloud.experts.evaluation import Sweep, rows_of, sweep
from updraft_cloud.experts.recording import RecordingJob, record
from updraft_cloud.experts.replay import Replay
from updraft_cloud.experts.trace import Accepted, RouteTrace, RowKind

pytest.importorskip("torch")

JOB = RecordingJob(["abc abd", "hello there", "xyz"], tokens=9, draft=3, acceptance=0.6, together=2, seed=1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RouteTrace:
    folder = tmp_path_factory.mktemp("recorded") / "model"
    write_hf_model(folder, "qwen3_moe")
    told: list[tuple[int, int]] = []
    trace = record(folder, JOB, context=64, threads=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 3), (3, 3)]
    return trace


def test_prompts_and_answers_are_there(recorded: RouteTrace) -> None:
    assert set(recorded.sequences.tolist()) == {0, 1, 2}
    assert recorded.note["draft"] == 3 and recorded.ahead is not None
    for sequence in range(3):
        rows = np.nonzero(recorded.sequences == sequence)[0]
        prompt = rows[recorded.kinds[rows] == RowKind.PROMPT]
        assert recorded.positions[prompt].tolist() == list(range(len(prompt)))
        answer = rows[recorded.kinds[rows] != RowKind.PROMPT]
        stands = answer[recorded.accepted[answer] != Accepted.NO]
        # What stands, one row after the other, is the answer without gaps.
        assert recorded.positions[stands].tolist() == list(range(len(prompt), len(prompt) + len(stands)))
        assert 8 <= len(stands) <= 9


def test_some_drafts_stand_and_some_do_not(recorded: RouteTrace) -> None:
    judged = recorded.accepted[recorded.kinds == RowKind.DRAFTED]
    assert {Accepted.YES, Accepted.NO} == set(judged.tolist())
    assert set(recorded.accepted[recorded.kinds != RowKind.DRAFTED].tolist()) == {Accepted.UNKNOWN}


def test_rejected_tokens_are_computed_again_at_their_place(recorded: RouteTrace) -> None:
    """What is written at a place does not depend on what was drafted there before."""
    again = RecordingJob(JOB.prompts, tokens=9, draft=1, together=2)
    assert again.draft == 1
    rejected = np.nonzero(recorded.accepted == Accepted.NO)[0]
    places = set(zip(recorded.sequences[rejected].tolist(), recorded.positions[rejected].tolist(), strict=True))
    others = np.nonzero(recorded.accepted != Accepted.NO)[0]
    stands = set(zip(recorded.sequences[others].tolist(), recorded.positions[others].tolist(), strict=True))
    assert places & stands


def test_a_text_is_followed_to_its_end(tmp_path: Path) -> None:
    write_hf_model(tmp_path / "model", "qwen3_moe")
    text, short = "abc abd abe abf abg abh abi", "abc"
    job = RecordingJob([text, short], tokens=9, draft=3, acceptance=0.6, seed=1, follow=True)
    trace = record(tmp_path / "model", job, context=64, threads=1)
    assert set(trace.sequences.tolist()) == {0}  # the short one has no end to follow
    stands = trace.tokens[trace.accepted != Accepted.NO]
    tokenizer = open_engine(tmp_path / "model", backend="torch", context=64, threads=1).tokenizer
    assert stands.tolist() == tokenizer.encode(text, special=True, start=True)[: len(stands)]
    with pytest.raises(ConfigError, match="No text"):
        record(tmp_path / "model", RecordingJob([short], tokens=9, follow=True), context=64, threads=1)


def test_a_dense_model_has_nothing_to_record(tmp_path: Path) -> None:
    write_hf_model(tmp_path / "model", "llama")
    with pytest.raises(ConfigError, match="no routed experts"):
        record(tmp_path / "model", JOB, context=64, threads=1)


@pytest.mark.parametrize("changes", [{"prompts": []}, {"draft": 0}, {"acceptance": 1.5}, {"together": 0}])
def test_impossible_jobs_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        RecordingJob(**{"prompts": ["a"], **changes})  # type: ignore[arg-type]


def test_advice_is_the_smallest_budget_or_the_fastest_policy(recorded: RouteTrace) -> None:
    replay = Replay(recorded)
    costs = Costs.of_link(replay.shape.expert_bytes, 1e9)
    rows = rows_of(sweep(replay, costs, Sweep(("draft", "lfu"), (0.3, 0.6, 1.0))), replay.shape)
    whole = max(row["device_bytes"] for row in rows)
    fastest = advise(rows, device_bytes=whole).row
    assert fastest["seconds"] == min(row["seconds"] for row in rows if row["policy"] not in ("belady", "oracle"))
    calm = advise(rows, stall_share=0.999).row
    assert calm["slots"] == min(row["slots"] for row in rows)
    with pytest.raises(GoalUnreachable, match="nearest"):
        advise(rows, stall_share=0.0)
    with pytest.raises(GoalUnreachable, match="smallest budget"):
        advise(rows, device_bytes=1)
    for wrong in ({}, {"stall_share": 0.1, "device_bytes": 1}):
        with pytest.raises(ConfigError, match="one goal"):
            advise(rows, **wrong)  # type: ignore[arg-type]
