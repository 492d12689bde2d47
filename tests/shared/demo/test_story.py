"""The whole demonstration on tiny models; the cloud is a real process, really killed."""

from __future__ import annotations

import asyncio
import io
import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from updraft.cloud_process import CloudProcess
from updraft.config import CloudLinkSettings, CloudSettings, EdgeSettings, ListenSettings
from updraft.demo import DemoOptions, Screen, run_demo
from updraft.demo.cores import usable_cores
from updraft.demo.measure import completed, request_for
from updraft.demo.outage import interrupted_answer, recovery
from updraft.demo.report import Way
from updraft.errors import BadModelFile, CloudUnavailable
from updraft.generation import TokenEvent
from updraft.modes import Mode
from updraft_edge.agent import Agent


def options(pair: tuple[Path, Path]) -> DemoOptions:
    edge, cloud = pair
    return DemoOptions(prompts=1, tokens=16, shown=1, edge_model=str(edge), cloud_model=str(cloud))


def screen() -> tuple[Screen, io.StringIO]:
    file = io.StringIO()
    return Screen(Console(file=file, width=100, color_system=None)), file


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_from_the_first_screen_to_the_last(tiny_pair: tuple[Path, Path]) -> None:
    cores = usable_cores()
    shown, file = screen()
    report = await run_demo(options(tiny_pair), shown)
    assert report.passed
    assert gone(report.cloud.pid) and report.edge.pid == os.getpid()
    assert usable_cores() == cores
    assert [row.prompts for row in report.ways] == [1] * 6
    assert report.outage.killed_after == 5 and report.outage.tokens == 16
    text = file.getvalue()
    headings = ["What runs where", "Mode draft", "Mode span", "The modes compared", "killed in mid-answer", "try next"]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert "as many layers as the cloud's" in text
    assert "<cloud killed>" in text and "The cloud is back" in text


async def test_what_stood_before_the_kill_stands_and_the_next_answer_is_whole(tiny_pair: tuple[Path, Path]) -> None:
    edge, cloud = (str(path) for path in tiny_pair)
    request = request_for(Way(Mode.DRAFT, 0.0), "Tell a story.", 40, ignore_end=True)
    settings = CloudSettings(model=cloud, listen=ListenSettings(port=0), drain_s=0.1, context=512, threads=1)
    events: list[TokenEvent] = []
    killed: list[int | None] = []

    async with CloudProcess(settings) as process:
        first = process.pid
        link = CloudLinkSettings(address=process.address)
        async with Agent(EdgeSettings(model=edge, context=512, sequences=2, threads=1, cloud=link)) as agent:
            expected = await completed(agent, request)
            found = await interrupted_answer(
                agent,
                request,
                process,
                kill_after=10,
                on_token=events.append,
                on_kill=lambda: killed.append(process.pid),
            )
            outage = await recovery(agent, request, process, found)
            assert process.pid != first
    assert first is not None and gone(first) and killed == [None]
    assert outage.survived and outage.recovered
    assert outage.reason == "cloud_unavailable"
    kept = len(events) - found.alone
    assert 10 <= kept < 40 == len(events)
    assert found.completion.token_ids[:kept] == expected.token_ids[:kept]
    assert all(event.verified for event in events[:kept]) and not any(event.verified for event in events[kept:])
    assert outage.longest_pause_seconds > 0 and outage.restart_seconds > 0


async def test_a_cloud_that_does_not_start_shows_the_end_of_its_log(
    tiny_pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "updraft_cloud").mkdir()
    (tmp_path / "updraft_cloud" / "__init__.py").write_text("raise RuntimeError('planted')\n")
    monkeypatch.syspath_prepend(tmp_path)
    cores = usable_cores()
    with pytest.raises(CloudUnavailable, match="RuntimeError: planted"):
        await run_demo(options(tiny_pair), screen()[0])
    assert usable_cores() == cores


async def test_a_damaged_model_is_named_before_anything_starts(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUFnonsense")
    with pytest.raises(BadModelFile):
        await run_demo(options((tiny_pair[0], bad)), screen()[0])


async def test_a_demonstration_cut_short_leaves_no_process(
    tiny_pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    start = CloudProcess.start

    async def noted(self: CloudProcess) -> None:
        await start(self)
        started.append(self.pid or 0)

    monkeypatch.setattr(CloudProcess, "start", noted)
    running = asyncio.create_task(run_demo(options(tiny_pair), screen()[0]))
    deadline = time.monotonic() + 30
    while not started and not running.done() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (pid,) = started
    assert gone(pid)
