"""`manifest.json` of a staged model folder: what the folder holds, checked against itself and against the files."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from updraft.errors import BadModelFile, ModelNotFound

__all__ = [
    "FORMAT",
    "MANIFEST_FILE",
    "ExitPart",
    "FileFacts",
    "GraphPart",
    "HeadPart",
    "Manifest",
    "StagePart",
    "check_files",
    "describe_file",
    "read_manifest",
    "with_fingerprint",
    "write_manifest",
]

FORMAT = "updraft-staged-1"
MANIFEST_FILE = "manifest.json"

_MAX_MANIFEST_BYTES = 4 << 20
_MAX_FILE_BYTES = 1 << 40
_HASHED_BYTES = 256 << 20  # as for GGUF files: of larger folders only the sizes are compared
_MAX_LAYERS = 4096

# Plain names only: no folder, no dot in front. (In pydantic's expressions `$` is the end of the text, never a line's.)
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
External = Annotated[tuple[FileName, ...], Field(max_length=8)]
Layer = Annotated[int, Field(ge=0, le=_MAX_LAYERS)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileFacts(_Strict):
    """Size and digest of one file."""

    bytes: int = Field(ge=1, le=_MAX_FILE_BYTES)
    sha256: Digest


class GraphPart(_Strict):
    """A graph and the files that hold its tensors."""

    file: FileName
    external: External = ()


class StagePart(GraphPart):
    """The trunk's layers `first` to `last` (exclusive)."""

    first: Layer
    last: Layer


class ExitPart(GraphPart):
    """The exit after trunk stage `stage`: its own block and norm.

    Attributes:
        heads: safetensors with the tensors `head.*` of its exit criterion, where it has any.
        facts: what the training run said of it.
    """

    stage: int = Field(ge=0, lt=64)
    blocks: Literal[1] = 1
    heads: FileName | None = None
    facts: dict[str, Any] = Field(default_factory=dict)


class HeadPart(GraphPart):
    """The output matrix that all exits and the last stage share."""


class Manifest(_Strict):
    """What a staged model folder says of itself; sizes are counts.

    Attributes:
        trunk_fingerprint: of the model it was made from, which rungs name.
        fingerprint: of the trunk's graphs and tensors without the exits: equal for folders with the same trunk.
        tokenizer: `tokenizer.gguf` (vocabulary only) or `tokenizer.json`.
        accuracy_level: of 4-bit and 8-bit products: 1 computes in float32, 4 rounds activations to int8.
        exact: attention is padded, see `staged.exact`: results do not depend on how a text is cut into runs.
        exits: by stage; a stage may have none, and the last one never has.
        files: every other file of the folder.
    """

    format: Literal["updraft-staged-1"] = "updraft-staged-1"
    name: str = Field(min_length=1, max_length=200)
    architecture: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,100}$")
    trunk_fingerprint: Digest
    fingerprint: Digest
    tokenizer_hash: Digest
    tokenizer: Literal["tokenizer.gguf", "tokenizer.json"]
    layers: int = Field(ge=1, le=_MAX_LAYERS)
    width: int = Field(ge=1, le=1 << 20)
    heads: int = Field(ge=1, le=1 << 14)
    kv_heads: int = Field(ge=1, le=1 << 14)
    head_size: int = Field(ge=1, le=1 << 14)
    vocabulary: int = Field(ge=1, le=1 << 22)
    context_length: int = Field(ge=1, le=1 << 30)
    quantisation: Literal["int4", "int8", "fp32"]
    accuracy_level: Literal[1, 4]
    exact: bool = False
    end_tokens: tuple[int, ...] = Field(max_length=64)
    chat_template: str | None = Field(max_length=1 << 20)
    stages: tuple[StagePart, ...] = Field(min_length=1, max_length=64)
    exits: tuple[ExitPart, ...] = Field(max_length=63)
    head: HeadPart
    files: dict[FileName, FileFacts] = Field(max_length=1024)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all graphs and tensors."""
        return sum(facts.bytes for name, facts in self.files.items() if name != self.tokenizer)

    @property
    def graphs(self) -> tuple[GraphPart, ...]:
        """All graphs: stages, exits, output matrix."""
        return (*self.stages, *self.exits, self.head)

    def trunk_files(self) -> set[str]:
        """Names of the files that compute the trunk."""
        parts: tuple[GraphPart, ...] = (*self.stages, self.head)
        return {name for part in parts for name in (part.file, *part.external)}

    def digest(self) -> str:
        """What `fingerprint` must be."""
        digest = hashlib.sha256(FORMAT.encode())
        for name in sorted(self.trunk_files()):
            digest.update(f"\n{name} {self.files[name].sha256}".encode())
        return digest.hexdigest()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if reason := self._fault():
            raise ValueError(reason)
        return self

    def _fault(self) -> str | None:
        edges = [(stage.first, stage.last) for stage in self.stages]
        if any(first >= last for first, last in edges):
            return "a stage has no layers"
        if [0, *(last for _, last in edges)] != [*(first for first, _ in edges), self.layers]:
            return f"the stages {edges} do not cover the layers 0 to {self.layers} in order"
        places = [part.stage for part in self.exits]
        if places != sorted(set(places)) or any(place >= len(edges) - 1 for place in places):
            return f"the exits {places} are not ordered places between {len(edges)} stages"
        if self.heads % self.kv_heads or self.heads * self.head_size > 1 << 24:
            return f"{self.heads} heads of {self.head_size} do not share {self.kv_heads} keys"
        if not all(0 <= token < self.vocabulary for token in self.end_tokens):
            return "an end token is not in the vocabulary"
        return self._file_fault()

    def _file_fault(self) -> str | None:
        graphs = [part.file for part in self.graphs]
        if len(set(graphs)) != len(graphs) or not all(name.endswith(".onnx") for name in graphs):
            return "a graph file is named twice or is no .onnx file"
        data = {name for part in self.graphs for name in part.external}
        heads = [part.heads for part in self.exits if part.heads]
        if not all(name.endswith(".bin") for name in data) or len(set(heads)) != len(heads):
            return "external data is not in a .bin file, or two exits name one file of heads"
        if not all(name.endswith(".safetensors") for name in heads):
            return "the heads of an exit are not in a .safetensors file"
        named = {*graphs, *data, *heads, self.tokenizer}
        if named != set(self.files):
            return f"the files named and those described differ in {', '.join(sorted(named ^ set(self.files))[:3])}"
        if self.fingerprint != self.digest():
            return "the fingerprint is not that of its files"
        return None


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest; looks at no other file.

    Raises:
        ModelNotFound: no such folder, or no manifest in it.
        BadModelFile: not a manifest of this format, numbers out of range, or statements that contradict each other.
    """
    path = folder / MANIFEST_FILE
    facts = _inside(path)
    if facts.st_size > _MAX_MANIFEST_BYTES:
        raise BadModelFile(f"{path} has {facts.st_size} bytes; {_MAX_MANIFEST_BYTES} are allowed")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelNotFound(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BadModelFile(
            f"{path} is not a staged model's manifest: {place + ': ' if place else ''}{first['msg']}",
            remedy="Export the model again with `updraft models export`.",
        ) from None


def check_files(folder: Path, manifest: Manifest) -> None:
    """Hold the files against the manifest: plain files in the folder itself, sizes, and up to 256 MiB digests.

    Raises BadModelFile for the first that differs.
    """
    for name, facts in manifest.files.items():
        found = _inside(folder / name)
        if found.st_size != facts.bytes:
            _damaged(folder / name, f"it has {found.st_size} bytes, the manifest says {facts.bytes}")
    if sum(facts.bytes for facts in manifest.files.values()) > _HASHED_BYTES:
        return
    for name, facts in manifest.files.items():
        if _sha256(folder / name) != facts.sha256:
            _damaged(folder / name, "its digest differs from the manifest's")


def describe_file(path: Path) -> FileFacts:
    """Size and digest of a file."""
    return FileFacts(bytes=path.stat().st_size, sha256=_sha256(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest; the caller makes it durable together with the files."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def with_fingerprint(fields: Mapping[str, Any]) -> Manifest:
    """A manifest from all fields but the fingerprint."""
    unchecked = Manifest.model_construct(**fields)
    return Manifest(**fields, fingerprint=unchecked.digest())


def _inside(path: Path) -> os.stat_result:
    """The facts of a plain file; links could lead out of the folder, pipes and devices could block."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        raise ModelNotFound(f"there is no {path.name} in {path.parent}") from None
    except OSError as error:
        raise ModelNotFound(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(facts.st_mode):
        _damaged(path, "it is not a plain file (links are not followed)")
    return facts


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path, reason: str) -> NoReturn:
    raise BadModelFile(f"{path} cannot be used: {reason}", remedy="Fetch or export the folder again.")
