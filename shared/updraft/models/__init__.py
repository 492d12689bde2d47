"""Model files: what they say about themselves, and where they are."""

from __future__ import annotations

from updraft.models.catalog import CatalogEntry, catalog, resolve
from updraft.models.gguf_info import read_model_info

__all__ = ["CatalogEntry", "catalog", "read_model_info", "resolve"]
