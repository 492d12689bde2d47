"""Queries of dashboard and alerts, evaluated on scrapes of two running tiers: each shows something."""

from __future__ import annotations

import asyncio
import math

import pytest

from tests.deploy.promql import Evaluator, Vector, scrape
from tests.deploy.test_monitoring import panels, rules
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud, until
from updraft.generation import GenerationRequest
from updraft.modes import parse_settings
from updraft_cloud.server import CloudServer
from updraft_edge.agent import Agent

PAGE = """
# TYPE hits counter
hits_total{kind="a"} 30.0
hits_total{kind="b"} 10.0
# TYPE wait histogram
wait_bucket{le="0.1"} 5.0
wait_bucket{le="1.0"} 10.0
wait_bucket{le="+Inf"} 10.0
wait_sum 3.0
wait_count 10.0
"""


TIMED = {"UpdraftFirstTokenSlow", "UpdraftQueueWait", "UpdraftSchedulerOverhead"}


def only(vector: Vector) -> float:
    (value,) = vector.values()
    return value


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('hits_total{kind="a"}', 30.0),
        ("sum(rate(hits_total[5m]))", 4.0),
        ("sum(increase(hits_total[1h])) / 2", 20.0),
        ('sum(hits_total{kind=~"a|c"}) / sum(hits_total)', 0.75),
        ("max(hits_total) + min(hits_total) * 2", 50.0),
        ("histogram_quantile(0.5, sum by (le) (rate(wait_bucket[5m])))", 0.1),
        ("histogram_quantile(0.75, sum by (le) (rate(wait_bucket[5m])))", 0.55),
        ("hits_total > 20", 30.0),
    ],
)
def test_the_evaluator_computes_what_prometheus_would(query: str, expected: float) -> None:
    assert only(Evaluator({}, scrape(PAGE), 10.0)(query)) == pytest.approx(expected)


def test_the_evaluator_keeps_groups_apart_and_knows_what_it_does_not_know() -> None:
    evaluate = Evaluator({}, scrape(PAGE, instance="one"), 10.0)
    assert sorted(evaluate("sum by (kind) (hits_total)").values()) == [10.0, 30.0]
    assert evaluate('hits_total{instance="two"}') == {} == evaluate("hits_total == 7")
    with pytest.raises(ValueError, match="what is"):
        evaluate("hits_total offset")


async def load(agent: Agent) -> None:
    """Answers in modes that ask the cloud for everything that it does."""
    for mode, extra in (("draft", {"stop": {"rule": "fixed", "length": 3}}), ("cloud", {}), ("edge", {})):
        settings = parse_settings({"mode": mode, **extra})
        for prompt in ("the sky is", "the sky was"):
            await complete(agent, GenerationRequest(prompt=prompt, max_tokens=20, settings=settings, ignore_end=True))
    solving = parse_settings({"effort": "low", "solve": {"edge_samples": 0}})
    await complete(agent, GenerationRequest(prompt="the sky is", max_tokens=20, settings=solving))
    await agent.score(agent.encode("the sky"), settings=parse_settings({"mode": "cloud"}))


def alarms(evaluate: Evaluator) -> set[str]:
    """Alerts whose expression holds for something; what is nought holds, too."""
    return {rule["alert"] for rule in rules() if evaluate(rule["expr"])}


def page(cloud: CloudServer, agent: Agent) -> dict[str, Vector]:
    found = scrape(cloud.metrics.render().decode(), instance="cloud", job="updraft-cloud")
    for name, vector in scrape(agent.metrics.render().decode(), instance="edge", job="updraft-edge").items():
        found[name] |= vector
    found["up"] = {frozenset({("instance", tier), ("job", f"updraft-{tier}")}): 1.0 for tier in ("cloud", "edge")}
    return found


async def test_every_query_of_dashboard_and_alerts_shows_something() -> None:
    async with running_cloud(HashEngine()) as cloud, running_agent(HashEngine(noise=0.5), cloud.address) as agent:
        before = page(cloud, agent)
        started = asyncio.get_running_loop().time()
        await load(agent)
        read = cloud.metrics.registry.get_sample_value
        await until(lambda: bool(read("updraft_pass_seconds_count")) and bool(read("updraft_load_ratio") is not None))
        after = page(cloud, agent)
        cloud.service.lost()
        cloud.service.lost()
        agent.metrics.link("open")
        broken = page(cloud, agent)
    evaluate = Evaluator(before, after, asyncio.get_running_loop().time() - started)
    # What counts only when something goes wrong has no labels before it does.
    rare = {"updraft_degraded_total", "updraft_withheld_total", "updraft_errors_total"}
    queries = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    asked = [query.replace('"$cloud"', '"cloud"').replace('"$edge"', '"edge"') for query in queries]
    assert [query for query in asked if not evaluate(query) and not any(name in query for name in rare)] == []
    shown = {query: evaluate(query) for query in asked}
    assert not any(value < 0 for vector in shown.values() for value in vector.values())
    moving = [query for query in asked if any(value > 0 for value in shown[query].values() if not math.isnan(value))]
    assert len(moving) > len(asked) / 2
    assert alarms(evaluate) <= TIMED  # a busy machine may be slow
    assert alarms(Evaluator(after, broken, 1.0)) - TIMED == {
        "UpdraftCloudNotReady",
        "UpdraftEngineRestarts",
        "UpdraftLinkDown",
    }
