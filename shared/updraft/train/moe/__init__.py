"""Trains a small mixture of experts on text, in a trunk's vocabulary: a subject whose routing was learned."""

from __future__ import annotations

__all__: list[str] = []
