"""What processes hold, sampled while they work: memory, open files, threads, and what the cloud says of itself."""

from __future__ import annotations

import contextlib
import os
import socket
import urllib.request
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["GAUGES", "free_port", "held", "scraped"]

# What a cloud's /metrics says, by the name that a report gives it.
GAUGES: Final = {
    "updraft_sessions_active": "sessions",
    "updraft_kv_sequences": "sequences",
    "updraft_kv_bytes": "kv_bytes",
    "updraft_kv_faults_total": "kv_faults",
    "updraft_engine_restarts_total": "restarts",
}
_TIMEOUT_S: Final = 5.0


def held(pid: int | None) -> dict[str, float]:
    """Resident bytes, open files and threads of a process; empty if it has gone or the system does not tell."""
    if pid is None:
        return {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        folder = Path(f"/proc/{pid}")
        resident = int((folder / "statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        files, threads = len(os.listdir(folder / "fd")), len(os.listdir(folder / "task"))
        return {"memory": float(resident), "files": float(files), "threads": float(threads)}
    return {}


def scraped(address: str) -> dict[str, float]:
    """The gauges of a cloud's operations listener, each summed over its labels; empty while it is away."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=_TIMEOUT_S) as answer:
            return _summed(answer.read().decode())
    except OSError:  # of which urllib's own errors are one kind
        return {}


def free_port() -> int:
    """A port of the loopback device that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _summed(text: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in GAUGES:
                name = GAUGES[sample.name]
                sums[name] = sums.get(name, 0.0) + sample.value
    return sums
