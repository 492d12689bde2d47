"""Experts offloaded on a GPU, as one script: `python -m bench.experts_gpu --out results.json`.

Mixtral's layers with random weights: everything resident, demand loading alone, policies that look ahead, all experts
on the host, and accelerate's offloading where it is installed, over budgets. With --tiny it runs to its end on any CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from .experts import DEFAULT, policy_experts
from .experts_model import Clocked, SyntheticMoe, SyntheticSizes, traffic
from .report import environment, table_of

if TYPE_CHECKING:
    from torch import Tensor

    from updraft.engine.experts import Experts, ExpertSource

__all__ = ["GpuBench", "main"]

_COLUMNS: Final = {
    "budget_share": ("budget", ".0%"),
    "way": ("experts", ""),
    "tokens_per_second": ("tok/s", ".1f"),
    "ms_per_pass": ("ms/pass", ".2f"),
    "vs_lru": ("x lru", ".2f"),
    "vs_resident": ("x resident", ".3f"),
    "hit_rate": ("hits", ".1%"),
    "gib_moved": ("GiB moved", ".1f"),
    "gib_per_s": ("GiB/s of copies", ".1f"),
    "overlap": ("copies hidden", ".0%"),
    "device_gib": ("GiB on device", ".2f"),
}
_GIB: Final = 2**30


@dataclass(frozen=True)
class GpuBench:
    """What is measured.

    Attributes:
        sizes: Mixtral-8x7B's, with as many layers as fit host memory, and the GPU for the row of all resident.
        slow_passes: of ways that move or compute everything anew for each layer: they are slow, and steady at once.
    """

    device: str = "cuda"
    dtype: str = "bfloat16"
    sizes: SyntheticSizes = SyntheticSizes(12, 8, 2, 4096, 14336)  # noqa: RUF009 (frozen)
    shares: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 1.0)
    policies: tuple[str, ...] = ("lru", "expected", "look-ahead", DEFAULT)
    passes: int = 32
    slow_passes: int = 6
    together: int = 2
    draft: int = 2

    def measure(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Rows of all ways; a way that fails is a row with its error, and the others go on."""
        from updraft.engine.torch_experts import ResidentExperts
        from updraft_cloud.experts.host import HostExperts

        say(f"making {self.sizes.layers} layers of {self.sizes.experts} experts")
        source = SyntheticMoe(self.sizes, self.device, self.dtype)
        ways: list[tuple[float, str, Callable[[ExpertSource], Experts], int]] = [
            (1.0, "all resident", ResidentExperts, self.passes),
            *(
                (share, name, policy_experts(name, share), self.passes)
                for share in self.shares
                for name in self.policies
            ),
            (0.0, "on the host", HostExperts, self.slow_passes),
        ]
        if _has_accelerate():
            ways.append((0.0, "accelerate", AccelerateExperts, self.slow_passes))
        rows = []
        for share, name, make, passes in ways:
            row = {"budget_share": share, "way": name} | self._run(source, make, passes)
            rows.append(row)
            say(f"{name} at {share:.0%}: {row.get('error') or format(row['tokens_per_second'], '.1f') + ' tokens/s'}")
        return {"rows": _compared(rows), "environment": environment() | _gpu(self.device)}

    def _run(self, source: SyntheticMoe, make: Callable[[ExpertSource], Experts], passes: int) -> dict[str, Any]:
        import torch

        experts: Experts | None = None
        plan = traffic(passes, together=self.together, draft=self.draft, vocabulary=self.sizes.vocabulary)
        on_gpu = source.device.type == "cuda"
        try:
            if on_gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated() if on_gpu else 0
            experts = make(source)
            source.forward(experts, plan[0])  # libraries warm up
            clocked = Clocked(experts)
            for number, tokens in enumerate(plan):
                if number + 1 < passes:
                    clocked.expect(plan[number + 1])
                result = source.forward(clocked, tokens)
                if not bool(torch.isfinite(result).all()):  # also waits for the GPU
                    return {"error": "states that are not finite"}
            peak = (torch.cuda.max_memory_allocated() - before) if on_gpu else 0
            return _figures(clocked) | {"peak_gib": peak / _GIB}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}
        finally:
            if experts is not None:
                experts.close()


def _figures(clocked: Clocked) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "tokens_per_second": clocked.tokens / clocked.seconds,
        "ms_per_pass": 1e3 * clocked.seconds / clocked.passes,
        "seconds_per_token": clocked.seconds / clocked.tokens,
    }
    counts = getattr(clocked.inner, "statistics", None)
    if counts is not None:
        clocked.inner.check_integrity()  # type: ignore[attr-defined]  # the store, which has statistics
        figures |= {
            "hit_rate": counts.hit_rate,
            "gib_moved": counts.bytes_moved / _GIB,
            "gib_per_s": counts.bytes_moved / _GIB / counts.copy_s if counts.copy_s else None,
            "overlap": max(0.0, 1.0 - counts.stall_s / counts.copy_s) if counts.copy_s else None,
            "stall_share": counts.stall_s / clocked.seconds,
            "device_gib": counts.most_bytes / _GIB,
            "statistics": counts.metrics(),
        }
    return figures


def _compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds how many times as fast as demand loading at the same budget, and as all resident, each is."""
    took = {(row["way"], row["budget_share"]): row.get("seconds_per_token") for row in rows}
    for row in rows:
        own = row.get("seconds_per_token")
        lru, whole = took.get(("lru", row["budget_share"])), took.get(("all resident", 1.0))
        row["vs_lru"] = lru / own if own and lru else None
        row["vs_resident"] = whole / own if own and whole else None
    return rows


def _gpu(device: str) -> dict[str, Any]:
    import torch

    facts: dict[str, Any] = {"torch": torch.__version__, "device": device}
    if device.startswith("cuda"):
        facts |= {"gpu": torch.cuda.get_device_name(), "gpu_memory": torch.cuda.get_device_properties(0).total_memory}
    return facts


def _has_accelerate() -> bool:
    try:
        import accelerate  # noqa: F401
    except ImportError:
        return False
    return True


class AccelerateExperts:
    """Experts as modules that accelerate's `cpu_offload` brings to the device for each use and drops after it."""

    def __init__(self, source: ExpertSource) -> None:
        import torch
        from accelerate import cpu_offload

        apply = source.apply

        class Expert(torch.nn.Module):
            def __init__(self, weights: dict[str, Tensor]) -> None:
                super().__init__()
                for name, values in weights.items():
                    self.register_parameter(name, torch.nn.Parameter(values, requires_grad=False))

            def forward(self, hidden: Tensor) -> Tensor:
                return apply(dict(self.named_parameters()), hidden)

        shape = source.shape
        self._modules = [
            [Expert(source.weights(layer, expert)) for expert in range(shape.experts)] for layer in range(shape.layers)
        ]
        for row in self._modules:
            for module in row:
                cpu_offload(module, execution_device=source.device)

    def expect(self, tokens: Sequence[int]) -> None:
        return None

    def begin(self, tokens: Tensor, first: int = 0) -> None:
        return None

    def compute(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        from updraft.engine.torch_experts import weighted_sum

        return weighted_sum(hidden, chosen, weights, lambda expert, rows: self._modules[layer][expert](rows))

    def end(self) -> None:
        return None

    def close(self) -> None:
        self._modules = []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; exit status 1 where a way failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.experts_gpu", description=__doc__)
    parser.add_argument("--out", type=Path, help="file for the results as JSON")
    parser.add_argument("--layers", type=int, default=12, help="of 2.8 GB each, in host memory and once on the GPU")
    parser.add_argument("--passes", type=int, default=32)
    parser.add_argument("--tiny", action="store_true", help="small sizes on the CPU")
    given = parser.parse_args(arguments)
    if given.tiny:
        small = SyntheticSizes(2, 4, 2, 16, 24, 64)
        bench = GpuBench("cpu", "float32", small, (0.5, 1.0), passes=4, slow_passes=2)
    else:
        bench = GpuBench(sizes=SyntheticSizes(given.layers, 8, 2, 4096, 14336), passes=given.passes)
    console = Console(stderr=True, highlight=False)
    results = bench.measure(lambda text: console.print(text, markup=False, soft_wrap=True))
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    title = f"{bench.sizes.layers} layers of {bench.sizes.experts} experts on {bench.device}"
    Console(highlight=False, width=140).print(table_of(title, results["rows"], _COLUMNS))
    return int(any("error" in row for row in results["rows"]))


if __name__ == "__main__":
    sys.exit(main())
