"""From settings to who holds the experts of a model."""

from __future__ import annotations

from updraft.config.experts import ExpertSettings, budget_bytes
from updraft.engine.experts import Experts, ExpertSource, MakeExperts, MoeShape
from updraft.errors import ConfigError
from updraft_cloud.experts.carriers import make_carrier
from updraft_cloud.experts.host_weights import weight_bytes
from updraft_cloud.experts.measuring import measure_costs
from updraft_cloud.experts.placed import PlacedExperts
from updraft_cloud.experts.placement import read_plan
from updraft_cloud.experts.policies.base import Policy
from updraft_cloud.experts.policies.registry import make_policy
from updraft_cloud.experts.predictor import read_predictor
from updraft_cloud.experts.store import OffloadedExperts
from updraft_cloud.experts.together import overlap_of

__all__ = ["make_experts"]


def make_experts(settings: ExpertSettings) -> MakeExperts | None:
    """What `TorchEngine` takes as `experts`; None where all experts stay on the model's device.

    Policy, predictor and placement are looked at now, so that a wrong name fails before a large model is loaded.

    Raises:
        UnknownName: there is no such policy.
        ModelError, ConfigError: predictor or placement is missing or damaged; the policy cannot group. What is made
            raises them, too, where either is for another model, devices are missing, or the budget is too small.
    """
    if settings.placement is not None:
        plan = read_plan(settings.placement)
        return lambda source: PlacedExperts(source, plan, settings.devices)
    if settings.budget is None:
        return None
    predictor = None if settings.predictor is None else read_predictor(settings.predictor)

    def policy(shape: MoeShape, slots: int) -> Policy:
        return make_policy(settings.policy, shape, slots, gate=settings.gate, predictor=predictor)

    tried = policy(MoeShape(1, 1, 1, 1, 1, 1) if predictor is None else predictor.shape, 1)
    if settings.group and overlap_of(tried.forecaster) is None:
        raise ConfigError(
            f"Runs cannot be grouped under the policy {settings.policy}: it foretells nothing from their tokens.",
            remedy="Take the policy draft, or leave group out.",
        )
    budget = settings.budget

    def make(source: ExpertSource) -> Experts:
        if predictor is not None:
            predictor.check(shape=source.shape, fingerprint=source.fingerprint)
        carrier = make_carrier(source.device, settings.link_bytes_per_s)
        costs = measure_costs(source, carrier) if settings.on_host else None
        shape = source.shape
        whole = shape.layers * shape.experts * weight_bytes(source.weights(0, 0))
        return OffloadedExperts(
            source,
            policy,
            budget_bytes(budget, whole),
            carrier,
            costs=costs,
            pinned_bytes=settings.pinned_bytes,
            group=settings.group,
        )

    return make
