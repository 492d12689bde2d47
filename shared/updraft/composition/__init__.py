"""Composition: inference-time compute as a declarative pipeline of components, and the search for one."""

from __future__ import annotations

import updraft.strategies  # noqa: F401  # first, because its registry knows pipelines
from updraft.composition.pipeline import Pipeline, load_pipeline, parse_pipeline

__all__ = ["Pipeline", "load_pipeline", "parse_pipeline"]
