"""Drafts without a model: what the text itself, and earlier answers, suggest comes next."""

from __future__ import annotations

from updraft_edge.lookup.drafter import LookupDrafter, LookupFirst
from updraft_edge.lookup.kit import LookupKit
from updraft_edge.lookup.memory import LookupMemory

__all__ = ["LookupDrafter", "LookupFirst", "LookupKit", "LookupMemory"]
