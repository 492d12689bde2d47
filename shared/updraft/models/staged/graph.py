"""A built ONNX graph whose tensors stay in their file, and the pieces that can be sliced out of it."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from updraft.errors import BadModelFile

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["Graph", "Piece", "attribute", "read_graph"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a graph: its nodes in order, the tensors they use by name, and what enters and leaves.

    Attributes:
        inputs: names that must be fed, in the order in which they were met.
        outputs: names that it gives, as asked for.
    """

    nodes: list[NodeProto]
    tensors: dict[str, TensorProto]
    inputs: list[str]
    outputs: list[str]
    source: Graph


@dataclass
class Graph:
    """A graph as the builder wrote it. Its tensors' bytes are read from the data file only when asked for."""

    model: ModelProto
    data: memoryview
    nodes: list[NodeProto] = field(init=False)
    tensors: dict[str, TensorProto] = field(init=False)
    _digests: dict[tuple[str, int], str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes = list(self.model.graph.node)
        self.tensors = {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def inputs(self) -> list[str]:
        return [value.name for value in self.model.graph.input]

    @cached_property
    def outputs(self) -> list[str]:
        return [value.name for value in self.model.graph.output]

    def producer(self, name: str) -> NodeProto | None:
        """The node that gives a value."""
        return next((node for node in self.nodes if name in node.output), None)

    def bytes_of(self, tensor: TensorProto) -> memoryview:
        """A tensor's values as they lie in the data file, or in the graph itself."""
        if not tensor.external_data:
            from onnx.numpy_helper import to_array

            return memoryview(tensor.raw_data or to_array(tensor).tobytes())
        place = {entry.key: entry.value for entry in tensor.external_data}
        start = int(place.get("offset", 0))
        return self.data[start : start + int(place["length"])]

    def digest_of(self, tensor: TensorProto) -> str:
        """Digest of a tensor's bytes."""
        values = self.bytes_of(tensor)
        place = (tensor.name, len(values))
        if place not in self._digests:
            self._digests[place] = hashlib.sha256(values).hexdigest()
        return self._digests[place]

    def piece(self, wanted: Mapping[str, str], given: Mapping[str, str], nodes: Iterable[NodeProto] = ()) -> Piece:
        """What computes some values from others.

        Args:
            wanted: values to give, with the names that they get.
            given: values that are fed, with the names that they get; nothing before them is taken in.
            nodes: nodes that stand in for the producers of their outputs.
        """
        ours = {name: node for node in nodes for name in node.output if name}
        producers = {name: node for node in self.nodes for name in node.output if name} | ours
        kept, tensors, free, seen = [], {}, [], set(given)
        taken: set[int] = set()
        pending = list(wanted)
        while pending:
            name = pending.pop()
            if name in seen or not name:
                continue
            seen.add(name)
            node = producers.get(name)
            if node is not None and id(node) not in taken:
                taken.add(id(node))
                kept.append(node)
                pending += node.input
            elif node is None and name in self.tensors:
                tensors[name] = self.tensors[name]
            elif node is None:
                free.append(name)
        used = {name for node in kept for name in node.input}
        entering = [name for name in given if name in used] + [name for name in self.inputs if name in free]
        if unknown := set(free) - set(self.inputs):
            raise BadModelFile(f"the built graph uses {min(unknown)}, which nothing gives")
        names = {**given, **wanted}
        order = {name: place for place, node in enumerate(self.nodes) for name in node.output if name}
        kept.sort(key=lambda node: min(order[name] for name in node.output if name))
        return Piece(
            [_renamed(node, names) for node in kept],
            tensors,
            [names.get(name, name) for name in entering],
            list(wanted.values()),
            self,
        )


def read_graph(path: Path) -> Graph:
    """Open a graph that the builder has just written."""
    from onnx import load

    model = load(str(path), load_external_data=False)
    data = path.with_name(path.name + ".data")
    if not data.is_file() or data.stat().st_size == 0:
        return Graph(model, memoryview(b""))
    with data.open("rb") as file:
        return Graph(model, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def attribute(node: NodeProto, name: str, default: int = 0) -> int:
    """A whole-number attribute of a node."""
    return next((int(found.i) for found in node.attribute if found.name == name), default)


def _renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    copy = type(node)()
    copy.CopyFrom(node)
    copy.ClearField("doc_string")
    copy.ClearField("metadata_props")
    for field_names in (copy.input, copy.output):
        renamed = [names.get(name, name) for name in field_names]
        del field_names[:]
        field_names.extend(renamed)
    return copy
