"""What lies in a staged model's folder besides its graphs: the calibration of its exits and their trained heads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from updraft.engine.base import StagedEngine
from updraft.exits.calibration import CALIBRATION_FILE, ExitCalibration
from updraft.exits.heads import ExitHead, read_head

__all__ = ["ExitAids", "exit_aids", "exit_heads", "exits_digest"]


@dataclass(frozen=True, slots=True)
class ExitAids:
    """Both may be missing: None, and no heads."""

    calibration: ExitCalibration | None
    heads: Mapping[int, ExitHead]


def exit_aids(engine: StagedEngine) -> ExitAids:
    """Read what lies in the folder of the engine's model, if it has one.

    Raises:
        BadModelFile: a file there is damaged, or the calibration was made for other exits.
    """
    folder: Path | None = getattr(engine, "folder", None)
    calibration: ExitCalibration | None = None
    if folder is not None and (folder / CALIBRATION_FILE).exists():
        calibration = ExitCalibration.load(folder, exits_digest(engine))
    return ExitAids(calibration, exit_heads(engine))


def exit_heads(engine: StagedEngine) -> dict[int, ExitHead]:
    """The trained heads of those of the model's exits that the engine holds, by stage. Raises BadModelFile."""
    folder: Path | None = getattr(engine, "folder", None)
    if folder is None:
        return {}
    files = {part.stage: folder / part.heads for part in _parts(getattr(engine, "manifest", None)) if part.heads}
    stages = {number for number, stage in enumerate(engine.stages) if stage.blocks}
    return {stage: read_head(file, engine.info.width) for stage, file in files.items() if stage in stages}


def exits_digest(engine: StagedEngine) -> str:
    """Names the trunk and all its exits: a model's own fingerprint leaves the exits out."""
    digest = hashlib.sha256(engine.info.fingerprint.encode())
    manifest: Any = getattr(engine, "manifest", None)
    for part in _parts(manifest):
        names = sorted(name for name in (part.file, *part.external, part.heads) if name)
        digest.update("".join(f"\n{part.stage} {manifest.files[name].sha256}" for name in names).encode())
    return digest.hexdigest()


def _parts(manifest: Any) -> tuple[Any, ...]:
    """The exits as a folder's manifest describes them; the edge's engine may hold only the shallower ones."""
    return () if manifest is None else manifest.exits
