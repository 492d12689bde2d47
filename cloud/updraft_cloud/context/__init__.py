"""The context manager: many more sessions than the engine has sequences."""

from __future__ import annotations

from updraft_cloud.context.manager import ContextManager
from updraft_cloud.context.place import Holder
from updraft_cloud.context.statistics import ContextStatistics

__all__ = ["ContextManager", "ContextStatistics", "Holder"]
