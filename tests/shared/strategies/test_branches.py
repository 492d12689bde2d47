"""Branches: what is drawn depends on prompt, parameters and seed alone, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from tests.fakes.engine import HashEngine
from updraft.engine.loop import EngineLoop
from updraft.errors import EngineFailure, PromptTooLong
from updraft.sampling import Sampler, SamplingParams, measure
from updraft.strategies import EnginePlaces, Forks
from updraft.strategies.branches import seed_of

PROMPT = list(range(1, 40))
WARM = SamplingParams(temperature=1.0, seed=5)


@pytest.fixture
def engine() -> HashEngine:
    return HashEngine(sequences=6)


@pytest.fixture
def loop(engine: HashEngine) -> Iterator[EngineLoop]:
    loop = EngineLoop(engine)
    loop.start()
    yield loop
    loop.stop()


def forks_on(loop: EngineLoop, sampling: SamplingParams = WARM) -> Forks:
    return Forks(loop, EnginePlaces(loop.engine), sampling)


def written_alone(prompt: list[int], seed: int, most: int) -> list[int]:
    """What a plain loop over an engine of its own draws."""
    engine = HashEngine(sequences=1)
    sequence = engine.open()
    sampler = Sampler(SamplingParams(temperature=1.0, seed=seed), prompt)
    log = list(prompt)
    from updraft.engine.base import Run

    while len(log) < len(prompt) + most and (len(log) == len(prompt) or log[-1] not in engine.info.end_tokens):
        start = engine.length(sequence)
        [output] = engine.forward([Run(sequence, start, log[start:], 1)])
        log.append(sampler.draw(output.logits[0], len(log)).token)
    return log[len(prompt) :]


async def test_branches_are_what_each_would_be_alone(loop: EngineLoop) -> None:
    forks = forks_on(loop)
    branches = [forks.start(PROMPT) for _ in range(10)]  # more than there are sequences
    await forks.extend(dict.fromkeys(branches, 20))
    for branch in branches:
        assert branch.tokens == written_alone(PROMPT, seed_of(5, branch.number), 20)
        assert branch.ended == (branch.tokens[-1] in forks.ends)
    assert len({tuple(branch.tokens) for branch in branches}) == 10
    assert forks.work.tokens == sum(len(branch.written) for branch in branches)


async def test_a_fork_shares_its_beginning_and_goes_its_own_way(loop: EngineLoop, engine: HashEngine) -> None:
    forks = forks_on(loop)
    first = forks.start(PROMPT)
    await forks.extend({first: 3})
    copies = [forks.fork(first) for _ in range(3)]
    before = forks.work.positions
    await forks.extend(dict.fromkeys([first, *copies], 4))
    assert all(copy.tokens[:3] == first.tokens[:3] and copy.origin == first.number for copy in copies)
    assert len({tuple(branch.tokens) for branch in [first, *copies]}) == 4
    assert forks.work.positions - before == 16  # nothing of the beginning is computed again


async def test_the_prompt_is_computed_once_for_samples_that_come_one_after_another(loop: EngineLoop) -> None:
    forks = forks_on(loop)
    for _ in range(4):
        branch = forks.start(PROMPT)
        await forks.extend({branch: 2})
        forks.drop(branch)
    assert forks.work.positions == len(PROMPT) - 1 + 4 * 2


async def test_the_prompt_is_computed_once_for_samples_that_come_together(loop: EngineLoop) -> None:
    forks = forks_on(loop)
    prompt = list(range(1, 60)) * 4
    branches = [forks.start(prompt) for _ in range(4)]
    await forks.extend(dict.fromkeys(branches, 3))
    assert forks.work.positions == len(prompt) - 1 + sum(len(branch.written) for branch in branches)


async def test_nobody_waits_for_a_beginning_that_is_computed_no_more(loop: EngineLoop) -> None:
    forks = forks_on(loop)
    prompt = list(range(1, 60))
    first = forks.start(prompt)
    writing = asyncio.create_task(forks.extend({first: 3}))
    await asyncio.sleep(0)
    second = forks.start(prompt)
    writing.cancel()
    forks.drop(first)
    await asyncio.wait_for(forks.extend({second: 3}), 5)
    assert second.tokens == written_alone(prompt, seed_of(5, 1), 3)


async def test_without_sharing_every_branch_is_a_request_of_its_own(loop: EngineLoop, engine: HashEngine) -> None:
    written = []
    for share in (True, False):
        places = EnginePlaces(engine, share=share)
        forks = Forks(loop, places, WARM)
        branches = [forks.start(PROMPT) for _ in range(4)]
        await forks.extend(dict.fromkeys(branches, 3))
        branches.append(forks.fork(branches[0]))
        await forks.extend(dict.fromkeys(branches, 3))
        written.append([branch.tokens for branch in branches])
        anew = len(PROMPT) - 1  # the fork has 3 tokens more that are computed anew
        assert forks.work.positions - forks.work.tokens == (anew if share else 5 * anew + 3)
        await forks.close()
        await asyncio.wrap_future(loop.call(places.close))
    assert written[0] == written[1] and engine.open_sequences == 0


async def test_a_step_ends_with_its_text(loop: EngineLoop, engine: HashEngine) -> None:
    forks = forks_on(loop)
    branch = forks.start(PROMPT)
    await forks.extend({branch: 60}, step="A")
    text = b"".join(engine.tokenizer.piece(token) for token in branch.tokens)
    assert branch.ended or len(branch.tokens) == 60 or (text.endswith(b"A") and text.count(b"A") == 1)


async def test_choices_are_log_probabilities_after_a_text(loop: EngineLoop) -> None:
    forks = forks_on(loop)
    texts = [PROMPT, PROMPT[:5], [*PROMPT, 7]]
    rows = await forks.choices(texts, [3, 4, 9])
    from updraft.engine.base import Run

    engine = HashEngine()
    for text, row in zip(texts, rows, strict=True):
        sequence = engine.open()
        [output] = engine.forward([Run(sequence, 0, text, 1)])
        expected = output.logits[0][[3, 4, 9]] - np.float32(measure(output.logits[0]).energy)
        np.testing.assert_array_equal(row, expected)


async def test_what_is_written_beside_the_branches_keeps_to_the_allowance(loop: EngineLoop) -> None:
    forks = forks_on(loop)
    whole = await forks.writes([[5, 6], [5, 7]], 8, WARM)
    assert len(whole[0]) == 8 and whole[0] != whole[1]
    used = forks.work.tokens
    forks.allowance = used + 7
    assert [len(text) for text in await forks.writes([[5, 6], [5, 7]], 8, WARM)] == [3, 3]
    assert await forks.writes([[5, 6], [5, 7]], 8, WARM) == [[], []] and forks.work.tokens == used + 6
    assert await forks.writes([], 8, WARM) == []
    await forks.close()


async def test_closing_frees_every_sequence_for_others(loop: EngineLoop, engine: HashEngine) -> None:
    places = EnginePlaces(engine)
    for _ in range(3):
        forks = Forks(loop, places, WARM)
        branches = [forks.start(PROMPT) for _ in range(8)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(forks.extend(dict.fromkeys(branches, 400)), 0.01)
        await forks.close()
    await asyncio.wrap_future(loop.call(places.close))
    assert engine.open_sequences == 0


async def test_time_stops_branches_where_they_are(loop: EngineLoop) -> None:
    forks = forks_on(loop)
    branch = forks.start(PROMPT)
    await forks.extend({branch: 2})
    await forks.extend({branch: 400}, until=asyncio.get_running_loop().time())
    assert branch.tokens == written_alone(PROMPT, 5, len(branch.tokens))
    await forks.extend({branch: 3})
    assert branch.tokens == written_alone(PROMPT, 5, len(branch.tokens))


async def test_what_fails_is_told_and_not_written_on() -> None:
    engine = HashEngine(fail_after=5)
    loop = EngineLoop(engine)
    loop.start()
    forks = forks_on(loop)
    branch = forks.start(PROMPT)
    for _ in range(2):
        with pytest.raises(EngineFailure):
            await forks.extend({branch: 10})
    await forks.close()
    loop.stop()


async def test_what_has_no_room_is_refused(loop: EngineLoop, engine: HashEngine) -> None:
    forks = forks_on(loop)
    for prompt in ([], [1] * engine.context):
        with pytest.raises(PromptTooLong):
            forks.start(prompt)
    with pytest.raises(PromptTooLong):
        await forks.choices([[1] * (engine.context + 1)], [1])
    branch = forks.start([1] * (engine.context - 2))
    await forks.extend({branch: 10})
    assert len(branch.tokens) <= 2
