"""Builds llama graphs as onnxruntime-genai's builder writes them, without torch and transformers: in milliseconds.

A test marked slow holds it against the real one. Weights are float32, or 4-bit in symmetric blocks of 32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from safetensors.numpy import load_file

from updraft.models.staged.builder import GRAPH_FILE, Job, Precision

__all__ = ["build_graphs"]

_BLOCK = 32
_MASK = "/model/attn_mask_reformat/attn_mask_subgraph"
_SEQLENS, _TOTAL = f"{_MASK}/Sub/Cast/output_0", f"{_MASK}/Gather/Cast/output_0"


def build_graphs(jobs: Sequence[Job], precision: Precision, *, progress: Callable[[str], None] | None = None) -> None:
    """Stands in for `updraft.models.staged.builder.build`; llama only, int4 or fp32."""
    for job in jobs:
        if progress is not None:
            progress(f"Reading {job.folder.name}")
        _Builder(job, precision).build()


class _Builder:
    def __init__(self, job: Job, precision: Precision) -> None:
        self._job, self._bits = job, 4 if precision == "int4" else 32
        self._config: dict[str, Any] = json.loads((job.folder / "config.json").read_text())
        self._weights: Mapping[str, NDArray[np.float32]] = load_file(job.folder / "model.safetensors")
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[onnx.TensorProto] = []
        self._layers: int = self._config["num_hidden_layers"]
        self._whole = "exclude_embeds" not in job.options
        self._streams: dict[int, str] = {}

    def build(self) -> None:
        if self._whole:
            self._tensor("model.embed_tokens.weight", self._weights["model.embed_tokens.weight"])
            stream = self._node("Gather", ["model.embed_tokens.weight", "input_ids"], "/model/embed_tokens/Gather")
        else:
            stream = "inputs_embeds"
        self._lengths()
        self._rotary()
        root, added = stream, ""
        for layer in range(self._layers):
            root, added = self._layer(layer, root, added)
        norm = f"model.layers.{self._layers}.final_norm_layernorm.weight"
        self._tensor(norm, self._weights["model.norm.weight"])
        self._skip_norm(f"/model/layers.{self._layers}/final_norm_layernorm", root, added, norm, "hidden_states")
        outputs = ["hidden_states"]
        if self._whole:
            head = self._weights.get("lm_head.weight", self._weights["model.embed_tokens.weight"])
            self._bits = 8 if "last_matmul:int8" in self._job.options.values() else self._bits
            self._product(head, "hidden_states", "/lm_head/MatMul", "logits")
            outputs.append("logits")
        if taps := self._job.options.get("aux_hidden_state_layers"):
            streams = [self._streams[int(layer)] for layer in taps.split(",")]
            outputs.append("aux_hidden_states")
            self._node("Concat", streams, "/model/aux_hidden_states/Concat", outputs[-1], axis=-1)
        self._save(outputs)

    def _layer(self, layer: int, root: str, added: str) -> tuple[str, str]:
        """One decoder layer: the residual stream within it, and what is still to be added to that."""
        path, own = f"/model/layers.{layer}", f"model.layers.{layer}"
        normed, root = self._norm(layer, "input", "input_layernorm", root, added)
        attention = self._attention(layer, normed)
        added = self._product(self._weights[f"{own}.self_attn.o_proj.weight"], attention, f"{path}/attn/o_proj/MatMul")
        normed, root = self._norm(layer, "post_attention", "post_attention_layernorm", root, added)
        gate, up = (
            self._product(self._weights[f"{own}.mlp.{name}.weight"], normed, f"{path}/mlp/{name}/MatMul")
            for name in ("gate_proj", "up_proj")
        )
        bent = self._node("Mul", [gate, self._node("Sigmoid", [gate], f"{path}/mlp/Sigmoid")], f"{path}/mlp/act_fn/Mul")
        gated = self._node("Mul", [bent, up], f"{path}/mlp/Mul")
        return root, self._product(self._weights[f"{own}.mlp.down_proj.weight"], gated, f"{path}/mlp/down_proj/MatMul")

    def _norm(self, layer: int, place: str, source: str, root: str, added: str) -> tuple[str, str]:
        weight = f"model.layers.{layer}.{place}_layernorm.weight"
        self._tensor(weight, self._weights[f"model.layers.{layer}.{source}.weight"])
        path = f"/model/layers.{layer}/{place}_layernorm"
        if not added:
            return self._node(
                "SimplifiedLayerNormalization", [root, weight], path, epsilon=self._epsilon, axis=-1
            ), root
        stream = self._skip_norm(path, root, added, weight, f"{path}/output_0", f"{path}/output_3")
        if place == "input":
            self._streams[layer] = stream
        return f"{path}/output_0", stream

    def _skip_norm(self, path: str, root: str, added: str, weight: str, normed: str, stream: str = "") -> str:
        outputs = [normed, "", "", stream] if stream else [normed]
        kind = "SkipSimplifiedLayerNormalization"
        self._nodes.append(
            helper.make_node(
                kind,
                [root, added, weight],
                outputs,
                f"{path}/SkipLayerNorm",
                domain="com.microsoft",
                epsilon=self._epsilon,
            )
        )
        return stream

    def _attention(self, layer: int, normed: str) -> str:
        path, own = f"/model/layers.{layer}/attn", f"model.layers.{layer}.self_attn"
        packed = np.concatenate([self._weights[f"{own}.{name}_proj.weight"] for name in "qkv"])
        rows = self._product(packed, normed, f"{path}/qkv_proj/MatMul")
        past = [f"past_key_values.{layer}.{kind}" for kind in ("key", "value")]
        result = f"{path}/GroupQueryAttention/output_0"
        self._nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [rows, "", "", *past, _SEQLENS, _TOTAL, "cos_cache", "sin_cache", "", "", ""],
                [result, *(name.replace("past_key_values", "present") for name in past)],
                f"{path}/GroupQueryAttention",
                domain="com.microsoft",
                num_heads=self._config["num_attention_heads"],
                kv_num_heads=self._config["num_key_value_heads"],
                scale=float(self._config["head_dim"] ** -0.5),
                local_window_size=-1,
                do_rotary=1,
                rotary_interleaved=0,
            )
        )
        return result

    def _product(self, weight: NDArray[np.float32], rows: str, path: str, result: str = "") -> str:
        name = path.strip("/").replace("/", ".")
        if self._bits == 32:
            self._tensor(f"{name}.weight", np.ascontiguousarray(weight.T))
            return self._node("MatMul", [rows, f"{name}.weight"], path, result)
        packed, scales = _quantised(weight, self._bits)
        self._tensor(f"{name}.weight_Q{self._bits}", packed)
        self._tensor(f"{name}.weight_scales", scales)
        sizes = {
            "K": weight.shape[1],
            "N": weight.shape[0],
            "bits": self._bits,
            "block_size": _BLOCK,
            "accuracy_level": 4,
        }
        inputs = [rows, f"{name}.weight_Q{self._bits}", f"{name}.weight_scales"]
        return self._node("MatMulNBits", inputs, path, result, domain="com.microsoft", **sizes)

    def _lengths(self) -> None:
        """What tells attention how much is cached, worked out from the mask."""
        for name, value in (("/one", np.array([1], np.int64)), ("/place", np.array(1, np.int64))):
            constant = numpy_helper.from_array(value)
            self._nodes.append(helper.make_node("Constant", [], [name], name, value=constant))
        summed = self._node("ReduceSum", ["attention_mask", "/one"], f"{_MASK}/ReduceSum", keepdims=0)
        self._node("Cast", [self._node("Sub", [summed, "/one"], f"{_MASK}/Sub")], f"{_MASK}/Sub/Cast", to=6)
        shape = self._node("Shape", ["attention_mask"], f"{_MASK}/Shape")
        self._node("Cast", [self._node("Gather", [shape, "/place"], f"{_MASK}/Gather")], f"{_MASK}/Gather/Cast", to=6)

    def _rotary(self) -> None:
        half = np.arange(0, self._config["head_dim"], 2) / self._config["head_dim"]
        angles = np.outer(np.arange(self._config["max_position_embeddings"]), self._config["rope_theta"] ** -half)
        self._tensor("cos_cache", np.cos(angles).astype(np.float32))
        self._tensor("sin_cache", np.sin(angles).astype(np.float32))

    @property
    def _epsilon(self) -> float:
        return float(self._config["rms_norm_eps"])

    def _tensor(self, name: str, values: NDArray[Any]) -> None:
        self._tensors.append(numpy_helper.from_array(values, name))

    def _node(self, kind: str, inputs: Sequence[str], path: str, result: str = "", **attributes: Any) -> str:
        result = result or f"{path}/output_0"
        self._nodes.append(helper.make_node(kind, inputs, [result], path, **attributes))
        return result

    def _save(self, outputs: Sequence[str]) -> None:
        config, rows = self._config, ["batch_size", "sequence_length"]
        width, kv = config["hidden_size"], ["batch_size", config["num_key_value_heads"], "past_sequence_length", "kv"]
        widths = {"hidden_states": width, "logits": config["vocab_size"], "aux_hidden_states": "taps"}
        entry = ("input_ids", 7, rows) if self._whole else ("inputs_embeds", 1, [*rows, width])
        caches = [f"{layer}.{kind}" for layer in range(self._layers) for kind in ("key", "value")]
        taken = [entry, ("attention_mask", 7, ["batch_size", "total_sequence_length"])]
        taken += [(f"past_key_values.{name}", 1, kv) for name in caches]
        given = [(name, 1, [*rows, widths[name]]) for name in outputs] + [(f"present.{name}", 1, kv) for name in caches]
        entering, leaving = ([helper.make_tensor_value_info(*value) for value in side] for side in (taken, given))
        graph = helper.make_graph(self._nodes, "main_graph", entering, leaving, self._tensors)
        opsets = [helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)]
        self._job.target.mkdir(parents=True)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        path = self._job.target / GRAPH_FILE
        onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
        (self._job.target / "genai_config.json").write_text(json.dumps(_genai_config(config)))


def _genai_config(config: Mapping[str, Any]) -> dict[str, Any]:
    decoder = {
        "head_size": config["head_dim"],
        "hidden_size": config["hidden_size"],
        "num_attention_heads": config["num_attention_heads"],
        "num_hidden_layers": config["num_hidden_layers"],
        "num_key_value_heads": config["num_key_value_heads"],
    }
    return {
        "model": {
            "context_length": config["max_position_embeddings"],
            "vocab_size": config["vocab_size"],
            "decoder": decoder,
        }
    }


def _quantised(weight: NDArray[np.float32], bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Symmetric blocks along rows: values of 4 bits from -8 to 7, two a byte, or of 8 bits, and a scale a block."""
    half = 1 << bits - 1
    blocks = weight.reshape(weight.shape[0], -1, _BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scales = extreme / -half
    steps = np.divide(blocks, scales, out=np.zeros_like(blocks), where=scales != 0)
    values = (np.clip(np.rint(steps), -half, half - 1) + half).astype(np.uint8)
    if bits == 8:
        return values, scales[..., 0].astype(np.float32)
    packed: NDArray[np.uint8] = values[..., ::2] | values[..., 1::2] << np.uint8(4)
    return packed, scales[..., 0].astype(np.float32)
