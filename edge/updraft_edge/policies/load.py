"""Drafting while it carries the cloud's load, and letting the cloud write where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from updraft.sampling import Sampled
from updraft_edge.seams import Decision, HandOver
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.predictors import Predictor
from updraft_edge.stopping.price import CloudPrice

__all__ = ["WhileItCarries"]

_BUSY: Final = 0.5  # share of time; below it drafting costs nobody a place
_BETTER: Final = 0.95  # what drafting must take of writing's time to begin again
_SHORTEST, _LONGEST = 16, 256  # of a span, tokens
_PER_ROUND_TRIP: Final = 64  # a span takes so many times the round trip at its end, where its length allows it


class WhileItCarries:
    """Every run is judged by the cloud, unless the cloud is busy and all its sessions were faster if it wrote for them.

    Both ways give the same text, since verdicts are lossless. Drafting of every session is compared with writing for
    every session, by what the cloud told with its last answer of its costs and of all its sessions (`CloudPrice`), so
    that edges decide alike and do not drive each other to and fro: whoever is written for while others draft waits for
    their passes at each token. Where the cloud has not seen enough of its sessions, this edge's own measurements serve.
    A session that is alone drafts, and so does one in a cloud that would be idle half of the time: nobody wants its
    place. Spans are bounded, and the end of each asks again.

    Args:
        costs: what drafting and asking cost, measured, and the cloud's price.
        predictor: says which acceptance is possible.
        longest: run, tokens.
    """

    def __init__(self, costs: Costs, predictor: Predictor, longest: int) -> None:
        self._costs = costs
        self._predictor = predictor
        self._longest = longest
        self._yielded = False

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        if run or not self.yields():  # what is drafted already is put to the cloud
            return Decision.VERIFY
        return HandOver(most=self.span)

    @property
    def span(self) -> int:
        """Tokens that the cloud gets to write before it is asked again."""
        price = self._costs.price
        token_s = price.writing_s if price is not None else self._costs.cloud_s
        return min(max(round(_PER_ROUND_TRIP * self._costs.network_s / max(token_s, 1e-6)), _SHORTEST), _LONGEST)

    def yields(self) -> bool:
        """The cloud should write on at once: nothing need be drafted first."""
        price = self._costs.price
        self._yielded = price is not None and price.sessions > 1 and self._loses(price)
        return self._yielded

    def returned(self) -> None:
        pass

    def _loses(self, price: CloudPrice) -> bool:
        """Drafting, with the run that suits it best, takes longer a token than writing."""
        token_s, busy = min(self._drafting(price, length) for length in range(1, self._longest + 1))
        if min(price.load, busy) < _BUSY:
            return False
        return token_s > (_BETTER if self._yielded else 1.0) * price.writing_s

    def _drafting(self, price: CloudPrice, length: int) -> tuple[float, float]:
        """Seconds a token if every session asks about runs of this length, and the share of time that passes take."""
        stands = self._predictor.upper  # while the cloud writes nothing is judged: a bad start must not be the end
        # Only a run that stands as a whole, its end included, leaves a drafter that is ahead.
        away_s = self._costs.network_s + length * self._costs.draft_s * (1.0 - stands ** (length + 1))
        return price.drafting(stands, length, away_s)
