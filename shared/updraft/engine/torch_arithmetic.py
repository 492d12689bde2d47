"""The arithmetic whose result for a row must not depend on which rows are computed along with it.

On the CPU, torch picks a kernel by the number of rows. Measured on x86-64 (AVX-512), with float32 and bfloat16, up to
512 rows and 1 to 5 threads:

- A matrix product gives a row the same bits in any place among 8, 16, 24, ... rows; only other numbers of rows take
  other kernels. So rows are padded to a multiple of 8.
- Attention is computed for one position at a time, so that the shape depends on the position alone. Many at once
  round otherwise, and gain little: what takes the time is reading the cache.
- `silu` and `sigmoid` compute the last few numbers of a tensor by another formula than the rest; `exp` does not.

The number of threads is another matter: in float32 attention rounds otherwise with one thread than with several.
Replicas that shall go on with each other's sessions to the same bits need the same number.

`updraft.engine.exactness` asks on every machine. On a GPU none of this is promised.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ROW_BLOCK", "Arithmetic", "gated", "norm", "sigmoid"]

ROW_BLOCK = 8


class Arithmetic:
    """Linear layers and attention.

    Args:
        exact: a row's bits do not depend on the others; else rows are computed as they come.
    """

    def __init__(self, *, exact: bool) -> None:
        self.exact = exact

    def padded(self, rows: int) -> int:
        """How many rows a tensor must have that goes into `linear`."""
        return -(-rows // ROW_BLOCK) * ROW_BLOCK if self.exact else rows

    def pad(self, x: Tensor) -> Tensor:
        """The same rows, followed by as many rows of zeros as `padded` wants; shape (rows, width)."""
        missing = self.padded(x.shape[0]) - x.shape[0]
        return F.pad(x, (0, 0, 0, missing)) if missing else x

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x W' + b for padded rows: shapes (rows, inputs), (outputs, inputs), (outputs,)."""
        product = torch.mm(x, weight.t())
        return product if bias is None else product.add_(bias)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, start: int) -> Tensor:
        """Causal grouped-query attention of one sequence, shape as `queries`.

        Args:
            queries: of the positions from `start` on, shape (rows, kv_heads, group, head_size).
            keys, values: of all positions up to the last query, shape (kv_heads, positions, head_size).
            start: position of the first query.
        """
        if self.exact or len(queries) == 1:
            ends = range(start + 1, start + 1 + len(queries))
            mixed = [
                _attend_one(query, keys[:, :end], values[:, :end]) for query, end in zip(queries, ends, strict=True)
            ]
            return torch.stack(mixed)
        return _attend_many(queries, keys, values, start)


def _attend_one(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One position; the heads that share keys are the rows of the kernel."""
    return F.scaled_dot_product_attention(query[None], keys[None], values[None])[0]


def _attend_many(queries: Tensor, keys: Tensor, values: Tensor, start: int) -> Tensor:
    rows, kv_heads, group, size = queries.shape
    ends = torch.arange(start, start + rows, device=queries.device)
    earlier = torch.arange(start + rows, device=queries.device)[None, :] <= ends[:, None]
    together = queries.permute(1, 2, 0, 3).reshape(1, kv_heads, group * rows, size)
    mixed = F.scaled_dot_product_attention(together, keys[None], values[None], attn_mask=earlier.repeat(group, 1))
    return mixed.view(kv_heads, group, rows, size).permute(2, 0, 1, 3)


def sigmoid(x: Tensor) -> Tensor:
    """In float32, in steps whose bits do not depend on a number's place."""
    return 1.0 / (1.0 + torch.exp(-x.float()))


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """SwiGLU's product, silu(gate) x up (Shazeer, arXiv 2002.05202), in the type of `gate`."""
    return (gate.float() * sigmoid(gate)).to(gate.dtype) * up


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root-mean-square norm over the last dimension, computed in float32 (Zhang and Sennrich, arXiv 1910.07467)."""
    return F.rms_norm(x.float(), x.shape[-1:], None, epsilon).to(x.dtype) * weight
