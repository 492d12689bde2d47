"""The model drafter: runs ahead, keeps what fits, forgets what does not, computes nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.engine import HashEngine
from tests.fakes.tiers import until
from updraft.engine.loop import EngineLoop
from updraft.errors import EngineFailure, Overloaded
from updraft.sampling import Sampler, SamplingParams
from updraft_edge.drafters import ModelDrafter
from updraft_edge.stopping.costs import Costs

PROMPT = [5, 6, 7]
PARAMS = SamplingParams(temperature=0.8, seed=2, presence_penalty=0.4)


def truth(committed: list[int], count: int) -> list[int]:
    """What plain decoding writes after the committed tokens."""
    engine, sampler = HashEngine(), Sampler(PARAMS, PROMPT)
    sampler.commit(committed)
    log, written = [*PROMPT, *committed], []
    for _ in range(count):
        token = sampler.draw(engine._row(tuple(log)), len(log)).token
        sampler.commit([token])
        log.append(token)
        written.append(token)
    return written


def make(loop: EngineLoop, *, ahead: int = 8, most: int = 400, linger_s: float = 0.0) -> ModelDrafter:
    sampler = Sampler(PARAMS, PROMPT)
    return ModelDrafter(
        loop, PROMPT, sampler, ends=frozenset(), ahead=ahead, most=most, costs=Costs(), linger_s=linger_s
    )


@pytest.fixture
async def loop() -> AsyncIterator[EngineLoop]:
    loop = EngineLoop(HashEngine())
    loop.start()
    yield loop
    await asyncio.to_thread(loop.stop)


async def propose(drafter: ModelDrafter, count: int) -> list[int]:
    proposed = [await drafter.propose() for _ in range(count)]
    return [sampled.token for sampled in proposed if sampled is not None]


async def test_it_proposes_what_plain_decoding_writes(loop: EngineLoop) -> None:
    drafter = make(loop)
    written: list[int] = []
    for _ in range(5):
        run = await propose(drafter, 4)
        drafter.settle(run)
        written += run
    assert written == truth([], 20)
    drafter.close()


@given(st.data(), st.integers(1, 12), st.sampled_from([0.0, 0.005]))
@settings(max_examples=40, deadline=None)
def test_any_settling_is_followed_by_what_plain_decoding_writes_after_it(
    data: st.DataObject, ahead: int, linger_s: float
) -> None:
    async def check(loop: EngineLoop) -> None:
        drafter = make(loop, ahead=ahead, linger_s=linger_s)
        committed: list[int] = []
        for _ in range(6):
            run = await propose(drafter, data.draw(st.integers(0, ahead)))
            assert run == truth(committed, len(run))
            if data.draw(st.booleans()):
                await asyncio.sleep(0.002)  # let it run ahead
            accepted = data.draw(st.integers(0, len(run)))
            own = data.draw(st.sampled_from(["other", "same", "none", "many"]))
            tokens = run[:accepted]
            if own == "same":
                tokens = truth(committed, accepted + 2)
            elif own == "other":
                tokens = [*tokens, data.draw(st.integers(0, 62))]
            elif own == "many":
                tokens = [*tokens, *data.draw(st.lists(st.integers(0, 62), max_size=9))]
            else:
                tokens = run  # a run is never left open: it stands, or a token takes its place
            drafter.settle(tokens)
            committed += tokens
        assert await propose(drafter, 1) == truth(committed, 1)
        drafter.close()

    loop = EngineLoop(HashEngine())
    loop.start()
    try:
        asyncio.run(check(loop))
    finally:
        loop.stop()


async def test_it_drafts_on_while_nobody_asks_and_keeps_what_still_fits(loop: EngineLoop) -> None:
    engine = loop.engine
    assert isinstance(engine, HashEngine)
    drafter = make(loop, ahead=10)
    run = await propose(drafter, 4)

    def computed() -> int:
        return sum(len(run.tokens) for batch in engine.batches for run in batch)

    await until(lambda: computed() == len(PROMPT) + 9)  # a verdict may be under way now
    drafter.settle([*run, *truth(run, 1)])  # the cloud's own token is the one drafted next
    assert drafter.available()
    assert await propose(drafter, 5) == truth(truth([], 5), 5)
    await until(lambda: computed() == len(PROMPT) + 14)
    await asyncio.sleep(0.02)
    assert computed() == len(PROMPT) + 14  # nothing twice, and no further ahead than allowed
    drafter.close()


async def test_held_it_computes_committed_tokens_but_proposes_none(loop: EngineLoop) -> None:
    engine = loop.engine
    drafter = make(loop, ahead=3)
    run = await propose(drafter, 1)
    drafter.hold(True)
    drafter.settle([*run, 9, 9, 9])
    await until(lambda: engine.length(0) == len(PROMPT) + 3)
    assert not drafter.available()
    drafter.hold(False)
    assert await propose(drafter, 2) == truth([*run, 9, 9, 9], 2)
    drafter.close()


async def test_it_stops_at_the_longest_answer(loop: EngineLoop) -> None:
    engine = loop.engine
    drafter = make(loop, ahead=50, most=len(PROMPT) + 6)
    assert len(await propose(drafter, 6)) == 6
    await asyncio.sleep(0.02)
    assert not drafter.available()
    assert engine.length(0) <= len(PROMPT) + 6
    drafter.close()


async def test_closing_frees_the_sequence(loop: EngineLoop) -> None:
    engine = loop.engine
    assert isinstance(engine, HashEngine)
    drafter = make(loop)
    await propose(drafter, 1)
    drafter.close()
    drafter.close()
    await until(lambda: engine.open_sequences == 0)


async def test_a_failing_engine_is_told_to_whoever_waits() -> None:
    loop = EngineLoop(HashEngine(fail_after=3))
    loop.start()
    drafter = make(loop)
    with pytest.raises(EngineFailure):
        await propose(drafter, 10)
    await asyncio.to_thread(loop.stop)


async def test_no_free_sequence_is_told_to_whoever_waits() -> None:
    loop = EngineLoop(HashEngine(sequences=1))
    loop.start()
    first, second = make(loop), make(loop)
    await propose(first, 1)
    with pytest.raises(Overloaded):
        await propose(second, 1)
    first.close()
    second.close()
    await asyncio.to_thread(loop.stop)
