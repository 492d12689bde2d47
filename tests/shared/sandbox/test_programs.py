"""Programs that a model wrote run with limits, and what they start ends with them, confined or not."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from updraft import sandbox
from updraft.errors import ConfigError
from updraft.sandbox import Ended, Limits, Verdict, run_command

QUICK = Limits(seconds=5.0, cpu_seconds=3)


@pytest.fixture(params=["confined", "unconfined"])
async def confined(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """All tests hold both where the system can confine and where it cannot."""
    if request.param == "unconfined":
        monkeypatch.setattr(sandbox, "_tried", ["told so"])
    elif why := await sandbox.unconfinable():
        pytest.skip(why)
    return bool(request.param == "confined")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test here: no process, and no folder."""
    folder = tmp_path_factory.mktemp("sandbox")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []
    assert [child.cmdline() for child in psutil.Process().children(recursive=True)] == []


async def run_program(program: str, limits: Limits) -> Verdict:
    return await sandbox.run_program(program, limits, unconfined=True)


def running(word: str) -> list[int]:
    """Processes that have this word in their command."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(word in part for part in process.info["cmdline"] or ()):
            found.append(process.pid)
    return found


@pytest.mark.usefixtures("confined")
async def test_a_program_passes_or_fails_with_its_reason() -> None:
    assert (await run_program("assert 1 + 1 == 2", QUICK)).outcome == "passed"
    failed = await run_program("assert 1 + 1 == 3, 'wrong sum'", QUICK)
    assert (failed.outcome, failed.reason) == ("failed", "AssertionError: wrong sum")
    assert (await run_program("def broken(:", QUICK)).outcome == "failed"
    assert (await run_program("import sys; sys.exit(3)", QUICK)).reason == "status 3"


@pytest.mark.usefixtures("confined")
async def test_a_program_that_does_not_end_is_ended() -> None:
    assert (await run_program("while True: pass", Limits(seconds=0.5))).outcome == "timeout"
    assert (await run_program("import time; time.sleep(60)", Limits(seconds=0.5))).outcome == "timeout"
    assert (await run_program("while True: pass", Limits(seconds=20.0, cpu_seconds=1))).outcome == "timeout"


@pytest.mark.usefixtures("confined")
async def test_memory_and_files_are_limited() -> None:
    assert (await run_program("x = bytearray(10**9)", QUICK)).reason.startswith("MemoryError")
    big = "open('big', 'wb').write(bytes(10**7))"
    assert (await run_program(big, Limits(seconds=5.0, file_bytes=1 << 16))).outcome == "failed"


@pytest.mark.usefixtures("confined")
async def test_it_sees_neither_the_environment_nor_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UPDRAFT_SECRET", "secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "planted.py").write_text("")
    here = os.getcwd()
    program = f"""
import os, sys
assert 'UPDRAFT_SECRET' not in os.environ
assert os.getcwd() != {here!r} and sys.flags.isolated
assert os.listdir('.') == ['program.py']
assert sys.stdin.read() == ''
try:
    import planted
except ImportError:
    pass
else:
    raise AssertionError
"""
    verdict = await run_program(program, QUICK)
    assert verdict.outcome == "passed", verdict.reason


@pytest.mark.usefixtures("confined")
async def test_much_output_is_dropped() -> None:
    program = "import sys\nfor _ in range(10**4): sys.stderr.write('x' * 100 + '\\n')\nraise ValueError('end')"
    assert (await run_program(program, QUICK)).reason == "ValueError: end"


@pytest.mark.usefixtures("confined")
async def test_gigabytes_of_output_fill_nothing() -> None:
    program = "import os\nwhile True: os.write(1, bytes(1 << 20)); os.write(2, bytes(1 << 20))"
    assert (await run_program(program, Limits(seconds=1.0, cpu_seconds=1))).outcome == "timeout"


@pytest.mark.usefixtures("confined")
async def test_one_that_forks_without_end_is_ended() -> None:
    bomb = "import os, time\ntry:\n    while True: os.fork()\nexcept OSError: time.sleep(60)"
    verdict = await run_program(bomb, Limits(seconds=4.0, processes=16))
    assert verdict.outcome in ("limit", "timeout", "failed"), verdict
    threads = "import threading, time\nfor _ in range(40): threading.Thread(target=time.sleep, args=(60,)).start()"
    generous = Limits(seconds=5.0, processes=16, memory_bytes=2 << 30)  # each thread has a stack
    assert (await run_program(threads, generous)).outcome in ("limit", "failed")


@pytest.mark.usefixtures("confined")
async def test_memory_of_all_its_processes_counts() -> None:
    """Each of them is below the limit of one."""
    program = "import os, time\nfor _ in range(4): os.fork()\nx = b'x' * (20 << 20)\ntime.sleep(60)"
    verdict = await run_program(program, Limits(seconds=5.0, memory_bytes=120 << 20))
    assert verdict == Verdict("limit", "too much memory")


@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize(
    "means",
    [
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGXCPU, signal.SIG_IGN)",
        "os.setsid()\n    if os.fork(): os._exit(0)",  # a daemon, the book's way
        "os.setpgid(0, 0)",
    ],
)
async def test_what_it_started_ends_with_it(means: str) -> None:
    mark = f"lingering-{os.getpid()}"
    program = f"""
import os, signal, sys
if os.fork() == 0:
    {means}
    for number in range(3): os.close(number)
    os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60)', {mark!r}])
"""
    assert (await run_program(program, QUICK)).outcome == "passed"
    assert running(mark) == []
    await run_program(program + "import time; time.sleep(60)", Limits(seconds=0.5))
    assert running(mark) == []


@pytest.mark.usefixtures("confined")
async def test_one_that_kills_its_group_kills_itself_alone() -> None:
    assert (await run_program("import os; os.kill(0, 9)", QUICK)).reason == "ended by signal 9"
    assert (await run_program("import os, signal; os.killpg(os.getpgid(0), 15)", QUICK)).outcome == "failed"


@pytest.mark.usefixtures("confined")
async def test_a_cancelled_one_is_gone_when_the_cancellation_is_told() -> None:
    mark = f"cancelled-{os.getpid()}"
    program = (
        f"import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60)', {mark!r}])"
    )
    task = asyncio.create_task(run_program(program, QUICK))
    while not running(mark):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running(mark) == []


@pytest.fixture
async def confinable() -> None:
    if why := await sandbox.unconfinable():
        pytest.skip(why)


@pytest.mark.usefixtures("confinable")
class TestConfined:
    @pytest.mark.parametrize(
        "address",
        [
            "socket.create_connection(('127.0.0.1', 9), 1)",
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
            "socket.socket(socket.AF_UNIX).connect('\\0abstract')",
        ],
    )
    async def test_the_network_is_away(self, address: str) -> None:
        verdict = await run_program(f"import socket; {address}", QUICK)
        assert "unreachable" in verdict.reason or "refused" in verdict.reason, verdict

    async def test_it_writes_in_its_folder_alone(self, tmp_path: Path) -> None:
        here = tmp_path / "file"
        here.write_text("as it was")
        for target in (here, tmp_path / "new", Path.home() / "updraft-planted", Path("/dev/shm/updraft-planted")):  # noqa: S108
            assert (await run_program(f"open({str(target)!r}, 'w').write('x')", QUICK)).outcome == "failed"
            assert target == here or not target.exists()
        for word in ("os.remove", "os.rmdir", "os.utime"):
            assert (await run_program(f"import os; {word}({str(here)!r})", QUICK)).outcome == "failed"
        assert here.read_text() == "as it was"
        assert (
            await run_program("open('mine', 'w').write('x'); assert open('mine').read() == 'x'", QUICK)
        ).reason == ""

    async def test_its_folder_is_bounded(self) -> None:
        many = "for number in range(64): open(str(number), 'wb').write(bytes(1 << 20))"
        verdict = await run_program(many, Limits(seconds=5.0, disk_bytes=8 << 20))
        assert "No space left" in verdict.reason

    async def test_it_cannot_get_out(self) -> None:
        """Nobody inside has rights, and a namespace more does not give any."""
        program = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
assert libc.umount2(b'/proc', 2) != 0
assert libc.mount(None, b'/', None, 32 | 4096, None) != 0
if libc.unshare(0x10000000 | 0x20000) == 0:
    assert libc.mount(None, b'/', None, 32 | 4096, None) != 0
    assert libc.umount2(b'/proc', 2) != 0
try:
    open('/updraft-planted', 'w')
except OSError:
    pass
else:
    raise AssertionError('written')
"""
        verdict = await run_program(program, QUICK)
        assert verdict.outcome == "passed", verdict.reason
        assert "updraft-planted" not in os.listdir("/")

    async def test_it_sees_and_signals_no_process_but_its_own(self) -> None:
        program = f"""
import os
others = [name for name in os.listdir('/proc') if name.isdigit() and int(name) > 2]
assert not others, others
try:
    os.kill({os.getpid()}, 0)
except ProcessLookupError:
    pass
else:
    raise AssertionError
try:
    os.kill(-1, 9)
except ProcessLookupError:
    pass
os.kill(1, 9)
"""
        verdict = await run_program(program, QUICK)
        assert verdict.outcome == "passed", verdict.reason


async def test_what_cannot_be_confined_is_not_run_unless_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sandbox, "_tried", ["unshare: Operation not permitted"])
    program = f"open({str(tmp_path / 'ran')!r}, 'w')"
    with pytest.raises(ConfigError, match="unshare: Operation not permitted") as caught:
        await sandbox.run_program(program, QUICK)
    assert "unconfined" in caught.value.remedy
    assert not (tmp_path / "ran").exists()
    assert (await sandbox.run_program(program, QUICK, unconfined=True)).outcome == "passed"
    assert (tmp_path / "ran").exists()


async def test_another_system_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_tried", [])
    monkeypatch.setattr(sys, "platform", "darwin")
    assert await sandbox.unconfinable() == "only Linux can"


PYTHON = ("python3", "-c")


async def test_a_command_is_given_its_input_and_gives_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDRAFT_SEEN", "yes")
    program = "import os, sys; print(sys.stdin.read()[::-1] + os.environ['UPDRAFT_SEEN']); sys.exit(3)"
    assert await run_command([*PYTHON, program], b"abc", QUICK) == Ended(3, "", b"cbayes\n", b"")
    big = bytes(300_000)
    ended = await run_command([*PYTHON, "import sys; print(len(sys.stdin.buffer.read()))"], big, QUICK)
    assert ended.output == b"300000\n"
    assert (await run_command([*PYTHON, "pass"], big, QUICK)).status == 0  # one that does not read


@pytest.mark.parametrize(
    ("program", "stopped"),
    [
        ("while True: print('x' * 10000)", "output"),
        ("import time; time.sleep(60)", "time"),
        ("import os\nwhile True: os.fork()", "processes"),
    ],
)
async def test_a_command_has_limits(program: str, stopped: str) -> None:
    ended = await run_command([*PYTHON, program], b"", Limits(seconds=1.0, output_bytes=1 << 16))
    assert (ended.status, ended.stopped) == (None, stopped)
    assert len(ended.output) <= 1 << 16 and ended.reason


async def test_a_command_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="No such file"):
        await run_command(["/no/such/program"], b"", QUICK)
