"""A session: one answer being written. It lives in the engine loop's thread; its cache is the context manager's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from updraft.engine.base import Engine, Output, Run
from updraft.engine.loop import Priority, Want, next_run
from updraft.errors import ProtocolViolation, UpdraftError
from updraft.failpoints import reach
from updraft.sampling import Sampled
from updraft_cloud.context import ContextManager
from updraft_cloud.frames import (
    Cancel,
    Draft,
    End,
    Failed,
    Hidden,
    Open,
    Reply,
    Score,
    Span,
    TakeOver,
    Verdict,
    Work,
)
from updraft_cloud.sessions.acceptance import AcceptanceRule
from updraft_cloud.sessions.answer import Answer
from updraft_cloud.sessions.judging import judge
from updraft_cloud.sessions.pending_states import PendingStates, entry_stages
from updraft_cloud.sessions.scoring import Scoring, report_of
from updraft_cloud.sessions.spending import Spending
from updraft_cloud.sessions.tree import Copies, Verification
from updraft_cloud.sessions.writing import Writing, step_so_far

__all__ = ["Session"]

Emit = Callable[[Reply], None]
Expect = Callable[[Sequence[int]], None]


class Session:
    """Keeps the log, computes what is missing in the cache, and answers drafts and take-overs one at a time.

    Args:
        engine: the engine, used from the loop's thread alone.
        context: gives the session a sequence when it has something to compute, and may take it while it has not.
        opening: the checked Open frame.
        emit: takes answers for the edge; called from the loop's thread.
        chunk: longest prefill run, tokens.
        tenant: whose session it is.
        rule: an acceptance rule in place of the one that was opened with.
        copies: sequences for the branches of trees; without them only the run of a tree is judged.
    """

    def __init__(
        self,
        engine: Engine,
        context: ContextManager,
        opening: Open,
        emit: Emit,
        *,
        chunk: int,
        tenant: str = "",
        rule: AcceptanceRule | None = None,
        copies: Copies | None = None,
    ) -> None:
        self._context = context
        self._engine = engine
        self._expect: Expect | None = getattr(engine, "expect", None)  # of an engine that may fetch experts ahead
        self._emit = emit
        self._tenant = tenant
        self._chunk = chunk
        self._copies = copies
        self._rule = rule or opening.acceptance
        self._report = opening.report
        self._answer = Answer(opening, context=engine.context, end_tokens=engine.info.end_tokens)
        self.log = self._answer.log
        self._job: Verification | Writing | Scoring | None = None
        self._deadline = math.inf
        self._ahead = True  # the prompt is computed ahead of the first frame
        entry = opening.entry
        self._states = None if entry is None else PendingStates(entry, entry_stages(engine)[entry.layers])
        self._spending = Spending(engine.info.layers - (0 if entry is None else entry.layers))
        self.sequence = -1
        context.join(self, tenant, rebuildable=entry is None)

    @property
    def tokens(self) -> list[int]:
        """The log, which a lost cache is computed from again."""
        return self.log.tokens

    @property
    def idle(self) -> bool:
        """No frame is being answered, so that the sequence may be taken."""
        return self._job is None

    def take(self, work: Work, *, arrived: float, deadline: float = math.inf) -> None:
        """Begin what a frame asks for. Raises LogMismatch or ProtocolViolation if it does not fit the log.

        Args:
            arrived: when the frame arrived, and `deadline` by when an answer is of use (`time.monotonic`).
        """
        match work:
            case Draft():
                self.take_draft(work)
            case TakeOver():
                self.take_over(work)
            case Score():
                self.take_score(work)
            case Hidden():
                self.take_hidden(work)
                return
            case Cancel():
                self.cancel()
                return
        self._deadline = deadline
        self._spending.begin(arrived)

    def take_draft(self, draft: Draft) -> None:
        """Start judging a draft. Raises LogMismatch or ProtocolViolation if it does not fit the log."""
        self._agree(draft)
        most = max(0, self._answer.left - 1)
        run = draft.run[:most]
        if self._expect is not None and self._states is None:  # else the lower layers' experts would come for nothing
            self._expect([self.log.tokens[-1], *run])
        if self._states is not None and self._states.end < len(self.log) + len(run):
            raise ProtocolViolation(
                f"Hidden states have arrived for {self._states.end} positions of {len(self.log) + len(run)}."
            )
        if draft.branches and self._copies is not None and self._states is None and self.sequence >= 0:
            done = self._branch_done
            self._start(self._copies.plant(self, draft, most=most, tenant=self._tenant, done=done))
        else:
            self._start(Verification(run))

    def take_over(self, frame: TakeOver) -> None:
        """Start writing a span. Raises LogMismatch or ProtocolViolation if the frame does not fit the log."""
        if self._states is not None:
            raise ProtocolViolation("A session of hidden states writes no spans: the tokens of one have no states.")
        self._agree(frame)
        step = step_so_far(self.log, frame.written, self._engine.tokenizer) if frame.step else None
        self._start(Writing(frame.hand_back, frame.max_tokens, step))

    def take_score(self, frame: Score) -> None:
        """Start scoring. Raises LogMismatch or ProtocolViolation if the frame does not fit the log."""
        if self._states is not None:
            raise ProtocolViolation("A session of hidden states scores no tokens: they have no states.")
        self._agree(frame)
        self._job = Scoring(frame, self.log.tokens, self._engine, chunk=self._chunk)

    def take_hidden(self, frame: Hidden) -> None:
        """Keep hidden states for later. Raises ProtocolViolation if they do not follow those before."""
        if self._states is None:
            raise ProtocolViolation("Hidden states arrived in a session that was not opened for them.")
        if isinstance(self._job, Verification) and frame.position < len(self.log) + len(self._job.run):
            raise ProtocolViolation("Hidden states arrived for positions of a draft that is being judged.")
        self._states.take(frame)
        self._ahead = True
        self._context.truncate(self, frame.position)

    def cancel(self) -> None:
        """Stop a span; a verdict under way is let go to its end, since the edge waits for it."""
        if isinstance(self._job, Writing):
            self._job = None
            self._emit_span([], End.CANCELLED)

    def close(self, *, keep: bool = True) -> None:
        """Free the sequence, whose cache others may begin with unless `keep` is False. Safe to call twice."""
        self._job = None
        if self._copies is not None:
            self._copies.drop(self)
        self._context.leave(self, keep=keep)

    def plan(self) -> Want | None:
        if (self._job is None and not self._ahead) or not self._context.enter(self):
            return None
        want = self._next_want()
        self._spending.plan()
        return want and want._replace(tenant=self._tenant, deadline=self._deadline)

    def _next_want(self) -> Want | None:
        log, job = self.log.tokens, self._job
        if job is None:
            # Compute ahead of the next frame, but leave the last token: its row is what the frame will ask for.
            ready = len(log) - 1 if self._states is None else min(len(log) - 1, self._states.end)
            if self._engine.length(self.sequence) >= ready:
                self._ahead = False
                return None
            return Want(Priority.PREFILL, self._next_run(log[:ready], 0))
        if isinstance(job, Verification):
            if job.waiting:
                return None
            run = self._next_run(log, len(job.run) + 1, job.run)
            return Want(Priority.VERIFY if run.rows else Priority.PREFILL, run)
        if isinstance(job, Scoring) and self._engine.length(self.sequence) >= len(log) - 1:
            return job.plan(self.sequence)
        if isinstance(job, Scoring):
            return Want(Priority.PREFILL, self._next_run(log[:-1], 0))
        run = self._next_run(log, 1)
        return Want(Priority.WRITE if run.rows else Priority.PREFILL, run)

    def consume(self, run: Run, output: Output) -> None:
        if not run.rows:
            reach("prefill")
        if self._job is not None:
            self._spending.note_started()
        self._spending.note_run(run, len(self.log))
        if self._states is not None:
            self._states.release(run.position + len(run.tokens))
        if not run.rows and run.position < len(self.log) - 1:
            return
        if isinstance(self._job, Verification):
            self._job.take(output.logits)
            self._branch_done()
        elif isinstance(self._job, Writing):
            self._write(self._job, output)
        elif isinstance(self._job, Scoring) and self._job.take(run, output.logits):
            self._forget(self._job)

    def fail(self, error: UpdraftError) -> None:
        self.close(keep=False)  # log and cache may differ: a draft stood or fell in one of them alone
        self._emit(Failed.of(error))

    def _next_run(self, tokens: list[int], rows: int, drafted: Sequence[int] = ()) -> Run:
        run = next_run(self._engine, self.sequence, tokens, rows, self._chunk, drafted)
        return run if self._states is None else self._states.enter(run)

    def _start(self, job: Verification | Writing) -> None:
        if self._answer.left <= 0:
            raise ProtocolViolation(f"The answer has reached its {self._answer.most} tokens.")
        self._job = job

    def _agree(self, frame: Draft | Score | TakeOver) -> None:
        """See that no other frame is being answered, and that both tiers have the same log."""
        if self._job is not None:
            raise ProtocolViolation("A frame asks for work while the last one is under way.")
        self._answer.agree(frame)

    def _branch_done(self) -> None:
        if isinstance(self._job, Verification) and self._job.computed:
            self._judge(self._job)

    def _judge(self, job: Verification) -> None:
        """The verdict: judge the draft, and cut from the cache what did not stand."""
        reach("verdict.before_commit")
        start = len(self.log)
        walk = job.walk()
        judgement = judge(walk, self._answer, self._rule)
        reach("verdict.after_commit")
        stood = self.log.tokens[start : start + judgement.accepted]
        self._settle(job, walk.way, start, stood)
        drawn = judgement.drawn if self._report else judgement.drawn[judgement.accepted :]
        verdict = Verdict(
            position=len(self.log),
            accepted=judgement.accepted,
            tolerated=judgement.tolerated,
            token=self.log.tokens[-1] if judgement.own else None,
            log_hash=self.log.hash,
            end=judgement.end,
            reports=[report_of(sampled) for sampled in drawn],
            spent=self._spending.take(),
            branch=walk.way,
        )
        self._job = None
        if not reach("verdict.before_ack"):
            self._emit(verdict)

    def _settle(self, job: Verification, way: int, start: int, stood: list[int]) -> None:
        """Keep the caches of what stood of a way through the draft, after a log that had `start` tokens."""
        if job.branches and self._copies is not None:
            self._copies.settle(self, job.run, way=way, start=start, stood=stood)
            self._spending.note_branches(*job.branch_work())
        # Never the last token: its row is what the next frame asks for, also after an end that was accepted.
        self._engine.truncate(self.sequence, min(self._engine.length(self.sequence), len(self.log) - 1))
        if self._states is not None:
            self._states.forget(start + len(stood))

    def _write(self, job: Writing, output: Output) -> None:
        """One token of a span."""
        reach("span.before_commit")
        sampled = self._answer.draw(output.logits[0])
        self._answer.commit([sampled.token])
        job.note(sampled.distribution.entropy, self._engine.tokenizer.piece(sampled.token))
        end = self._answer.end_after(sampled.token) or (End.HAND_BACK if job.done else End.NOT_YET)
        if end:
            self._job = None
        if not reach("span.before_ack"):
            self._emit_span([sampled], end)

    def _forget(self, job: Scoring) -> None:
        """Answer, and cut what was scored: log and cache are as they were."""
        self._engine.truncate(self.sequence, len(self.log) - 1)
        self._job = None
        self._emit(job.answer(self._spending.take()))

    def _emit_span(self, drawn: list[Sampled], end: End) -> None:
        self._emit(
            Span(
                position=len(self.log) - len(drawn),
                tokens=[sampled.token for sampled in drawn],
                reports=[report_of(sampled) for sampled in drawn],
                end=end,
                log_hash=self.log.hash,
                spent=self._spending.take(),
            )
        )
