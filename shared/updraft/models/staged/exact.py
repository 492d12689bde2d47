"""Attention with one row more than asked, so that its results do not depend on how a text is cut into runs.

onnxruntime computes attention for one new token with other kernels, and other roundings, than for several; products
of 4-bit weights with activations rounded to int8 then amplify a difference in the last bit to whole logits. With two
rows or more all kernels give the same bits for a row whatever stands beside it: measured, and `check_exactness` asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from updraft.errors import BadModelFile
from updraft.models.staged.graph import Piece, attribute

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

__all__ = ["pad_attention"]

_QUERY, _KEY = 0, 1  # inputs of GroupQueryAttention
_POSITIONS, _BIAS = 9, 10
_ROWS_AXIS = 1


def pad_attention(piece: Piece, head_size: int) -> None:
    """Put a row of zeros behind the rows of every attention in the piece, and take its result away again.

    Whoever runs the piece counts that row in `seqlens_k` and `total_sequence_length`, and leaves room for it in the
    keys and values; the next run overwrites it. Works in place.

    Args:
        piece: a stage or an exit.
        head_size: values a head.

    Raises:
        BadModelFile: attention is given positions or a bias of its own, which would need the row, too.
    """
    import numpy as np
    from onnx.numpy_helper import from_array

    if not any(node.op_type == "GroupQueryAttention" for node in piece.nodes):
        return
    nodes = []
    for node in piece.nodes:
        nodes += _padded(node, piece.tensors, head_size) if node.op_type == "GroupQueryAttention" else [node]
    piece.nodes[:] = nodes
    for name, value in (("pad_first", 0), ("pad_last", -1), ("pad_axis", _ROWS_AXIS)):
        piece.tensors[name] = from_array(np.array([value], np.int64), name)


def _padded(attention: NodeProto, tensors: dict[str, TensorProto], head_size: int) -> list[NodeProto]:
    from onnx.helper import make_node

    if any(attention.input[_POSITIONS : _BIAS + 1]):
        raise BadModelFile(
            "attention with positions or a bias of its own cannot be padded",
            remedy="Export this model with exact = False: its results then depend on how runs are cut.",
        )
    heads, kv_heads = attribute(attention, "num_heads"), attribute(attention, "kv_num_heads")
    packed = not attention.input[_KEY]
    widths = [heads + 2 * kv_heads] if packed else [heads, kv_heads, kv_heads]
    copy = type(attention)()
    copy.CopyFrom(attention)
    nodes = []
    for place, width in enumerate(widths, _QUERY):
        rows = attention.input[place]
        copy.input[place] = f"{rows}/padded"
        zeros = _zeros(width * head_size, tensors)
        nodes.append(make_node("Concat", [rows, zeros], [copy.input[place]], f"{rows}/pad", axis=_ROWS_AXIS))
    result = attention.output[0]
    copy.output[0] = f"{result}/padded"
    cut = make_node("Slice", [copy.output[0], "pad_first", "pad_last", "pad_axis"], [result], f"{result}/cut")
    return [*nodes, copy, cut]


def _zeros(width: int, tensors: dict[str, TensorProto]) -> str:
    import numpy as np
    from onnx.numpy_helper import from_array

    name = f"pad_{width}"
    if name not in tensors:
        tensors[name] = from_array(np.zeros((1, 1, width), np.float32), name)
    return name
