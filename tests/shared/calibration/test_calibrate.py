"""A calibration on engines whose disagreement is known: measured once, resumed, fitted, saved and used."""

from __future__ import annotations

import contextlib
import html
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.calibration.goals import parse_goal
from updraft.calibration.grid import make_grid
from updraft.calibration.job import Calibration, calibrate, results_path
from updraft.calibration.pair import Pair
from updraft.calibration.prompts import CalibrationPrompt
from updraft.calibration.report import draw_png, report_page
from updraft.chat_template import ChatTemplate
from updraft.errors import CloudUnavailable, ConfigError
from updraft.generation import ChatMessage, GenerationRequest
from updraft.modes import Mode, ModeSettings
from updraft.profiles import ModelIdentity, profile_path, save_profile
from updraft.sampling import SamplingParams

PROMPTS = [CalibrationPrompt.of([ChatMessage("user", f"question {n}")]) for n in range(6)]
FIXED = {"stop": {"rule": "fixed", "length": 6}}  # by measured costs the text would depend on the machine's speed
TASK = Calibration(
    prompts=PROMPTS,
    mode=Mode.CASCADE,
    points=make_grid(Mode.CASCADE, [0.0, 0.5, 0.9], FIXED),
    goal=parse_goal("disagreement<=0.4@0.6"),
    max_tokens=12,
)


@contextlib.asynccontextmanager
async def pair(**link: float) -> AsyncIterator[Pair]:
    engine, large = HashEngine(noise=0.8, own_seed=7), HashEngine()
    async with running_cloud(large) as cloud, running_agent(engine, cloud.address, link=link) as agent:
        yield Pair(
            agent,
            ModelIdentity(name=engine.info.name, fingerprint=engine.info.fingerprint),
            ModelIdentity(name=large.info.name, fingerprint=large.info.fingerprint),
            engine.info.tokenizer_hash,
            ChatTemplate(engine.info.chat_template, bos="", eos=""),
        )


async def test_a_profile_is_fitted_saved_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    steps: list[tuple[int, int]] = []
    async with pair() as running:
        outcome = await calibrate(running, TASK, results_path(profile_path("mine")), lambda *done: steps.append(done))
        profile = outcome.profile
        save_profile(profile, profile_path("mine"))
        agreement = [1 - point.disagreement for point in profile.curve]
        assert agreement[0] == 1.0 and agreement == sorted(agreement, reverse=True)
        kept = [1 - point.rejected for point in profile.curve]
        assert kept[0] == 1.0 and kept == sorted(kept, reverse=True) and kept[-1] > agreement[-1]
        assert profile.edge_only is not None and profile.edge_only.share == 0.0
        assert profile.cloud_only is not None and profile.cloud_only.disagreement == 0.0
        assert steps[-1] == (30, 30) and len(steps) == 30
        request = GenerationRequest(
            messages=PROMPTS[0].messages,
            sampling=SamplingParams(temperature=0.0, seed=0),
            max_tokens=12,
            settings=ModeSettings(profile="mine"),
        )
        _, answer = await complete(running.agent, request)  # type: ignore[arg-type]
        assert answer.mode == "cascade"


async def test_nothing_is_measured_twice(tmp_path: Path) -> None:
    path = tmp_path / "mine.results.jsonl"
    async with pair() as running:
        first = await calibrate(running, TASK, path, lambda *_: None)
        lines = path.read_bytes()
        again = await calibrate(running, TASK, path, lambda *_: None)
        assert path.read_bytes() == lines
        assert again.profile.curve == first.profile.curve
        path.write_bytes(b"".join(lines.splitlines(keepends=True)[:12]))  # as an interruption leaves it
        resumed = await calibrate(running, TASK, path, lambda *_: None)
        assert path.read_bytes().startswith(b"".join(lines.splitlines(keepends=True)[:12]))
        assert len(path.read_bytes().splitlines()) == len(lines.splitlines())
        assert [point.disagreement for point in resumed.profile.curve] == [
            point.disagreement for point in first.profile.curve
        ]


async def test_results_of_another_pair_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.results.jsonl"
    async with pair() as running:
        await calibrate(running, TASK, path, lambda *_: None)
        other = replace(running, cloud=ModelIdentity(name="x", fingerprint="y"))
        with pytest.raises(ConfigError, match="cloud differs"):
            await calibrate(other, TASK, path, lambda *_: None)


async def test_a_cloud_that_goes_away_ends_the_run_and_keeps_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "mine.results.jsonl"
    engine = HashEngine(noise=0.8, own_seed=7)
    async with running_agent(engine, "127.0.0.1:1", link={"connect_timeout_s": 0.3}) as agent:
        model = ModelIdentity(name="x", fingerprint="y")
        lost = Pair(agent, model, model, "letters", ChatTemplate(None, bos="", eos=""))
        with pytest.raises(CloudUnavailable, match="went away"):
            await calibrate(lost, TASK, path, lambda *_: None)
    assert len(path.read_text().splitlines()) == 1


async def test_the_report_shows_the_curve_its_baselines_and_the_promise(tmp_path: Path) -> None:
    async with pair() as running:
        outcome = await calibrate(running, TASK, tmp_path / "mine.results.jsonl", lambda *_: None)
    page = html.unescape(report_page(outcome, TASK))
    for words in (
        "random escalation",
        "oracle",
        "edge only",
        "cloud only",
        "chosen",
        "certified",
        outcome.fit.guarantee,
    ):
        assert words in page
    assert "question" not in page  # nobody's prompts are in it
    draw_png(outcome, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
