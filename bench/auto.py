"""`updraft bench auto`: the bandit's choices replayed over real answers of every arm, against fixed arms and chance.

Every prompt is answered by every arm over every link, by one agent a link, as `auto` would have it. What an arm came to
in a situation is known then for all arms, so the replayed regret is exact; but situations come back: after some hundred
rounds the bandit has seen each several times.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from updraft.auto.arms import ARMS, Arm, arms_of, settings_of
from updraft.auto.reward import GOALS, Outcome
from updraft.errors import ConfigError
from updraft.mode_settings import AutoSettings
from updraft.modes import Mode, ModeSettings
from updraft_edge.agent import Agent

from .auto_replay import Recorded, replay_goal
from .figures import observe
from .prompts import first_prompts
from .report import Step, table_of
from .tiers import cloud_process, edge_settings, pin_apart, question, relay_to

__all__ = ["ARMS_SHOWN", "POLICIES", "AutoBench"]

POLICIES = {
    "policy": ("policy", ""),
    "reward": ("mean reward", ".4f"),
    "regret": ("regret", ".2f"),
    "regret_low": ("least", ".2f"),
    "regret_high": ("most", ".2f"),
    "regret_a_choice": ("a choice", ".4f"),
    "late_regret_a_choice": ("in the last quarter", ".4f"),
    "of_oracle_gain": ("of the oracle's gain", ".0%"),
}
ARMS_SHOWN = {
    "round_trip_ms": ("RTT ms", "g"),
    "arm": ("arm", ""),
    "ms_per_token": ("ms/token", ".1f"),
    "cloud_passes": ("cloud passes/token", ".2f"),
    "unverified": ("never seen by the cloud", ".0%"),
    **{str(goal): (str(goal), ".3f") for goal in GOALS},
    "best": ("best for balanced", "d"),
}


@dataclass(frozen=True)
class AutoBench:
    """Records first, replays then.

    Attributes:
        round_trips_ms: of the emulated links.
        modes: that `auto` may choose from.
        rounds: choices of each replay.
        repetitions: replays in other orders.
    """

    round_trips_ms: tuple[float, ...] = (0.0, 40.0, 80.0)
    modes: tuple[str, ...] = AutoSettings().modes
    prompts: int = 16
    tokens: int = 32
    rounds: int = 480
    repetitions: int = 10
    temperature: float = 0.0
    seed: int = 0
    edge_model: str = "smollm2-q4_0"
    cloud_model: str = "smollm2"
    context: int = 1024
    pin: bool = True
    name = "auto"

    def __post_init__(self) -> None:
        if not self.round_trips_ms or min(self.round_trips_ms) < 0.0:
            raise ConfigError(f"round trips are {self.round_trips_ms}; give at least one, none below 0.")
        if self.rounds < 8 or self.repetitions < 1:
            raise ConfigError(f"{self.rounds} rounds, {self.repetitions} times: give at least 8, and at least once.")
        known = {arm.mode.value for arm in ARMS}
        if unknown := set(self.modes) - known:
            raise ConfigError(
                f"auto does not choose {', '.join(sorted(unknown))}; it chooses {', '.join(sorted(known))}."
            )
        first_prompts(self.prompts)

    @property
    def steps(self) -> int:
        return 1 + len(self.round_trips_ms) * self.prompts * len(self._arms()) + len(GOALS)

    def _arms(self) -> list[Arm]:
        return arms_of(self.modes, works=lambda mode: mode is not Mode.EXIT, cloud=True)

    async def measure(self, step: Step) -> dict[str, Any]:
        edge_cores, cloud_cores = pin_apart(self.pin)
        recorded: dict[float, list[Recorded]] = {}
        async with cloud_process(self.cloud_model, context=self.context, cores=cloud_cores) as cloud:
            step("the cloud serves")
            for round_trip_ms in self.round_trips_ms:
                recorded[round_trip_ms] = await self._over_link(cloud.address, round_trip_ms, step)
        every = [one for group in recorded.values() for one in group]
        goals = []
        for goal in GOALS:
            goals.append(replay_goal(every, goal, rounds=self.rounds, repetitions=self.repetitions, seed=self.seed))
            step(f"replayed, goal {goal}")
        return {
            "edge_cores": edge_cores,
            "cloud_cores": cloud_cores,
            "situations": len(every),
            "arms": [row for trip, group in recorded.items() for row in self._arm_rows(trip, group)],
            "goals": goals,
            "recorded": [asdict(one) for one in every],
        }

    async def _over_link(self, address: str, round_trip_ms: float, step: Step) -> list[Recorded]:
        async with AsyncExitStack() as stack:
            relay = await stack.enter_async_context(relay_to(address, round_trip_s=round_trip_ms / 1e3))
            settings = edge_settings(
                self.edge_model, address=relay.address, context=self.context, sequences=1, auto_history="off"
            )
            agent = await stack.enter_async_context(Agent(settings))
            for arm in self._arms():  # connects, warms caches, and lets costs and agreement settle
                await self._answer(agent, arm, "Hello.", tokens=12)
            await agent.chooser.measure_link()
            found = []
            for number, prompt in enumerate(first_prompts(self.prompts)):
                found.append(await self._recorded(agent, number, prompt, round_trip_ms, step))
            return found

    async def _recorded(self, agent: Agent, number: int, prompt: str, round_trip_ms: float, step: Step) -> Recorded:
        """One prompt answered by every arm; they take turns in going first."""
        arms = self._arms()
        turn = number % len(arms)
        situation, outcomes = None, {}
        for arm in [*arms[turn:], *arms[:turn]]:
            request = self._request(arm, prompt, self.tokens)
            before = agent.chooser.situation(request, prompt_tokens=len(agent.encode(prompt)), tokens=self.tokens)
            situation = situation or before
            outcomes[arm.name] = await self._answer(agent, arm, prompt, tokens=self.tokens)
            step(f"{round_trip_ms:g} ms, {arm.name}")
        if situation is None:
            raise RuntimeError("there are no arms")
        return Recorded(situation, {arm.name: outcomes[arm.name] for arm in arms})

    async def _answer(self, agent: Agent, arm: Arm, prompt: str, *, tokens: int) -> Outcome:
        completion = (await observe(agent, self._request(arm, prompt, tokens))).completion
        agent.chooser.note(completion.statistics)
        return Outcome.of(completion.statistics, degraded=completion.degraded)

    def _request(self, arm: Arm, prompt: str, tokens: int) -> Any:
        settings = settings_of(arm, ModeSettings())
        return question(prompt, settings, tokens=tokens, temperature=self.temperature, seed=self.seed)

    def _arm_rows(self, round_trip_ms: float, group: list[Recorded]) -> list[dict[str, Any]]:
        best = [max(rewards, key=rewards.__getitem__) for rewards in (one.rewards("balanced") for one in group)]
        rows = []
        for arm in self._arms():
            outcomes = [one.outcomes[arm.name] for one in group]
            tokens = max(1, sum(outcome.tokens for outcome in outcomes))
            rows.append(
                {
                    "round_trip_ms": round_trip_ms,
                    "arm": arm.name,
                    "ms_per_token": 1e3 * sum(outcome.seconds for outcome in outcomes) / tokens,
                    "cloud_passes": sum(outcome.cloud_passes for outcome in outcomes) / tokens,
                    "unverified": sum(outcome.unverified for outcome in outcomes) / tokens,
                    **{str(goal): sum(one.rewards(goal)[arm.name] for one in group) / len(group) for goal in GOALS},
                    "best": best.count(arm.name),
                }
            )
        return rows

    def tables(self, results: dict[str, Any]) -> list[Table]:
        pair = f"{self.edge_model} and {self.cloud_model}, {self.prompts} prompts x {self.tokens} tokens"
        tables = [table_of(f"{pair}: mean reward of every arm", results["arms"], ARMS_SHOWN)]
        for one in results["goals"]:
            title = (
                f"goal {one['goal']}: {self.rounds} choices over {results['situations']} situations, "
                f"{self.repetitions} orders; regret against the best arm of each situation (oracle "
                f"{one['oracle']:.4f}); a choice takes {one['choice_us']:.0f} us"
            )
            tables.append(table_of(title, sorted(one["rows"], key=lambda row: row["regret"]), POLICIES))
        return tables

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        from .auto_plot import plot_auto

        plot_auto(results["goals"], path, subtitle=f"{self.edge_model} and {self.cloud_model}")
        return True
