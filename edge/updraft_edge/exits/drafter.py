"""The early-exit drafter: every token leaves the edge's model at the first exit that is confident of it.

CE-CoLLM's edge (arXiv 2411.02829): where no exit is confident, the next token is left to the cloud, to which the hidden
states at one boundary between stages have gone ahead while the deeper stages were computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from updraft.engine.base import FloatRows, Output, Run, StagedEngine
from updraft.engine.loop import EngineLoop, Priority, Want
from updraft.exits.criteria import ExitCriterion, ExitVerdict
from updraft.exits.scores import ExitView
from updraft.sampling import Sampled, Sampler
from updraft_edge.drafters import DraftTask, ModelDrafter, Proposal

__all__ = ["EarlyExitDrafter", "ExitPlan"]


@dataclass(frozen=True, slots=True)
class ExitPlan:
    """How deep the edge goes and when it stops.

    Attributes:
        depths: the stages in whose exits a token may leave, the shallowest first.
        layers: for each of them the layers below it; None for the end of the whole model.
        criterion: judges a token at each of them.
        features: the criterion reads the exits' hidden states.
        split: the stage after which hidden states go to the cloud; None if they do not.
    """

    depths: tuple[int, ...]
    layers: tuple[int | None, ...]
    criterion: ExitCriterion
    features: bool
    split: int | None


class EarlyExitDrafter(ModelDrafter):
    """A ModelDrafter on a staged engine.

    Args:
        loop: owns the engine, which is a StagedEngine.
        plan: how deep to go.
        asks: leave tokens of which no exit is confident to the cloud; otherwise the deepest exit's token stands.
        on_boundary: takes (position, hidden states after the plan's split, shape (n, width)) in the event loop's
            thread; all those before a token that is left to the cloud come before the None that says so. Where
            settled tokens change the log, they start again from there.
        options: as ModelDrafter's.
    """

    def __init__(
        self,
        loop: EngineLoop,
        prompt: Sequence[int],
        sampler: Sampler,
        *,
        plan: ExitPlan,
        asks: bool = False,
        on_boundary: Callable[[int, FloatRows], None] | None = None,
        **options: Any,
    ) -> None:
        self._plan = plan
        self._asks = asks
        self._on_boundary = on_boundary
        super().__init__(loop, prompt, sampler, **options)

    def _make_task(self, prompt: Sequence[int], sampler: Sampler, **options: Any) -> DraftTask:
        self._exit_task = _ExitTask(self, prompt, sampler, exit_plan=self._plan, asks=self._asks, **options)
        return self._exit_task

    def alone(self) -> None:
        self._asks = False
        self._on_boundary = None
        self._ready = type(self._ready)(ready for ready in self._ready if ready is not None)
        self._loop.post(self._exit_task.alone)

    def deliver_states(self, position: int, states: FloatRows) -> None:
        """Called from the engine thread with states that it may keep."""
        self._asyncio.call_soon_threadsafe(self._receive_states, position, states)

    def _receive_states(self, position: int, states: FloatRows) -> None:
        if self._on_boundary is not None:
            self._on_boundary(position, states)

    def _receive(self, proposals: list[Proposal]) -> None:
        if not self._asks:
            proposals = [proposal for proposal in proposals if proposal.sampled is not None]
        super()._receive(proposals)


class _ExitTask(DraftTask):
    """The engine thread's side: one pass to the first exit for each token, and deeper ones until an exit is confident.

    Positions that left early are caught up by the engine when a later token goes deeper, in the same pass.
    """

    _owner: EarlyExitDrafter
    _engine: StagedEngine

    def __init__(
        self,
        owner: EarlyExitDrafter,
        prompt: Sequence[int],
        sampler: Sampler,
        *,
        exit_plan: ExitPlan,
        asks: bool,
        **options: Any,
    ) -> None:
        super().__init__(owner, prompt, sampler, **options)
        self._exits = exit_plan
        self._asks = asks
        self._split = exit_plan.split
        self._uploaded = 0  # positions whose states have gone to the cloud
        self._decoded = False
        self._trace: list[ExitView] = []  # what the exits passed say of the token after the log
        self._guess: Sampled | None = None  # what the last of them would write
        self._left = False  # the token after the log is left to the cloud

    def plan(self) -> Want | None:
        if self._left:
            self._deliver()
            return None
        wants = self._exits.features
        if self._trace and not self._held:
            length = self._engine.length(self._sequence)
            depth = self._exits.depths[len(self._trace)]
            return Want(Priority.WRITE, Run(self._sequence, length, (), 1, hidden=wants, depth=depth))
        planned = super().plan()
        if planned is None:
            return None
        run = planned.run
        # The prompt goes to the deepest exit chunk by chunk: some token will need it, and catching up stays short.
        depth = self._exits.depths[0 if run.rows else -1]
        return planned._replace(run=replace(run, depth=depth, hidden=wants and bool(run.rows)))

    def consume(self, run: Run, output: Output) -> None:
        if not run.rows:
            self._upload()
            return
        if run.tokens:
            self._decoded = len(run.tokens) == 1
        self._guess = self._draw(output)
        features = None if output.hidden is None else output.hidden[-1].copy()
        stage = self._exits.depths[len(self._trace)]
        self._trace.append(ExitView(stage, self._guess.token, self._guess.distribution, features))
        if self._stands():
            self._emit(self._guess)
        elif self._left:
            self._upload()
            self._outbox.append(Proposal(self._epoch, None))
            self._last_draft = 0.0
            self._deliver()
        else:
            self._upload()  # travels while deeper stages are computed

    def _stands(self) -> bool:
        """Whether the last exit's token is written; otherwise it may be left to the cloud from here."""
        place = len(self._trace) - 1
        deepest = place == len(self._exits.depths) - 1
        if self._exits.layers[place] is None:
            return True
        verdict = self._exits.criterion.judge(self._trace)
        # What goes up must have been computed: nothing is handed over before the split.
        may_leave = self._split is None or self._trace[-1].exit >= self._split
        handed_over = verdict is ExitVerdict.HAND_OVER and may_leave
        self._left = self._asks and (handed_over or (deepest and verdict is not ExitVerdict.EXIT))
        return verdict is ExitVerdict.EXIT or (deepest and not self._asks)

    def _emit(self, sampled: Sampled) -> None:
        layer = self._exits.layers[len(self._trace) - 1]
        self._forget_token()
        self._propose(replace(sampled, layer=layer), decoded=self._decoded)

    def alone(self) -> None:
        """Leave nothing to the cloud any more; what was left is taken up where it stood."""
        self._asks, self._split = False, None
        if self._left and self._guess is not None:
            self._left = False
            if len(self._trace) == len(self._exits.depths):
                self._emit(self._guess)

    def _log_changed(self, kept: int) -> None:
        self._uploaded = min(self._uploaded, kept)
        self._forget_token()

    def _forget_token(self) -> None:
        self._trace.clear()
        self._guess = None
        self._left = False

    def _outstanding(self) -> Sequence[Sampled | None]:
        return [*self._drafts, None] if self._left else self._drafts

    def _deliver(self) -> None:
        if self._outbox:
            self._upload()
        super()._deliver()

    def _upload(self) -> None:
        """Send the states that have been computed since the last time."""
        if self._split is None or self._sequence < 0:
            return
        start, stop = self._uploaded, self._engine.computed(self._sequence, self._split)
        if stop > start:
            states = self._engine.boundary(self._sequence, self._split, start, stop)
            self._owner.deliver_states(start, states.copy())
            self._uploaded = stop
