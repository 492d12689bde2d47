"""Starts one command with limits, watches it, and ends everything that it started.

A program of its own on the standard library alone: `updraft.sandbox` runs it with an order as JSON, so that nothing
happens between fork and exec in a process that has threads. It writes one line of JSON to the descriptor `report`.

A confined command has user, process, network and mount namespaces of its own (Linux): it sees and signals no process
but its own, has no network, cannot write outside of its folder, and all that it started is killed by the kernel with
the first process of its namespace. An unconfined one has the limits alone; what leaves its group is found by parentage.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["main"]

_INTERVAL: Final = 0.05  # seconds between two looks at what the command uses
_PATIENCE: Final = 5.0  # seconds for killed processes to go
_NOBODY: Final = 65534
_HIDDEN: Final = (b"/run",)  # sockets of system services, which a read-only file system does not protect

_NEW_USER, _NEW_PIDS, _NEW_NET, _NEW_IPC, _NEW_MOUNTS = 0x10000000, 0x20000000, 0x40000000, 0x08000000, 0x00020000
_PRIVATE: Final = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE
_QUIET: Final = 0x2 | 0x4 | 0x8  # MS_NOSUID | MS_NODEV | MS_NOEXEC
_DIE_WITH_PARENT, _ADOPT, _NO_NEW_PRIVILEGES = 1, 36, 38  # prctl
_MOUNT_SETATTR, _HERE, _RECURSIVE, _READ_ONLY = 442, -100, 0x8000, 1


class _Use(NamedTuple):
    pids: list[int]
    threads: int
    seconds: float
    memory: int


def main(order: dict[str, Any]) -> None:
    """Carry an order out: command, folder, environment, confined, limits and the descriptor of the report."""
    report = order["report"]
    os.set_inheritable(report, False)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    try:
        if sys.platform == "linux":
            _control(_DIE_WITH_PARENT, signal.SIGTERM)
            _control(_ADOPT, 1)
        if order["confined"]:
            _leave()
        child = os.fork()
    except OSError as error:
        _tell(report, error=str(error))
        return
    if child == 0:
        _in_child(order, _first if order["confined"] else _become)
    status, stopped = _watch(child, order)
    _end_all(child, confined=order["confined"])
    _tell(report, status=status, stopped=stopped)


def _tell(report: int, **found: Any) -> None:
    """The first line is what counts."""
    os.write(report, json.dumps(found).encode()[:4000] + b"\n")


def _in_child(order: dict[str, Any], go_on: Callable[[dict[str, Any]], None]) -> None:
    try:
        go_on(order)
    except BaseException as error:
        _tell(order["report"], error=str(error) or type(error).__name__)
    finally:
        os._exit(125)


def _leave() -> None:
    """New namespaces. Inside, the user is nobody in particular: without rights once the command is executed."""
    user, group = os.getuid(), os.getgid()
    _checked("unshare", _libc.unshare(_NEW_USER | _NEW_PIDS | _NEW_NET | _NEW_IPC))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_NOBODY} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{_NOBODY} {group} 1")


def _first(order: dict[str, Any]) -> None:
    """The first process of the namespace: no signal from inside reaches it, and all others die with it."""
    _control(_DIE_WITH_PARENT, signal.SIGKILL)
    _close_off(order["folder"], order["disk_bytes"])
    program = os.fork()
    if program == 0:
        _in_child(order, _become)
    while True:
        pid, status = os.wait()
        if pid == program:
            _tell(order["report"], status=os.waitstatus_to_exitcode(status), stopped="")
            os._exit(0)


def _close_off(folder: str, size: int) -> None:
    """A file system that can be read and not written, but for the folder, which lives in memory and is bounded."""
    place = os.fsencode(folder)
    held = {path: path.read_bytes() for path in Path(folder).iterdir()}
    _checked("unshare", _libc.unshare(_NEW_MOUNTS))
    _checked("mount", _libc.mount(None, b"/", None, _PRIVATE, None))
    _mount(b"proc", b"/proc", b"")
    for hidden in filter(os.path.isdir, _HIDDEN):
        _mount(b"tmpfs", hidden, b"size=4k")
    _mount(b"tmpfs", place, b"size=%d,nr_inodes=4096,mode=700" % (size + sum(map(len, held.values()))))
    for path, content in held.items():
        path.write_bytes(content)
    _set_attributes(b"/", _RECURSIVE, on=_READ_ONLY)
    _set_attributes(place, 0, off=_READ_ONLY)


def _mount(kind: bytes, where: bytes, data: bytes) -> None:
    _checked(f"mount {os.fsdecode(where)}", _libc.mount(kind, where, kind, _QUIET, data))


def _set_attributes(where: bytes, flags: int, *, on: int = 0, off: int = 0) -> None:
    wanted = (ctypes.c_uint64 * 4)(on, off, 0, 0)  # struct mount_attr
    result = _libc.syscall(_MOUNT_SETATTR, _HERE, where, flags, ctypes.byref(wanted), ctypes.sizeof(wanted))
    _checked("mount_setattr", result)


def _become(order: dict[str, Any]) -> None:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    most = {
        resource.RLIMIT_CPU: order["cpu_seconds"],
        resource.RLIMIT_AS: order["memory_bytes"],
        resource.RLIMIT_FSIZE: order["file_bytes"],
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    if order["confined"]:  # else all processes of the user would count
        most[resource.RLIMIT_NPROC] = order["processes"] + 3
        _control(_NO_NEW_PRIVILEGES, 1)
    for kind, value in most.items():
        if value is not None:
            # A second more for the hard limit: SIGXCPU comes first, and says why.
            resource.setrlimit(kind, (value, value + (kind == resource.RLIMIT_CPU)))
    os.chdir(order["folder"])
    os.execvpe(order["command"][0], order["command"], order["environment"])  # noqa: S606  # no shell is what is wanted


def _watch(child: int, order: dict[str, Any]) -> tuple[int | None, str]:
    """Wait for the child's end. Its status, or why it has to be stopped."""
    until = time.monotonic() + order["seconds"]
    while (left := until - time.monotonic()) > 0:
        came = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, min(left, _INTERVAL))
        if came is not None and came.si_signo == signal.SIGTERM:
            return None, "cancelled"
        status = _reaped(child)
        if status is not None:
            return status, ""
        if excess := _excess(order):
            return None, excess
    return None, "time"


def _reaped(child: int) -> int | None:
    """Bury who has died; the child's status if it has."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                found = os.waitstatus_to_exitcode(ended[1])
    return found


def _excess(order: dict[str, Any]) -> str:
    use = _used()
    own = 1 if order["confined"] else 0  # the first process of the namespace
    for name, value, most in (
        ("processes", use.threads - own, order["processes"]),
        ("cpu", use.seconds, order["cpu_seconds"]),
        ("memory", use.memory, order["memory_bytes"]),
    ):
        if most is not None and value > most:
            return name
    return ""


def _used() -> _Use:
    """What all descendants use together; nothing where the system has no /proc."""
    table: dict[int, list[str]] = {}
    below: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                # After the name, which may hold anything: state, parent, ... (proc_pid_stat(5), from field 3)
                fields = Path("/proc", name, "stat").read_text(errors="replace").rpartition(")")[2].split()
                table[int(name)] = fields
                below.setdefault(int(fields[1]), []).append(int(name))
    pids, pending = [], list(below.get(os.getpid(), ()))
    while pending:
        pids.append(pid := pending.pop())
        pending += below.get(pid, ())
    rows = [table[pid] for pid in pids]
    ticks = sum(int(value) for row in rows for value in row[11:15])
    return _Use(
        pids,
        sum(int(row[17]) for row in rows),
        ticks / os.sysconf("SC_CLK_TCK"),
        sum(int(row[21]) for row in rows) * resource.getpagesize(),
    )


def _end_all(child: int, *, confined: bool) -> None:
    """Kill whatever is left, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not confined:
            os.killpg(child, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        _reaped(child)
        left = _used().pids
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


_libc = ctypes.CDLL(None, use_errno=True)


def _control(what: int, value: int) -> None:
    _checked("prctl", _libc.prctl(what, ctypes.c_ulong(value), 0, 0, 0))


def _checked(name: str, result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
