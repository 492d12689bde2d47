"""The engine in a process of its own: acknowledged, watched, and started again when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path

import psutil
import pytest

from tests.edge.test_agent import ask
from tests.fakes.tiers import complete, running_agent, until
from updraft.cloud_process import CloudProcess
from updraft.config import CloudSettings, ListenSettings
from updraft.engine import open_engine
from updraft.errors import ModelError
from updraft_cloud.engine import process_host
from updraft_cloud.engine.process_host import ProcessHost
from updraft_cloud.messages import Emitted, FromEngine, decode_from_engine
from updraft_cloud.server import CloudServer


class Ears:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.messages: list[FromEngine] = []
        self.losses = 0

    def heard(self, message: FromEngine) -> None:
        self.messages.append(message)

    def lost(self) -> None:
        self.losses += 1


def settings(model: Path, **changes: object) -> CloudSettings:
    fields = {"model": str(model), "context": 256, "sequences": 2, "threads": 1, "batch_tokens": 256, "drain_s": 0.1}
    return CloudSettings(**{"listen": ListenSettings(port=0), **fields, **changes})  # type: ignore[arg-type]


async def test_it_says_what_it_serves_and_ends_without_a_trace(tiny_pair: tuple[Path, Path]) -> None:
    host = ProcessHost(settings(tiny_pair[1]))
    await host.start(Ears())
    process = host.process
    assert process is not None and psutil.pid_exists(process)
    folder = host.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (host.description.context, host.description.sequences, host.description.process) == (256, 2, process)
    await host.stop()
    assert not psutil.pid_exists(process)
    assert not folder.exists()


async def test_a_model_that_cannot_be_loaded_is_told_as_what_it_is(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError):
        await ProcessHost(settings(bad)).start(Ears())


async def test_a_killed_engine_is_started_again_and_answers_go_on(tiny_pair: tuple[Path, Path]) -> None:
    edge = open_engine(tiny_pair[0], context=256, sequences=2, threads=1)
    async with (
        CloudServer(settings(tiny_pair[1])) as cloud,
        running_agent(
            edge, cloud.address, context=256, link={"reconnect_attempts": 8, "reply_timeout_s": 120}
        ) as agent,
    ):
        _, expected = await complete(agent, ask("cloud"))
        assert isinstance(cloud.host, ProcessHost)
        killed = list[int]()
        items = []
        async for item in agent.generate(ask("cloud")):
            items.append(item)
            if len(items) == 5 and cloud.host.process is not None:
                killed.append(cloud.host.process)
                os.kill(cloud.host.process, signal.SIGKILL)
        completion = items[-1]
        host = cloud.host  # the answer may have been on its way already
        await until(lambda: host.restarts == 1 and host.process not in killed, seconds=60)
        assert killed
        assert (completion.text, completion.degraded) == (expected.text, False)  # type: ignore[union-attr]


async def test_a_silent_engine_is_killed_and_started_again(tiny_pair: tuple[Path, Path]) -> None:
    host, ears = ProcessHost(settings(tiny_pair[1]), silence_s=2.0), Ears()
    await host.start(ears)
    try:
        assert host.process is not None
        os.kill(host.process, signal.SIGSTOP)
        await until(lambda: ears.losses == 1 and host.restarts == 1, seconds=60)
    finally:
        await host.stop()


async def test_the_engine_ends_with_its_front_end(tiny_pair: tuple[Path, Path]) -> None:
    async with CloudProcess(settings(tiny_pair[1])) as cloud:
        assert cloud.pid is not None
        (engine,) = psutil.Process(cloud.pid).children()
        await cloud.kill()
        await asyncio.to_thread(engine.wait, 30)


async def test_what_is_no_message_ends_an_engine_that_says_it(
    tiny_pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, ears = ProcessHost(settings(tiny_pair[1])), Ears()
    await host.start(ears)
    try:
        monkeypatch.setattr(process_host, "decode_from_engine", lambda data: decode_from_engine(data[:-1]))
        await until(lambda: ears.losses == 1, seconds=30)
        monkeypatch.undo()
        await until(lambda: host.restarts == 1, seconds=60)
        assert not any(isinstance(message, Emitted) for message in ears.messages)
    finally:
        await host.stop()
