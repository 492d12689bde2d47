"""Verifiers: who judges whether an answer, or a step of it, is right."""

from updraft.verifiers.base import Claim, Judgement, Reader, Verifier

__all__ = ["Claim", "Judgement", "Reader", "Verifier"]
