"""The cloud as a child process: it serves, ends when told, and is never left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.fakes.tiers import complete, running_agent
from updraft.cloud_process import CloudProcess
from updraft.config import CloudSettings, ListenSettings
from updraft.engine import open_engine
from updraft.errors import AddressInUse, CloudUnavailable, ModelNotFound
from updraft.generation import GenerationRequest
from updraft.modes import parse_settings

REQUEST = GenerationRequest(prompt="the", max_tokens=8, settings=parse_settings({"mode": "cloud"}), ignore_end=True)


def settings(model: Path, port: int = 0, **more: object) -> CloudSettings:
    values = {"model": str(model), "context": 256, "sequences": 2, "threads": 1, "drain_s": 0.1} | more
    return CloudSettings.model_validate(values | {"listen": values.get("listen", ListenSettings(port=port))})


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_it_serves_an_agent_and_leaves_no_process(tiny_model_path: Path) -> None:
    async with CloudProcess(settings(tiny_model_path)) as cloud:
        pid = cloud.pid
        assert pid is not None and alive(pid)
        async with running_agent(open_engine(tiny_model_path, context=256, threads=1), cloud.address) as agent:
            _, completion = await complete(agent, REQUEST)
        assert completion.statistics.cloud_tokens == 8 and not completion.degraded
    assert not alive(pid) and cloud.pid is None and not cloud.running


async def test_a_killed_one_starts_again_on_its_address(tiny_model_path: Path) -> None:
    async with CloudProcess(settings(tiny_model_path)) as cloud:
        address, pid = cloud.address, cloud.pid
        await cloud.kill()
        assert not cloud.running and pid is not None and not alive(pid)
        await cloud.start()
        assert cloud.address == address and cloud.pid not in (None, pid)


async def test_its_token_is_asked_for(tiny_model_path: Path) -> None:
    listen = ListenSettings.model_validate({"port": 0, "token": "secret"})
    async with CloudProcess(settings(tiny_model_path, listen=listen)) as cloud:
        engine = open_engine(tiny_model_path, context=256, threads=1)
        async with running_agent(engine, cloud.address, link={"token": "secret"}) as agent:
            _, completion = await complete(agent, REQUEST)
    assert completion.statistics.cloud_tokens == 8


async def test_its_own_error_reaches_the_caller(tmp_path: Path, tiny_model_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="missing.gguf"):
        await CloudProcess(settings(tmp_path / "missing.gguf")).start()
    async with CloudProcess(settings(tiny_model_path)) as cloud:
        port = int(cloud.address.rpartition(":")[2])
        with pytest.raises(AddressInUse):
            await CloudProcess(settings(tiny_model_path, port)).start()


async def test_one_that_is_too_slow_is_ended(tiny_model_path: Path) -> None:
    cloud = CloudProcess(settings(tiny_model_path), start_timeout_s=0.001)
    with pytest.raises(CloudUnavailable, match="within 0.001 s"):
        await cloud.start()
    assert not cloud.running


async def test_one_that_dies_at_once_shows_its_log(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ModuleNotFoundError: no updraft here' >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(CloudUnavailable, match="updraft"):
        await CloudProcess(settings(tiny_model_path)).start()


async def test_stopping_twice_or_before_the_start_is_harmless(tiny_model_path: Path) -> None:
    cloud = CloudProcess(settings(tiny_model_path))
    await cloud.stop()
    await cloud.kill()
    async with cloud:
        await cloud.stop()
        assert not cloud.running


def test_it_ends_when_its_parent_is_killed(tiny_model_path: Path) -> None:
    program = f"""
import asyncio, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from tests.shared.test_cloud_process import CloudProcess, settings
async def main():
    async with CloudProcess(settings(Path({str(tiny_model_path)!r}))) as cloud:
        print(cloud.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    finally:
        parent.kill()
        parent.stdout.close()
    deadline = time.monotonic() + 10.0
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)
