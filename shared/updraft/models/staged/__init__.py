"""Staged models: a folder of ONNX graphs that can stop after any stage and go on later."""

from __future__ import annotations

from updraft.models.staged.export import export_staged
from updraft.models.staged.graph_check import check_folder
from updraft.models.staged.manifest import Manifest, read_manifest

__all__ = ["Manifest", "check_folder", "export_staged", "read_manifest"]
