"""What an answer of the mode `solve` may say of itself: for tests of servers and clients."""

from __future__ import annotations

from updraft.modes import Origin
from updraft.solution import Compute, OtherAnswer, ProgressEvent, Solution

__all__ = ["PROGRESS", "SOLUTION"]

PROGRESS = (
    ProgressEvent("sample", Origin.EDGE, 0, tokens=9, seconds=0.5),
    ProgressEvent("score", Origin.CLOUD, 3, 0.25, tokens=40, seconds=1.0),
    ProgressEvent("resample", Origin.CLOUD, 4, source=3, tokens=60, seconds=1.5),
    ProgressEvent("stage", Origin.CLOUD, tokens=60, seconds=1.5, stage="rank"),
    ProgressEvent("answer", Origin.CLOUD, 3, 0.75, tokens=60, seconds=2.0),
)
SOLUTION = Solution(
    strategy="rpc",
    confidence=0.75,
    verified=True,
    ended="confident",
    compute=Compute(7, 27, 60, 12, 4, 0, 1.25),
    unparsed=1,
    complaints=("number failed",),
    alternatives=(
        OtherAnswer("Hello, world!", (256, 257), 0.75, 5, "cloud", 0.5),
        OtherAnswer("Bye", (258,), 0.25, 1, "edge"),
    ),
)
