"""Arrivals and links from traces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.traffic import links_of, read_traffic
from updraft.errors import ConfigError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with small traces in the formats of the real ones."""
    azure = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for second, context, generated in ((1, 100, 10), (2, 400, 20), (9, 50, 90), (10, 200, 40)):
        azure.append(f"2023-11-16 18:15:{second:02d}.6805900,{context},{generated}")
    blocks: tuple[list[int], ...] = ([0, 1], [0, 2, 5], [0, 1, 7], [])
    mooncake = [
        json.dumps({"timestamp": 500 * place, "input_length": 10, "output_length": 20, "hash_ids": own})
        for place, own in enumerate(blocks)
    ]
    trips = ["rtt_ms,carrier,server_location", "40.0,A,East", "44.0,A,East", "90.0,B,West"]
    bandwidth = [json.dumps({"name": "one", "t_s": [0, 1], "mbps": [3.0, 4.0]})]
    files = {
        "azure_llm_trace/AzureLLMInferenceTrace_conv.csv": azure,
        "mooncake_trace/conversation_trace.jsonl": mooncake,
        "net_5gophers/All-Carriers/02-Round-Trip-Times/data.csv": trips,
        "net_abr_traces/traces_oboe.jsonl": bandwidth,
    }
    for name, lines in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path


def test_gaps_keep_their_proportions_and_lengths_their_order(data: Path) -> None:
    traffic = read_traffic(data, "azure")
    found = traffic.sessions(0.4, 10.0, [10, 20, 30, 40], [48, 48, 24, 48], 3, start=0)
    assert len(found) == 4
    starts = [asking.at_s for asking in found]
    assert starts[0] == 0.0 and starts[2] - starts[1] == pytest.approx(7 * (starts[1] - starts[0]))
    assert [asking.script for asking in found] == [1, 3, 0, 2]  # by the rank of the prompt
    assert found[2].tokens == 48 and found[3].tokens == 24  # as long as recorded, at most
    assert found[0].tokens < found[1].tokens
    assert {asking.edge for asking in found} <= {0, 1, 2}


def test_the_same_place_gives_the_same_sessions_at_every_rate(data: Path) -> None:
    traffic = read_traffic(data, "azure")
    slow, fast = (traffic.sessions(rate, 10.0, [1, 2], [9, 9], 2, start=3) for rate in (0.2, 2.0))
    assert len(fast) == 20  # round and round
    assert [(one.script, one.tokens, one.edge) for one in fast[: len(slow)]] == [
        (one.script, one.tokens, one.edge) for one in slow
    ]


def test_requests_of_one_prefix_ask_the_same(data: Path) -> None:
    found = read_traffic(data, "mooncake").sessions(1.0, 3.0, list(range(50)), [9] * 50, 1, start=0)
    assert found[0].script == found[2].script != found[1].script


def test_without_data_arrivals_are_drawn() -> None:
    traffic = read_traffic(None, "azure")
    assert traffic.name == "poisson"
    assert len(traffic.sessions(2.0, 30.0, [5], [40], 1, start=7)) == 60


def test_links_have_measured_round_trips_and_bandwidths(data: Path) -> None:
    links = links_of(data, 4)
    assert len(links) == 4 and {link.round_trip_s for link in links} == {0.042, 0.09}
    assert all(link.trace is not None for link in links)
    assert links_of(data, 4) == links
    assert [link.round_trip_s for link in links_of(None, 2)] == [0.02, 0.02]


def test_what_is_no_trace_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no trace"):
        read_traffic(data, "gcp")
    (data / "mooncake_trace/conversation_trace.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_traffic(data, "mooncake")
    (data / "net_abr_traces/traces_oboe.jsonl").unlink()
    with pytest.raises(ConfigError, match="links"):
        links_of(data, 2)
