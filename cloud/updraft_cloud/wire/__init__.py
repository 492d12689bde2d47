"""The only place in the cloud tier where wire messages are read and made."""

from __future__ import annotations

from updraft_cloud.wire.making import notice_frame, opened_frame, reply_frame
from updraft_cloud.wire.reading import MAX_BRANCHES, MAX_WINDOW, read_frame
from updraft_cloud.wire.solving import MAX_GIVEN, read_solve, solve_event, solve_notice, working_event

__all__ = [
    "MAX_BRANCHES",
    "MAX_GIVEN",
    "MAX_WINDOW",
    "notice_frame",
    "opened_frame",
    "read_frame",
    "read_solve",
    "reply_frame",
    "solve_event",
    "solve_notice",
    "working_event",
]
