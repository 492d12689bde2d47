"""A Hugging Face folder whose configuration and tensors have been held against each other."""

from __future__ import annotations

import errno
import hashlib
import mmap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from updraft.errors import BadModelFile, ModelNotFound
from updraft.models.hf.config import HfConfig, read_config
from updraft.models.hf.files import TensorPlace, read_header, read_object, safe_name
from updraft.models.hf.shapes import fault

__all__ = ["HfFolder", "open_folder"]

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_HASHED_BYTES = 256 << 20  # as for GGUF files
_SAMPLE_BYTES = 64 << 10
_MAX_SHARDS = 4096
_REMEDY = "Fetch the folder again, whole: config.json and the .safetensors files of one model."


@dataclass(frozen=True, slots=True)
class HfFolder:
    """What a folder holds; tensors are read where and when they are asked for.

    Attributes:
        places: of the tensors, by name.
        head: it scores texts: there is `score.weight`, shape (labels, width), in place of an output matrix.
    """

    path: Path
    config: HfConfig
    places: dict[str, TensorPlace]
    head: bool = False

    @property
    def files(self) -> list[Path]:
        """The files that hold tensors, in order."""
        return sorted({place.file for place in self.places.values()})

    @property
    def weight_bytes(self) -> int:
        return sum(place.size for place in self.places.values())

    @property
    def kind(self) -> str:
        """The type that holds most bytes."""
        sizes: Counter[str] = Counter()
        for place in self.places.values():
            sizes[place.kind] += place.size
        return sizes.most_common(1)[0][0]

    def map(self) -> dict[Path, mmap.mmap]:
        """All files mapped, private to this process: what is written to them stays here.

        Raises ModelNotFound, and MemoryError where there is no room for them; none stays mapped then.
        """
        mapped: dict[Path, mmap.mmap] = {}
        try:
            for file in self.files:
                with file.open("rb") as opened:
                    mapped[file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as error:
            for own in mapped.values():
                own.close()
            if error.errno == errno.ENOMEM:
                raise MemoryError(f"{file.name} cannot be mapped: {error.strerror}") from None
            raise ModelNotFound(f"the model file {file} cannot be read: {error.strerror}") from None
        return mapped

    def fingerprint(self) -> str:
        """Digest of configuration and tensors.

        Up to 256 MiB it covers every byte; of larger models the first and last 64 KiB of each tensor.
        """
        digest = hashlib.sha256((self.path / "config.json").read_bytes())
        whole = self.weight_bytes <= _HASHED_BYTES
        for _, places in sorted(_by_file(self.places.values()).items()):
            with places[0].file.open("rb") as file:
                for place in places:
                    digest.update(f"\n{place.name} {place.kind} {place.shape} ".encode())
                    for start, size in _samples(place, whole=whole):
                        file.seek(start)
                        digest.update(file.read(size))
        return digest.hexdigest()


def open_folder(path: Path, *, head: bool = False) -> HfFolder:
    """Read a folder's configuration and the headers of its safetensors files; reads no tensors yet.

    Args:
        head: it must be a model with a score head, `ForTokenClassification` or `ForSequenceClassification`.

    Raises:
        ModelNotFound: no configuration, or no safetensors files.
        BadModelFile: a file; an architecture that is not supported; tensors missing, unknown or of other shapes; a
            damaged file; a link.
    """
    if path.is_file():
        raise BadModelFile(
            f"{path.name} is a file, and torch computes Hugging Face folders.",
            remedy="Name a folder with config.json and .safetensors files, or leave the engine out for a GGUF.",
        )
    config = read_config(path, head=head)
    places: dict[str, TensorPlace] = {}
    for file in _files(path):
        for place in read_header(file):
            if place.name in places:
                raise BadModelFile(
                    f"{place.name} is in {file.name} and in {places[place.name].file.name}", remedy=_REMEDY
                )
            places[place.name] = place
    _check_index(path, places)
    if reason := fault(config, {name: place.shape for name, place in places.items()}, head=head):
        raise BadModelFile(f"{path} {reason}", remedy=_REMEDY)
    return HfFolder(path, config, places, head)


def _files(path: Path) -> list[Path]:
    if (path / _INDEX).exists():
        return [path / name for name in sorted(set(_weight_map(path).values()))]
    if (path / _SINGLE).exists():
        return [path / _SINGLE]
    raise ModelNotFound(
        f"there is neither {_SINGLE} nor {_INDEX} in {path}", remedy="Save the model with `safe_serialization=True`."
    )


def _weight_map(path: Path) -> dict[str, str]:
    """Which file holds which tensor, by a sharded model's index."""
    found = read_object(path / _INDEX).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise BadModelFile(f"{path / _INDEX} has no weight_map", remedy=_REMEDY)
    for name in found.values():
        if not safe_name(name) or not name.endswith(".safetensors"):
            raise BadModelFile(
                f"{path / _INDEX} names {name!r}, which is no .safetensors file of its folder", remedy=_REMEDY
            )
    if len(set(found.values())) > _MAX_SHARDS:
        raise BadModelFile(f"{path / _INDEX} names more than {_MAX_SHARDS} files", remedy=_REMEDY)
    return found


def _check_index(path: Path, places: dict[str, TensorPlace]) -> None:
    if not (path / _INDEX).exists():
        return
    for name, file in _weight_map(path).items():
        if name not in places or places[name].file.name != file:
            raise BadModelFile(f"{path / _INDEX} says that {name} is in {file}, where it is not", remedy=_REMEDY)


def _by_file(places: Iterable[TensorPlace]) -> dict[Path, list[TensorPlace]]:
    grouped: dict[Path, list[TensorPlace]] = {}
    for place in sorted(places, key=lambda place: (place.file, place.start)):
        grouped.setdefault(place.file, []).append(place)
    return grouped


def _samples(place: TensorPlace, *, whole: bool) -> list[tuple[int, int]]:
    if whole or place.size <= 2 * _SAMPLE_BYTES:
        return [(place.start, place.size)]
    return [(place.start, _SAMPLE_BYTES), (place.start + place.size - _SAMPLE_BYTES, _SAMPLE_BYTES)]
