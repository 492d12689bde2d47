"""The real model: what the design promises of the engine holds on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from updraft.chat_template import ChatTemplate
from updraft.engine import Run
from updraft.engine.exactness import check_exactness
from updraft.engine.llama import LlamaEngine

pytestmark = pytest.mark.smollm2


# Far positions need a long context once: which kernel attends to them does not depend on the weights' type.
@pytest.mark.slow
@pytest.mark.parametrize(("which", "context"), [("smollm2_path", 512), ("smollm2_q4_0_path", 128)])
def test_bit_exact(which: str, context: int, request: pytest.FixtureRequest) -> None:
    engine = LlamaEngine(request.getfixturevalue(which), context=context, sequences=3, threads=1)
    report = check_exactness(engine)
    engine.shutdown()
    assert report.exact, report


def test_it_answers_a_question(smollm2_q4_0_path: Path) -> None:
    engine = LlamaEngine(smollm2_q4_0_path, context=256, sequences=1)
    prompt = ChatTemplate(engine.info.chat_template).render(
        [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    )
    tokens = engine.tokenizer.encode(prompt, special=True)
    sequence = engine.open()
    answer: list[int] = []
    (output,) = engine.forward([Run(sequence, 0, tokens, rows=1)])
    while len(answer) < 30:
        token = int(np.argmax(output.logits[-1]))
        if token in engine.info.end_tokens:
            break
        answer.append(token)
        (output,) = engine.forward([Run(sequence, len(tokens) + len(answer) - 1, [token], rows=1)])
    text = b"".join(map(engine.tokenizer.piece, answer))
    engine.shutdown()
    assert b"Paris" in text
