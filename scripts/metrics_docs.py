"""Writes the table of metrics in docs/operations.md from the registries; with --check, fails if it is not current."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / tier) for tier in ("shared", "edge", "cloud"))

from prometheus_client import CollectorRegistry

from updraft_cloud.operations.metrics import CloudMetrics
from updraft_edge.metrics import EdgeMetrics

TARGET = Path(__file__).resolve().parents[1] / "docs" / "operations.md"
BEGIN = "<!-- Written by scripts/metrics_docs from the registries. Do not edit. -->\n"
END = "<!-- End of the table. -->\n"


def rows(tier: str, registry: CollectorRegistry) -> dict[str, tuple[str, str, str, str]]:
    """Kind, labels, tier and meaning of each metric, by the name that queries use."""
    found = {}
    for collector in set(registry._collector_to_names):
        labels = ", ".join(f"`{name}`" for name in getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            if not family.name.startswith("updraft_"):
                continue  # of the process; Prometheus' own documentation has them
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            kind = {"stateset": "states"}.get(family.type, family.type)
            found[family.name + suffix] = (kind, labels, tier, family.documentation)
    return found


def table() -> str:
    """The table, both tiers' metrics in one, with a line for each meaning."""
    cloud, edge = rows("cloud", CloudMetrics().registry), rows("edge", EdgeMetrics().registry)
    lines = ["", "| metric | kind | labels | tier | meaning |", "|---|---|---|---|---|"]
    for name in sorted(cloud | edge):
        given = [row[name] for row in (cloud, edge) if name in row]
        kind, labels, tier, meaning = given[0]
        if len(given) == 2:
            tier = "both"
            if given[1][3] != meaning:
                meaning = f"{meaning} Edge: {given[1][3]}"
        lines.append(f"| `{name}` | {kind} | {labels} | {tier} | {meaning} |")
    return "\n".join(lines) + "\n\n"


def main() -> None:
    page = TARGET.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    text = before + BEGIN + table() + END + after
    if "--check" in sys.argv[1:]:
        if page != text:
            raise SystemExit("docs/operations.md does not have the metrics that there are: run scripts/metrics_docs")
        print("docs/operations.md is current")
        return
    TARGET.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
