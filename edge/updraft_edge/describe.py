"""What an agent says about itself: `/v1/info`, and what clients must know of its tokenizer."""

from __future__ import annotations

from updraft import __version__
from updraft.config import EdgeSettings
from updraft.engine import Engine
from updraft.modes import TEXT_MODES, Mode
from updraft_edge.endpoint.link import EndpointLink
from updraft_edge.exits.plans import ExitModel
from updraft_edge.link import CloudLink
from updraft_edge.rules.guard import Rules

__all__ = ["MODEL", "describe_agent", "describe_outside", "describe_tokenizer"]

MODEL = "updraft"
"""Name under which answers of the pair are labelled."""


def describe_agent(
    settings: EdgeSettings, engine: Engine, link: CloudLink | None, exits: ExitModel | None
) -> dict[str, object]:
    """The JSON object of `/v1/info`."""
    model = engine.info
    cloud = link.cloud if link is not None else None
    return {
        "version": __version__,
        "device": settings.device,
        "model": MODEL,
        "edge": {
            "model": model.name,
            "quantisation": model.quantisation,
            "layers": model.layers,
            "weight_bytes": model.weight_bytes,
            "context": engine.context,
            "tokenizer_hash": model.tokenizer_hash,
            "exits": exits.layers if exits is not None else [],
        },
        "cloud": None
        if link is None
        else {
            "address": link.settings.address,
            "breaker": link.breaker.state.value,
            "model": cloud.model if cloud else None,
            "boundaries": list(cloud.boundaries) if cloud else [],
        },
        "modes": [mode.value for mode in Mode if mode is not Mode.EXIT or exits is not None],
        "default_mode": settings.mode.mode.value,
        "local_only": settings.local_only,
    }


def describe_outside(link: CloudLink | None, endpoint: EndpointLink | None, rules: Rules) -> dict[str, object]:
    """Of the same object: the endpoint, if there is one, the rules, and which modes are left where it is alone."""
    described: dict[str, object] = {"endpoint": endpoint and endpoint.describe(), "rules": rules.describe()}
    if endpoint is not None and link is None:
        described["modes"] = [mode.value for mode in Mode if mode is Mode.EDGE or mode in TEXT_MODES]
    return described


def describe_tokenizer(engine: Engine) -> dict[str, object]:
    """Names of the end and start tokens (null where there is none) and the chat template, by vLLM's keys."""
    tokenizer, template = engine.tokenizer, engine.info.chat_template or ""
    ends = [tokenizer.written(token) for token in sorted(engine.info.end_tokens)]
    # The template closes a message with the token that ends answers; others end documents.
    ends.sort(key=lambda name: name not in template)
    start = tokenizer.encode("", start=True)
    return {
        "tokenizer_class": engine.info.architecture,
        "eos_token": ends[0] if ends else None,
        "bos_token": tokenizer.written(start[0]) if start else None,
        "pad_token": None,
        "chat_template": engine.info.chat_template,
        "model_max_length": engine.context,
    }
