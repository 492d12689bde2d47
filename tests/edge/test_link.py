"""The link's own calls: a cloud that goes cancels what it has begun, and that is a loss, not somebody's wish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from grpc import aio

from tests.fakes.engine import LetterTokenizer
from updraft.config import CloudLinkSettings, EdgeSettings
from updraft.errors import CloudUnavailable
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1.collaboration_pb2_grpc import CollaborationServicer, add_CollaborationServicer_to_server
from updraft_edge.link import CloudLink
from updraft_edge.rules.guard import Rules

if TYPE_CHECKING:  # generic in its type stubs only
    ServicerContext = aio.ServicerContext[pb.DescribeRequest, pb.DescribeResponse]


class Going(CollaborationServicer):
    async def Describe(self, request: pb.DescribeRequest, context: ServicerContext) -> pb.DescribeResponse:
        await context.abort(grpc.StatusCode.CANCELLED, "")
        raise AssertionError


async def test_a_question_that_the_cloud_cancels_is_a_lost_one() -> None:
    server = aio.server()
    add_CollaborationServicer_to_server(Going(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    link = CloudLink(CloudLinkSettings(address=f"127.0.0.1:{port}"), Rules(EdgeSettings(), LetterTokenizer(64).piece))
    try:
        with pytest.raises(CloudUnavailable):
            await link.describe()
    finally:
        await link.close()
        await server.stop(None)
