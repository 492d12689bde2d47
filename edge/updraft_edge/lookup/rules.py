"""Stop rule and policy of looked-up drafts."""

from __future__ import annotations

from collections.abc import Sequence

from updraft.sampling import Sampled
from updraft_edge.lookup.drafter import own_tokens
from updraft_edge.seams import Decision, HandOver, StopRule
from updraft_edge.stopping.costs import Costs

__all__ = ["AskOrStream", "LookupStop"]

_MOST = 16


class LookupStop:
    """Looked-up runs end where the drafter knows nothing more; the model's own end by another rule, which learns from
    the model's tokens alone."""

    def __init__(self, inner: StopRule | None = None) -> None:
        self._inner = inner

    def ends(self, run: Sequence[Sampled]) -> bool:
        return self._inner is not None and len(own_tokens(run)) == len(run) and self._inner.ends(run)

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        if self._inner is not None:  # an empty run teaches nothing but when the next one begins
            drawn = own_tokens(run)
            self._inner.learn(drawn, min(accepted, len(drawn)))


class AskOrStream:
    """What was looked up is judged; where nothing was, the cloud writes (mode `lookup`).

    It writes as many tokens as take it about as long as the round trip does: asking for one at a time would cost a
    round trip for each of them, and handing over for longer would miss what can be looked up again. Where the round
    trip is shorter than a pass it is one token.

    Args:
        costs: what a verdict costs, measured.
    """

    def __init__(self, costs: Costs) -> None:
        self._costs = costs

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        token_s = self._costs.cloud_s + self._costs.position_s
        tokens = 1 + round(self._costs.network_s / token_s)
        return Decision.VERIFY if run or tokens < 2 else HandOver(most=min(tokens, _MOST))

    def returned(self) -> None:
        pass
