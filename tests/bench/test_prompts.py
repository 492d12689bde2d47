"""The benches' prompts."""

from __future__ import annotations

import pytest

from bench.prompts import PROMPTS, first_prompts
from updraft.errors import ConfigError


def test_there_are_fifty_different_short_prompts() -> None:
    assert len(set(PROMPTS)) == len(PROMPTS) == 50
    assert all(10 <= len(prompt) <= 300 and prompt == prompt.strip() for prompt in PROMPTS)


@pytest.mark.parametrize("count", [1, 7, 49, 50])
def test_any_number_of_them_has_no_repetition(count: int) -> None:
    assert len(set(first_prompts(count))) == count


def test_a_few_prompts_come_from_several_kinds() -> None:
    places = [PROMPTS.index(prompt) for prompt in first_prompts(8)]
    assert len({place // 10 for place in places}) == 5


def test_more_prompts_continue_fewer() -> None:
    assert first_prompts(20)[:8] == first_prompts(8)


@pytest.mark.parametrize("count", [0, -1, 51])
def test_a_number_that_cannot_be_had_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="there are 50"):
        first_prompts(count)
