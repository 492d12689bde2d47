"""Mode `exit`: an edge with the lower stages, a cloud with all of them, hidden states between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hf_model import write_hf_model
from tests.fakes.staged_model import write_exit, write_staged_model
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.config import CloudSettings, EdgeSettings, StagedSettings
from updraft.config.admission import AdmissionSettings
from updraft.config.kv import KvSettings
from updraft.engine import open_engine
from updraft.exits.carry import CARRIES, Carry
from updraft.generation import ChatMessage, GenerationRequest
from updraft.models.weights import read_weights
from updraft.modes import Origin, parse_settings
from updraft.sampling import SamplingParams
from updraft_cloud.engine.host import LocalHost, load_engine
from updraft_edge.agent import Agent

PROMPTS = ["Explain in two sentences why the sky is blue.", "List three uses of a paper clip."]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("staged") / "tiny"
    write_staged_model(folder, exits=(1, 3), layers=4, precision="int4")
    return folder


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory, smollm2_path: Path) -> Path:
    """SmolLM2 in three stages; its exits are copies of trunk layers, so that they are seldom right."""
    pytest.importorskip("onnxruntime_genai")
    from updraft.models.staged import export_staged

    folder = tmp_path_factory.mktemp("staged")
    weights = read_weights(smollm2_path)
    rungs = [write_exit(folder / f"exit{layer}.safetensors", weights, layer) for layer in (8, 16)]
    export_staged(smollm2_path, folder / "smollm2", rungs=rungs)
    return folder / "smollm2"


def ask(mode: str, prompt: str, temperature: float, **exits: object) -> GenerationRequest:
    return GenerationRequest(
        messages=[ChatMessage("user", prompt)],
        sampling=SamplingParams(temperature=temperature, seed=17),
        max_tokens=24,
        settings=parse_settings({"mode": mode, "exit": exits}),
    )


@contextlib.asynccontextmanager
async def tiers(folder: Path, carry: Carry, split: int) -> AsyncIterator[Agent]:
    options: dict[str, Any] = {"context": 256, "sequences": 2, "threads": 1, "split": split, "carry": carry}
    small, large = open_engine(folder, last_stage=1, **options), open_engine(folder, **options)
    kv = KvSettings(share=False)  # so that what two answers to one prompt cost can be compared
    async with running_cloud(large, kv=kv) as cloud, running_agent(small, cloud.address) as agent:
        yield agent


async def never_confident(agent: Agent, layers: int, boundary: int) -> None:
    """At threshold 1 the answer is the text of the staged model run whole, and the cloud runs fewer layers."""
    for temperature in (0.0, 0.8):
        for prompt in PROMPTS:
            _, alone = await complete(agent, ask("cloud", prompt, temperature))
            for carry in ("hidden", "tokens"):
                events, answer = await complete(agent, ask("exit", prompt, temperature, threshold=1.0, carry=carry))
                assert (answer.token_ids, answer.text) == (alone.token_ids, alone.text)
                assert {event.origin for event in events} == {Origin.CLOUD}
                left = boundary if carry == "hidden" else 0
                assert answer.statistics.cloud_layers * layers == alone.statistics.cloud_layers * (layers - left)


async def sometimes_confident(agent: Agent) -> None:
    """Some tokens leave early, and hidden states and tokens lead to one text."""
    for prompt in PROMPTS:
        _, hidden = await complete(agent, ask("exit", prompt, 0.8, threshold=0.1, carry="hidden"))
        _, tokens = await complete(agent, ask("exit", prompt, 0.8, threshold=0.1, carry="tokens"))
        assert hidden.token_ids == tokens.token_ids
        assert hidden.statistics.edge_tokens == tokens.statistics.edge_tokens > 0
        assert not hidden.degraded


@pytest.mark.parametrize("carry", CARRIES)
@pytest.mark.parametrize("split", [0, 1])
async def test_a_tiny_model_in_two_tiers_is_one_function(tiny: Path, carry: Carry, split: int) -> None:
    async with tiers(tiny, carry, split) as agent:
        await never_confident(agent, 4, (1, 3)[split])
        await sometimes_confident(agent)


@pytest.mark.parametrize(("split", "carry"), [(0, "float32"), (0, "int8"), (2, "float16")])
async def test_a_folder_that_torch_computes_in_two_tiers_is_one_function(
    tmp_path: Path, split: int, carry: Carry
) -> None:
    """Opened by settings. The edge has exits after one and three layers and none of those above; the cloud no exits."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    torch.set_num_threads(1)
    folder = write_hf_model(tmp_path / "model", "llama", num_hidden_layers=4, noise=0.1)
    weights = read_weights(folder)
    exits = ",".join(str(write_exit(tmp_path / f"exit{n}.safetensors", weights, n)) for n in (1, 3))
    shared: dict[str, Any] = {"model": str(folder), "context": 256, "sequences": 2, "threads": 1}
    own = {"split": split, "carry": carry}
    edge = EdgeSettings(**shared, staged=StagedSettings(**own, rungs=exits, last_stage=2))  # type: ignore[arg-type]
    cloud_engine = load_engine(CloudSettings(**shared, staged=StagedSettings(**own)))  # type: ignore[arg-type]
    small = open_engine(edge.model, **edge.engine_options())
    async with (
        running_cloud(cloud_engine, kv=KvSettings(share=False)) as cloud,
        running_agent(small, cloud.address) as agent,
    ):
        await never_confident(agent, 4, split + 1)
        await sometimes_confident(agent)


async def test_sessions_of_hidden_states_that_share_a_sequence_lose_nothing(tiny: Path) -> None:
    options: dict[str, Any] = {"context": 256, "threads": 1, "split": 0, "carry": "float16"}
    small, large = open_engine(tiny, last_stage=1, sequences=4, **options), open_engine(tiny, sequences=1, **options)
    admission = AdmissionSettings(places=4)
    requests = [ask("exit", prompt, temperature, threshold=0.9) for prompt in PROMPTS for temperature in (0.0, 0.8)]
    async with running_cloud(large, admission=admission) as cloud, running_agent(small, cloud.address) as agent:
        alone = [(await complete(agent, request))[1].token_ids for request in requests]
        together = await asyncio.gather(*(complete(agent, request) for request in requests))
        assert [completion.token_ids for _, completion in together] == alone
        assert not any(completion.degraded for _, completion in together)
        assert isinstance(cloud.host, LocalHost)
        assert cloud.host.worker.context.statistics.restored > 0


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the model builder's libraries
@pytest.mark.parametrize("carry", CARRIES)
async def test_smollm2_in_two_tiers_is_one_function(smollm2: Path, carry: Carry) -> None:
    async with tiers(smollm2, carry, 0) as agent:
        await never_confident(agent, 30, 8)
        await sometimes_confident(agent)
