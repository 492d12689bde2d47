"""How often a verifier errs, measured on labelled answers: what caps resampling (Inference Scaling fLaws, 2024).

Of wrong answers some pass. However many samples are drawn, an answer that is accepted is right with probability
TPR p / (TPR p + FPR (1 - p)) at most, for a model that is right with probability p.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from updraft.errors import ConfigError, GoalUnreachable, InvalidRequest
from updraft.evaluation.conformal import binomial_tail
from updraft.evaluation.curves import auc
from updraft.evaluation.data import bad_data, read_lines
from updraft.profiles import profiles_folder
from updraft.verifiers.base import Claim, Judgement
from updraft.verifiers.settings import OpenVerifier, Resources, VerifierSettings

__all__ = [
    "LEVEL",
    "Labelled",
    "Rates",
    "clopper_pearson",
    "find_rates",
    "measure_rates",
    "rates_folder",
    "read_labelled",
    "save_rates",
]

LEVEL: Final = 0.95  # of intervals, and how sure a wanted rate is
_TOGETHER: Final = 32  # answers in one call
_STEPS: Final = 60  # of a bisection: to the last bit of an interval's end

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer of which it is known whether it is right; `settings` are those that its question has of its own."""

    claim: Claim
    right: bool
    settings: Mapping[str, Any] = field(default_factory=dict)


class Rates(BaseModel):
    """What was measured of a verifier; saved as JSON.

    Attributes:
        identity: of the verifier, its settings and the model that judges; rates belong to these.
        data: digest of the labelled answers.
        passed_right, passed_wrong: how many of them pass at `threshold`.
        unjudged: answers without a score; they do not pass.
        area: the probability that a right answer scores higher than a wrong one; None without both.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    identity: str
    data: str
    right: int = Field(ge=0)
    wrong: int = Field(ge=0)
    passed_right: int = Field(ge=0)
    passed_wrong: int = Field(ge=0)
    unjudged: int = Field(ge=0)
    threshold: float = Field(ge=0, le=1)
    area: float | None = None

    @property
    def false_positive_rate(self) -> float | None:
        """Of wrong answers, the part that passes; None where there were none."""
        return self.passed_wrong / self.wrong if self.wrong else None

    @property
    def true_positive_rate(self) -> float | None:
        return self.passed_right / self.right if self.right else None

    def ceiling(self, p: float) -> float | None:
        """The most that resampling until one passes can reach where a sample is right with probability `p`.

        None where that cannot be told: nothing passes, or right or wrong answers were not there.
        """
        if self.false_positive_rate is None or self.true_positive_rate is None:
            return None
        good, bad = self.true_positive_rate * p, self.false_positive_rate * (1 - p)
        return good / (good + bad) if good + bad > 0 else None


def read_labelled(path: Path) -> list[Labelled]:
    """Lines of `question`, `answer`, `right`, and where there are `logprob` and `settings`.

    Raises InvalidRequest with the place.
    """
    found = []
    for line in read_lines(path):
        right, logprob = line.fields.get("right"), line.fields.get("logprob", 0.0)
        settings = line.fields.get("settings", {})
        if not isinstance(settings, dict):
            raise line.error(f"settings is {settings!r}; it must be an object")
        if not isinstance(right, bool):
            raise line.error(f"right is {right!r}; it must be true or false")
        if isinstance(logprob, bool) or not isinstance(logprob, int | float):
            raise line.error(f"logprob is {logprob!r}; it must be a number")
        question, answer = line.text("question", empty=True), line.text("answer", empty=True)
        found.append(Labelled(Claim(question, (), (), answer, float(logprob)), right, settings))
    if 0 < sum(bool(each.settings) for each in found) < len(found):
        raise bad_data(path, "some lines have settings and some have none")
    return found


async def measure_rates(
    verifier: OpenVerifier, labelled: Sequence[Labelled], resources: Resources, *, wanted: float | None = None
) -> Rates:
    """How often it errs at its threshold, or at the lowest one whose false-positive rate is at most `wanted`.

    Where the answers' questions have settings of their own, the rates are of the verifier with any such settings. A
    wanted rate holds with 95 % confidence over labelled answers like these: the exact binomial test of the rate, over
    thresholds from the highest on (fixed-sequence testing, arXiv 2110.01052, section 3.2).

    Raises:
        InvalidRequest: there are no answers, or scores are not from 0 to 1.
        GoalUnreachable: no threshold is that sure.
    """
    if not labelled:
        raise InvalidRequest("There are no labelled answers.", param="data")
    scores = await _scores(verifier, labelled, resources)
    right = np.array([each.right for each in labelled])
    threshold = verifier.threshold if wanted is None else _threshold(scores[~right], scores, wanted)
    passed = scores >= threshold  # NaN does not
    return Rates(
        kind=verifier.name,
        identity=verifier.settings.identity(resources, general=bool(labelled[0].settings)),
        data=_digest(labelled),
        right=int(right.sum()),
        wrong=int((~right).sum()),
        passed_right=int((passed & right).sum()),
        passed_wrong=int((passed & ~right).sum()),
        unjudged=int(np.isnan(scores).sum()),
        threshold=threshold,
        area=_area(scores[right], scores[~right]),
    )


def rates_folder() -> Path:
    """Where measured rates are kept unless told otherwise: beside calibrated profiles."""
    return profiles_folder().with_name("verifiers")


def save_rates(folder: Path, rates: Rates) -> Path:
    """Keep rates where `find_rates` finds them. Raises ConfigError: the file cannot be written."""
    path = _path(folder, rates.kind, rates.identity)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(rates.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", remedy="Name another folder.") from error
    return path


def find_rates(folder: Path, kind: str, identity: str) -> Rates | None:
    """The rates of a verifier with just these settings and this model; None if they were not measured.

    Raises ConfigError: the file is damaged.
    """
    path = _path(folder, kind, identity)
    try:
        rates = Rates.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ConfigError(f"{path} holds no rates of a verifier.", remedy="Remove it, and measure again.") from error
    return rates if rates.identity == identity else None


def clopper_pearson(count: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a rate of which `count` of `total` were seen (Clopper and Pearson, 1934)."""
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else _where(lambda p: 1 - binomial_tail(count - 1, total, p) >= tail)
    high = 1.0 if count == total else _where(lambda p: binomial_tail(count, total, p) <= tail)
    return low, high


def _where(holds: Callable[[float], bool]) -> float:
    """The chance from which on it holds."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


async def _scores(verifier: OpenVerifier, labelled: Sequence[Labelled], resources: Resources) -> Floats:
    """One each, NaN for none."""
    judged: list[Judgement] = []
    if labelled[0].settings:
        for each in labelled:
            judged += await _with_settings(verifier, each).open(resources).judge([each.claim])
    else:
        for start in range(0, len(labelled), _TOGETHER):
            judged += await verifier.judge([each.claim for each in labelled[start : start + _TOGETHER]])
    scores = [np.nan if each.score is None else each.score for each in judged]
    found = np.array(scores)
    if bool(((found < 0) | (found > 1)).any()):
        raise InvalidRequest(f"The verifier {verifier.name} gave scores that are not from 0 to 1.", param="verifier")
    return found


def _with_settings(verifier: OpenVerifier, labelled: Labelled) -> VerifierSettings:
    """Raises InvalidRequest: a setting that is not the question's own, or not what it must be."""
    from updraft.verifiers.registry import parse_verifier

    allowed = verifier.settings.of_question
    if other := sorted(labelled.settings.keys() - allowed):
        raise InvalidRequest(
            f"Questions of the verifier {verifier.name} have no setting {other[0]} of their own.",
            remedy=f"Lines may set: {', '.join(allowed) or 'nothing'}; give others with --verifier.",
            param="data",
        )
    return parse_verifier({**verifier.settings.spec(), **labelled.settings})


def _threshold(wrong: Floats, scores: Floats, wanted: float) -> float:
    """The lowest score from which few enough wrong answers pass to be sure of the rate."""
    best = None
    for threshold in np.unique(scores[~np.isnan(scores)])[::-1].tolist():
        if len(wrong) == 0 or binomial_tail(int((wrong >= threshold).sum()), len(wrong), wanted) > 1 - LEVEL:
            break
        best = threshold
    if best is None:
        needed = int(np.ceil(np.log(1 - LEVEL) / np.log1p(-wanted))) if 0 < wanted < 1 else 0
        raise GoalUnreachable(
            f"On these {len(wrong)} wrong answers no threshold is sure to let at most {wanted:g} of such pass.",
            remedy=f"Give more of them (at least {needed}, if none of them scores highest), or want a larger rate.",
        )
    return float(best)


def _area(right: Floats, wrong: Floats) -> float | None:
    """Under the ROC curve, of the answers that have scores; None where all of these are right, or all wrong."""
    right, wrong = right[~np.isnan(right)], wrong[~np.isnan(wrong)]
    if not len(right) or not len(wrong):
        return None
    return auc(np.concatenate([right, wrong]), np.arange(len(right) + len(wrong)) < len(right))


def _digest(labelled: Sequence[Labelled]) -> str:
    digest = hashlib.sha256()
    for each in labelled:
        digest.update(repr((each.claim.question, each.claim.text, each.right)).encode())
    return digest.hexdigest()


def _path(folder: Path, kind: str, identity: str) -> Path:
    return folder / f"{kind}-{identity}.json"
