"""`updraft doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from updraft.cli.options import (
    CloudOption,
    ConfigOption,
    DeviceOption,
    JsonOption,
    LocalOnlyOption,
    ModelOption,
    SetOption,
    overrides,
)
from updraft.cli.reporting import examples, print_json, reported, stderr

if TYPE_CHECKING:
    from updraft.cli.checks import Check
    from updraft.config import EdgeSettings

__all__ = ["register"]

MARKS = {
    "ok": "[green]ok[/]",
    "warning": "[yellow]warning[/]",
    "failed": "[red]failed[/]",
    "skipped": "[dim]skipped[/]",
}


def register(app: typer.Typer) -> None:
    app.command(
        "doctor", epilog=examples("updraft doctor", "updraft doctor --cloud 10.0.0.5:7080", "updraft doctor --json")
    )(doctor)


@reported
def doctor(
    model: ModelOption = None,
    device: DeviceOption = None,
    cloud: CloudOption = None,
    local_only: LocalOnlyOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the check that loads the model.")] = False,
    config: ConfigOption = None,
    setting: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine, the edge model, the engine's exactness and the link; exit code 1 if a check fails."""
    from updraft.config import load_edge_settings

    own = overrides(setting, model=model, device=device, cloud__address=cloud, local_only=local_only)
    settings = load_edge_settings(config, **own)
    found: list[Check] = []
    with stderr().status("checking") as status:
        for check in _checks(settings, config, quick=quick):
            found.append(check)
            status.update(f"checked {check.name}")
            if not as_json:
                _show(check)
    failed = any(check.status == "failed" for check in found)
    if as_json:
        print_json({"healthy": not failed, "checks": [asdict(check) for check in found]})
    raise typer.Exit(1 if failed else 0)


def _checks(settings: EdgeSettings, config: Path | None, *, quick: bool) -> Iterator[Check]:
    from updraft.cli.checks import check_exact, check_machine, check_memory, check_model
    from updraft.cli.endpoint_check import check_endpoint
    from updraft.cli.link_check import check_link

    yield from check_machine(settings, config)
    checked, path, info = check_model(settings)
    yield checked
    if path is not None and info is not None:
        yield check_memory(settings, path, info)
        if not quick:
            yield check_exact(settings)
    yield from check_link(settings, info)
    yield from check_endpoint(settings)


def _show(check: Check) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    mark = MARKS[check.status]
    console.print(f"{mark:<20} [bold]{check.name}[/]: {escape(check.detail)}", soft_wrap=True)
    if check.remedy is not None:
        console.print(f"        {escape(check.remedy)}", soft_wrap=True)
