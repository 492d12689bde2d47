"""Draws the dashboard's panels as docs/operations.png, from scrapes of both tiers under a minute of chats.

Grafana is not needed: the panels' own queries are evaluated over the scrapes, each over the ten seconds before it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

sys.path.extend(str(Path(__file__).resolve().parents[1] / folder) for folder in ("", "shared", "edge", "cloud"))

from bench.plot import new_figure
from bench.prompts import first_prompts
from bench.tiers import edge_settings, question
from tests.deploy.promql import Evaluator, Vector, scrape
from updraft.config import CloudSettings, ListenSettings
from updraft.modes import parse_settings
from updraft_cloud.server import CloudServer
from updraft_edge.agent import Agent

ROOT: Final = Path(__file__).resolve().parents[1]
TARGET: Final = ROOT / "docs" / "operations.png"
SECONDS, WINDOW, CLIENTS, TOKENS = 60, 10, 6, 48
MODES: Final = ("draft", "draft", "draft", "cloud", "span")
PANELS: Final = (
    "Open sessions", "Draft tokens", "Tokens by tier",
    "Time to first token", "To an answer", "Waiting",
    "What passes are made of", "Pass time", "Where the loop's time goes",
    "Sequences", "Moved", "Positions saved and lost",
)  # fmt: skip

Page = tuple[float, dict[str, Vector]]
Line = list[tuple[float, float]]


async def chats(agent: Agent, number: int, until: float) -> None:
    """One user after the other, with a pause to read."""
    chance = random.Random(number)
    while time.monotonic() < until:
        mode, prompt = parse_settings({"mode": chance.choice(MODES)}), chance.choice(first_prompts(20))
        asked = question(prompt, mode, tokens=TOKENS, temperature=0.7, seed=chance.randrange(10**6))
        async for _ in agent.generate(asked):
            pass
        await asyncio.sleep(chance.random())


def scraped(cloud: CloudServer, agent: Agent) -> dict[str, Vector]:
    """Both tiers' samples."""
    found = scrape(cloud.metrics.render().decode(), instance="cloud")
    for name, vector in scrape(agent.metrics.render().decode(), instance="edge").items():
        found.setdefault(name, {}).update(vector)
    return found


async def record() -> list[Page]:
    """A scrape a second, with its time."""
    pages: list[Page] = []
    settings = CloudSettings(model="smollm2", context=512, sequences=4, threads=1, listen=ListenSettings(port=0))
    async with CloudServer(settings) as cloud:
        edge = edge_settings("smollm2-q4_0", address=cloud.address, context=512, sequences=8, threads=1)
        async with Agent(edge) as agent:
            started = time.monotonic()
            running = [asyncio.create_task(chats(agent, number, started + SECONDS)) for number in range(CLIENTS)]
            while (now := time.monotonic() - started) < SECONDS:
                pages.append((now, scraped(cloud, agent)))
                await asyncio.sleep(1)
            await asyncio.gather(*running)
    return pages


def lines(panel: dict[str, Any], pages: list[Page]) -> dict[str, Line]:
    """Points of each of a panel's lines, by its legend; what never happened is left out."""
    found: dict[str, Line] = defaultdict(list)
    for (start, before), (now, after) in zip(pages, pages[WINDOW:], strict=False):
        evaluate = Evaluator(before, after, now - start)
        for target in panel["targets"]:
            query = target["expr"].replace('"$cloud"', '"cloud"').replace('"$edge"', '"edge"')
            for labels, value in evaluate(query).items():
                legend = target["legendFormat"]
                for name, label in labels:
                    legend = legend.replace(f"{{{{{name}}}}}", label)
                found[legend].append((now, value))
    return {legend: line for legend, line in found.items() if any(value > 0 for _, value in line)}


def draw(board: dict[str, Any], pages: list[Page], path: Path) -> None:
    panels = {panel["title"]: panel for panel in reversed(board["panels"])}  # the cloud's before the edge's of a name
    figure = new_figure()
    figure.set_size_inches(14, 13)
    figure.suptitle(f"{CLIENTS} users of one agent, SmolLM2-135M on both tiers, one cloud of 4 sequences", fontsize=11)
    for axes, title in zip(figure.subplots(4, 3).flat, PANELS, strict=True):
        for legend, line in lines(panels[title], pages).items():
            axes.plot(*zip(*line, strict=True), label=legend, linewidth=1)
        axes.set_title(f"{title} [{panels[title]['fieldConfig']['defaults']['unit']}]", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=6, frameon=False)
    figure.supxlabel("seconds", fontsize=9)
    figure.savefig(path, metadata={"Software": None}, dpi=90)


if __name__ == "__main__":
    draw(json.loads((ROOT / "deploy/grafana/updraft.json").read_text("utf-8")), asyncio.run(record()), TARGET)
