"""The engine's process: loads the model, acknowledges, and serves messages until its standard input ends.

Started by `ProcessHost` with the folder of the two sockets as its argument and the settings as the first line of its
standard input.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Final

import zmq

from updraft import failpoints
from updraft.config import CloudSettings
from updraft.errors import ProtocolViolation, UpdraftError
from updraft.logging_setup import configure_logging
from updraft_cloud.engine.host import load_engine, worker_options
from updraft_cloud.engine.process_host import FROM_ENGINE, TO_ENGINE
from updraft_cloud.engine.worker import Worker
from updraft_cloud.messages import MAX_BYTES, FromEngine, NotReady, Ready, decode_to_engine, encode

__all__ = ["main"]

log = logging.getLogger(__name__)

_POLL_MS: Final = 200
_MEASURE_S: Final = 1.0
_SEND_MS: Final = 30_000
_STUCK: Final = 70  # exit status: the front end does not read


def main(folder: Path) -> None:
    settings = CloudSettings.model_validate_json(sys.stdin.buffer.readline())
    configure_logging(settings.log_level, settings.log_format)
    failpoints.arm_from_environment()
    context = zmq.Context()
    incoming, outgoing = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    for socket, name in ((incoming, TO_ENGINE), (outgoing, FROM_ENGINE)):
        socket.set(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.set(zmq.LINGER, 1000)
        socket.set(zmq.SNDTIMEO, _SEND_MS)
        socket.connect(f"ipc://{folder / name}")
    try:
        _serve(settings, incoming, outgoing)
    finally:
        context.destroy(linger=1000)


def _serve(settings: CloudSettings, incoming: zmq.Socket[bytes], outgoing: zmq.Socket[bytes]) -> None:
    def send(message: FromEngine) -> None:
        """From the loop's thread alone, once the worker has started."""
        try:
            outgoing.send(encode(message))
        except zmq.ZMQError:
            os._exit(_STUCK)

    try:
        worker = Worker(load_engine(settings), os.getpid(), worker_options(settings), send)
    except UpdraftError as error:
        send(NotReady(error.code, error.message, error.remedy))
        return
    send(Ready(worker.description))
    worker.start()
    parent = _parent_ends()
    measured = time.monotonic()
    try:
        while not parent.is_set():
            if incoming.poll(_POLL_MS):
                _take(worker, incoming.recv())
            if time.monotonic() - measured >= _MEASURE_S:
                worker.measure()
                measured = time.monotonic()
    finally:
        worker.stop()


def _take(worker: Worker, data: bytes) -> None:
    try:
        worker.take(decode_to_engine(data))
    except ProtocolViolation:
        log.exception("a message was not understood")


def _parent_ends() -> threading.Event:
    """Set when standard input ends, which is the front end's end or its wish."""
    ended = threading.Event()

    def watch() -> None:
        while os.read(0, 4096):
            pass
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    return ended


if __name__ == "__main__":
    main(Path(sys.argv[1]))
