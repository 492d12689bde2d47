"""The operators that graphs of staged models may use, and checks of those that native code trusts with sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from updraft.models.staged.interface import Sizes

__all__ = ["OPERATORS", "operator_fault"]

Shape = tuple[int, ...] | None
Attributes = Mapping[str, int | float]

_MICROSOFT = "com.microsoft"
# What onnxruntime-genai's builder uses in decoder layers on a CPU. None of them reads files, loops, or runs a subgraph.
_STANDARD = (
    "Add", "Cast", "Clip", "Concat", "Constant", "Cos", "Div", "Equal", "Erf", "Expand", "Flatten", "Gather",
    "GatherElements", "Gelu", "Greater", "Identity", "LayerNormalization", "Less", "MatMul", "Mul", "Neg", "Pow",
    "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "RMSNormalization", "Shape",
    "Sigmoid", "SimplifiedLayerNormalization", "Sin", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh",
    "TopK", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip
_EXTENDED = (
    "BiasGelu", "FastGelu", "GatherBlockQuantized", "Gelu", "GroupQueryAttention", "MatMulNBits", "QMoE",
    "QuickGelu", "RotaryEmbedding", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
)  # fmt: skip

OPERATORS = frozenset({("", name) for name in _STANDARD} | {(_MICROSOFT, name) for name in _EXTENDED})


def operator_fault(kind: str, attributes: Attributes, shapes: Sequence[Shape], sizes: Sizes) -> str | None:
    """What is wrong with an operator's attributes and tensors, if anything.

    Args:
        kind: the operator.
        attributes: its attributes that are numbers.
        shapes: for each input the shape of the tensor, None for values that are computed.
        sizes: the model's.
    """
    check = _CHECKS.get(kind)
    return check(attributes, shapes, sizes) if check is not None else None


def _matmul_nbits(attributes: Attributes, shapes: Sequence[Shape], _: Sizes) -> str | None:
    """Quantised blocks along the rows of an N x K matrix, as documented for com.microsoft.MatMulNBits."""
    rows, columns, bits, block = (attributes.get(name) for name in ("N", "K", "bits", "block_size"))
    if bits not in (4, 8) or block not in (16, 32, 64, 128, 256):
        return f"it has {bits} bits in blocks of {block}"
    if not isinstance(rows, int) or not isinstance(columns, int) or rows < 1 or columns < 1:
        return f"its matrix is {rows} by {columns}"
    blocks = -(-columns // int(block))
    if len(shapes) < 3 or _shape(shapes, 1) != (rows, blocks, int(block) * int(bits) // 8):
        return f"its weights have the shape {_shape(shapes, 1)}"
    if _shape(shapes, 2) not in ((rows, blocks), (rows * blocks,)):
        return f"its scales have the shape {_shape(shapes, 2)}"
    packed = -(-blocks * int(bits) // 8)
    if _given(shapes, 3) and _shape(shapes, 3) not in ((rows, packed), (rows * packed,)):
        return f"its zero points have the shape {_shape(shapes, 3)}"
    return None


def _block_gather(attributes: Attributes, shapes: Sequence[Shape], sizes: Sizes) -> str | None:
    bits, block = attributes.get("bits"), attributes.get("block_size")
    if bits not in (4, 8) or block not in (16, 32, 64, 128, 256):
        return f"it has {bits} bits in blocks of {block}"
    if (attributes.get("gather_axis"), attributes.get("quantize_axis")) != (0, 1):
        return "it does not gather rows"
    columns = -(-sizes.width // int(block)) * int(block)
    if _shape(shapes, 0) != (sizes.vocabulary, columns * int(bits) // 8):
        return f"its rows have the shape {_shape(shapes, 0)}"
    scales = _shape(shapes, 2)
    return None if scales == (sizes.vocabulary, columns // int(block)) else f"its scales have the shape {scales}"


def _attention(attributes: Attributes, shapes: Sequence[Shape], sizes: Sizes) -> str | None:
    found = (attributes.get("num_heads"), attributes.get("kv_num_heads"))
    if found != (sizes.heads, sizes.kv_heads):
        return f"it has {found[0]} heads and {found[1]} for keys"
    if not attributes.get("do_rotary"):
        return None
    for place in (7, 8):
        cache = _shape(shapes, place)
        if cache is None or len(cache) != 2 or cache[0] < sizes.context_length or cache[1] * 2 > sizes.head_size:
            return f"its rotary cache has the shape {cache}"
    return None


def _shape(shapes: Sequence[Shape], place: int) -> Shape:
    return shapes[place] if place < len(shapes) else None


def _given(shapes: Sequence[Shape], place: int) -> bool:
    return place < len(shapes) and shapes[place] is not None


_CHECKS: dict[str, Callable[[Attributes, Sequence[Shape], Sizes], str | None]] = {
    "GatherBlockQuantized": _block_gather,
    "GroupQueryAttention": _attention,
    "MatMulNBits": _matmul_nbits,
}
