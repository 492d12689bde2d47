"""Opening a model for the torch engine: its options, what is loaded, and what it says of itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from updraft.engine.base import ModelInfo
from updraft.engine.checks import ContextOptions
from updraft.engine.experts import Experts, MakeExperts
from updraft.engine.onnx_tokenizer import StagedTokenizer, load_tokenizer
from updraft.engine.torch_arithmetic import Arithmetic
from updraft.engine.torch_cache import CacheShape
from updraft.engine.torch_experts import ResidentExperts
from updraft.engine.torch_load import KINDS, FolderExperts, Tensors, load_decoder
from updraft.engine.torch_model import Decoder
from updraft.engine.torch_quantised import ExpertBits
from updraft.errors import ConfigError, EngineFailure
from updraft.models.hf import HfConfig, HfFolder, hf_info, open_folder
from updraft.models.hf.info import tokenizer_path

__all__ = ["DTYPES", "TorchModel", "TorchOptions", "open_model"]

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class TorchOptions:
    """What the torch engine alone is opened with; see `TorchEngine`."""

    device: str
    dtype: str | None
    expert_bits: ExpertBits | None
    exact: bool | None
    head: bool = False

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
    """What an engine keeps for as long as it lives."""

    info: ModelInfo
    tokenizer: StagedTokenizer
    decoder: Decoder
    experts: Experts | None
    cache_shape: CacheShape

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
        ConfigError: an option is out of range for this model.
        MissingExtra: the tokenizer's library is not installed.
        EngineFailure: it does not fit into memory.
    """
    folder = open_folder(path, head=options.head)
    config, info = folder.config, hf_info(folder)
    _check(shared, options, config)
    device, dtype = options.checked_device(), options.checked_dtype(folder.kind)
    tokenizer = load_tokenizer(tokenizer_path(path), config.vocabulary)
    torch.set_num_threads(shared.threads)
    try:
        tensors = Tensors(folder, device, dtype)
        exact = device.type == "cpu" if options.exact is None else options.exact
        decoder = load_decoder(tensors, Arithmetic(exact=exact), shared.context)
        source = None if config.moe is None else FolderExperts(tensors, decoder, config.moe, options.expert_bits)
        experts = None if source is None else (make or ResidentExperts)(source)
    except (RuntimeError, MemoryError) as error:
        tokenizer.shutdown()
        raise EngineFailure(
            f"torch could not load {path}: {error}", remedy="Take a smaller model, or hold experts in fewer bits."
        ) from error
    except BaseException:
        tokenizer.shutdown()
        raise
    info = replace(_as_computed(info, folder, dtype, options.expert_bits, source), name=name or info.name)
    info = replace(info, end_tokens=info.end_tokens | tokenizer.end_tokens())
    shape = CacheShape(config.layers, config.kv_heads, shared.context, config.head_size, dtype, device)
    return TorchModel(info, tokenizer, decoder, experts, shape)


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
    info: ModelInfo, folder: HfFolder, dtype: torch.dtype, bits: ExpertBits | None, source: FolderExperts | None
) -> ModelInfo:
    """Another type or fewer bits make another function of the same files: with a fingerprint of its own."""
    stored = KINDS[folder.kind]
    if dtype == stored and bits is None:
        return info
    kind = next(kind for kind, each in KINDS.items() if each == dtype)
    size = info.weight_bytes * dtype.itemsize // stored.itemsize
    if source is not None and bits is not None:
        shape = source.shape
        size -= shape.layers * shape.experts * (3 * shape.width * shape.hidden * dtype.itemsize - shape.expert_bytes)
    return replace(
        info,
        weight_bytes=size,
        quantisation=kind if bits is None else f"{kind}, experts Q{bits}",
        fingerprint=hashlib.sha256(f"{info.fingerprint} {kind} {bits}".encode()).hexdigest(),
    )
