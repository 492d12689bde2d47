"""Opening a model for the torch engine: its options, what is loaded, and what it says of itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from updraft.engine.base import ModelInfo, StageInfo
from updraft.engine.checks import ContextOptions
from updraft.engine.experts import Experts, MakeExperts
from updraft.engine.onnx_tokenizer import StagedTokenizer, load_tokenizer
from updraft.engine.staged_checks import check_split, loaded_stages
from updraft.engine.torch_arithmetic import Arithmetic
from updraft.engine.torch_cache import CacheShape
from updraft.engine.torch_exits import exit_places, load_exits, read_exits
from updraft.engine.torch_experts import ResidentExperts
from updraft.engine.torch_load import KINDS, FolderExperts, Tensors, decoder_bytes, load_decoder
from updraft.engine.torch_model import Decoder
from updraft.engine.torch_quantised import ExpertBits
from updraft.errors import ConfigError, EngineFailure
from updraft.exits.carry import Carry
from updraft.models.hf import HfConfig, HfFolder, hf_info, open_folder
from updraft.models.hf.info import tokenizer_path
from updraft.models.rungs import Rung

__all__ = ["DTYPES", "TorchModel", "TorchOptions", "open_model"]

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class TorchOptions:
    """What the torch engine is opened with besides; see `TorchEngine`."""

    device: str
    dtype: str | None
    expert_bits: ExpertBits | None
    exact: bool | None
    head: bool = False
    rungs: Sequence[Path] = ()
    last_stage: int | None = None
    split: int | None = None
    carry: Carry = "float32"

    def checked_device(self) -> torch.device:
        """Raises ConfigError: no such device here, or one that cannot do what is asked."""
        try:
            device = torch.device(self.device)
        except RuntimeError:
            device = torch.device("meta")
        if device.type not in ("cpu", "cuda"):
            raise ConfigError(f"device is {self.device!r}; it must be cpu, cuda or cuda:N")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                f"device is {self.device!r}, but torch finds {torch.cuda.device_count()} CUDA devices here",
                remedy="Set device to cpu, or install a torch that was built for this GPU.",
            )
        if device.type == "cuda" and self.exact:
            raise ConfigError("exact is set, but on a GPU results depend on how work is cut", remedy="Leave exact out.")
        return device

    def checked_dtype(self, stored: str) -> torch.dtype:
        """`stored` is the files' own. Raises ConfigError."""
        if self.dtype is None:
            return KINDS[stored]
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")
        return DTYPES[self.dtype]


@dataclass(frozen=True, slots=True)
class TorchModel:
    """What an engine keeps for as long as it lives. Its stages are its layers."""

    info: ModelInfo
    tokenizer: StagedTokenizer
    decoder: Decoder
    experts: Experts | None
    cache_shape: CacheShape
    stages: tuple[StageInfo, ...]

    def shutdown(self) -> None:
        self.tokenizer.shutdown()
        if self.experts is not None:
            self.experts.close()


@torch.inference_mode()
def open_model(
    path: Path, shared: ContextOptions, options: TorchOptions, name: str | None, make: MakeExperts | None
) -> TorchModel:
    """Check a folder whole, then load it.

    Raises:
        ModelError: the folder or a file in it is missing or not what it must be.
        WrongTrunk: an exit was trained on another model.
        ConfigError: an option is out of range for this model.
        MissingExtra: the tokenizer's library is not installed, or that of the exits' files.
        EngineFailure: it does not fit into memory.
    """
    folder = open_folder(path, head=options.head)
    config, info = folder.config, hf_info(folder)
    _check(shared, options, config)
    options.checked_device(), options.checked_dtype(folder.kind)
    rungs = read_exits(path, options.rungs)
    stages = _stages(options, rungs, config)
    tokenizer = load_tokenizer(tokenizer_path(path), config.vocabulary)
    torch.set_num_threads(shared.threads)
    try:
        decoder, source, experts = _load(folder, shared, options, rungs, len(stages), make or ResidentExperts)
    except BaseException:
        tokenizer.shutdown()
        raise
    info = replace(_as_computed(info, folder, options, decoder, source), name=name or info.name)
    info = replace(info, end_tokens=info.end_tokens | tokenizer.end_tokens())
    shape = CacheShape(
        layers=len(decoder.trunk) + len(decoder.exits),
        heads=config.kv_heads,
        context=shared.context,
        head_size=config.head_size,
        width=config.width,
        dtype=options.checked_dtype(folder.kind),
        device=decoder.embedding.device,
        kept=tuple(sorted(decoder.kept)),
        split=options.split,
        carry=options.carry,
    )
    return TorchModel(info, tokenizer, decoder, experts, shape, stages)


_Loaded = tuple[Decoder, FolderExperts | None, Experts | None]


def _load(
    folder: HfFolder,
    shared: ContextOptions,
    options: TorchOptions,
    rungs: Sequence[Rung],
    layers: int,
    make: MakeExperts,
) -> _Loaded:
    """Everything that takes memory. Where it does not fit, what was loaded until then is free before the error is seen.

    Raises EngineFailure.
    """

    def load() -> _Loaded:
        moe = folder.config.moe
        device, dtype = options.checked_device(), options.checked_dtype(folder.kind)
        tensors = Tensors(folder, device, dtype)
        arithmetic = Arithmetic(exact=device.type == "cpu" if options.exact is None else options.exact)
        exits = [own for own in load_exits(rungs, device, dtype) if own.stage < layers]
        kept = {own.stage for own in exits} | ({options.split} if options.split is not None else set())
        decoder = load_decoder(tensors, arithmetic, shared.context, layers=layers, exits=exits, kept=kept)
        source = None if moe is None else FolderExperts(tensors, decoder, moe, options.expert_bits)
        return decoder, source, None if source is None else make(source)

    try:
        return load()
    except (RuntimeError, MemoryError) as error:  # torch has no class of its own for the CPU
        reason = str(error) or "out of memory"
    remedy = "Take a smaller model, or one whose weights have fewer bits."
    if folder.config.moe is not None:
        remedy = (
            "Hold the experts in fewer bits (expert_bits), or give them a budget (--expert-budget), or a smaller one."
        )
    raise EngineFailure(f"torch could not load {folder.path}: {reason}", remedy=remedy)


def _stages(options: TorchOptions, rungs: Sequence[Rung], config: HfConfig) -> tuple[StageInfo, ...]:
    """One a layer, with the exits where they are."""
    places = exit_places(rungs)
    count = loaded_stages(config.layers, options.last_stage, places)
    check_split(count, config.layers, options.split, options.carry)
    return tuple(StageInfo(layer, layer + 1, places.get(layer, 0)) for layer in range(count))


def _check(shared: ContextOptions, options: TorchOptions, config: HfConfig) -> None:
    shared.check(config.context)
    if shared.gpu_layers:
        raise ConfigError(
            "the torch engine computes all layers on one device", remedy="Set device, and gpu_layers to 0."
        )
    if config.window is not None and config.window < shared.context:
        raise ConfigError(
            f"context is {shared.context}, but this model attends to the last {config.window} positions only "
            "(sliding_window), which is not supported",
            remedy=f"Set context to {config.window} or less.",
        )
    if options.expert_bits not in (None, 4, 8):
        raise ConfigError(f"expert_bits is {options.expert_bits!r}; it must be 4 or 8")
    if options.expert_bits and config.moe is None:
        raise ConfigError(f"expert_bits is {options.expert_bits}, but the model has no experts", remedy="Leave it out.")


def _as_computed(
    info: ModelInfo, folder: HfFolder, options: TorchOptions, decoder: Decoder, source: FolderExperts | None
) -> ModelInfo:
    """Another type or fewer bits make another function of the same files: with a fingerprint of its own."""
    dtype, stored, bits = options.checked_dtype(folder.kind), KINDS[folder.kind], options.expert_bits
    size = info.weight_bytes * dtype.itemsize // stored.itemsize
    if decoder.exits or len(decoder.trunk) < folder.config.layers:  # of dense models alone
        size = decoder_bytes(decoder)
    if dtype == stored and bits is None:
        return replace(info, weight_bytes=size)
    kind = next(kind for kind, each in KINDS.items() if each == dtype)
    if source is not None and bits is not None:
        shape = source.shape
        size -= shape.layers * shape.experts * (3 * shape.width * shape.hidden * dtype.itemsize - shape.expert_bytes)
    return replace(
        info,
        weight_bytes=size,
        quantisation=kind if bits is None else f"{kind}, experts Q{bits}",
        fingerprint=hashlib.sha256(f"{info.fingerprint} {kind} {bits}".encode()).hexdigest(),
    )
