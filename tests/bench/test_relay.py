"""The relay: every byte arrives in order, and its times are those of a link."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from bench.relay import Constant, Line, Relay, Trace
from updraft.errors import ConfigError

PATIENCE = 20.0
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that sends back what it gets and ends when its client ends; the value is its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # a cut is what the tests are about
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def connect(relay: Relay) -> Streams:
    return await asyncio.open_connection("127.0.0.1", relay.port)


async def exchange(streams: Streams, data: bytes, sizes: list[int]) -> bytes:
    """Write data in pieces of the sizes (in turn), end, and read everything that comes back."""
    reader, writer = streams

    async def send() -> None:
        at, turn = 0, 0
        while at < len(data):
            size = sizes[turn % len(sizes)]
            writer.write(data[at : at + size])
            await writer.drain()
            at, turn = at + size, turn + 1
        writer.write_eof()

    async with asyncio.timeout(PATIENCE):
        _, received = await asyncio.gather(send(), reader.read())
    writer.close()
    return received


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


@given(some.lists(some.integers(0, 10_000), min_size=1, max_size=20), some.floats(0.0, 0.5))
def test_without_a_limit_everything_arrives_one_delay_later(sizes: list[int], delay_s: float) -> None:
    line = Line(delay_s)
    for step, size in enumerate(sizes):
        now = step * 0.01
        assert line.arrival(size, now) == pytest.approx(now + delay_s)


@given(
    some.lists(some.tuples(some.floats(0.0, 0.1), some.integers(0, 10_000)), min_size=1, max_size=30),
    some.floats(0.0, 0.5),
    some.floats(1e4, 1e9),
)
def test_a_limited_line_is_in_order_and_never_faster_than_its_rate(
    sends: list[tuple[float, int]], delay_s: float, bandwidth: float
) -> None:
    line, now, arrivals, sent = Line(delay_s, Constant(bandwidth)), 0.0, [], 0
    for pause, size in sends:
        now += pause
        sent += size
        arrivals.append(line.arrival(size, now))
        assert arrivals[-1] >= now + delay_s + size * 8 / bandwidth - 1e-9
        assert arrivals[-1] >= delay_s + sent * 8 / bandwidth - 1e-9
    assert arrivals == sorted(arrivals)


def test_the_delay_is_a_pipeline() -> None:
    line = Line(0.1, Constant(8e6))  # 1000 bytes take 1 ms
    arrivals = [line.arrival(1000, 0.0) for _ in range(50)]
    assert arrivals == pytest.approx([0.1 + 0.001 * count for count in range(1, 51)])
    assert line.arrival(1000, 10.0) == pytest.approx(10.101)  # an idle line saves nothing up


def test_a_trace_shapes_the_line() -> None:
    line = Line(0.0, Trace(((0.0, 8.0), (1.0, 0.0), (2.0, 8.0))))
    assert line.arrival(1_000_000, 0.5) == pytest.approx(2.5)
    assert line.arrival(500_000, 0.5) == pytest.approx(3.0)


@settings(max_examples=15, deadline=None)
@given(
    some.integers(0, 2**32),
    some.integers(0, 100_000),
    some.lists(some.integers(1, 70_000), min_size=1, max_size=5),
    some.sampled_from([(0.0, None), (0.003, None), (0.0, 1e9), (0.002, 2e8)]),
)
def test_every_byte_comes_back_in_order(
    seed: int, size: int, sizes: list[int], shape: tuple[float, float | None]
) -> None:
    data = random.Random(seed).randbytes(size)

    async def scenario() -> None:
        async with echo() as port, Relay("127.0.0.1", port, delay_s=shape[0], bandwidth_bps=shape[1]) as relay:
            assert await exchange(await connect(relay), data, sizes) == data
            assert (relay.bytes_up, relay.bytes_down, relay.connections) == (size, size, 1)

    asyncio.run(scenario())


async def test_connections_do_not_mix() -> None:
    async with echo() as port, Relay("127.0.0.1", port, delay_s=0.002, bandwidth_bps=1e8) as relay:
        sent = [bytes([number]) * 20_000 for number in range(8)]
        received = await asyncio.gather(*[exchange(await connect(relay), data, [999]) for data in sent])
        assert received == sent
        assert relay.connections == 8


async def test_a_round_trip_takes_at_least_what_was_asked() -> None:
    loop = asyncio.get_running_loop()
    async with echo() as port, Relay("127.0.0.1", port, delay_s=0.02) as relay:
        streams = await connect(relay)
        began = loop.time()
        streams[1].write(b"x")
        assert await streams[0].readexactly(1) == b"x"
        assert loop.time() - began >= 0.07  # handshake and data: two round trips, less the time to get here
        began = loop.time()
        streams[1].write(b"y")
        assert await streams[0].readexactly(1) == b"y"
        assert loop.time() - began >= 0.04
        streams[1].close()


async def test_a_cut_resets_both_sides_and_new_connections_work() -> None:
    async with echo() as port, Relay("127.0.0.1", port) as relay:
        first, second = await connect(relay), await connect(relay)
        for reader, writer in (first, second):
            writer.write(b"x")
            await reader.readexactly(1)
        assert relay.cut() == 2
        for reader, writer in (first, second):
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
        assert await exchange(await connect(relay), b"again", [5]) == b"again"
        await until(lambda: relay.active == 0)
        assert relay.cut() == 0


async def test_a_cut_loses_what_is_under_way() -> None:
    async with echo() as port, Relay("127.0.0.1", port, delay_s=0.0) as relay:
        reader, writer = await connect(relay)
        writer.write(b"x")
        await reader.readexactly(1)
        relay.stall()
        writer.write(b"lost")
        await asyncio.sleep(0.02)
        relay.cut()
        relay.resume()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        assert relay.bytes_up == 1


async def test_a_stall_holds_everything_and_loses_nothing() -> None:
    async with echo() as port, Relay("127.0.0.1", port) as relay:
        reader, writer = await connect(relay)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        relay.stall()
        writer.write(b"b")
        late = await connect(relay)
        late[1].write(b"c")
        await asyncio.sleep(0.03)
        assert (relay.bytes_up, relay.bytes_down) == (1, 1)
        relay.resume()
        assert await asyncio.wait_for(reader.readexactly(1), PATIENCE) == b"b"
        assert await asyncio.wait_for(late[0].readexactly(1), PATIENCE) == b"c"
        writer.close()
        late[1].close()


async def test_refusing_resets_new_connections_only() -> None:
    async with echo() as port, Relay("127.0.0.1", port) as relay:
        reader, writer = await connect(relay)
        writer.write(b"a")
        await reader.readexactly(1)
        relay.refuse(True)
        with pytest.raises(ConnectionError):
            refused = await connect(relay)
            await asyncio.wait_for(refused[0].read(), PATIENCE)
        writer.write(b"b")
        assert await reader.readexactly(1) == b"b"
        writer.close()
        relay.refuse(False)
        assert await exchange(await connect(relay), b"back", [1]) == b"back"


async def test_a_target_that_is_away_resets_the_client() -> None:
    async with echo() as port:
        pass
    async with Relay("127.0.0.1", port) as relay:
        reader, writer = await connect(relay)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()


async def test_a_client_that_goes_away_frees_its_connection() -> None:
    async with echo() as port, Relay("127.0.0.1", port) as relay:
        reader, writer = await connect(relay)
        writer.write(b"x")
        await reader.readexactly(1)
        assert relay.active == 1
        writer.transport.abort()
        await until(lambda: relay.active == 0)


async def test_leaving_resets_what_is_open() -> None:
    async with echo() as port:
        async with Relay("127.0.0.1", port) as relay:
            reader, writer = await connect(relay)
            writer.write(b"x")
            await reader.readexactly(1)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"delay_s": -0.1}, "delay_s"),
        ({"delay_s": float("nan")}, "delay_s"),
        ({"bandwidth_bps": 0.0}, "bandwidth_bps"),
        ({"bandwidth_bps": float("nan")}, "bandwidth_bps"),
        ({"bandwidth_bps": 1.0, "trace": Trace(((0.0, 1.0),))}, "trace"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(options: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Relay("127.0.0.1", 1, **options)  # type: ignore[arg-type]
