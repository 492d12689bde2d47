"""Cuts a whole model's graph into trunk stages and an output graph, and turns a block's graph into an exit.

A stage ends in the residual stream that enters the next one's first layer. There the builder has a skip-norm node that
adds a layer's output to the stream and normalises the sum: the earlier stage keeps the sum, the later one the norm.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from updraft.errors import BadModelFile
from updraft.models.staged.graph import Graph, Piece, attribute

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["cut_exit", "cut_trunk", "kv_layers", "set_accuracy", "share_embedding"]

_KV = re.compile(r"(past_key_values|present)\.(\d+)\.(key|value)")
_TAPS = "aux_hidden_states"
# Skip-norm nodes: the plain norm, and how many inputs they have when no bias is added to the sum.
_SKIP_NORMS = {
    "SkipSimplifiedLayerNormalization": ("SimplifiedLayerNormalization", 3),
    "SkipLayerNormalization": ("LayerNormalization", 4),
}
_SUM = 3  # the output of a skip-norm node that is the sum
_SEQLENS, _TOTAL = 5, 6  # inputs of GroupQueryAttention


def cut_trunk(graph: Graph, cuts: Sequence[int], layers: int) -> tuple[list[Piece], Piece]:
    """The trunk's stages and the graph of its output matrix.

    Args:
        graph: the whole model, built with `trunk_job(..., layers=cuts)`.
        cuts: layers that begin a new stage, ascending, between 1 and layers - 1.
        layers: how many there are.

    Raises:
        BadModelFile: the residual stream was not found there, or more than it passes from one stage to the next.
    """
    taps = _taps(graph, cuts)
    lengths = _lengths(graph)
    edges = [0, *cuts, layers]
    stages = []
    for index, (first, last) in enumerate(itertools.pairwise(edges)):
        given, wanted, nodes = dict(lengths), {}, []
        if index > 0:
            given[taps[index - 1].output[_SUM]] = "hidden_in"
            nodes.append(_norm_alone(taps[index - 1]))
        if last < layers:
            wanted[taps[index].output[_SUM]] = "hidden_out"
            nodes.append(_sum_alone(taps[index]))
        else:
            wanted["hidden_states"] = "features"
        present = [f"present.{layer}.{kind}" for layer in range(first, last) for kind in ("key", "value")]
        stage = graph.piece({**wanted, **{name: name for name in present}}, given, nodes)
        _check_inputs(stage, "input_ids" if index == 0 else "hidden_in", range(first, last))
        stages.append(stage)
    return stages, graph.piece({"logits": "logits"}, {"hidden_states": "features"})


def cut_exit(graph: Graph) -> Piece:
    """An exit from the graph of a one-layer model built with `block_job`."""
    given = {"inputs_embeds": "hidden_in", **_lengths(graph)}
    wanted = {"hidden_states": "features", "present.0.key": "present.0.key", "present.0.value": "present.0.value"}
    piece = graph.piece(wanted, given)
    _check_inputs(piece, "hidden_in", range(1))
    return piece


def kv_layers(names: Sequence[str]) -> list[int]:
    """The layers whose keys and values are among the names."""
    return sorted({int(found[2]) for name in names if (found := _KV.fullmatch(name))})


def set_accuracy(piece: Piece, level: int) -> None:
    """Have 4-bit and 8-bit products computed in float32 (1), or with activations rounded to int8 (4)."""
    from onnx.helper import make_attribute

    for node in piece.nodes:
        if node.op_type == "MatMulNBits":
            kept = [found for found in node.attribute if found.name != "accuracy_level"]
            del node.attribute[:]
            node.attribute.extend([*kept, make_attribute("accuracy_level", level)])


def share_embedding(graph: Graph, *, tied: bool) -> None:
    """Read the embedding out of the quantised output matrix, where the two are tied, without another copy of it.

    The builder does so for 4 bits, but through a Reshape that onnxruntime turns into a copy; for 8 bits it does not.
    """
    head = next((n for n in graph.nodes if n.op_type == "MatMulNBits" and "logits" in n.output), None)
    lookup = next((n for n in graph.nodes if "input_ids" in n.input and "Gather" in n.op_type), None)
    if not tied or head is None or lookup is None:
        return
    rows, width, bits, block = (attribute(head, name) for name in ("N", "K", "bits", "block_size"))
    if width % block or (len(head.input) > 3 and head.input[3]):
        return
    table, scales = type(graph.tensors[head.input[1]])(), type(graph.tensors[head.input[2]])()
    table.CopyFrom(graph.tensors[head.input[1]])
    scales.CopyFrom(graph.tensors[head.input[2]])
    for tensor, name, columns in (
        (table, "embedding", width * bits // 8),
        (scales, "embedding_scales", width // block),
    ):
        tensor.name = name
        del tensor.dims[:]
        tensor.dims.extend([rows, columns])
        graph.tensors[name] = tensor
    graph.nodes[graph.nodes.index(lookup)] = _block_gather(lookup, bits, block)


def _block_gather(lookup: NodeProto, bits: int, block: int) -> NodeProto:
    from onnx.helper import make_node

    return make_node(
        "GatherBlockQuantized",
        ["embedding", "input_ids", "embedding_scales"],
        list(lookup.output),
        "embedding_lookup",
        domain="com.microsoft",
        bits=bits,
        block_size=block,
        gather_axis=0,
        quantize_axis=1,
    )


def _taps(graph: Graph, cuts: Sequence[int]) -> list[NodeProto]:
    """The skip-norm nodes that the cuts go through."""
    if not cuts:
        return []
    joined = graph.producer(_TAPS)
    names = list(joined.input) if joined is not None else []
    if len(names) != len(cuts):
        raise BadModelFile(f"the builder shows {len(names)} residual streams of this model, not those of {list(cuts)}")
    taps = []
    for name, layer in zip(names, cuts, strict=True):
        node = graph.producer(name)
        if node is None or node.op_type not in _SKIP_NORMS or list(node.output).index(name) != _SUM:
            raise BadModelFile(
                f"the residual stream before layer {layer} does not come from a skip-norm node",
                remedy="This architecture cannot be cut into stages; export it without rungs and cuts.",
            )
        taps.append(node)
    return taps


def _lengths(graph: Graph) -> dict[str, str]:
    """The values that tell attention how much is cached: fed directly, not worked out from a mask each time."""
    nodes = [node for node in graph.nodes if node.op_type == "GroupQueryAttention"]
    found = {(node.input[_SEQLENS], node.input[_TOTAL]) for node in nodes}
    if len(found) != 1:
        raise BadModelFile("the built graph does not use GroupQueryAttention with one set of lengths")
    seqlens, total = found.pop()
    return {seqlens: "seqlens_k", total: "total_sequence_length"}


def _norm_alone(tap: NodeProto) -> NodeProto:
    """The later stage's share of a skip-norm node: the norm of the stream that enters."""
    from onnx.helper import make_node

    kind, plain = _SKIP_NORMS[tap.op_type]
    epsilon = next(found.f for found in tap.attribute if found.name == "epsilon")
    inputs = [tap.output[_SUM], *tap.input[2:plain]]
    return make_node(kind, inputs, [tap.output[0]], tap.name, axis=-1, epsilon=epsilon, stash_type=1)


def _sum_alone(tap: NodeProto) -> NodeProto:
    """The earlier stage's share: the sum. The node itself where it also adds a bias."""
    from onnx.helper import make_node

    if any(tap.input[_SKIP_NORMS[tap.op_type][1] :]):
        return tap
    return make_node("Add", list(tap.input[:2]), [tap.output[_SUM]], tap.name)


def _check_inputs(piece: Piece, entry: str, layers: range) -> None:
    """Nothing else than the stream and the stage's own keys and values may enter it."""
    allowed = {entry, "seqlens_k", "total_sequence_length", "position_ids"}
    states = [name for name in piece.inputs if name not in allowed]
    strange = [name for name in states if not _KV.fullmatch(name)]
    if strange or kv_layers(states) != list(layers) or entry not in piece.inputs:
        raise BadModelFile(
            f"the layers {layers.start} to {layers.stop} need more than the residual stream: "
            f"{', '.join(strange[:3]) or 'keys and values of other layers'}",
            remedy="This architecture cannot be cut into stages; export it without rungs and cuts.",
        )
