"""Writes pieces of graphs as ONNX files with their tensors beside them, equal tensors once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from updraft.models.staged.graph import Piece
from updraft.models.staged.interface import ValueShape

if TYPE_CHECKING:
    from onnx import TensorProto, ValueInfoProto

__all__ = ["SHARED_FILE", "write_pieces"]

SHARED_FILE = "shared.bin"
Describe = Callable[[str], ValueShape | None]

_INLINE_BYTES = 1024
_PAGE_BYTES, _LINE_BYTES = 4096, 64


@dataclass(frozen=True, slots=True)
class _Place:
    file: str
    offset: int
    length: int


def write_pieces(
    folder: Path, trunk: Mapping[str, Piece], exits: Mapping[str, Piece], describe: Describe
) -> dict[str, list[str]]:
    """Write `NAME.onnx` for each piece; its tensors go to `NAME.bin`, or to `shared.bin` if the trunk uses them twice.

    Exits take what they can from `shared.bin` but add nothing to it, so that the trunk's files do not depend on them.

    Args:
        folder: where.
        trunk: stages and output graph by name.
        exits: likewise.
        describe: gives type and dimensions of an input or output by its name.

    Returns:
        for each piece the data files that it uses.
    """
    uses = Counter(key for piece in trunk.values() for key in {_key(piece, t) for t in piece.tensors.values()})
    places: dict[str, _Place] = {}
    used: dict[str, list[str]] = {}
    with (folder / SHARED_FILE).open("wb") as shared:
        for piece in trunk.values():
            common = {t for t in piece.tensors if uses[_key(piece, piece.tensors[t])] > 1}
            for tensor in sorted(common):
                _store(piece, piece.tensors[tensor], SHARED_FILE, shared, places)
        empty = shared.tell() == 0
    if empty:
        (folder / SHARED_FILE).unlink()
    for name, piece in {**trunk, **exits}.items():
        used[name] = _write_piece(folder, name, piece, dict(places), describe)
    return used


def _write_piece(folder: Path, name: str, piece: Piece, places: dict[str, _Place], describe: Describe) -> list[str]:
    own = folder / f"{name}.bin"
    with own.open("wb") as file:
        tensors = [
            _external(tensor, _store(piece, tensor, own.name, file, places))
            for _, tensor in sorted(piece.tensors.items())
        ]
        empty = file.tell() == 0
    if empty:
        own.unlink()
    _write_graph(folder / f"{name}.onnx", piece, tensors, describe)
    return sorted({e.value for tensor in tensors for e in tensor.external_data if e.key == "location"})


def _write_graph(path: Path, piece: Piece, tensors: list[TensorProto], describe: Describe) -> None:
    from onnx import helper

    def described(names: Sequence[str]) -> list[ValueInfoProto]:
        known = {name: found for name in names if (found := describe(name)) is not None}
        return [helper.make_tensor_value_info(name, *known[name]) for name in names]

    source = piece.source.model
    graph = helper.make_graph(piece.nodes, path.stem, described(piece.inputs), described(piece.outputs), tensors)
    model = helper.make_model(graph, opset_imports=source.opset_import, ir_version=source.ir_version)
    model.producer_name = "updraft"
    path.write_bytes(model.SerializeToString(deterministic=True))


def _key(piece: Piece, tensor: TensorProto) -> str:
    values = piece.source.bytes_of(tensor)
    if len(values) < _INLINE_BYTES:
        return f"inline {id(piece)} {tensor.name}"
    return piece.source.digest_of(tensor)


def _store(
    piece: Piece, tensor: TensorProto, name: str, file: IO[bytes], places: dict[str, _Place]
) -> _Place | memoryview:
    """Where the tensor's bytes lie, written now if they are nowhere yet; the bytes themselves if they are few."""
    values = piece.source.bytes_of(tensor)
    if len(values) < _INLINE_BYTES:
        return values
    key = _key(piece, tensor)
    if key not in places:
        step = _PAGE_BYTES if len(values) >= _PAGE_BYTES else _LINE_BYTES  # mapped files are mapped in whole pages
        file.write(bytes(-file.tell() % step))
        places[key] = _Place(name, file.tell(), len(values))
        file.write(values)
    return places[key]


def _external(tensor: TensorProto, place: _Place | memoryview) -> TensorProto:
    copy = type(tensor)(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    if isinstance(place, memoryview):
        copy.raw_data = bytes(place)
        return copy
    copy.data_location = type(tensor).EXTERNAL
    for key, value in (("location", place.file), ("offset", place.offset), ("length", place.length)):
        copy.external_data.add(key=key, value=str(value))
    return copy
