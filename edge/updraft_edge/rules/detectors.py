"""What may never leave the device: detectors of secrets in text, and the user's own patterns.

A detector finds whole secrets, and where text is still growing also what may become one, so that little more than the
marks by which it is known has left before it is whole. Shapes of keys follow their issuers' documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from updraft.config import RulesSettings
from updraft.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    import regex

__all__ = ["DETECTORS", "OVERLAP", "Detector", "Detectors", "iban_holds", "luhn_holds", "names_of"]

OVERLAP = 512
"""Characters before new text that are searched again: the longest secret that is found across several questions."""

_GROWING = 256  # characters at the end in which something may be beginning
_PATTERN_SECONDS = 0.05  # for all patterns of one search together
_TRIALS = ("a" * 4000 + "!", "1" * 4000 + "!", "a@" * 2000 + "!", " " * 4000 + "!", "ab-_. 1" * 600)


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of secret.

    Attributes:
        whole: finds a candidate.
        begins: matches at the end of text that may be the beginning of one.
        holds: whether a candidate is one.
        hints: text without any of these, in small letters, has none; to look for them takes a fiftieth of the time.
    """

    name: str
    whole: re.Pattern[str]
    begins: re.Pattern[str]
    holds: Callable[[str], bool] = lambda found: True
    hints: tuple[str, ...] = ()

    def may_be_in(self, small: str) -> bool:
        """Whether it is worth searching a text, given in small letters."""
        return not self.hints or any(hint in small for hint in self.hints)


_KEYS = (
    r"(?<![A-Za-z0-9])(?:"
    r"sk-[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic and their like
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}"
    r"|glpat-[A-Za-z0-9_-]{20,}"
    r"|A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}"  # AWS
    r"|AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{20,}"  # Google
    r"|xox[abeprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}"  # Slack
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"  # Stripe
    r"|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{40,}"
    r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"  # SendGrid
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"  # JSON web tokens, RFC 7519
    r")"
    r"|-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY|PuTTY-User-Key-File-\d"  # RFC 7468
    r"|\b[Bb]earer [A-Za-z0-9._~+/-]{20,}"  # RFC 6750
    r"|[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,64}:[^\s/@]{3,128}@"  # a password in a URL
)
_ASSIGNED = (
    r"(?i:api[_-]?key|secret(?:[_-]?key)?|(?:access|auth)[_-]?token|client[_-]?secret|passw(?:or)?d)[\"']?\s{0,4}[:=]"
)
_KEY_BEGINNINGS = (
    r"(?<![A-Za-z0-9])(?:sk-|gh[pousr]_|github_pat_|glpat-|A(?:KIA|SIA|BIA|CCA)|AIza|ya29\.|xox[abeprs]-|xapp-"
    r"|[rs]k_(?:live|test)_|hf_|npm_|pypi-|SG\.|eyJ)[A-Za-z0-9_.-]*$"
    r"|-----BEGIN [A-Z0-9 ]{0,40}$|\b[Bb]earer [A-Za-z0-9._~+/-]{4,}$"
    rf"|{_ASSIGNED}\s{{0,4}}[\"'][^\s\"']*$"
)


_KEY_HINTS = (
    *("sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "akia", "asia", "abia", "acca", "aiza"),
    *("ya29.", "xox", "xapp-", "k_live_", "k_test_", "hf_", "npm_", "pypi-", "sg.", "eyj", "-----begin", "putty-"),
    *("bearer ", "://", "api", "secret", "token", "passw"),
)


def luhn_holds(digits: str) -> bool:
    """Whether the check digit is right (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_holds(text: str) -> bool:
    """Whether the check digits are right (ISO 13616: modulo 97)."""
    plain = text.replace(" ", "")
    turned = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def _card_within(found: str) -> bool:
    """Whether whole groups of a row of digits make a card number: 13 to 19 digits from 2 to 6 that Luhn agrees with."""
    groups = re.split("[ -]", found)
    for first in range(len(groups)):
        digits = ""
        for group in groups[first:]:
            digits += group
            if 13 <= len(digits) <= 19 and digits[0] in "23456" and luhn_holds(digits):
                return True
    return False


DETECTORS = {
    detector.name: detector
    for detector in (
        Detector(
            "keys",
            re.compile(rf"{_KEYS}|{_ASSIGNED}\s{{0,4}}[\"'][^\s\"']{{8,}}"),
            re.compile(_KEY_BEGINNINGS),
            hints=_KEY_HINTS,
        ),
        Detector(
            "cards",
            re.compile(r"(?<!\d)\d(?:[ -]?\d){12,30}(?!\d)"),
            re.compile(r"(?<!\d)[2-6](?:[ -]?\d){7,18}[ -]?$"),
            _card_within,
            hints=tuple("0123456789"),
        ),
        Detector(
            "emails",
            re.compile(r"[\w.+%-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}"),
            re.compile(r"[\w.+%-]{1,64}@[A-Za-z0-9.-]*$"),
            hints=("@",),
        ),
        Detector(
            "phones",
            re.compile(r"(?<![\w+])(?:\+|00)[1-9](?:[ ().-]{0,2}\d){7,13}(?!\d)"),
            re.compile(r"(?<![\w+])(?:\+|00)[1-9](?:[ ().-]{0,2}\d){3,13}[ ().-]{0,2}$"),
        ),
        Detector(
            "ibans",
            re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b"),
            re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){4,30} ?$"),
            lambda found: any(iban_holds(found[:end]) for end in range(15, len(found) + 1)),
        ),
    )
}


class Detectors:
    """The detectors and patterns that a configuration names.

    Raises:
        ConfigError: a pattern is no regular expression, matches nothing at all, or takes far too long.
        MissingExtra: there are patterns, and the library that bounds their time is not installed.
    """

    def __init__(self, settings: RulesSettings) -> None:
        self._chosen = [DETECTORS[name] for name in settings.keep_local]
        self._patterns = [_compiled(number, text) for number, text in enumerate(settings.patterns, 1)]

    def find(self, text: str, start: int = 0) -> str | None:
        """The rule that keeps text here, if it finds something that ends after `start`; None if nothing does."""
        small = text.lower()
        for detector in self._chosen:
            if detector.may_be_in(small) and any(
                detector.holds(match[0]) for match in detector.whole.finditer(text) if match.end() > start
            ):
                return detector.name
        return self._find_pattern(text, start)

    def find_growing(self, text: str, start: int = 0) -> str | None:
        """As `find`, also where the end of the text may be the beginning of a secret."""
        if (found := self.find(text, start)) is not None or len(text) <= start:
            return found
        end = text[-_GROWING:]
        small = end.lower()
        begun = (one.name for one in self._chosen if one.may_be_in(small) and one.begins.search(end))
        return next(begun, None)

    def _find_pattern(self, text: str, start: int) -> str | None:
        for number, pattern in enumerate(self._patterns, 1):
            try:
                matches: Iterator[regex.Match[str]] = pattern.finditer(text, timeout=_PATTERN_SECONDS)
                if any(match.end() > start and match[0] for match in matches):
                    return f"pattern_{number}"
            except TimeoutError:  # what could not be searched stays here
                return f"pattern_{number}"
        return None


def _compiled(number: int, text: str) -> regex.Pattern[str]:
    try:
        import regex
    except ImportError as error:
        raise MissingExtra(
            "edge.rules.patterns needs the library regex.", remedy='Install it with `pip install "updraft-llm[edge]"`.'
        ) from error
    where = f"edge.rules.patterns[{number}]"
    try:
        pattern = regex.compile(text)
        matches_nothing = pattern.fullmatch("") is not None
        for trial in _TRIALS:
            pattern.search(trial, timeout=_PATTERN_SECONDS)
    except regex.error as error:
        raise ConfigError(f"{where} is not a regular expression: {error}.", param=where) from error
    except TimeoutError as error:
        raise ConfigError(
            f"{where} takes longer than {_PATTERN_SECONDS:g} s on a short text.",
            remedy="Write it without repetitions inside of repetitions.",
            param=where,
        ) from error
    if matches_nothing:
        raise ConfigError(f"{where} matches empty text, and so everything.", param=where)
    return pattern


def names_of(settings: RulesSettings) -> Sequence[str]:
    """The rules in force, as `withheld` names them."""
    return [*settings.keep_local, *(f"pattern_{number}" for number in range(1, len(settings.patterns) + 1))]
