"""A training run's state in one file: parameters, both moments of Adam, and the place in the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from updraft.errors import ConfigError

__all__ = ["load_checkpoint", "save_checkpoint"]

_FILE = "checkpoint.safetensors"


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, str]) -> None:
    """Write the file all at once. Raises ConfigError where it cannot be; the last one is then still there."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        tensors[name] = parameter.detach()
        tensors[f"{name}#mean"], tensors[f"{name}#square"] = state["exp_avg"], state["exp_avg_sq"]
    target = folder / _FILE
    new = target.with_suffix(".new")
    try:
        save_file({n: t.cpu().contiguous() for n, t in tensors.items()}, new, facts)
        os.replace(new, target)
    except (SafetensorError, OSError) as error:
        new.unlink(missing_ok=True)
        raise ConfigError(
            f"{target} cannot be written: {error}", remedy="Make room and run it again: it goes on from there."
        ) from error


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: str,
    device: torch.device,
    read: Callable[[dict[str, str]], None],
) -> None:
    """Load the folder's checkpoint, if there is one.

    Args:
        run: what the fact `run` must be.
        read: called with the facts that it was saved with; an error of its counts as damage.

    Raises ConfigError if it is damaged, or of another run.
    """
    from safetensors import SafetensorError, safe_open

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _FILE
    if not path.is_file():
        return
    try:
        with safe_open(path, framework="pt") as opened:
            facts = opened.metadata() or {}
            if facts["run"] != run:
                raise ConfigError(
                    f"{folder} holds another training run",
                    remedy="Choose another --out folder, or give the options and the text of that run.",
                )
            for name, parameter in model.named_parameters():
                parameter.data.copy_(opened.get_tensor(name))
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(facts["step"]), device=device),  # the fused optimizer's is there
                    "exp_avg": opened.get_tensor(f"{name}#mean").to(device),
                    "exp_avg_sq": opened.get_tensor(f"{name}#square").to(device),
                }
        read(facts)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f"{path} is not a usable checkpoint: {error}", remedy="Remove it to train from the start."
        ) from error
