"""The look-up drafter by itself: what it proposes, when a token or a branch pays, and what it learns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.errors import ProtocolViolation
from updraft.generation import Statistics
from updraft.mode_settings import LookupSettings
from updraft.modes import Mode, parse_settings
from updraft.sampling import Distribution, Sampled
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.lookup.drafter import LookupDrafter, own_tokens
from updraft_edge.lookup.kit import looks_up
from updraft_edge.lookup.memory import LookupEstimate, LookupMemory
from updraft_edge.lookup.predictor import LookedUp
from updraft_edge.lookup.rules import AskOrStream, LookupStop
from updraft_edge.seams import Decision, HandOver
from updraft_edge.stopping.costs import Costs
from updraft_edge.tree import clipped, ways

TEXT = [1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 6, 9, 1, 2]
FREE = Costs(network_s=1.0, cloud_s=1.0, position_s=1e-4)  # positions cost nothing beside a round
DEAR = Costs(network_s=0.0, cloud_s=1e-3, position_s=1.0)


def drafter(
    text: list[int] = TEXT, *, costs: Costs = FREE, memory: LookupMemory | None = None, **changes: Any
) -> LookupDrafter:
    return LookupDrafter(
        LookupSettings(**changes),
        text,
        most=1000,
        costs=costs,
        estimate=LookupEstimate(),
        memory=memory,
        statistics=Statistics(),
    )


async def run_of(drafter: LookupDrafter) -> list[Sampled]:
    run: list[Sampled] = []
    while (sampled := await drafter.propose()) is not None:
        run.append(sampled)
    return run


def tokens(run: list[Sampled]) -> list[int]:
    return [sampled.token for sampled in run]


def drawn(token: int) -> Sampled:
    return Sampled(token, -0.1, Distribution(1.0, 0.2, 0.9))


@pytest.mark.parametrize("source", ["trie", "trigram"])
async def test_it_goes_on_as_the_text_did(source: str) -> None:
    one = drafter(sources=[source], longest=2)
    assert tokens(await run_of(one)) == [3, 4]
    assert await one.propose() is None  # repeated until `settle`
    one.settle([3, 4, 5])
    assert tokens(await run_of(one))[:1] == [9]


async def test_nothing_to_look_up_is_left_to_the_cloud() -> None:
    assert await run_of(drafter([1, 2, 3])) == []
    assert await run_of(drafter([7])) == []


async def test_a_token_that_costs_more_than_it_saves_is_not_drafted() -> None:
    assert await run_of(drafter(costs=DEAR)) == []
    assert len(await run_of(drafter(costs=FREE, longest=3))) == 3


async def test_confidence_is_a_probability_and_never_grows_along_a_run() -> None:
    run = await run_of(drafter())
    assert all(isinstance(sampled, LookedUp) for sampled in run)
    assert all(0.0 < sampled.distribution.top_probability <= 1.0 for sampled in run)
    assert all(sampled.logprob <= 0.0 <= sampled.distribution.entropy < 1e3 for sampled in run)


async def test_past_answers_are_looked_up_in_where_the_text_itself_has_nothing() -> None:
    memory = LookupMemory(32_768)
    before = drafter([20, 21], memory=memory)
    before.settle([30, 31, 32])
    before.settle([33])
    before.close()
    before.close()  # once
    assert len(memory.tries[0].text) == 5  # four tokens and the break
    assert tokens(await run_of(drafter([40, 30, 31], memory=memory, longest=2))) == [32, 33]
    assert await run_of(drafter([40, 30, 31])) == []
    assert await run_of(drafter([20, 21], memory=memory)) == []  # prompts are not remembered


async def test_branches_turn_off_where_the_text_went_another_way() -> None:
    text = [1, 2, 3, 4, 8, 1, 2, 3, 5, 8, 1, 2, 3, 4, 8, 1, 2]
    one = drafter(text, branches=3, longest=3)
    run = await run_of(one)
    assert tokens(run) == [3, 4, 8]
    (branch,) = one.branches(run)
    assert (branch.shared, tokens(branch.tokens)[0]) == (1, 5)
    assert one.branches(run[:1]) == []  # not the run that was proposed
    assert drafter(text, branches=1).branches(run) == []


async def test_costs_decide_whether_a_branch_pays() -> None:
    text = [1, 2, 3, 8, 1, 2, 4, 8, 1, 2]
    cheap = drafter(text, longest=2)
    assert cheap.branches(await run_of(cheap))
    dear = drafter(text, longest=2, costs=Costs(network_s=0.0, cloud_s=0.012, position_s=0.003))
    assert dear.branches(await run_of(dear)) == []


async def test_what_stands_is_proposed_longer_and_what_does_not_no_more() -> None:
    costs = Costs(network_s=0.0, cloud_s=0.01, position_s=0.002)
    estimate = LookupEstimate()
    text = [token for number in range(20) for token in (number + 20, 1, 2)]

    def one() -> LookupDrafter:
        memory, counts = None, Statistics()
        return LookupDrafter(
            LookupSettings(), text, most=1000, costs=costs, estimate=estimate, memory=memory, statistics=counts
        )

    for _ in range(40):
        asked = one()
        run = await run_of(asked)
        asked.settle([99])  # never what was found
    assert run == []
    for _ in range(200):
        asked = one()
        asked.look()
        assert asked._way is not None and asked._way.first is not None
        asked.settle([asked._way.first.token])  # found though it was passed over: it teaches
    assert await run_of(one())


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.lists(st.lists(st.integers(0, 4)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_text_and_any_verdict_leave_it_working(text: list[int], settled: list[list[int]]) -> None:
    import asyncio

    async def check() -> None:
        one = drafter(text, branches=4, memory=LookupMemory(32_768))
        for committed in settled:
            run = await run_of(one)
            assert len(run) <= 12
            branches = one.branches(run)
            assert len(run) + sum(len(branch.tokens) for branch in branches) <= 48
            for branch in branches:
                assert branch.shared <= len(run)
                following = tokens(run)[branch.shared : branch.shared + 1]
                assert tokens(branch.tokens)[:1] not in ([], following)
            one.settle(committed)
        one.close()

    asyncio.run(check())


def test_own_tokens_are_those_before_the_first_that_was_looked_up() -> None:
    looked_up = LookedUp(5, -0.5, Distribution(0.0, 0.5, 0.6))
    assert own_tokens([drawn(1), drawn(2), looked_up, drawn(3)]) == [drawn(1), drawn(2)]
    assert own_tokens([looked_up]) == []
    assert own_tokens([drawn(1)]) == [drawn(1)]


class _Counting:
    """A stop rule that notes what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def ends(self, run: Any) -> bool:
        return len(run) >= 2

    def learn(self, run: Any, accepted: int) -> None:
        self.told.append((len(run), accepted))


def test_the_models_rule_judges_the_models_tokens_alone() -> None:
    inner, looked_up = _Counting(), LookedUp(5, -0.5, Distribution(0.0, 0.5, 0.6))
    rule = LookupStop(inner)
    assert rule.ends([drawn(1), drawn(2)])
    assert not rule.ends([drawn(1), looked_up, looked_up])
    rule.learn([drawn(1), looked_up, looked_up], 3)
    rule.learn([looked_up], 1)
    assert inner.told == [(1, 1), (0, 0)]
    assert not LookupStop().ends([looked_up] * 40)


async def test_where_nothing_is_found_the_cloud_writes_for_about_a_round_trip() -> None:
    near = AskOrStream(Costs(network_s=0.0, cloud_s=0.01, position_s=0.002))
    assert await near.decide([]) is Decision.VERIFY
    far = AskOrStream(Costs(network_s=0.048, cloud_s=0.01, position_s=0.002))
    assert await far.decide([]) == HandOver(most=5)
    assert await far.decide([drawn(1)]) is Decision.VERIFY
    assert await AskOrStream(Costs(network_s=9.0)).decide([]) == HandOver(most=16)


def test_which_modes_look_up() -> None:
    before = parse_settings({"lookup": {"before_model": True}})
    assert looks_up(Mode.LOOKUP, parse_settings({}))
    assert looks_up(Mode.DRAFT, before) and looks_up(Mode.CASCADE, before)
    assert not looks_up(Mode.DRAFT, parse_settings({})) and not looks_up(Mode.SPAN, before)


class TestWire:
    """Trees on the edge's side of the wire."""

    RUN, BRANCHES = (5, 6), ((1, (7, 8)), (0, (9,)))

    def verdict(self, *, branch: int, accepted: int, reports: int, token: int = 3) -> pb.Verdict:
        log = TokenLog([1, 2])
        way = ways(self.RUN, self.BRANCHES)[branch] if branch < 3 else [5] * 9
        stood = [*way[:accepted], token]
        return pb.Verdict(
            position=2 + len(stood),
            accepted=accepted,
            token=token,
            has_token=True,
            log_hash=log.hash_with(stood),
            reports=[pb.TokenReport(logprob=-1.0)] * reports,
            branch=branch,
        )

    def read(self, verdict: pb.Verdict) -> wire.Verdict:
        return wire.read_verdict(verdict, TokenLog([1, 2]), self.RUN, self.BRANCHES)

    def test_a_tree_goes_up(self) -> None:
        draft = wire.draft_frame(TokenLog([1]), 0, self.RUN, self.BRANCHES).draft
        assert [(branch.shared, tuple(branch.tokens)) for branch in draft.branches] == list(self.BRANCHES)

    def test_a_verdict_says_which_way_it_followed(self) -> None:
        assert self.read(self.verdict(branch=0, accepted=2, reports=1)).followed == [5, 6]
        read = self.read(self.verdict(branch=1, accepted=3, reports=4))
        assert read.followed == [5, 7, 8] == [sampled.token for sampled in read.reports]

    @pytest.mark.parametrize(("branch", "accepted", "reports"), [(3, 1, 2), (1, 4, 5), (2, 2, 3), (1, 2, 1)], ids=str)
    def test_a_verdict_that_does_not_fit_the_tree_is_refused(self, branch: int, accepted: int, reports: int) -> None:
        with pytest.raises(ProtocolViolation):
            self.read(self.verdict(branch=branch, accepted=accepted, reports=reports))

    def test_what_must_stay_here_is_cut_from_every_way(self) -> None:
        run, branches = clipped([5, 6], [(1, [7, 8]), (0, [8]), (2, [1])], lambda way: way[: [*way, 8].index(8)])
        assert (list(run), branches) == ([5, 6], [(1, [7]), (2, [1])])
        assert clipped([8, 6], [(2, [1]), (0, [4])], lambda way: way[: [*way, 8].index(8)]) == ([], [(0, [4])])
