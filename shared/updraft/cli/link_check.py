"""What `updraft doctor` finds out about the link to the cloud."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Final

import grpc

from updraft import __version__
from updraft.cli.checks import Check
from updraft.config import CloudLinkSettings, EdgeSettings
from updraft.engine.base import ModelInfo
from updraft.errors import CloudUnavailable, UpdraftError
from updraft.models.rungs import layers_text
from updraft.transport import bearer_metadata, error_from_rpc, open_channel
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1.collaboration_pb2_grpc import CollaborationStub

__all__ = ["check_link"]

CALLS: Final = 5


def check_link(settings: EdgeSettings, info: ModelInfo | None) -> list[Check]:
    """Reachability, round trip, TLS, the cloud's model, and whether the tokenizers agree.

    Args:
        info: the edge model, or None if it could not be read.
    """
    if settings.local_only or not settings.has_cloud or settings.cloud.address is None:
        why = "local_only is set" if settings.local_only else "no cloud address is set"
        if settings.endpoint.url is not None and not settings.local_only:
            return [Check("link", "skipped", f"{why}; the endpoint is the cloud")]
        return [Check("link", "skipped", f"{why}; the edge writes alone")]
    try:
        cloud, seconds = asyncio.run(_describe(settings.cloud))
    except CloudUnavailable as error:
        remedy = "Start it with `updraft serve cloud`, name another with --cloud, or work alone with --local-only."
        detail = f"no cloud service answers at {settings.cloud.address} ({error.message})"
        return [Check("link", "failed", detail, remedy, {"code": error.code})]
    except UpdraftError as error:
        return [Check.failed("link", error)]
    milliseconds = [1000 * value for value in seconds]
    median = statistics.median(milliseconds)
    kind = "TLS" if settings.cloud.tls else "no TLS"
    checks = [
        Check(
            "link",
            "ok",
            f"{settings.cloud.address} answers in {median:.1f} ms (median of {CALLS}), {kind}",
            facts={"round_trip_ms": median, "all_ms": milliseconds, "tls": settings.cloud.tls},
        ),
        _model_check(cloud),
    ]
    return [*checks, _tokenizer_check(cloud, info)] if info is not None else checks


def _model_check(cloud: pb.DescribeResponse) -> Check:
    detail = f"{cloud.model}: {cloud.layers} layers, {cloud.weight_bytes >> 20} MiB, context {cloud.context}"
    if cloud.boundaries:
        detail += f", takes hidden states after {layers_text(cloud.boundaries)} layers"
    facts: dict[str, object] = {"model": cloud.model, "fingerprint": cloud.fingerprint, "version": cloud.version}
    facts["boundaries"] = list(cloud.boundaries)
    if cloud.version == __version__:
        return Check("cloud model", "ok", detail, facts=facts)
    return Check(
        "cloud model",
        "warning",
        f"{detail}; the cloud runs updraft {cloud.version}, this is {__version__}",
        "Run the same version on both tiers.",
        facts,
    )


def _tokenizer_check(cloud: pb.DescribeResponse, info: ModelInfo) -> Check:
    facts = {"edge": info.tokenizer_hash, "cloud": cloud.tokenizer_hash}
    if cloud.tokenizer_hash == info.tokenizer_hash:
        return Check("tokenizer", "ok", f"the same on both tiers ({info.vocabulary} tokens)", facts=facts)
    return Check(
        "tokenizer",
        "failed",
        f"the edge's ({info.vocabulary} tokens) is not the cloud's ({cloud.vocabulary} tokens)",
        "Use two models of one family: token-level modes need the same tokenizer on both tiers.",
        facts,
    )


async def _describe(link: CloudLinkSettings) -> tuple[pb.DescribeResponse, list[float]]:
    """What the cloud serves, and the seconds that each of the calls after the first took.

    Raises:
        LinkError, Unauthenticated, ConfigError.
    """
    channel = open_channel(
        link.address or "",
        tls=link.tls,
        ca=link.ca,
        cert=link.cert,
        key=link.key,
        server_name=link.server_name,
        keepalive_s=link.keepalive_s,
    )
    seconds: list[float] = []
    async with channel:
        describe = CollaborationStub(channel).Describe
        for _ in range(CALLS + 1):
            started = time.perf_counter()
            try:
                cloud = await describe(
                    pb.DescribeRequest(), timeout=link.connect_timeout_s, metadata=bearer_metadata(link.token)
                )
            except grpc.aio.AioRpcError as error:
                raise error_from_rpc(error) from error
            seconds.append(time.perf_counter() - started)
    return cloud, seconds[1:]  # the first call opened the connection
