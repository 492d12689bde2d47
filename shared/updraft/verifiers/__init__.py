"""Verifiers: who judges whether an answer, or a step of it, is right."""

from __future__ import annotations

from updraft.verifiers.base import Asked, Claim, Judgement, Reader, Verifier
from updraft.verifiers.registry import VERIFIERS, open_verifier, parse_verifier
from updraft.verifiers.settings import Command, OpenVerifier, Resources, VerifierSettings

__all__ = [
    "VERIFIERS",
    "Asked",
    "Claim",
    "Command",
    "Judgement",
    "OpenVerifier",
    "Reader",
    "Resources",
    "Verifier",
    "VerifierSettings",
    "open_verifier",
    "parse_verifier",
]
