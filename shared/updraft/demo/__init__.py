"""The demonstration: both tiers on one machine, answers coloured by origin, the modes compared, the cloud killed."""

from __future__ import annotations

from updraft.demo.report import DemoReport
from updraft.demo.screen import Screen
from updraft.demo.story import DemoOptions, run_demo

__all__ = ["DemoOptions", "DemoReport", "Screen", "run_demo"]
