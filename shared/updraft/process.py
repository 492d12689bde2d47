"""What a serving process asks of its operating system."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence

from updraft.errors import ConfigError

__all__ = ["pin_to_cores", "stop_signal"]

log = logging.getLogger(__name__)


def pin_to_cores(cores: Sequence[int] | None) -> None:
    """Keep this process, and the threads that it starts from now on, on the given cores.

    Does nothing where the system has no such call. Raises ConfigError if a core does not exist.
    """
    if not cores:
        return
    if not hasattr(os, "sched_setaffinity"):
        log.info("this system cannot pin a process to cores; cores=%s is ignored", list(cores))
        return
    try:
        os.sched_setaffinity(0, cores)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cores is {list(cores)}; this machine has {os.cpu_count()} cores.") from error


def stop_signal() -> asyncio.Event:
    """An event that SIGINT or SIGTERM sets; a second signal ends the process at once."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopped.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    return stopped
