"""Files of Updraft's own that hold what was trained or recorded: safetensors, with a description in their metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BadModelFile, ConfigError, MissingExtra, ModelNotFound
from updraft.exits.files import replace_file

__all__ = ["TensorFile"]

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A kind of file.

    Attributes:
        what: it holds, for people, such as "route predictor".
        format: that its metadata must name.
        most_bytes: a larger file is not read.
        remedy: for who has none, or a damaged one.
        extra: of the package, that brings safetensors.
    """

    what: str
    format: str
    most_bytes: int
    remedy: str = ""
    extra: str = "smollm2"

    def write(self, path: Path, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> None:
        """Write a file, all at once. Raises ConfigError where it cannot be written."""
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, save(arrays, {"format": self.format, **facts}))
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror or error}",
                remedy="Choose a folder with room that this user can write.",
            ) from error

    def read(self, path: Path) -> tuple[dict[str, str], Arrays]:
        """Metadata and all tensors; what they must be is for the caller to see to, inside of `refusing`.

        Raises:
            ModelNotFound: no such file.
            BadModelFile: it is too large, damaged, or of another format.
            MissingExtra: safetensors is not installed.
        """
        try:
            from safetensors import SafetensorError, safe_open
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"{path} is a safetensors file, and safetensors is not installed",
                remedy=f'Install it with `pip install "updraft-llm[{self.extra}]"`.',
            ) from error
        if not path.is_file():
            raise ModelNotFound(f"there is no {self.what} at {path}", remedy=self.remedy)
        with self.refusing(path):
            if path.stat().st_size > self.most_bytes:
                raise ValueError(f"it is larger than {self.most_bytes} bytes")
            try:
                with safe_open(path, framework="np") as opened:
                    facts = opened.metadata() or {}
                    tensors = {name: np.asarray(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118
            except SafetensorError as error:
                raise ValueError(str(error)) from error
            if facts.get("format") != self.format:
                raise ValueError(f"its format is {facts.get('format')!r}, not {self.format!r}")
        return facts, tensors

    @contextmanager
    def refusing(self, path: Path) -> Iterator[None]:
        """What goes wrong inside is the file's fault: raises BadModelFile that says so."""
        try:
            yield
        except BadModelFile as error:
            raise self._refusal(path, error.message) from error
        except KeyError as error:
            raise self._refusal(path, f"it does not say {error}") from error
        except (OSError, ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise self._refusal(path, str(error)) from error

    def _refusal(self, path: Path, reason: str) -> BadModelFile:
        article = "an" if self.what[0] in "aeiou" else "a"
        return BadModelFile(f"{path} is not {article} {self.what}: {reason}", remedy=self.remedy)
