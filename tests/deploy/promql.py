"""As much of PromQL as dashboard and alerts use, evaluated over two scrapes: to see that queries show something.

Instant vectors are of the second scrape. `rate` and `increase` are differences of the two, without extrapolation, over
the seconds between them, whatever the range says. Two vectors meet where all their labels are the same.
"""

from __future__ import annotations

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Evaluator", "Vector", "scrape"]

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Scrape = Mapping[str, Vector]

_TOKENS: Final = re.compile(r'"[^"]*"|\$?[A-Za-z_][A-Za-z0-9_]*|\d+(?:\.\d+)?[smh]?|=~|!=|==|[-+*/(){}\[\],=<>]')
_OPERATORS: Final[Mapping[str, tuple[int, Callable[[float, float], float | bool]]]] = {
    "==": (0, operator.eq),
    ">": (0, operator.gt),
    "<": (0, operator.lt),
    "+": (1, operator.add),
    "-": (1, operator.sub),
    "*": (2, operator.mul),
    "/": (2, lambda one, other: one / other if other else float("nan")),
}
_AGGREGATES: Final[Mapping[str, Callable[[list[float]], float]]] = {"sum": sum, "max": max, "min": min}


def scrape(text: str, **target: str) -> dict[str, Vector]:
    """Samples by name of a page in Prometheus' format, with the target's labels."""
    found: dict[str, Vector] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name][frozenset((sample.labels | target).items())] = sample.value
    return found


class Evaluator:
    """Evaluates queries. Raises ValueError for what it does not know."""

    def __init__(self, before: Scrape, after: Scrape, seconds: float) -> None:
        self._before = before
        self._after = after
        self._seconds = seconds

    def __call__(self, query: str) -> Vector:
        self._tokens = _TOKENS.findall(query)
        result = self._binary(0)
        if self._tokens:
            raise ValueError(f"{query}: what is {' '.join(self._tokens)}?")
        return result

    def _binary(self, level: int) -> Vector:
        left = self._binary(level + 1) if level < 2 else self._term()
        while self._tokens and _OPERATORS.get(self._tokens[0], (-1,))[0] == level:
            name = self._tokens.pop(0)
            right = self._binary(level + 1) if level < 2 else self._term()
            left = _joined(left, right, _OPERATORS[name][1], keeps=level == 0)
        return left

    def _term(self) -> Vector:
        token = self._tokens.pop(0)
        if token == "(":
            inner = self._binary(0)
            self._expect(")")
            return inner
        if token[0].isdigit():
            return {frozenset(): float(token)}
        if token in _AGGREGATES:
            return self._aggregate(_AGGREGATES[token])
        if token in {"rate", "increase"}:
            self._expect("(")
            name, chosen = self._tokens.pop(0), self._selector()
            self._expect(")")
            return self._risen(name, chosen, self._seconds if token == "rate" else 1.0)
        if token == "histogram_quantile":
            self._expect("(")
            share = float(self._tokens.pop(0))
            self._expect(",")
            inner = self._binary(0)
            self._expect(")")
            return _quantile(share, inner)
        return _matching(self._after.get(token, {}), self._selector())

    def _aggregate(self, combine: Callable[[list[float]], float]) -> Vector:
        kept: set[str] = set()
        if self._tokens[0] == "by":
            self._tokens.pop(0)
            kept = {name for name in self._until("(", ")") if name != ","}
        self._expect("(")
        inner = self._binary(0)
        self._expect(")")
        groups: dict[Labels, list[float]] = defaultdict(list)
        for labels, value in inner.items():
            groups[frozenset(pair for pair in labels if pair[0] in kept)].append(value)
        return {labels: combine(values) for labels, values in groups.items()}

    def _selector(self) -> list[tuple[str, str, str]]:
        """Matchers of a metric; a range is read and left aside."""
        matchers: list[tuple[str, str, str]] = []
        if self._tokens and self._tokens[0] == "{":
            inner = [token for token in self._until("{", "}") if token != ","]
            matchers = [(inner[i], inner[i + 1], inner[i + 2].strip('"')) for i in range(0, len(inner), 3)]
        if self._tokens and self._tokens[0] == "[":
            self._until("[", "]")
        return matchers

    def _risen(self, name: str, chosen: list[tuple[str, str, str]], seconds: float) -> Vector:
        before, after = self._before.get(name, {}), _matching(self._after.get(name, {}), chosen)
        return {labels: (value - before.get(labels, 0.0)) / seconds for labels, value in after.items()}

    def _until(self, opening: str, closing: str) -> list[str]:
        self._expect(opening)
        end = self._tokens.index(closing)
        inner, self._tokens = self._tokens[:end], self._tokens[end + 1 :]
        return inner

    def _expect(self, token: str) -> None:
        if not self._tokens or self._tokens.pop(0) != token:
            raise ValueError(f"{token} is missing")


def _matching(vector: Vector, matchers: list[tuple[str, str, str]]) -> Vector:
    def fits(labels: Labels) -> bool:
        has = dict(labels)
        return all(
            re.fullmatch(wanted, has.get(name, "")) if sign == "=~" else has.get(name, "") == wanted
            for name, sign, wanted in matchers
        )

    return {labels: value for labels, value in vector.items() if fits(labels)}


def _joined(one: Vector, other: Vector, combine: Callable[[float, float], float | bool], *, keeps: bool) -> Vector:
    """Of a comparison what holds (`keeps`), else what is computed. A number meets everything."""
    joined: Vector = {}
    for labels, value in one.items():
        against = other.get(labels, other.get(frozenset()) if len(other) == 1 else None)
        if against is None:
            continue
        result = combine(value, against)
        if not keeps or result:
            joined[labels] = value if keeps else float(result)
    return joined


def _quantile(share: float, buckets: Vector) -> Vector:
    """As Prometheus: linear within the bucket where the rank falls, the last bound for what is beyond."""
    groups: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, count in buckets.items():
        rest = frozenset(pair for pair in labels if pair[0] != "le")
        groups[rest].append((float(dict(labels)["le"]), count))
    return {labels: _rank(share, sorted(counts)) for labels, counts in groups.items()}


def _rank(share: float, counts: list[tuple[float, float]]) -> float:
    rank = share * counts[-1][1]
    if not counts[-1][1]:
        return float("nan")
    low, below = 0.0, 0.0
    for bound, count in counts:
        if count >= rank:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (rank - below) / (count - below) if count > below else bound
        low, below = bound, count
    return low
