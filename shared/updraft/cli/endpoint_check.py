"""What `updraft doctor` finds out about an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import time

from updraft.cli.checks import Check
from updraft.cli.extras import needs_extra
from updraft.config import EdgeSettings
from updraft.errors import UpdraftError

__all__ = ["check_endpoint"]


def check_endpoint(settings: EdgeSettings) -> list[Check]:
    """Reachability, key, and whether the model is listed; nothing where no endpoint is named."""
    endpoint = settings.endpoint
    if endpoint.url is None:
        return []
    if settings.local_only:
        return [Check("endpoint", "skipped", "local_only is set; the edge writes alone")]
    started = time.perf_counter()
    try:
        models = asyncio.run(_models(settings))
    except UpdraftError as error:
        return [Check.failed("endpoint", error)]
    seconds = time.perf_counter() - started
    facts: dict[str, object] = {"url": endpoint.url, "models": models[:100], "seconds": seconds}
    if endpoint.model in models:
        return [Check("endpoint", "ok", f"{endpoint.url} has {endpoint.model}, {1000 * seconds:.0f} ms", facts=facts)]
    shown = ", ".join(models[:5]) or "none"
    detail = f"{endpoint.url} does not list the model {endpoint.model}; it lists {shown}"
    return [Check("endpoint", "warning", detail, "Correct edge.endpoint.model, if it is not right.", facts)]


async def _models(settings: EdgeSettings) -> list[str]:
    with needs_extra("edge"):
        from updraft_edge.endpoint.link import open_endpoint
        from updraft_edge.rules.guard import Rules

    link = open_endpoint(settings, Rules(settings, lambda token: b""))
    if link is None:
        return []
    try:
        return await link.models()
    finally:
        await link.close()
