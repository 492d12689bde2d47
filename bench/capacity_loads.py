"""Loads of the capacity benches: sessions at once, and sessions that arrive as in a trace."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from .capacity_record import Scripts
from .traffic import Asking, Traffic

__all__ = ["arriving", "at_once", "mean_tokens"]

_MANY = 400  # sessions of one client: more than it gets to ask


def at_once(scripts: Scripts, count: int, links: int, *, each: int = _MANY, seed: int = 0) -> list[list[Asking]]:
    """So many clients, each asking again when its answer has ended; answers of half to all of a recorded one."""
    clients = []
    for number in range(count):
        chance = Random(seed * 1000 + number)
        clients.append([_drawn(scripts, number % links, chance) for _ in range(each)])
    return clients


def arriving(
    scripts: Scripts, traffic: Traffic, rate: float, seconds: float, links: int, *, start: int
) -> list[list[Asking]]:
    """Sessions as a trace has them from place `start` on, stretched to a rate; nobody waits for anybody."""
    prompts = [len(script.prompt) for script in scripts.scripts]
    longest = [len(script.recording.text) for script in scripts.scripts]
    return [[asking] for asking in traffic.sessions(rate, seconds, prompts, longest, links, start=start)]


def mean_tokens(clients: Sequence[Sequence[Asking]]) -> float:
    """Tokens of an answer."""
    tokens = [asking.tokens for askings in clients for asking in askings]
    return sum(tokens) / max(1, len(tokens))


def _drawn(scripts: Scripts, link: int, chance: Random) -> Asking:
    script = chance.randrange(len(scripts.scripts))
    longest = len(scripts.scripts[script].recording.text)
    return Asking(0.0, script, chance.randint((longest + 1) // 2, longest), link)
