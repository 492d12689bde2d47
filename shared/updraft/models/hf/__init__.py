"""Hugging Face folders of causal models, dense and mixture-of-experts, checked before torch sees a tensor."""

from __future__ import annotations

from updraft.models.hf.config import FAMILIES, HfConfig, MoeConfig, Rope, read_config
from updraft.models.hf.folder import HfFolder, open_folder
from updraft.models.hf.info import hf_info, is_hf_folder

__all__ = [
    "FAMILIES",
    "HfConfig",
    "HfFolder",
    "MoeConfig",
    "Rope",
    "hf_info",
    "is_hf_folder",
    "open_folder",
    "read_config",
]
