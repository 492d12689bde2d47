"""Settings of both tiers: flags over `UPDRAFT_*` variables over a TOML file over a device profile over defaults."""

from __future__ import annotations

from updraft.config.admission import AdmissionSettings
from updraft.config.identity import IdentitySettings
from updraft.config.layers import Tier, config_path
from updraft.config.load import (
    SettingSource,
    describe_sources,
    edge_profile,
    load_cloud_settings,
    load_edge_settings,
)
from updraft.config.outside import EndpointSettings, LimitSettings, PriceSettings, RulesSettings
from updraft.config.schema import CloudLinkSettings, CloudSettings, EdgeSettings, ListenSettings, StagedSettings
from updraft.config.strategies import StrategySettings
from updraft.config.template import config_template

__all__ = [
    "AdmissionSettings",
    "CloudLinkSettings",
    "CloudSettings",
    "EdgeSettings",
    "EndpointSettings",
    "IdentitySettings",
    "LimitSettings",
    "ListenSettings",
    "PriceSettings",
    "RulesSettings",
    "SettingSource",
    "StagedSettings",
    "StrategySettings",
    "Tier",
    "config_path",
    "config_template",
    "describe_sources",
    "edge_profile",
    "load_cloud_settings",
    "load_edge_settings",
]
