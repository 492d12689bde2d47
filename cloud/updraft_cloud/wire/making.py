"""Frames for the edge: made of what sessions answer."""

from __future__ import annotations

from updraft.engine.base import ModelInfo
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud.frames import Cost, Crowd, End, Failed, Limits, Reply, Report, Scored, Span, Spent, Verdict

__all__ = ["cost_message", "error_message", "notice_frame", "opened_frame", "reply_frame", "report_message"]

_END = {
    End.NOT_YET: pb.END_UNSPECIFIED,
    End.STOP: pb.END_STOP,
    End.LENGTH: pb.END_LENGTH,
    End.HAND_BACK: pb.END_HAND_BACK,
    End.CANCELLED: pb.END_CANCELLED,
}


def opened_frame(session: str, info: ModelInfo, limits: Limits, cost: Cost | None = None) -> pb.CloudFrame:
    opened = pb.Opened(
        session=session,
        fingerprint=info.fingerprint,
        max_draft=limits.max_draft,
        context=limits.context,
        cost=cost_message(cost),
    )
    return pb.CloudFrame(opened=opened)


def notice_frame(kind: pb.Notice.Kind, message: str, retry_after_ms: int = 0) -> pb.CloudFrame:
    return pb.CloudFrame(notice=pb.Notice(kind=kind, message=message, retry_after_ms=retry_after_ms))


def reply_frame(reply: Reply) -> pb.CloudFrame:
    """What a session answered, for the wire."""
    match reply:
        case Verdict():
            return pb.CloudFrame(verdict=_verdict(reply))
        case Span():
            return pb.CloudFrame(span=_span(reply))
        case Scored(choices, reports, spent):
            scored = pb.Scored(choices=choices, reports=map(report_message, reports), spent=_spent(spent))
            return pb.CloudFrame(scored=scored)
        case Failed():
            return pb.CloudFrame(error=error_message(reply))


def _verdict(verdict: Verdict) -> pb.Verdict:
    return pb.Verdict(
        position=verdict.position,
        accepted=verdict.accepted,
        tolerated=verdict.tolerated,
        token=verdict.token or 0,
        has_token=verdict.token is not None,
        log_hash=verdict.log_hash,
        end=_END[verdict.end],
        reports=map(report_message, verdict.reports),
        spent=_spent(verdict.spent),
        branch=verdict.branch,
        cost=cost_message(verdict.cost),
    )


def _span(span: Span) -> pb.Span:
    return pb.Span(
        position=span.position,
        tokens=span.tokens,
        reports=map(report_message, span.reports),
        end=_END[span.end],
        log_hash=span.log_hash,
        spent=_spent(span.spent),
        cost=cost_message(span.cost),
    )


def error_message(failed: Failed) -> pb.Error:
    return pb.Error(
        code=failed.code,
        message=failed.message,
        remedy=failed.remedy,
        retryable=failed.retryable,
        retry_after_ms=round(1000 * failed.retry_after_s),
    )


def report_message(report: Report) -> pb.TokenReport:
    return pb.TokenReport(
        logprob=report.logprob,
        entropy=report.entropy,
        energy=report.energy,
        top_ids=[token for token, _ in report.top],
        top_logprobs=[logprob for _, logprob in report.top],
    )


def _spent(spent: Spent) -> pb.Spent:
    return pb.Spent(
        passes=spent.passes,
        positions=spent.positions,
        prefilled=spent.prefilled,
        micros=spent.micros,
        layers=spent.layers,
    )


def cost_message(cost: Cost | None) -> pb.Cost | None:
    if cost is None:
        return None
    return pb.Cost(
        pass_micros=cost.pass_micros,
        position_micros=cost.position_micros,
        load=cost.load,
        sessions=cost.sessions,
        crowd=_crowd(cost.crowd),
    )


def _crowd(crowd: Crowd | None) -> pb.Crowd | None:
    if crowd is None:
        return None
    return pb.Crowd(acceptance=crowd.acceptance, away_micros=crowd.away_micros, prompt=crowd.prompt)
