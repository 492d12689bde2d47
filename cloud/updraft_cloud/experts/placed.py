"""Experts that stay on several devices under a placement: activations travel, weights do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from updraft.engine.experts import ExpertSource
from updraft.errors import ConfigError
from updraft_cloud.experts.placement import Devices, PlacementPlan
from updraft_cloud.experts.statistics import ExpertStatistics

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["PlacedExperts"]

Store = dict[tuple[int, int], dict[str, "Tensor"]]


class PlacedExperts:
    """An `updraft.engine.experts.Experts` over devices, each with a store of those experts that the plan gives it.

    The states of a layer's tokens go from the model's device to the expert's and back, for attention is computed there.

    Args:
        devices: their names, in the order of the plan's numbers. When left out: cuda:0, cuda:1, ... where the model is
            on a GPU, else so many stores on the CPU.

    Raises:
        WrongTrunk: the plan was made of the routes of other files.
        ConfigError: it is for other layers or experts, for another number of devices, or for some that are not there.
    """

    def __init__(self, source: ExpertSource, plan: PlacementPlan, devices: Sequence[str] | None = None) -> None:
        shape = source.shape
        plan.check(shape=shape, fingerprint=source.fingerprint)
        self._source, self._plan = source, plan.device
        self._places = _checked(devices or _names(source.device, plan.devices), plan.devices)
        here = [number for number, place in enumerate(self._places) if place == source.device]
        self._home = here[0] if here else -1
        self._stores: list[Store] = [{} for _ in self._places]
        for layer, row in enumerate(plan.device.tolist()):
            for expert, device in enumerate(row):
                weights = source.weights(layer, expert)
                place = self._places[device]
                self._stores[device][layer, expert] = {name: values.to(place) for name, values in weights.items()}
        self._before: Devices | None = None  # where the layer below has sent each token, shape (tokens, active)
        self.statistics = ExpertStatistics.of(shape)
        most = max(len(store) for store in self._stores)
        self.statistics.most_bytes = most * shape.expert_bytes

    def held(self, device: int) -> frozenset[tuple[int, int]]:
        """(layer, expert) of all experts on a device."""
        return frozenset(self._stores[device])

    def expect(self, tokens: Sequence[int]) -> None:
        """All experts are where they belong."""

    def begin(self, tokens: Tensor, first: int = 0) -> None:
        self._before = None

    def compute(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        from updraft.engine.torch_experts import weighted_sum

        devices = self._plan[layer]
        self._count(layer, chosen.detach().cpu().numpy(), hidden.shape[1] * hidden.dtype.itemsize)

        def there(expert: int, rows: Tensor) -> Tensor:
            device = int(devices[expert])
            own = self._stores[device][layer, expert]
            return self._source.apply(own, rows.to(self._places[device])).to(rows.device)

        return weighted_sum(hidden, chosen, weights, there)

    def end(self) -> None:
        """Nothing was reserved."""

    def close(self) -> None:
        self._stores = [{} for _ in self._places]

    def _count(self, layer: int, chosen: Devices, state_bytes: int) -> None:
        """Traffic of a layer; `chosen` as `compute` has it."""
        counts, devices = self.statistics, self._plan[layer][chosen]
        counts.layers[layer].hits += len(np.unique(chosen))
        counts.sent_bytes += 2 * state_bytes * int((devices != self._home).sum())
        if self._before is not None:
            crossed = self._before[:, :, None] != devices[:, None, :]
            counts.hops += crossed.size
            counts.crossings += int(crossed.sum())
        self._before = devices


def _names(home: torch.device, count: int) -> list[str]:
    return [f"cuda:{number}" for number in range(count)] if home.type == "cuda" else ["cpu"] * count


def _checked(names: Sequence[str], count: int) -> list[torch.device]:
    """Raises ConfigError that names the devices that there are."""
    import torch

    if len(names) != count:
        raise ConfigError(
            f"the placement is for {count} devices, and {len(names)} are named: {', '.join(names)}",
            remedy="Name as many in cloud.experts.devices, or place for these with `updraft experts place --devices`.",
        )
    there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    missing = [name for name in dict.fromkeys(names) if name not in there]
    if missing:
        raise ConfigError(
            f"the placement wants {', '.join(missing)}, and torch finds {', '.join(there)} here",
            remedy="Place for the devices that there are with `updraft experts place --devices`, or name others in "
            "cloud.experts.devices.",
        )
    return [torch.device(name) for name in names]
