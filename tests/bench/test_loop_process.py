"""Each loop as a process: it writes what it should, says what went wrong, and is never left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.loop_process import LoopProcess
from bench.loops import LOOP_NAMES, LoopOptions
from bench.prompts import PROMPTS
from tests.house import ROOT
from updraft.errors import ConfigError, EngineFailure, ModelNotFound, PromptTooLong


def options(model: Path, context: int = 512) -> LoopOptions:
    return LoopOptions(str(model), context, sequences=2, threads=1, batch_tokens=64)


def alive(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_agent_and_bare_loop_write_the_same_tokens(tiny_model_path: Path) -> None:
    async with LoopProcess("agent", options(tiny_model_path)) as agent:
        prompt = await agent.encode(PROMPTS[43])
        mine = await agent.write(prompt, 24)
    assert len(prompt) > 64  # so that the bare loop cuts it
    async with LoopProcess("bare", options(tiny_model_path)) as bare:
        first, again = await bare.write(prompt, 24), await bare.write(prompt, 24)
    assert mine.tokens == first.tokens == again.tokens
    for written in (mine, first):
        assert len(written.arrivals) == 24 and list(written.arrivals) == sorted(written.arrivals)


async def test_the_high_level_loop_writes_as_many_tokens_as_asked(tiny_model_path: Path) -> None:
    async with LoopProcess("high-level", options(tiny_model_path)) as loop:
        first, again = await loop.write(range(10, 30), 12), await loop.write(range(10, 30), 12)
    assert len(first.tokens) == len(first.arrivals) == 12
    assert first.tokens == again.tokens


async def test_a_process_goes_with_its_block(tiny_model_path: Path) -> None:
    async with LoopProcess("bare", options(tiny_model_path)) as loop:
        pid = loop.pid
        assert alive(pid) and pid != os.getpid()
    assert not alive(pid) and loop.pid is None
    await loop.stop()
    await LoopProcess("bare", options(tiny_model_path)).stop()


@pytest.mark.parametrize("kind", LOOP_NAMES)
async def test_a_missing_model_is_the_callers_error(kind: str, tmp_path: Path) -> None:
    loop = LoopProcess(kind, options(tmp_path / "missing.gguf"))
    with pytest.raises(ModelNotFound, match=r"missing.gguf") as caught:
        await loop.start()
    assert caught.value.remedy and loop.pid is None


async def test_an_option_out_of_range_is_the_callers_error(tiny_model_path: Path) -> None:
    with pytest.raises(ConfigError, match="context is 0"):
        await LoopProcess("agent", options(tiny_model_path, context=0)).start()


@pytest.mark.parametrize(("kind", "error"), [("agent", PromptTooLong), ("bare", EngineFailure)])
async def test_after_a_refusal_it_writes_on(kind: str, error: type[Exception], tiny_model_path: Path) -> None:
    async with LoopProcess(kind, options(tiny_model_path, context=256)) as loop:
        pid = loop.pid
        with pytest.raises(error):
            await loop.write([7] * 600, 4)
        assert len((await loop.write([7, 8, 9], 4)).tokens) == 4
        assert loop.pid == pid


async def test_a_crash_shows_the_end_of_its_log(tiny_model_path: Path) -> None:
    async with LoopProcess("bare", options(tiny_model_path)) as loop:
        with pytest.raises(EngineFailure, match="bare llama.cpp loop ended with code 1(.|\n)*KeyError: 'prompt'"):
            await loop.encode("only the agent can")
        assert loop.pid is None


async def test_a_killed_one_is_an_error(tiny_model_path: Path) -> None:
    async with LoopProcess("bare", options(tiny_model_path)) as loop:
        assert loop.pid is not None
        os.kill(loop.pid, signal.SIGKILL)
        with pytest.raises(EngineFailure, match="code -9"):
            await loop.write([7, 8], 4)


async def test_one_that_cannot_import_shows_why(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ModuleNotFoundError: no updraft here' >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(EngineFailure, match="ModuleNotFoundError"):
        await LoopProcess("bare", options(tiny_model_path)).start()


async def test_long_answers_come_in_one_line(tiny_model_path: Path) -> None:
    async with LoopProcess("bare", options(tiny_model_path, context=4096)) as loop:
        written = await loop.write([7, 8, 9], 3000)  # about 90 kB; asyncio takes 64 KiB unless told
    assert len(written.tokens) == len(written.arrivals) == 3000


def test_an_installed_bench_starts_its_own_loops(tmp_path: Path, tiny_model_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "results")
    shutil.copytree(ROOT / "shared" / "updraft", tmp_path / "updraft", ignore=ignored)
    shutil.copytree(ROOT / "bench", tmp_path / "updraft" / "_bench", ignore=ignored)
    code = f"""
import asyncio
from updraft._bench import loop_process, loops
assert loop_process._module()[0] == "updraft._bench.loops"
async def main():
    async with loop_process.LoopProcess("bare", loops.LoopOptions({str(tiny_model_path)!r}, 64, 1, 1, 64)) as loop:
        print(len((await loop.write([7, 8, 9], 5)).tokens))
asyncio.run(main())
"""
    found = os.pathsep.join([str(tmp_path), str(ROOT / "edge"), str(ROOT / "cloud")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": found},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "5\n", done.stderr


@pytest.mark.parametrize("doing", ["asyncio.sleep(60)", "loop.write([7, 8, 9], 1_000_000)"])
def test_it_ends_when_its_parent_is_killed(doing: str, tiny_model_path: Path) -> None:
    program = f"""
import asyncio, sys
sys.path[:0] = {sys.path!r}
from bench.loop_process import LoopProcess
from bench.loops import LoopOptions
async def main():
    async with LoopProcess("high-level", LoopOptions({str(tiny_model_path)!r}, 65536, 1, 1, 64)) as loop:
        print(loop.pid, flush=True)
        await {doing}
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    try:
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        assert alive(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    deadline = time.monotonic() + 10.0
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)
