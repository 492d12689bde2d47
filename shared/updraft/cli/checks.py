"""What `updraft doctor` checks on this machine; the link to the cloud is in `link_check`."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from updraft import __version__
from updraft.cli.memory import memory_bytes, usable_cores
from updraft.config import EdgeSettings, config_path, edge_profile
from updraft.engine.base import ModelInfo
from updraft.errors import UpdraftError
from updraft.models.cache_size import cache_bytes

__all__ = ["Check", "Status", "check_exact", "check_machine", "check_memory", "check_model"]

Status = Literal["ok", "warning", "failed", "skipped"]

MIB = 1 << 20
EXACTNESS_CONTEXT = 512  # the check looks past 256 positions and needs no more than this


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report; a failed one has a remedy."""

    name: str
    status: Status
    detail: str
    remedy: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def failed(cls, name: str, error: UpdraftError) -> Check:
        return cls(name, "failed", error.message, error.remedy, {"code": error.code})


def check_machine(settings: EdgeSettings, config: Path | None) -> Iterator[Check]:
    """Versions, device profile, cores, memory and configuration file."""
    versions = {name: _version(name) for name in ("llama-cpp-python", "torch", "grpcio", "numpy")}
    detail = ", ".join([f"updraft {__version__}", f"Python {platform.python_version()}"])
    detail += "".join(f", {name} {version}" for name, version in versions.items() if version)
    if versions["llama-cpp-python"] is None:
        remedy = 'Install it with `pip install "updraft-llm[edge]"`.'
        yield Check("versions", "failed", f"{detail}; llama-cpp-python is not installed", remedy)
    else:
        yield Check("versions", "ok", detail, facts={"updraft": __version__, **versions})
    profile = edge_profile(settings)
    chosen = "detected" if settings.device == "auto" else "named"
    yield Check(
        "device",
        "ok",
        f"{profile.name} ({chosen}): {profile.title}; power: {profile.power}",
        facts={"system": platform.system(), "machine": platform.machine(), **profile.model_dump()},
    )
    cores, memory = usable_cores(), memory_bytes()
    shown = "unknown" if memory is None else f"{memory / MIB:.0f} MiB"
    threads = settings.threads or cores
    facts = {"cores": cores, "threads": threads, "memory_bytes": memory}
    if threads > cores:
        remedy = "Lower threads, or leave it out: threads that share a core slow each other down."
        yield Check("cores", "warning", f"{threads} threads on {cores} usable cores", remedy, facts)
    else:
        yield Check("cores", "ok", f"{cores} usable cores, {threads} threads, memory {shown}", facts=facts)
    file = config or config_path()
    there = "read" if file.is_file() else "not there, which is fine"
    yield Check("configuration", "ok", f"{file} ({there})", facts={"path": str(file), "exists": file.is_file()})


def check_model(settings: EdgeSettings) -> tuple[Check, Path | None, ModelInfo | None]:
    """Whether the edge model's file is there and makes sense; makes the file where that is needed."""
    from updraft.models import model_info, resolve

    try:
        path = resolve(settings.model, progress=lambda line: None)
        info = model_info(path)
    except UpdraftError as error:
        return Check.failed("edge model", error), None, None
    size = f"{info.layers} layers, {info.quantisation}, {info.weight_bytes / MIB:.0f} MiB"
    detail = f"{settings.model}: {info.architecture}, {size}"
    facts = {"path": str(path), "fingerprint": info.fingerprint, "tokenizer_hash": info.tokenizer_hash}
    if settings.context > info.context_length:
        remedy = f"Set context to {info.context_length} or less."
        reason = f"the context of {settings.context} is longer than the model's {info.context_length}"
        return Check("edge model", "failed", f"{detail}; {reason}", remedy, facts), path, info
    return Check("edge model", "ok", detail, facts=facts), path, info


def check_memory(settings: EdgeSettings, path: Path, info: ModelInfo) -> Check:
    """Weights and caches against the device profile's limit and the machine's memory."""
    caches = cache_bytes(path, settings.context, settings.sequences)
    needed, limit = info.weight_bytes + caches, edge_profile(settings).memory_limit_mib * MIB
    detail = (
        f"{needed / MIB:.0f} MiB: weights {info.weight_bytes / MIB:.0f}, "
        f"{settings.sequences} caches of {settings.context} tokens {caches / MIB:.0f}; limit {limit / MIB:.0f}"
    )
    facts = {"weights": info.weight_bytes, "caches": caches, "limit": limit}
    remedy = "Lower context or sequences, or take a smaller model; caches grow with context x sequences."
    total = memory_bytes()
    if total is not None and settings.gpu_layers == 0 and needed > total:
        return Check("memory", "failed", f"{detail}; the machine has {total / MIB:.0f}", remedy, facts)
    return Check("memory", "warning" if needed > limit else "ok", detail, remedy if needed > limit else None, facts)


def check_exact(settings: EdgeSettings) -> Check:
    """Whether the engine gives the same bits however the work is cut; losslessness rests on it."""
    from updraft.engine import open_engine
    from updraft.engine.exactness import check_exactness

    name = "engine exactness"
    try:
        engine = open_engine(
            settings.model,
            context=min(settings.context, EXACTNESS_CONTEXT),
            sequences=3,
            threads=settings.threads,
            gpu_layers=settings.gpu_layers,
        )
        try:
            report = check_exactness(engine)
        finally:
            engine.shutdown()
    except UpdraftError as error:
        return Check.failed(name, error)
    facts = {check: {"equal": found.equal, "largest": found.largest} for check, found in report.checks.items()}
    if report.exact:
        rows = sum(found.rows for found in report.checks.values())
        return Check(name, "ok", f"identical to the last bit in {rows} rows ({', '.join(facts)})", facts=facts)
    worst = ", ".join(f"{check} {found.largest:.2g}" for check, found in report.checks.items() if not found.equal)
    remedy = (
        "Answers of `draft` and `cloud` may differ in near-ties; use gpu_layers = 0 and the tested llama-cpp-python."
    )
    return Check(name, "warning" if settings.gpu_layers else "failed", f"logits differ: {worst}", remedy, facts)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
