"""The agent's OpenAI-compatible HTTP server."""

from __future__ import annotations

from updraft_edge.http.app import create_app

__all__ = ["create_app"]
