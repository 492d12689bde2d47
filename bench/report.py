"""What every bench shares: the machine's description, progress, the JSON file, and running one from a command line."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from updraft import __version__
from updraft.errors import ConfigError, MissingExtra

from .tiers import machine_cores

__all__ = ["Bench", "Report", "Step", "cpu_name", "environment", "run", "show", "table_of"]

FORMAT = 1
FILE_WIDTH = 140  # of tables that go to a file or a pipe
LIBRARIES = ("llama-cpp-python", "onnxruntime", "grpcio", "numpy")

Step = Callable[[str], None]


class Bench(Protocol):
    """One bench with its options, which are the fields of a dataclass."""

    @property
    def name(self) -> str:
        """Name of the verb and of the files."""
        ...

    @property
    def steps(self) -> int:
        """How often `measure` reports a step."""
        ...

    async def measure(self, step: Step) -> dict[str, Any]:
        """Do the work; the results as a JSON object. `passed` in it says whether what must hold held."""
        ...

    def tables(self, results: dict[str, Any]) -> list[Table]:
        """The results for people, each with its baseline."""
        ...

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        """Draw the results as a PNG; False if this bench has no plot."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """A finished bench and the files that hold it."""

    document: dict[str, Any]
    tables: list[Table]
    files: list[Path]
    no_plot: MissingExtra | None  # why the plot could not be drawn

    @property
    def passed(self) -> bool:
        return bool(self.document["results"].get("passed", True))


def run(bench: Bench, *, out: Path) -> Report:
    """Run a bench to its end and write `NAME.json`, and `NAME.png` if it has a plot, into the folder `out`.

    Raises:
        ConfigError: the folder cannot be written.
    """
    _writable(out)
    surroundings = environment()
    with _progress(bench.name, bench.steps) as step:
        results = asyncio.run(bench.measure(step))
    options = asdict(bench)  # type: ignore[call-overload]  # every bench is a dataclass
    document = {
        "bench": bench.name,
        "format": FORMAT,
        "environment": surroundings,
        "options": options,
        "results": results,
    }
    files = [out / f"{bench.name}.json"]
    files[0].write_text(json.dumps(document, indent=2, allow_nan=False, default=str) + "\n", encoding="utf-8")
    plot, no_plot = out / f"{bench.name}.png", None
    try:
        if bench.plot(results, plot):
            files.append(plot)
    except MissingExtra as error:
        no_plot = error
    return Report(document, bench.tables(results), files, no_plot)


def show(report: Report) -> None:
    """Print the machine and the tables on standard output."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    console, machine = Console(highlight=False, width=width), report.document["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = (
        f"{machine['date']}  {machine['command']}",
        f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores, {machine['memory_mib']} MiB, "
        f"{machine['system']}, load {machine['load_1min']}",
        versions,
    )
    console.print(*lines, sep="\n", markup=False, soft_wrap=True)
    for table in report.tables:
        console.print(table)


def environment() -> dict[str, Any]:
    """Hardware, versions, date and command line: what a figure means nothing without."""
    versions = {"updraft": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["updraft", *sys.argv[1:]]),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "usable_cores": len(machine_cores()),
        "memory_mib": _memory_mib(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": versions,
    }


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, as far as the system tells it."""
    try:
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def table_of(title: str, rows: list[dict[str, Any]], columns: dict[str, tuple[str, str]]) -> Table:
    """A table of the rows' values. `columns` maps a key to its heading and format, such as `("tok/s", ".1f")`."""
    table = Table(title=title, title_justify="left")
    for heading, form in columns.values():
        table.add_column(heading, justify="right" if form else "left")
    for row in rows:
        table.add_row(*("-" if row.get(key) is None else format(row[key], form) for key, (_, form) in columns.items()))
    return table


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    except (AttributeError, OSError, ValueError):
        return None


def _writable(folder: Path) -> None:
    """Fail before the measurement, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"The folder {folder} cannot be written: {error.strerror}.", remedy="Name another one with --out."
        ) from error


@contextlib.contextmanager
def _progress(name: str, steps: int) -> Iterator[Step]:
    """A bar on standard error that says what was done last."""
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=steps)
        yield lambda text: progress.update(task, advance=1, description=f"{name}: {text}")
