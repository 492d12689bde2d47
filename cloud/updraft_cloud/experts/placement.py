"""Experts over several devices, so that tokens seldom cross from one to another (ExFlow, IPDPS 2024).

A token that layer l sends to expert i and layer l + 1 to expert j crosses where i and j are on different devices. How
often that is comes from a trace: N_l[i, j]. Every device holds equally many experts of every layer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from updraft.engine.experts import MoeShape
from updraft.errors import BadModelFile, ConfigError, MissingExtra, ModelNotFound, WrongTrunk
from updraft.exits.files import replace_file
from updraft_cloud.experts.trace import RouteTrace

__all__ = [
    "Devices",
    "PlacementPlan",
    "crossing_share",
    "hops",
    "place",
    "random_plan",
    "read_plan",
    "round_robin",
    "write_plan",
]

Devices = NDArray[np.int64]  # device of each expert, shape (layers, experts)
Counts = NDArray[np.float64]

_FORMAT: Final = "updraft-placement-1"
_REMEDY: Final = "Record routes of this model with `updraft experts trace`, and place its experts by them."
_SWEEPS: Final = 50
_RESTARTS: Final = 8
_MAX_BYTES: Final = 64 << 20


@dataclass(frozen=True, eq=False)
class PlacementPlan:
    """Where each expert is.

    Attributes:
        device: number of each expert's device, shape (layers, experts).

    Raises BadModelFile where devices do not hold equally many experts of each layer.
    """

    shape: MoeShape
    devices: int
    device: Devices
    model: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        wanted = (self.shape.layers, self.shape.experts)
        if self.device.shape != wanted or self.devices < 1 or self.device.min() < 0:
            raise BadModelFile(f"a placement of shape {self.device.shape} does not fit {wanted}")
        counts = np.stack([np.bincount(row, minlength=self.devices) for row in self.device])
        if counts.shape[1] != self.devices or (counts * self.devices != self.shape.experts).any():
            raise BadModelFile("a placement does not give each of its devices equally many experts of every layer")

    def check(self, *, shape: MoeShape, fingerprint: str) -> None:
        """Raises ConfigError if it is for other layers or experts, WrongTrunk if for other files than `fingerprint`."""
        if (self.shape.layers, self.shape.experts) != (shape.layers, shape.experts):
            raise ConfigError(
                f"the placement is of {self.shape.layers} layers of {self.shape.experts} experts, "
                f"the model has {shape.layers} of {shape.experts}",
                remedy=_REMEDY,
            )
        if self.fingerprint and self.fingerprint != fingerprint:
            raise WrongTrunk(
                f"the placement was made for the model {self.model} {self.fingerprint[:12]}…, and this is "
                f"{fingerprint[:12]}…",
                remedy=_REMEDY,
            )


def hops(trace: RouteTrace) -> Counts:
    """How often a token went from one expert to one of the next layer, shape (layers - 1, experts, experts)."""
    shape = trace.shape
    counts = np.zeros((max(0, shape.layers - 1), shape.experts, shape.experts))
    routes = trace.routes.astype(np.int64)
    for layer in range(shape.layers - 1):
        np.add.at(counts[layer], (routes[:, layer, :, None], routes[:, layer + 1, None, :]), 1.0)
    return counts


def crossing_share(counts: Counts, device: Devices) -> float:
    """Share of the hops that cross from one device to another; 0 where there are none."""
    crossed = sum(float(own[device[layer][:, None] != device[layer + 1]].sum()) for layer, own in enumerate(counts))
    total = float(counts.sum())
    return crossed / total if total else 0.0


def round_robin(shape: MoeShape, devices: int) -> Devices:
    """Expert e on device e mod devices, in every layer."""
    return np.tile(np.arange(shape.experts) % devices, (shape.layers, 1))


def random_plan(shape: MoeShape, devices: int, seed: int = 0) -> Devices:
    """Equally many experts each, drawn anew in every layer."""
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(np.arange(shape.experts) % devices) for _ in range(shape.layers)])


def place(counts: Counts, shape: MoeShape, devices: int, *, seed: int = 0) -> Devices:
    """The best placement found: layer by layer from several starts, and by halves for 2^k devices.

    One layer against fixed neighbours is an assignment problem, which is solved exactly; sweeps go on until none
    improves. ExFlow hands the whole to a solver of integer programs instead.

    Raises:
        ConfigError: the devices do not divide the experts.
        MissingExtra: scipy is not installed.
    """
    if devices < 1 or shape.experts % devices:
        raise ConfigError(
            f"{shape.experts} experts of a layer cannot be shared equally by {devices} devices",
            remedy="Name a number of devices that divides the number of experts.",
        )
    starts = [round_robin(shape, devices), *(random_plan(shape, devices, seed + n) for n in range(_RESTARTS))]
    found = [_improved(counts, start, devices) for start in starts]
    if devices > 2 and devices & (devices - 1) == 0:
        found.append(_improved(counts, _by_halves(counts, shape, devices, seed), devices))
    return min(found, key=lambda device: crossing_share(counts, device))


def _improved(counts: Counts, device: Devices, devices: int) -> Devices:
    device = device.copy()
    best = crossing_share(counts, device)
    for _ in range(_SWEEPS):
        for layer in range(len(device)):
            device[layer] = _assigned(_kept(counts, device, layer, devices), devices)
        now = crossing_share(counts, device)
        if now >= best - 1e-12:
            break
        best = now
    return device


def _kept(counts: Counts, device: Devices, layer: int, devices: int) -> Counts:
    """Hops that stay where they are if an expert of the layer is on a device, shape (experts, devices)."""
    kept = np.zeros((device.shape[1], devices))
    for own in range(devices):
        if layer > 0:
            kept[:, own] += counts[layer - 1][device[layer - 1] == own].sum(0)
        if layer < len(counts):
            kept[:, own] += counts[layer][:, device[layer + 1] == own].sum(1)
    return kept


def _assigned(kept: Counts, devices: int) -> Devices:
    """The device of each expert, equally many each, that keeps most."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "Placing experts needs scipy, which is not installed.",
            remedy='Install it with `pip install "updraft-llm[experts]"`.',
        ) from error
    seats = np.repeat(np.arange(devices), len(kept) // devices)
    experts, chosen = linear_sum_assignment(kept[:, seats], maximize=True)
    found = np.empty(len(kept), np.int64)
    found[experts] = seats[chosen]
    return found


def _by_halves(counts: Counts, shape: MoeShape, devices: int, seed: int) -> Devices:
    """Two halves with few hops between them, and each again, until each is a device."""
    half = place(counts, shape, 2, seed=seed)
    if devices == 2:
        return half
    device = np.empty_like(half)
    for side in (0, 1):
        own = [np.nonzero(half[layer] == side)[0] for layer in range(shape.layers)]
        part = np.stack([counts[layer][np.ix_(own[layer], own[layer + 1])] for layer in range(len(counts))])
        smaller = MoeShape(shape.layers, shape.experts // 2, 1, shape.width, shape.hidden, shape.expert_bytes)
        within = _by_halves(part, smaller, devices // 2, seed)
        for layer in range(shape.layers):
            device[layer, own[layer]] = within[layer] + side * devices // 2
    return device


def write_plan(path: Path, plan: PlacementPlan) -> None:
    """Write a plan as JSON. Raises ConfigError where the file cannot be written."""
    content = {
        "format": _FORMAT,
        "model": plan.model,
        "fingerprint": plan.fingerprint,
        "shape": asdict(plan.shape),
        "devices": plan.devices,
        "device": plan.device.tolist(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(content).encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def read_plan(path: Path) -> PlacementPlan:
    """Read a plan. Raises ModelNotFound, and BadModelFile where it is none."""

    if not path.is_file():
        raise ModelNotFound(f"there is no placement at {path}", remedy="Write one with `updraft experts place`.")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        content: Any = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT!r}")
        shape, device = content["shape"], np.array(content["device"])
        if shape.keys() != {part.name for part in fields(MoeShape)} or device.dtype.kind != "i":
            raise ValueError("its shape or its devices are not numbers")
        model, fingerprint = str(content.get("model", "")), str(content.get("fingerprint", ""))
        return PlacementPlan(MoeShape(**shape), int(content["devices"]), device, model, fingerprint)
    except (BadModelFile, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadModelFile(
            f"{path} is not a placement: {error}", remedy="Write it with `updraft experts place`."
        ) from error
