"""Changes to staged folders that keep their manifests true, as somebody would make them who wants to harm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from updraft.models.staged.manifest import FORMAT, describe_file

__all__ = ["change_graph", "change_manifest", "renew"]


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit the manifest as JSON."""
    path = folder / "manifest.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    change(fields)
    path.write_text(json.dumps(fields), encoding="utf-8")


def change_graph(folder: Path, name: str, change: Callable[[onnx.ModelProto], object]) -> None:
    """Edit a graph, then renew the manifest."""
    model = onnx.load(str(folder / name), load_external_data=False)
    change(model)
    (folder / name).write_bytes(model.SerializeToString())
    renew(folder)


def renew(folder: Path) -> None:
    """Have the manifest say the sizes, digests and fingerprint of the files as they are now."""

    def change(fields: dict[str, Any]) -> None:
        fields["files"] = {name: describe_file(folder / name).model_dump() for name in fields["files"]}
        parts = [*fields["stages"], fields["head"]]
        trunk = {name for part in parts for name in (part["file"], *part["external"])}
        digest = hashlib.sha256(FORMAT.encode())
        for name in sorted(trunk):
            digest.update(f"\n{name} {fields['files'][name]['sha256']}".encode())
        fields["fingerprint"] = digest.hexdigest()

    change_manifest(folder, change)
