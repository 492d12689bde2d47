"""Runs inside the image and prints what should not be there, a line each. It imports the standard library only."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

# Nobody who gets in finds a shell, a package manager, a compiler, or settings of the machine that built the image.
TOOLS = ("apt", "ash", "bash", "busybox", "cc", "curl", "dash", "dpkg", "gcc", "ld", "nc", "perl", "sh", "wget")
LEFTOVERS = ("pip", "pip.conf", "pip.ini", "ca-certificates.crt", ".netrc", ".git", "setuptools", "cmake", "ensurepip")
WRITABLE = ("/tmp", "/var/lib/updraft")  # noqa: S108
# What a runtime puts over the image.
RUNTIME = ("/dev", "/proc", "/sys", "/run", "/secrets", "/var/tmp", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")  # noqa: S108


def found() -> Iterator[str]:
    yield from _rights()
    for folder, folders, files in os.walk("/"):
        here = [Path(folder, name) for name in (*folders, *files)]
        folders[:] = [name for name in folders if str(Path(folder, name)) not in (*WRITABLE, *RUNTIME)]
        for path in here:
            if str(path) not in (*WRITABLE, *RUNTIME):
                yield from _faults(path)


def _faults(path: Path) -> Iterator[str]:
    if path.name in LEFTOVERS or (path.name in TOOLS and path.is_file()):
        yield f"{path} should not be there"
    if path.is_symlink():
        if not path.exists():
            yield f"{path} leads nowhere"
        return
    if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID):
        yield f"{path} runs with another's rights"
    if os.access(path, os.W_OK):
        yield f"{path} can be written"


def _rights() -> Iterator[str]:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    if 0 in (os.getuid(), os.geteuid(), os.getgid(), *os.getgroups()):
        yield "it runs as root"
    if int(status["CapEff"], 16) or int(status["CapPrm"], 16):
        yield f"it has capabilities: {status['CapEff']}"
    if status["NoNewPrivs"] != "1":
        yield "it may get new privileges"


if __name__ == "__main__":
    print(*found(), sep="\n", end="")
