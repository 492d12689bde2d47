"""Every decoder refuses in order whatever it is fed, and the fuzzer would notice if one did not."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from bench import fuzz_worker
from bench.child import lines_of
from bench.fuzz import FuzzBench, growth
from bench.fuzz_targets import TARGETS, Decoder, Target, fed
from bench.fuzz_worker import Batch, batches_of, run_batch, target_of
from bench.mutation import damaged, random_message
from updraft.errors import ConfigError, EngineFailure, UpdraftError
from updraft.v1 import collaboration_pb2 as pb

FEW = {"token-file": 40, "settings": 15, "session": 250}


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_takes_or_refuses_whatever_it_is_fed(name: str) -> None:
    batch = run_batch(1, name, FEW.get(name, 400))
    assert batch.wrong == [], f"seed {batch.seed}"
    assert batch.frames == FEW.get(name, 400) and batch.taken < batch.frames


@pytest.mark.parametrize("name", TARGETS)
def test_some_of_what_it_is_fed_is_right(name: str) -> None:
    target, chance = TARGETS[name][0](), random.Random(4)
    assert any(fed(target, target.sample(chance)) for _ in range(200))
    target.close()


def test_a_seed_makes_the_same_frames_again() -> None:
    one, other = (run_batch(7, "edge-frame", 300) for _ in range(2))
    assert one.taken == other.taken
    assert target_of(7, ["session", "settings"]) == target_of(7, ["session", "settings"])


def planted(read: Callable[[bytes], object]) -> Target:
    return Decoder(lambda chance: chance.randbytes(8), read)


def _raises(data: bytes) -> object:
    return data.decode("ascii")


def _logs(data: bytes) -> object:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        logging.getLogger("planted").exception("a thread survived it")
        return None


def _refuses(data: bytes) -> object:
    raise UpdraftError("no")


@pytest.mark.parametrize(("read", "found"), [(_raises, True), (_logs, True), (_refuses, False)])
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[bytes], object], found: bool
) -> None:
    monkeypatch.setitem(TARGETS, "planted", (lambda: planted(read), 1.0))
    batch = run_batch(1, "planted", 20)
    assert bool(batch.wrong) is found
    assert all("UnicodeDecodeError" in text and "frame: " in text for text in batch.wrong)


async def test_a_process_that_dies_or_hangs_is_the_batchs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_worker, "_HANG_S", 0.01)
    (hung,) = [batch async for batch in batches_of(range(5, 6), ["saved-state"])]
    assert hung.seed == 5 and "said nothing" in hung.wrong[0]

    async def dies(module: str, argument: str, *, silence_s: float) -> AsyncGenerator[bytes, None]:
        yield json.dumps(asdict(Batch(5, "saved-state", 1000, 3))).encode()
        raise EngineFailure("it ended with status -11")

    monkeypatch.setattr(fuzz_worker, "lines_of", dies)
    found = [batch async for batch in batches_of(range(5, 20, 2), ["saved-state"])]
    assert [(batch.seed, bool(batch.wrong)) for batch in found] == [(5, False), (7, True)]
    assert "status -11" in found[1].wrong[0]


async def test_a_child_that_fails_shows_the_end_of_its_log() -> None:
    with pytest.raises(EngineFailure, match="no_such_module"):
        [line async for line in lines_of("no_such_module", "")]


async def test_the_bench_adds_up_its_batches(tmp_path: Path) -> None:
    bench = FuzzBench(frames=3000, targets=("saved-state", "hidden-states"), processes=0)
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert results["passed"] and len(steps) == bench.steps == 3
    assert sum(row["frames"] for row in results["rows"]) == 3000
    assert bench.plot(results, tmp_path / "fuzz.png") and len(bench.tables(results)) == 1
    apart = await FuzzBench(frames=1000, targets=("saved-state",), processes=1).measure(steps.append)
    assert apart["passed"] and apart["rows"][0]["frames"] == 1000


def test_a_leak_or_a_slow_frame_fails_the_bench() -> None:
    bench = FuzzBench(targets=("settings",))

    def results(**changes: float) -> bool:
        fields = {"memory": 1e8, "files": 9, "grow": 0.0, "open": 0.0, "slowest_s": 0.1, **changes}
        grown = [
            Batch(
                number,
                "settings",
                1000,
                9,
                slowest_s=fields["slowest_s"],
                memory=int(fields["memory"] + number * fields["grow"]),
                files=int(fields["files"] + number * fields["open"]),
            )
            for number in range(100)
        ]
        return bool(bench._results([grown])["passed"])

    assert results() and results(grow=1e4)
    assert not results(grow=1e6) and not results(open=1.0) and not results(slowest_s=60.0)


def test_growth_leaves_out_the_warm_up() -> None:
    assert growth([0.0] * 2 + [5.0] * 8) == pytest.approx(0.0, abs=1e-9)
    assert growth([float(value) for value in range(101)]) == pytest.approx(80.0)
    assert growth([1.0, 9.0]) == 0.0


def test_damage_changes_bytes_and_random_messages_are_messages() -> None:
    chance = random.Random(2)
    data = b"0123456789" * 5
    assert sum(damaged(data, chance, [b"other"]) != data for _ in range(100)) > 80
    assert damaged(b"", chance) is not None
    for _ in range(50):
        frame = random_message(pb.EdgeFrame, chance)
        assert pb.EdgeFrame.FromString(frame.SerializeToString()).IsInitialized()


@pytest.mark.parametrize("options", [{"frames": 0}, {"first": -1}, {"targets": ("nobody",)}])
def test_what_cannot_be_fuzzed_is_refused(options: dict[str, object]) -> None:
    with pytest.raises((ConfigError, UpdraftError)):
        FuzzBench(**options)  # type: ignore[arg-type]
