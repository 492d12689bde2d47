"""Experts that stay on several devices under a placement: activations travel, weights do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from updraft.engine.experts import ExpertSource
from updraft.errors import ConfigError
from updraft_cloud.experts.placement import PlacementPlan

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PlacedExperts"]


class PlacedExperts:
    """An `updraft.engine.experts.Experts` over devices such as `cuda:0` and `cuda:1`.

    Raises ConfigError where the plan is for another model or another number of devices.
    """

    def __init__(self, source: ExpertSource, plan: PlacementPlan, devices: Sequence[str]) -> None:
        import torch

        shape = source.shape
        if (plan.shape.layers, plan.shape.experts) != (shape.layers, shape.experts):
            raise ConfigError(
                f"the placement is of {plan.shape.layers} layers of {plan.shape.experts} experts, "
                f"the model has {shape.layers} of {shape.experts}"
            )
        if len(devices) != plan.devices:
            raise ConfigError(f"the placement is for {plan.devices} devices, and {len(devices)} are named")
        self._source = source
        places = [torch.device(name) for name in devices]
        self._held = [
            [
                {name: values.to(places[device]) for name, values in source.weights(layer, expert).items()}
                for expert, device in enumerate(row)
            ]
            for layer, row in enumerate(plan.device.tolist())
        ]
        self._places = [[places[device] for device in row] for row in plan.device.tolist()]

    def expect(self, tokens: Sequence[int]) -> None:
        return None

    def begin(self, tokens: Tensor, first: int = 0) -> None:
        return None

    def compute(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        from updraft.engine.torch_experts import weighted_sum

        held, places = self._held[layer], self._places[layer]

        def there(expert: int, rows: Tensor) -> Tensor:
            return self._source.apply(held[expert], rows.to(places[expert])).to(rows.device)

        return weighted_sum(hidden, chosen, weights, there)

    def end(self) -> None:
        return None

    def close(self) -> None:
        self._held = []
