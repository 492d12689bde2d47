"""Loading llama.cpp: its log, a model, a context. Everything here happens once an engine."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections import deque
from pathlib import Path
from typing import Any

from updraft.engine.checks import ContextOptions
from updraft.errors import BadModelFile, EngineFailure, MissingExtra

__all__ = ["library", "load_model", "make_context"]

_log = logging.getLogger("updraft.llama")
_LEVELS = {3: logging.WARNING, 4: logging.ERROR}  # enum ggml_log_level
_recent: deque[str] = deque(maxlen=8)  # the reason for a failed load stands in the last warnings

# enum ggml_type. llama.cpp's attention takes other kernels, with other roundings, for single steps past 256 cached
# positions and for runs of 64 tokens and more, but only where keys and values are both of type f16. With bf16 keys
# every pass takes the same kernel: bit-exact at every position, and on the CPU not slower.
_F16, _BF16 = 1, 30
_FLASH_ATTENTION_ON = 1


def _forward_log(level: int, text: bytes | None, _data: object) -> None:
    severity = _LEVELS.get(level)
    line = (text or b"").decode("utf-8", "replace").strip()
    if severity is None or not line:
        return
    _recent.append(line)
    _log.log(severity, "%s", line)


@functools.cache
def library() -> Any:
    """The llama_cpp module, its log routed to the logger `updraft.llama` (warnings and errors only).

    Raises:
        MissingExtra: llama-cpp-python is not installed.
    """
    try:
        import llama_cpp
    except ImportError as error:
        raise MissingExtra(
            f"the llama.cpp engine needs llama-cpp-python, which could not be imported: {error}",
            remedy='pip install "updraft-llm[edge]"',
        ) from error
    callback = llama_cpp.llama_log_callback(_forward_log)
    library.log_callback = callback  # type: ignore[attr-defined]  # native code keeps the pointer
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


def load_model(path: Path, gpu_layers: int, *, vocabulary_only: bool = False) -> Any:
    """A llama_model handle for a file that `read_model_info` has checked; the tokenizer alone with `vocabulary_only`.

    Raises:
        BadModelFile: llama.cpp refuses the file; the message carries its reason.
    """
    lib = library()
    params = lib.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    params.vocab_only = vocabulary_only
    _recent.clear()
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise BadModelFile(f"llama.cpp cannot load {path}: {_reason()}")
    return model


def make_context(model: Any, options: ContextOptions) -> Any:
    """A llama_context in which every sequence has its own key-value stream.

    Raises:
        EngineFailure: llama.cpp refuses, mostly for want of memory.
    """
    lib = library()
    params = lib.llama_context_default_params()
    params.n_ctx = options.sequences * options.context
    params.n_seq_max = options.sequences
    params.n_batch = params.n_ubatch = options.batch_tokens
    params.n_threads = params.n_threads_batch = options.threads
    params.flash_attn_type = _FLASH_ATTENTION_ON
    params.kv_unified = False
    params.type_k = _F16 if options.gpu_layers else _BF16
    params.type_v = _F16
    params.no_perf = True
    _recent.clear()
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise EngineFailure(
            f"llama.cpp could not make a context of {options.sequences} sequences of {options.context} tokens: "
            f"{_reason()}",
            remedy="Start with a smaller --context or fewer --sequences; memory grows with their product.",
        )
    if lib.llama_pooling_type(context) != 0:
        lib.llama_free(context)
        raise EngineFailure("the model pools its hidden states: it embeds texts and does not write them")
    return context


def _reason() -> str:
    return "; ".join(_recent) or "no reason given"
