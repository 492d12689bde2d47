from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.fakes.generator import FakeAgent
from tests.shared.client.serving import BackgroundServer
from updraft.client import AsyncClient, Client, GenerateOptions
from updraft.errors import (
    AgentUnavailable,
    Cancelled,
    InvalidRequest,
    LateReply,
    Overloaded,
    Unauthenticated,
    UpdraftError,
    error_classes,
)
from updraft.modes import Origin


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts servers over agents in another thread; they stop with the test."""
    servers: list[BackgroundServer] = []

    def start(agent: FakeAgent, *, token: str | None = None) -> str:
        servers.append(BackgroundServer(agent, token=token))
        return servers[-1].address

    yield start
    for server in servers:
        server.stop()


def wait_until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)


def public(cls: type) -> set[str]:
    return {name for name in vars(cls) if not name.startswith("_")}


def test_both_clients_have_the_same_surface() -> None:
    assert public(Client) == public(AsyncClient) == {"generate", "stream", "info", "close"}
    for name in public(Client):
        assert getattr(Client, name).__annotations__.keys() == getattr(AsyncClient, name).__annotations__.keys()


def test_generate_and_info(serve: Callable[..., str]) -> None:
    with Client(serve(FakeAgent())) as client:
        completion = client.generate("Hi", seed=9, mode="span")
        assert (completion.text, completion.seed, completion.mode) == ("Hello, world!", 9, "span")
        assert completion.statistics.tokens == 4
        assert client.info()["device"] == "fake"


def test_stream_gives_each_token_and_then_the_completion(serve: Callable[..., str]) -> None:
    with Client(serve(FakeAgent())) as client, client.stream("Hi") as stream:
        first = next(stream)
        with pytest.raises(RuntimeError, match="not complete"):
            _ = stream.completion
        events = [first, *stream]
        assert "".join(event.text for event in events) == stream.completion.text
        assert [event.origin for event in events] == [Origin.EDGE, Origin.CLOUD] * 2
        assert list(stream) == []


def test_leaving_the_stream_early_frees_the_agent(serve: Callable[..., str]) -> None:
    agent = FakeAgent(["a"] * 1000, delay=0.01)
    with Client(serve(agent)) as client:
        with client.stream("Hi") as stream:
            next(stream)
        wait_until(lambda: agent.running == 0)
        assert agent.closed_early == 1
        with pytest.raises(Cancelled):
            next(stream)
        assert client.generate("again", max_tokens=1).text == "a"


def test_closing_from_another_thread_ends_a_blocked_read(serve: Callable[..., str]) -> None:
    agent = FakeAgent(delay=30)
    with Client(serve(agent)) as client:
        stream = client.stream("Hi")
        closer = threading.Timer(0.1, stream.close)
        closer.start()
        with pytest.raises(Cancelled):
            next(stream)
        closer.join()
        wait_until(lambda: agent.running == 0)


@pytest.mark.parametrize("code", sorted(error_classes()))
def test_errors_arrive_as_the_class_that_was_raised(code: str, serve: Callable[..., str]) -> None:
    raised = error_classes()[code]("What went wrong.", remedy="Do this.")
    with Client(serve(FakeAgent(failure=raised))) as client, pytest.raises(UpdraftError) as caught:
        client.generate("Hi")
    assert type(caught.value) is type(raised)
    assert (caught.value.message, caught.value.remedy) == ("What went wrong.", "Do this.")


def test_the_deadline_ends_a_slow_answer(serve: Callable[..., str]) -> None:
    agent = FakeAgent(["a"] * 1000, delay=0.01)
    with Client(serve(agent), timeout=0.2) as client:
        with pytest.raises(LateReply, match=r"within 0\.2 s"):
            client.generate("Hi")
        wait_until(lambda: agent.running == 0)


def test_no_agent_at_the_address_is_told_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"  # bound but not listening: refused
        with Client(address) as client:
            for call in (lambda: client.generate("Hi"), client.info):
                with pytest.raises(AgentUnavailable, match=address):
                    call()


def test_a_peer_that_never_speaks_costs_the_connect_timeout_only() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with Client(f"127.0.0.1:{silent.getsockname()[1]}", connect_timeout=0.3) as client:
            with pytest.raises(AgentUnavailable):
                client.generate("Hi")


def test_an_agent_that_dies_in_mid_answer_is_unavailable() -> None:
    server = BackgroundServer(FakeAgent(["a"] * 1000, delay=0.01))
    with Client(server.address) as client:
        stream = client.stream("Hi")
        next(stream)
        server.stop()
        with pytest.raises((AgentUnavailable, Cancelled)):
            list(stream)


def test_the_token_is_sent_and_its_absence_refused(serve: Callable[..., str]) -> None:
    address = serve(FakeAgent(), token="s3cret")
    with Client(address, token="s3cret") as client:
        assert client.generate("Hi").text == "Hello, world!"
    with Client(address) as client, pytest.raises(Unauthenticated):
        client.generate("Hi")


def test_bad_options_are_refused_before_anything_is_sent() -> None:
    with Client("127.0.0.1:1") as client:
        bad: list[GenerateOptions] = [{"messages": []}, {"top_k": -1}, {"prompt_tokens": [-1]}, {"seed": 2**64}]
        for options in bad:
            with pytest.raises(InvalidRequest):
                client.stream("a", **options)
        with pytest.raises(InvalidRequest):
            client.stream()
        with pytest.raises(InvalidRequest):
            client.stream("a", timeout=float("inf"))


def test_threads_share_a_client(serve: Callable[..., str]) -> None:
    agent = FakeAgent(lambda request: list(f"answer to {request.prompt}"), delay=0.001)
    answers: dict[int, str] = {}
    with Client(serve(agent)) as client:

        def ask(number: int) -> None:
            answers[number] = client.generate(f"question {number}").text

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: f"answer to question {number}" for number in range(6)}


def test_an_overloaded_agent_says_that_trying_again_helps(serve: Callable[..., str]) -> None:
    with Client(serve(FakeAgent(failure=Overloaded("full")))) as client, pytest.raises(Overloaded) as caught:
        client.generate("Hi")
    assert caught.value.retryable
