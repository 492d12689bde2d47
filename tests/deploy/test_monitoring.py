"""Dashboard, alerts and the metrics' page name only metrics and labels that the tiers have."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from tests.house import ROOT
from updraft_cloud.operations.metrics import CloudMetrics
from updraft_edge.metrics import EdgeMetrics

DASHBOARD = ROOT / "deploy/grafana/updraft.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
SCRAPE = ROOT / "deploy/prometheus/prometheus.yml"

FUNCTIONS = frozenset({"histogram_quantile", "increase", "max", "min", "rate", "sum"})
TARGET_LABELS = frozenset({"instance", "job"})
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
    "stateset": ("",),
}


def samples(registry: CollectorRegistry) -> dict[str, frozenset[str]]:
    """Names that a scrape may show, with their labels. Those of a metric that nothing was counted in yet, too."""
    names: dict[str, frozenset[str]] = {"up": frozenset()}
    for collector in set(registry._collector_to_names):
        labels = frozenset(getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            own = labels | ({family.name} if family.type == "stateset" else frozenset())
            for suffix in SUFFIXES[family.type]:
                names[family.name + suffix] = own | ({"le"} if suffix == "_bucket" else frozenset())
    return names


CLOUD, EDGE = samples(CloudMetrics().registry), samples(EdgeMetrics().registry)
KNOWN = {name: CLOUD.get(name, frozenset()) | EDGE.get(name, frozenset()) for name in CLOUD | EDGE}


def problems(query: str) -> list[str]:
    """Metrics that nobody has and labels that its metrics lack, in a PromQL query."""
    found = []
    plain = re.sub(r'"[^"]*"', '""', query)
    groups = re.findall(r"\bby \(([^)]*)\)|\{([^}]*)\}", plain)
    asked = {name for by, match in groups for name in re.findall(r"([a-z_]+)\s*(?:[,=!~]|$)", by or match)}
    names = set(re.findall(r"\b[a-z][a-z0-9_]*\b", re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)", " ", plain)))
    metrics = names - FUNCTIONS - {"label_values", "instance"}
    found += [f"no metric {name}" for name in sorted(metrics - KNOWN.keys())]
    if not metrics:
        found.append("no metric at all")
    labels = frozenset().union(*(KNOWN.get(name, frozenset()) for name in metrics)) | TARGET_LABELS
    found += [f"no label {name}" for name in sorted(asked - labels)]
    return found


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return board


def panels() -> Iterator[dict[str, Any]]:
    yield from dashboard()["panels"]


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("sum(rate(updraft_verdicts_total[5m]))", []),
        ('updraft_kv_bytes{place="disk", instance=~"$cloud"}', []),
        ("sum by (le) (rate(updraft_pass_seconds_bucket[$__rate_interval]))", []),
        ("updraft_verdicts", ["no metric updraft_verdicts"]),
        ("rate(updraft_nothing_total[5m])", ["no metric updraft_nothing_total"]),
        ('updraft_kv_bytes{tenant="x"}', ["no label tenant"]),
        ("sum by (tenant) (updraft_sessions_active)", ["no label tenant"]),
        ("sum by (le) (updraft_pass_seconds_sum)", ["no label le"]),
        ("vector(1)", ["no metric vector"]),
        ("1 + 1", ["no metric at all"]),
    ],
)
def test_what_a_query_lacks_is_found(query: str, found: list[str]) -> None:
    assert problems(query) == found


def test_every_panel_asks_for_metrics_that_exist() -> None:
    queries = [(panel["title"], target["expr"]) for panel in panels() for target in panel.get("targets", ())]
    assert len(queries) > 50
    assert [(title, query, found) for title, query in queries if (found := problems(query))] == []


def test_the_dashboard_is_whole() -> None:
    board = dashboard()
    assert {"uid", "title", "panels", "templating", "schemaVersion", "time"} <= board.keys()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert {"datasource", "cloud", "edge"} == variables.keys()
    for name in ("cloud", "edge"):
        assert problems(variables[name]["query"]["query"]) == []
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["title"] and panel["targets"] and panel["datasource"]["uid"] == "${datasource}"
        assert all("$cloud" in target["expr"] or "$edge" in target["expr"] for target in panel["targets"])


def test_no_panel_covers_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for cell in (
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ):
            assert cell not in taken, (panel["title"], taken[cell])
            taken[cell] = panel["title"]


def test_every_metric_of_a_tier_is_on_the_dashboard() -> None:
    shown = " ".join(target["expr"] for panel in panels() for target in panel.get("targets", ()))
    left_out = {
        "updraft_build_info",  # for joins
        "updraft_e2e_request_latency_seconds", "updraft_token_entropy_nats", "updraft_exit_tokens_total",
        "updraft_cloud_waited_seconds_total", "updraft_escalations_total", "updraft_verdicts_total",
    }  # fmt: skip
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in KNOWN if name.startswith("updraft_")}
    assert {name for name in families if name not in shown} == left_out


def test_alerts_ask_for_metrics_that_exist_and_say_what_is_wrong() -> None:
    alerts = list(rules())
    assert [(rule["alert"], found) for rule in alerts if (found := problems(rule["expr"]))] == []
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 8
    for rule in alerts:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]


def test_every_alert_is_in_the_operators_page() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    assert [rule["alert"] for rule in rules() if f"`{rule['alert']}`" not in page] == []


def test_the_scrape_example_names_the_rules_and_both_tiers() -> None:
    scrape = yaml.safe_load(SCRAPE.read_text(encoding="utf-8"))
    assert all((SCRAPE.parent / Path(name)).is_file() for name in scrape["rule_files"])
    assert {job["job_name"] for job in scrape["scrape_configs"]} == {"updraft-cloud", "updraft-edge"}


def test_the_table_of_metrics_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/metrics_docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
