"""Writes docs/cli.md from the help of every verb; with --check, fails if the file is not current."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Plain help of a fixed width, whatever the terminal; both are read when typer is imported.
os.environ |= {"TYPER_USE_RICH": "0", "COLUMNS": "80", "NO_COLOR": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))

import typer
from typer.core import TyperGroup

from updraft.cli import app

TARGET = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
INTRODUCTION = """# Command line

<!-- Written by scripts/help_docs from the help of every verb. Do not edit. -->

Settings come from flags, then `UPDRAFT_*` variables, the configuration file, the device profile and the defaults;
`updraft config show` prints each with its place. Exit codes: 0 success, 1 failure, 2 wrong input or settings.
"""


def paths(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The verbs as typed after `updraft`, groups before their members."""
    yield path
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from paths(below, (*path, name))


def document() -> str:
    """The whole page."""
    sections = [INTRODUCTION]
    command = typer.main.get_command(app)
    for path in paths(command):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            command.main([*path, "--help"], prog_name="updraft", standalone_mode=False, terminal_width=80)
        lines = [line.rstrip() for line in printed.getvalue().strip().splitlines()]
        sections.append("\n".join([f"## `{' '.join(('updraft', *path))}`", "", "```", *lines, "```", ""]))
    return "\n".join(sections)


def main() -> None:
    text = document()
    if "--check" in sys.argv[1:]:
        if not TARGET.is_file() or TARGET.read_text("utf-8") != text:
            raise SystemExit("docs/cli.md is not what the help says: run scripts/help_docs")
        print("docs/cli.md is current")
        return
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
