"""Hidden states tell their tokens: they wait until these may leave."""

from __future__ import annotations

import numpy as np
import pytest

from tests.edge.exits.test_exit_mode import ask, cloud_engine, edge_engine
from tests.edge.exits.test_hidden_upload import Receiver
from tests.fakes.tiers import complete, running_agent, running_cloud
from tests.fakes.wiretap import Wiretap
from updraft.config import RulesSettings
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.exits.upload import HiddenUpload
from updraft_edge.rules.guard import Guard


async def test_states_of_later_positions_wait() -> None:
    upload, receiver = HiddenUpload(wire.HiddenCarry(2, 8, "float32", "")), Receiver()
    upload.add(0, np.ones((9, 8), np.float32))
    await upload.flush(receiver.put, 4)
    assert len(receiver.states) == 4 and upload.behind
    await upload.flush(receiver.put, 3)
    assert len(receiver.states) == 4
    await upload.flush(receiver.put, 50)
    assert len(receiver.states) == 9 and not upload.behind


async def test_no_state_of_a_token_that_is_not_in_the_log_goes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    admit = Guard.frame

    def watch(guard: Guard, frame: pb.EdgeFrame, size: int) -> None:
        if frame.HasField("hidden"):
            seen.append((frame.hidden.position + frame.hidden.count, len(guard._log)))
        admit(guard, frame, size)

    monkeypatch.setattr(Guard, "frame", watch)
    async with running_cloud(cloud_engine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        _, completion = await complete(agent, ask(threshold=0.5))
    assert completion.statistics.hidden_bytes_up > 0 and len(seen) > 3
    assert all(end <= known for end, known in seen)


@pytest.mark.parametrize("carry", ["hidden", "tokens"])
async def test_a_prompt_with_a_secret_stays_in_the_mode_exit_too(carry: str) -> None:
    async with running_cloud(cloud_engine()) as cloud, Wiretap(cloud.address) as tap:
        rules = RulesSettings(keep_local=("emails",))
        async with running_agent(edge_engine(), tap.address, rules=rules) as agent:
            assert agent.link is not None
            await agent.link.describe()
            greeted = len(tap.sent)
            _, completion = await complete(agent, ask(prompt="MAIL BOB@HOME.COM", threshold=1.0, carry=carry))
            assert (completion.withheld, completion.statistics.cloud_tokens) == ("emails", 0)
            assert tap.sent[greeted:] == b""
            _, other = await complete(agent, ask(prompt="HELLO", threshold=1.0, carry=carry))
            assert other.statistics.bytes_up > 0
