"""The cloud on the torch engine: a tiny mixture of experts behind real gRPC, with an edge on llama.cpp."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hf_model import hf_config, hf_weights, write_hf_model
from tests.fakes.tiers import complete, running_agent, running_cloud
from tests.fakes.tiny_model import write_tiny_model
from updraft.config import CloudSettings, ListenSettings
from updraft.config.experts import ExpertSettings
from updraft.engine import Engine, open_engine
from updraft.generation import ChatMessage, GenerationRequest
from updraft.modes import parse_settings
from updraft.sampling import SamplingParams
from updraft_cloud.experts.factory import make_experts
from updraft_cloud.experts.together import ExpertOverlap
from updraft_cloud.server import CloudServer

pytest.importorskip("torch")

PROMPTS = ["the cat and the hat", "once upon a time", "what is there to be seen in the old house?"]
LENGTH = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has the tokenizer of the tiny edge model, its embedding and its output matrix: drafts stand now and then."""
    scratch = tmp_path_factory.mktemp("hf")
    edge = _shared_ends(write_tiny_model(scratch / "edge.gguf", layers=1))
    weights = hf_weights(hf_config("qwen2_moe")) | edge
    for name in weights:  # layers that change little: the ends decide most tokens
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name] *= 0.3
    return write_hf_model(scratch / "moe", "qwen2_moe", tokenizer="gguf", weights=weights)


def _shared_ends(path: Path) -> dict[str, Any]:
    from updraft.models.weights import read_weights

    weights = read_weights(path)
    return {name: weights[name] for name in ("model.embed_tokens.weight", "lm_head.weight")}


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(write_tiny_model(tmp_path / "edge.gguf", layers=1), context=256, sequences=4, threads=1)
    yield engine
    engine.shutdown()


def ask(mode: str, prompt: str, temperature: float) -> GenerationRequest:
    extra: dict[str, Any] = {"stop": {"rule": "fixed", "length": 5}} if mode == "draft" else {}
    return GenerationRequest(
        messages=[ChatMessage("user", prompt)],
        sampling=SamplingParams(temperature=temperature, seed=17),
        max_tokens=LENGTH,
        settings=parse_settings({"mode": mode, **extra}),
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_draft_writes_the_text_of_the_cloud_alone(folder: Path, edge: Engine, temperature: float) -> None:
    large = open_engine(folder, context=256, sequences=4, threads=1)
    async with running_cloud(large) as cloud, running_agent(edge, cloud.address) as agent:
        alone = [(await complete(agent, ask("cloud", prompt, temperature)))[1] for prompt in PROMPTS]
        # All at once: drafts, verdicts and prompts of several sessions share the cloud's passes.
        drafted = await asyncio.gather(*(complete(agent, ask("draft", prompt, temperature)) for prompt in PROMPTS))
    assert [completion.text for _, completion in drafted] == [completion.text for completion in alone]
    assert not any(completion.degraded for _, completion in drafted)
    accepted = sum(event.origin == "edge" for events, _ in drafted for event in events)
    assert 0 < accepted < LENGTH * len(PROMPTS)


async def test_passes_that_are_shared_by_experts_write_the_same_text(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six sessions in passes of sixteen tokens, half of the experts on the device."""
    small = write_tiny_model(tmp_path / "edge.gguf", layers=1)
    prompts = [*PROMPTS, "one two three", "a long day by the sea", "who is it?"]
    asked: list[int] = []
    choose = ExpertOverlap.__call__

    def counted(self: ExpertOverlap, placed: Any, waiting: Any, room: int) -> list[int]:
        asked.append(len(waiting))
        return choose(self, placed, waiting, room)

    monkeypatch.setattr(ExpertOverlap, "__call__", counted)
    texts: list[list[str]] = []
    for experts in (None, make_experts(ExpertSettings(budget="50%", group=True))):
        options: dict[str, Any] = {"context": 256, "threads": 1, "sequences": 6}
        edge = open_engine(small, **options)
        large = open_engine(folder, batch_tokens=16, experts=experts, **options)
        async with running_cloud(large, pass_tokens=16) as cloud, running_agent(edge, cloud.address) as agent:
            answers = await asyncio.gather(*(complete(agent, ask("draft", prompt, 0.0)) for prompt in prompts))
        texts.append([completion.text for _, completion in answers])
        assert (len(asked) > 0) == (experts is not None)
        edge.shutdown()
    assert texts[0] == texts[1]


@pytest.mark.slow
async def test_the_service_loads_it_by_its_settings_in_its_own_process(folder: Path, edge: Engine) -> None:
    settings = CloudSettings.model_validate(
        {
            "model": str(folder),
            "engine": "torch",
            "torch": {"dtype": "bfloat16", "expert_bits": 8},
            "context": 256,
            "threads": 1,
            "kv": {"bytes": 5 * 256 * 2 * 3 * 2 * 2 * 16},
            "listen": ListenSettings(port=0),
            "drain_s": 0.1,
        }
    )
    async with CloudServer(settings) as cloud, running_agent(edge, cloud.address) as agent:
        description = cloud.host.description
        _, alone = await complete(agent, ask("cloud", PROMPTS[0], 0.0))
        _, drafted = await complete(agent, ask("draft", PROMPTS[0], 0.0))
    assert description.info.quantisation == "BF16, experts Q8"
    assert description.sequences == 5
    assert drafted.text == alone.text
