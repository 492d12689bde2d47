"""The log of verdicts: features of each judged token and whether it stood. Never a token, never text.

JSON lines. A line with `answer` begins an answer: a random number, the models' fingerprints, the mode, the names of
the features, and what the prompt's features were, if known. A line with `of` is one judged token of it.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ConfigError, InvalidRequest, ModelNotFound
from updraft.routing.features import PROMPT_FEATURES, TOKEN_FEATURES

__all__ = ["JudgedAnswer", "VerdictLog", "read_verdicts"]

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
_VERSION = 1


class VerdictLog:
    """Appends answers and verdicts to a file; a full disk ends the log and nothing else.

    Raises ConfigError if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO | None = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"the verdict log {path} cannot be written: {error}", param="verdict_log") from error

    def begin(self, *, edge: str, cloud: str, mode: str, prompt: Floats | None) -> str:
        """Start an answer; its number goes with each of its verdicts."""
        number = secrets.token_hex(8)
        self._put(
            {
                "answer": number,
                "version": _VERSION,
                "edge": edge,
                "cloud": cloud,
                "mode": mode,
                "token_features": TOKEN_FEATURES,
                "prompt": None if prompt is None else _plain(prompt),
            }
        )
        return number

    def add(self, answer: str, place: int, stood: bool, features: Floats) -> None:
        """One judged token; `place` is its own in the answer. Features that are not finite are left out."""
        if np.isfinite(features).all():
            self._put({"of": answer, "place": place, "stood": int(stood), "features": _plain(features)})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
            if "answer" in line:
                self._file.flush()
        except OSError as error:
            log.warning("the verdict log ends here: %s", error)
            self._file = None


@dataclass(slots=True)
class JudgedAnswer:
    """The judged tokens of one answer, in order.

    Attributes:
        prompt: shape (len(PROMPT_FEATURES),), if known.
        places: each token's place in the answer.
        stood: whether the cloud let it stand.
        features: shape (tokens, len(TOKEN_FEATURES)).
    """

    edge: str
    cloud: str
    mode: str
    prompt: Floats | None
    places: list[int] = field(default_factory=list)
    stood: list[bool] = field(default_factory=list)
    rows: list[list[float]] = field(default_factory=list)

    @property
    def features(self) -> Floats:
        return np.array(self.rows, np.float32).reshape(len(self.rows), len(TOKEN_FEATURES))


def read_verdicts(paths: Iterable[Path]) -> list[JudgedAnswer]:
    """All answers of some logs that have a verdict.

    Raises:
        ModelNotFound: a file is not there.
        InvalidRequest: a line is no such line (its number and why), or there is no verdict at all.
    """
    answers: dict[str, JudgedAnswer] = {}
    paths = list(paths)
    for path in paths:
        if not path.is_file():
            raise ModelNotFound(f"there is no verdict log at {path}", remedy="Set edge.verdict_log and answer prompts.")
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    _take(answers, line, f"{path}, line {number}")
    found = [answer for answer in answers.values() if answer.rows]
    if not found:
        names = ", ".join(map(str, paths)) or "no file"
        raise InvalidRequest(f"there is no verdict in {names}", remedy="Answer prompts in mode draft first.")
    return found


def _take(answers: dict[str, JudgedAnswer], line: str, where: str) -> None:
    try:
        data = json.loads(line)
        if "answer" in data:
            answers[data["answer"]] = _begun(data)
        else:
            answer = answers[data["of"]]
            answer.places.append(int(data["place"]))
            answer.stood.append(bool(data["stood"]))
            answer.rows.append(_numbers(data["features"], len(TOKEN_FEATURES)))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidRequest(f"{where}: not a line of a verdict log: {error!r}", remedy="Remove the line.") from error


def _begun(data: dict[str, Any]) -> JudgedAnswer:
    if data["version"] != _VERSION or data["token_features"] != list(TOKEN_FEATURES):
        raise ValueError("it was written by another version")
    prompt = data["prompt"]
    given = None if prompt is None else np.array(_numbers(prompt, len(PROMPT_FEATURES)), np.float32)
    return JudgedAnswer(str(data["edge"]), str(data["cloud"]), str(data["mode"]), given)


def _numbers(values: Sequence[float], count: int) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{len(numbers)} features, or some that are not finite, where {count} are due")
    return numbers


def _plain(values: Floats) -> list[float]:
    return [round(float(value), 5) for value in values]
