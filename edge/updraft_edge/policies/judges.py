"""Who grades the steps of an answer (mode `reason`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from updraft.errors import InvalidRequest
from updraft_edge.cloud_session import CloudSession
from updraft_edge.endpoint.session import EndpointJudge, EndpointSession
from updraft_edge.policies.rubric import LikelihoodJudge, Question, SessionJudge
from updraft_edge.seams import StepJudge

__all__ = ["step_judge"]


def step_judge(
    session: CloudSession | EndpointSession | None,
    scoring: Literal["average", "greedy", "likelihood"],
    question: Callable[[], Question],
) -> StepJudge:
    """The judge for a session; `question` gives what a cloud of our own protocol is asked.

    Raises InvalidRequest where the session cannot score so, or the model is of no use for it.
    """
    if session is None:
        raise RuntimeError("the mode reason needs a session")
    if isinstance(session, EndpointSession):
        if scoring == "likelihood":
            raise InvalidRequest(
                "An endpoint does not tell how probable a given text is: score with average or greedy.",
                param="updraft.reason.scoring",
            )
        return EndpointJudge(session, scoring)
    return LikelihoodJudge(session) if scoring == "likelihood" else SessionJudge(session, question(), scoring)
