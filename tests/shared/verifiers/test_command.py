"""Programs of the operator as verifiers: what they are given, and what becomes of those that go wrong."""

from __future__ import annotations

import sys

import psutil
import pytest

from updraft.sandbox import Limits
from updraft.verifiers import Claim, Command, Judgement, Resources, open_verifier

CLAIMS = [Claim("q", (1,), (2,), "one", -0.5), Claim("q", (1,), (2,), "four", -0.5)]
READ = "import json, sys; claims = json.load(sys.stdin)\n"


async def judged(program: str, limits: Limits | None = None) -> list[Judgement]:
    command = Command((sys.executable, "-c", program), limits or Limits(seconds=5.0))
    verifier = open_verifier({"kind": "command", "name": "mine"}, Resources(commands={"mine": command}))
    return list(await verifier.judge(CLAIMS))


async def test_claims_go_in_and_judgements_come_out() -> None:
    program = READ + (
        "assert claims[0] == {'question': 'q', 'text': 'one', 'logprob': -0.5, 'finished': True}\n"
        "print(json.dumps([{'score': len(c['text']) / 5} if c['text'] == 'four'"
        " else {'score': None, 'reason': 'cannot tell'} for c in claims]))"
    )
    unsure, sure = await judged(program)
    assert unsure == Judgement(None, reason="cannot tell")
    assert sure.passed and sure.score == 0.8


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise ValueError('broken')", "the program mine: ValueError: broken"),
        ("import sys; sys.exit(7)", "status 7"),
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
        ("print('hello')", "wrote nonsense"),
        ("print('[]')", "0 judgements for 2 answers"),
        ('print(\'[{"score": NaN}, {"score": 1}]\')', "wrote nonsense"),
        ('print(\'[{"score": 2}, {"score": 1}]\')', "wrote nonsense: 0.score"),
        ('print(\'[{"score": "1"}, {"score": 1}]\')', "wrote nonsense: 0.score"),
        ('print(\'[{"score": 1, "x": 1}, {"score": 1}]\')', "wrote nonsense: 0.x"),
        ("print('[' * 100000)", "wrote nonsense"),
        ("while True: print('x' * 100000)", "too much output"),
        ("x = bytearray(1 << 31)", "MemoryError"),
        ("import time; time.sleep(60)", "not done in time"),
        ("import os, time\nif os.fork(): time.sleep(60)\nos.setsid(); time.sleep(60)", "not done in time"),
    ],
)
async def test_one_that_goes_wrong_is_told_and_leaves_nothing(program: str, reason: str) -> None:
    judgements = await judged(program, Limits(seconds=1.5))
    assert [(each.score, each.passed, each.failed) for each in judgements] == [(None, False, True)] * 2
    assert reason in judgements[0].reason, judgements[0].reason
    assert psutil.Process().children(recursive=True) == []
