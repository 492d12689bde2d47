"""What every test of the cloud is held to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from updraft.errors import UpdraftError
from updraft_cloud.context import ContextManager


@pytest.fixture(autouse=True)
def caches_hold_together(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The context manager is checked in every turn of every engine loop, and at the end of the test."""
    faults: list[UpdraftError] = []
    managers: list[ContextManager] = []
    begin_turn, close = ContextManager.begin_turn, ContextManager.close

    def check(manager: ContextManager) -> None:
        try:
            manager.check_integrity()
        except UpdraftError as error:
            faults.append(error)

    def checked(manager: ContextManager) -> None:
        begin_turn(manager)
        if manager not in managers:
            managers.append(manager)
        check(manager)

    def closed(manager: ContextManager) -> None:
        if manager in managers:
            managers.remove(manager)  # its engine is shut down
        close(manager)

    monkeypatch.setattr(ContextManager, "begin_turn", checked)
    monkeypatch.setattr(ContextManager, "close", closed)
    yield
    for manager in managers:
        check(manager)
    if faults:
        raise faults[0]
