"""Secrets of every kind that the built-in detectors know, drawn at random."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from updraft_edge.rules.detectors import luhn_holds

__all__ = ["CARDS", "EMAILS", "KEYS", "SECRETS", "luhn"]

_LETTERS = string.ascii_letters + string.digits


def _rest(alphabet: str, least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=least, max_size=most)


KEYS = st.one_of(
    _rest(_LETTERS, 24, 40).map(lambda rest: f"sk-{rest}"),
    _rest(_LETTERS, 36, 36).map(lambda rest: f"ghp_{rest}"),
    _rest(string.ascii_uppercase + "234567", 16, 16).map(lambda rest: f"AKIA{rest}"),
    _rest(_LETTERS, 35, 35).map(lambda rest: f"AIza{rest}"),
    _rest(_LETTERS, 34, 34).map(lambda rest: f"hf_{rest}"),
    _rest(string.digits, 12, 20).map(lambda rest: f"xoxb-{rest}"),
)


def luhn(digits: str) -> str:
    """The digits with the check digit that fits them."""
    return next(digits + check for check in string.digits if luhn_holds(digits + check))


def _grouped(card: str) -> st.SearchStrategy[str]:
    groups = [card[start : start + 4] for start in range(0, len(card), 4)]
    return st.sampled_from(["", " ", "-"]).map(lambda mark: mark.join(groups))


CARDS = (
    st.tuples(st.sampled_from(["4", "51", "55", "6011", "2221"]), _rest(string.digits, 15, 15))
    .map(lambda parts: luhn("".join(parts)[:15]))
    .flatmap(_grouped)
)

EMAILS = st.builds(
    "{}@{}.{}".format,
    _rest(string.ascii_lowercase + ".", 4, 16).filter(lambda name: name.strip(".") != ""),
    _rest(string.ascii_lowercase, 4, 12),
    st.sampled_from(["org", "com", "example", "co.uk"]),
)

SECRETS = st.one_of(KEYS, CARDS, EMAILS)
