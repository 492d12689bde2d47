"""The router of one model pair: its file, and what it says of a token or a prompt.

R2R (arXiv 2505.21600) and Co-LLM (arXiv 2403.03870) learn per token whether the small model's token can stand; the
second output is the third verdict of stop-and-exit (ICSE 2024): whatever the edge adds would be rejected, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BadModelFile, MissingExtra, ModelNotFound, WrongTrunk
from updraft.exits.files import replace_file
from updraft.routing.features import PROMPT_FEATURES, TOKEN_FEATURES
from updraft.routing.network import Network

__all__ = ["AHEAD", "Router", "Verdicts", "find_router", "read_router", "shipped_routers", "write_router"]

Floats = NDArray[np.float32]

AHEAD: Final = 8
"""Tokens that "everything that follows" stands for: given up where at least half of them would be rejected."""

_FORMAT = "updraft-router-1"
_MAX_BYTES = 16 * 2**20
_TRAIN = "Train one with `updraft train router`."
_SHIPPED = Path(__file__).resolve().parents[1] / "models" / "routers"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Two probabilities of a token.

    Attributes:
        rejected: the cloud would reject it.
        hopeless: it would reject most of what the edge writes next.
    """

    rejected: float
    hopeless: float


class Router:
    """What was learned from one pair's verdicts.

    Args:
        tokens: reads `TOKEN_FEATURES`, gives `rejected` and `hopeless`.
        prompts: reads `PROMPT_FEATURES`, gives the share of the answer that the cloud would reject; None where the
            log had no prompts.
        edge, cloud: the models' fingerprints.
        facts: how it was trained, for its card.
    """

    def __init__(
        self, tokens: Network, prompts: Network | None, *, edge: str, cloud: str, facts: Mapping[str, Any] | None = None
    ) -> None:
        self.tokens = tokens
        self.prompts = prompts
        self.edge = edge
        self.cloud = cloud
        self.facts = dict(facts or {})

    def token(self, features: Floats) -> Verdicts:
        """What it says of one token, from features of shape (len(TOKEN_FEATURES),)."""
        rejected, hopeless = self.tokens(features)
        return Verdicts(float(rejected), float(hopeless))

    def prompt(self, features: Floats) -> float:
        """The share of the answer's tokens that the cloud would reject, from (len(PROMPT_FEATURES),) features.

        Raises WrongTrunk where the router was trained without prompts.
        """
        if self.prompts is None:
            raise WrongTrunk(
                "the router was trained on a log without prompts and has no say on whole answers",
                remedy="Train it again on a log of this version.",
            )
        return float(self.prompts(features)[0])

    def check_pair(self, edge: str, cloud: str | None) -> None:
        """Raises WrongTrunk unless it was trained for these models; None where the cloud's is not known yet."""
        for tier, own, asked in (("edge", self.edge, edge), ("cloud", self.cloud, cloud)):
            if asked is not None and own != asked:
                raise WrongTrunk(
                    f"the router was trained with the {tier} model {own[:16]}…, this one is {asked[:16]}…",
                    remedy="Train one for this pair with `updraft train router`.",
                )


def write_router(path: Path, router: Router) -> None:
    """Write a router as safetensors, all at once. Raises MissingExtra without safetensors."""
    tensors = router.tokens.tensors("token")
    if router.prompts is not None:
        tensors |= router.prompts.tensors("prompt")
    metadata = {
        "format": _FORMAT,
        "edge": router.edge,
        "cloud": router.cloud,
        "token_features": json.dumps(TOKEN_FEATURES),
        "prompt_features": json.dumps(PROMPT_FEATURES),
        "facts": json.dumps(router.facts),
    }
    replace_file(path, _safetensors().numpy.save(tensors, metadata))


def read_router(path: Path) -> Router:
    """A router's file.

    Raises:
        ModelNotFound: there is no such file.
        BadModelFile: it holds no router, or one for other features than this version's.
    """
    library = _safetensors()
    if not path.is_file():
        raise ModelNotFound(f"there is no router at {path}", remedy=_TRAIN)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        with library.safe_open(path, framework="np") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}")
        for key, names in (("token_features", TOKEN_FEATURES), ("prompt_features", PROMPT_FEATURES)):
            if json.loads(metadata[key]) != list(names):
                raise ValueError(f"it reads other {key.replace('_', ' ')}")
        facts = json.loads(metadata["facts"])
        edge, cloud = metadata["edge"], metadata["cloud"]
    except (library.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise BadModelFile(f"{path} holds no router: {error}", remedy=_TRAIN) from error
    tokens = Network.from_tensors(tensors, "token", reads=len(TOKEN_FEATURES), gives=2)
    prompts = None
    if any(name.startswith("prompt.") for name in tensors):
        prompts = Network.from_tensors(tensors, "prompt", reads=len(PROMPT_FEATURES), gives=1)
    return Router(tokens, prompts, edge=edge, cloud=cloud, facts=facts)


def find_router(name: str) -> Path:
    """The file of a router that is shipped under a name, or at a path.

    Raises ModelNotFound if neither is there.
    """
    shipped = _SHIPPED / f"{name}.safetensors"
    if "/" not in name and shipped.is_file():
        return shipped
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = ", ".join(sorted(path.stem for path in _SHIPPED.glob("*.safetensors"))) or "none"
    raise ModelNotFound(f"there is no router {name!r}; shipped are: {known}", remedy=_TRAIN)


def shipped_routers() -> list[Router]:
    """The routers that come with Updraft; none where safetensors is not installed."""
    try:
        return [read_router(path) for path in sorted(_SHIPPED.glob("*.safetensors"))]
    except MissingExtra:
        return []


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "routers need safetensors, which is not installed", remedy='pip install "updraft-llm[smollm2]"'
        ) from error
    return safetensors
