"""Checks a staged folder's graphs before onnxruntime's native code loads them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from updraft.errors import BadModelFile, MissingExtra
from updraft.models.staged.interface import Interface, Sizes, interfaces, value_shape
from updraft.models.staged.manifest import Manifest, check_files, read_manifest
from updraft.models.staged.operators import OPERATORS, operator_fault

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

__all__ = ["check_folder", "check_graph", "sizes_of"]

_MAX_GRAPH_BYTES = 64 << 20
_MAX_NODES = 1 << 17
_MAX_NAME = 512
_MAX_RANK = 6
_MAX_TENSOR_BYTES = 1 << 36
_INLINE_BYTES = 1 << 16
_DOMAINS = {"": range(17, 27), "com.microsoft": range(1, 2)}
_IR_VERSIONS = range(8, 14)
_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2}  # float, uint8, int8, int32, int64, bool, float16
_ATTRIBUTES = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}  # neither graphs nor strings of operators' code


def check_folder(folder: Path) -> Manifest:
    """Read a staged model folder's manifest and check every file and graph that it names.

    Raises:
        ModelNotFound: no such folder, or a file is missing.
        BadModelFile: a defect of the manifest, a file that differs from it, or a graph that is not what it must be.
        MissingExtra: the package `onnx` is not installed.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    allowed = {part.file: part.external for part in manifest.graphs}
    for name, interface in interfaces(manifest).items():
        data = {file: manifest.files[file].bytes for file in allowed[name]}
        check_graph(folder / name, interface, sizes_of(manifest), data)
    return manifest


def check_graph(path: Path, interface: Interface, sizes: Sizes, data: dict[str, int]) -> None:
    """Check one graph: known operators only, tensors inside their files, the inputs and outputs that are expected.

    Args:
        path: the ONNX file.
        interface: what it must take and give.
        sizes: what its shapes are made of.
        data: the files that may hold its tensors, with their bytes.

    Raises:
        BadModelFile: with the first thing that is wrong.
    """
    _GraphCheck(path, sizes, data).run(_parse(path), interface)


def sizes_of(manifest: Manifest) -> Sizes:
    """The sizes that a manifest names."""
    m = manifest
    return Sizes(m.layers, m.width, m.heads, m.kv_heads, m.head_size, m.vocabulary, m.context_length)


def _parse(path: Path) -> ModelProto:
    try:
        from google.protobuf.message import DecodeError
        from onnx import ModelProto
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "checking ONNX graphs needs the package onnx", remedy='pip install "updraft-llm[onnx]"'
        ) from error
    if path.stat().st_size > _MAX_GRAPH_BYTES:
        raise BadModelFile(f"{path} has more than {_MAX_GRAPH_BYTES} bytes; tensors belong into their own file")
    model = ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, RecursionError):
        raise BadModelFile(f"{path} is not an ONNX graph") from None
    return model


class _GraphCheck:
    """The checks of one graph; `_refuse` names the file."""

    def __init__(self, path: Path, sizes: Sizes, data: dict[str, int]) -> None:
        self._path, self._sizes, self._data = path, sizes, data
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._values: set[str] = set()

    def run(self, model: ModelProto, interface: Interface) -> None:
        self._check_model(model)
        graph = model.graph
        self._check_ends("input", graph.input, interface.inputs, interface.optional)
        self._check_ends("output", graph.output, interface.outputs)
        for tensor in graph.initializer:
            self._define(tensor.name)
            self._shapes[tensor.name] = self._check_tensor(tensor)
        for node in graph.node:
            self._check_node(node)
        for value in graph.output:
            if value.name not in self._values:
                self._refuse(f"nothing gives the output {value.name!r}")

    def _check_model(self, model: ModelProto) -> None:
        graph: GraphProto = model.graph
        if model.ir_version not in _IR_VERSIONS:
            self._refuse(f"its IR version is {model.ir_version}")
        domains = [entry.domain for entry in model.opset_import]
        if len(set(domains)) != len(domains):
            self._refuse("it names an operator set twice")
        for entry in model.opset_import:
            if entry.version not in _DOMAINS.get(entry.domain, ()):
                self._refuse(f"it needs version {entry.version} of the operators {entry.domain[:_MAX_NAME]!r}")
        texts = (model.producer_name, model.producer_version, model.domain, model.doc_string, graph.doc_string)
        if not _plain(graph.name) or not all(text == "" or _plain(text) for text in texts):
            self._refuse("its description is not plain text")
        if model.metadata_props or graph.metadata_props or graph.value_info:
            self._refuse("it says more of itself than it needs to")
        if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
            self._refuse("it holds functions, training steps, sparse tensors or annotations")
        if len(graph.node) > _MAX_NODES or len(graph.initializer) > _MAX_NODES:
            self._refuse(f"it has {len(graph.node)} nodes and {len(graph.initializer)} tensors")

    def _check_ends(
        self,
        kind: str,
        values: Iterable[ValueInfoProto],
        required: frozenset[str],
        optional: frozenset[str] = frozenset(),
    ) -> None:
        names = [value.name for value in values]
        if len(set(names)) != len(names) or not required <= set(names) <= required | optional:
            self._refuse(f"its {kind}s are not {', '.join(sorted(required)[:4])} …")
        for value in values:
            if kind == "input":
                self._define(value.name)
            expected = value_shape(value.name, self._sizes)
            shape = value.type.tensor_type.shape.dim
            found = (value.type.tensor_type.elem_type, tuple(d.dim_param or d.dim_value for d in shape))
            if not value.type.HasField("tensor_type") or found != expected:
                self._refuse(f"its {kind} {value.name} is {found}, not {expected}")

    def _check_tensor(self, tensor: TensorProto, *, inline: bool = False) -> tuple[int, ...]:
        name, shape = tensor.name[:_MAX_NAME], tuple(tensor.dims)
        if tensor.data_type not in _BYTES or tensor.HasField("segment"):
            self._refuse(f"the tensor {name!r} has the type {tensor.data_type}")
        if len(shape) > _MAX_RANK or not all(1 <= size <= 1 << 31 for size in shape):
            self._refuse(f"the tensor {name!r} has the shape {shape}")
        size = math.prod(shape) * _BYTES[tensor.data_type]
        if size > _MAX_TENSOR_BYTES:
            self._refuse(f"the tensor {name!r} has {size} bytes")
        if tensor.data_location == tensor.EXTERNAL and not inline:
            self._check_place(tensor, size)
        elif tensor.external_data or tensor.data_location != tensor.DEFAULT or size > _INLINE_BYTES:
            self._refuse(f"the tensor {name!r} is not where it must be")
        elif len(tensor.raw_data) != size:
            self._refuse(f"the tensor {name!r} of shape {shape} has {len(tensor.raw_data)} bytes, not {size}")
        return shape

    def _check_place(self, tensor: TensorProto, size: int) -> None:
        name = tensor.name[:_MAX_NAME]
        place = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.raw_data or len(place) != len(tensor.external_data) or set(place) != {"location", "offset", "length"}:
            self._refuse(f"the tensor {name!r} does not say once where its bytes are")
        if place["location"] not in self._data:
            self._refuse(
                f"the tensor {name!r} lies in {place['location'][:_MAX_NAME]!r}, which is not its graph's file"
            )
        offset, length = (_whole(place[key]) for key in ("offset", "length"))
        if offset < 0 or length != size or offset + length > self._data[place["location"]]:
            self._refuse(f"the tensor {name!r} with {size} bytes does not lie within {place['location']}")

    def _check_node(self, node: NodeProto) -> None:
        name, kind = node.name[:_MAX_NAME], (node.domain, node.op_type)
        if not all(map(_plain, (node.name, *(found.name for found in node.attribute)))):
            self._refuse(f"the node {name!r} or an attribute of it has no plain name")
        if kind not in OPERATORS:
            self._refuse(f"the operator {node.domain[:_MAX_NAME]}:{node.op_type[:_MAX_NAME]} is not one of ours")
        for used in node.input:
            if used and used not in self._values:
                self._refuse(f"the node {name!r} uses {used[:_MAX_NAME]!r}, which nothing before it gives")
        attributes = self._attributes(node)
        for given in node.output:
            if given:
                self._define(given)
        shapes = [self._shapes.get(used) for used in node.input]
        if reason := operator_fault(node.op_type, attributes, shapes, self._sizes):
            self._refuse(f"the node {name!r} ({node.op_type}): {reason}")

    def _attributes(self, node: NodeProto) -> dict[str, int | float]:
        """The attributes that are numbers; others are only checked."""
        names = [found.name for found in node.attribute]
        if len(set(names)) != len(names) or node.overload:
            self._refuse(f"the node {node.name[:_MAX_NAME]!r} names an attribute twice")
        for found in node.attribute:
            self._check_attribute(node, found)
        return {found.name: found.i if found.type == 2 else found.f for found in node.attribute if found.type in (1, 2)}

    def _check_attribute(self, node: NodeProto, found: AttributeProto) -> None:
        where = f"the attribute {found.name[:_MAX_NAME]!r} of {node.name[:_MAX_NAME]!r}"
        if found.type not in _ATTRIBUTES or found.ref_attr_name:
            self._refuse(f"{where} has the type {found.type}")
        if found.type == found.TENSOR:
            self._check_tensor(found.t, inline=True)
        elif found.type == found.FLOAT and not math.isfinite(found.f):
            self._refuse(f"{where} is {found.f}")
        elif len(found.s) > _MAX_NAME or len(found.ints) > _MAX_NAME or len(found.floats) > _MAX_NAME:
            self._refuse(f"{where} is too long")

    def _define(self, name: str) -> None:
        if not _plain(name) or name in self._values:
            self._refuse(f"the value {name[:_MAX_NAME]!r} has no plain name, or is given twice")
        self._values.add(name)

    def _refuse(self, reason: str) -> NoReturn:
        raise BadModelFile(
            f"{self._path} is not a usable graph: {reason}",
            remedy="Export the model again with `updraft models export`.",
        )


def _plain(name: str) -> bool:
    """Whether native code and its error messages can be trusted with a name."""
    return 0 < len(name) <= _MAX_NAME and name.isascii() and name.isprintable()


def _whole(text: str) -> int:
    """A number written in digits; -1 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1
