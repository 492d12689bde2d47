"""How often an answer may be drawn anew until a verifier passes one, given how often that verifier errs."""

from __future__ import annotations

from functools import lru_cache

from pydantic import BaseModel, ConfigDict, Field

from updraft.strategies.resampling import MOST_TRIES, Resampling
from updraft.verifiers.base import Verifier

__all__ = ["Cap"]


class Cap(BaseModel):
    """Settings of the model in `updraft.strategies.resampling`, which says where resampling saturates.

    Attributes:
        accuracy: of single samples, as measured.
        true_positive_rate: of right answers, the part that passes.
        slack: stop where the predicted accuracy is this near to the most that sampling can reach; 0 is never.
        unmeasured: samples at most, where the verifier's false-positive rate was not measured; None is no cap.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy: float = Field(default=0.5, gt=0.0, lt=1.0)
    true_positive_rate: float = Field(default=1.0, gt=0.0, le=1.0)
    slack: float = Field(default=0.01, ge=0.0, lt=1.0)
    unmeasured: int | None = Field(default=None, ge=1, le=MOST_TRIES)

    def model_of(self, verifier: Verifier | None) -> Resampling | None:
        """None where the verifier's false-positive rate was not measured."""
        rate = None if verifier is None else verifier.false_positive_rate
        return None if rate is None else _model(self.accuracy, rate, self.true_positive_rate)

    def tries(self, verifier: Verifier | None) -> int:
        """Samples that make sense at most."""
        model = self.model_of(verifier)
        if model is None:
            return self.unmeasured or MOST_TRIES
        return _enough(model, self.slack) if self.slack > 0.0 else MOST_TRIES


@lru_cache(maxsize=64)
def _model(accuracy: float, false_positive: float, true_positive: float) -> Resampling:
    """Kept, since a strategy asks before every sample."""
    return Resampling.of_accuracy(accuracy, false_positive, true_positive)


@lru_cache(maxsize=64)
def _enough(model: Resampling, slack: float) -> int:
    return model.enough(slack)
