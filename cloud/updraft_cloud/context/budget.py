"""How many sequences fit into the KV cache's budget."""

from __future__ import annotations

import logging

from updraft.config import CloudSettings
from updraft.errors import ConfigError
from updraft.models import resolve
from updraft.models.cache_size import cache_bytes

__all__ = ["sequences_within"]

log = logging.getLogger(__name__)

_MOST = 256  # as of `sequences`; llama.cpp takes no more


def sequences_within(settings: CloudSettings) -> int:
    """How many sequences the engine is loaded with: what the settings say, or as many as `kv.bytes` has room for.

    Raises:
        ConfigError: not even one fits.
        ModelError: the file is missing or damaged.
    """
    budget = settings.kv.bytes
    if budget is None:
        return settings.sequences
    one = cache_bytes(resolve(settings.model), settings.context, 1, dtype=settings.torch.dtype)
    if one > budget:
        raise ConfigError(
            f"kv.bytes is {budget}, but the cache of one sequence of {settings.context} tokens takes {one} bytes",
            remedy="Raise cloud.kv.bytes or lower cloud.context.",
        )
    count = min(_MOST, budget // one)
    log.info("%d bytes of KV cache hold %d sequences of %d tokens", budget, count, settings.context)
    return count
