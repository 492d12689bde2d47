"""Policies: which expert makes room, and which comes ahead of its use."""

from __future__ import annotations

from updraft_cloud.experts.policies.base import Forecast, Forecaster, NoForecast, Policy, Replacement

__all__ = ["Forecast", "Forecaster", "NoForecast", "Policy", "Replacement"]
