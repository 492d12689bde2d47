"""Models: what they say about themselves, where they are, and what is made of them."""

from __future__ import annotations

from updraft.models.catalog import CatalogEntry, catalog, resolve
from updraft.models.gguf_info import read_model_info
from updraft.models.info import model_info

__all__ = ["CatalogEntry", "catalog", "model_info", "read_model_info", "resolve"]
