from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from tests.shared.models.staged.damage import change_graph, change_manifest, renew
from updraft.errors import BadModelFile, MissingExtra, ModelError
from updraft.models.staged import check_folder, graph_check, read_manifest
from updraft.models.staged.interface import interfaces, kv_layer, value_shape
from updraft.models.staged.operators import operator_fault

FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Model = onnx.ModelProto


def test_what_was_exported_passes(staged_folder: Path, quantised_folder: Path) -> None:
    assert check_folder(staged_folder) == read_manifest(staged_folder)
    assert check_folder(quantised_folder).quantisation == "int4"


def test_graphs_have_the_inputs_and_outputs_that_engines_expect(staged_folder: Path) -> None:
    manifest = check_folder(staged_folder)
    for name, interface in interfaces(manifest).items():
        graph = onnx.load(str(staged_folder / name), load_external_data=False).graph
        assert {value.name for value in graph.input} == interface.inputs
        assert {value.name for value in graph.output} == interface.outputs
    stages = [interfaces(manifest)[stage.file] for stage in manifest.stages]
    assert ["input_ids" in stage.inputs for stage in stages] == [True, False, False]
    assert ["features" in stage.outputs for stage in stages] == [False, False, True]
    kept = {layer for name in stages[1].inputs if (layer := kv_layer(name)) is not None}
    assert kept == {2, 3}


def _node(model: Model, kind: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def _tensor(model: Model, *, external: bool = True) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if bool(tensor.external_data) == external)


def _place(key: str, value: str) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        for entry in _tensor(model).external_data:
            if entry.key == key:
                entry.value = value

    return change


def _attribute(kind: str, name: str, value: Any) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        node = _node(model, kind)
        kept = [found for found in node.attribute if found.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def _added(node: onnx.NodeProto) -> Callable[[Model], None]:
    return lambda model: model.graph.node.append(node)


def _dims(*sizes: int) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        tensor = _tensor(model)
        del tensor.dims[:]
        tensor.dims.extend(sizes)

    return change


def _with_function(model: Model) -> None:
    model.functions.append(helper.make_function("own", "F", [], [], [], [helper.make_opsetid("", 22)]))


def _with_subgraph(model: Model) -> None:
    empty = helper.make_graph([], "inner", [], [])
    _node(model, "Add").attribute.append(helper.make_attribute("body", empty))


def _constant(values: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["more"], value=numpy_helper.from_array(values))


def _elsewhere() -> onnx.NodeProto:
    node = _constant(np.zeros(4, np.float32))
    node.attribute[0].t.data_location = onnx.TensorProto.EXTERNAL
    node.attribute[0].t.external_data.add(key="location", value="/etc/hosts")
    return node


HARM: dict[str, Callable[[Model], object]] = {
    "location outside": _place("location", "../../etc/hosts"),
    "absolute location": _place("location", "/etc/hosts"),
    "a file of another graph": _place("location", "stage2.bin"),
    "a file that is no data": _place("location", "manifest.json"),
    "offset past the end": _place("offset", str(1 << 30)),
    "offset below zero": _place("offset", "-4096"),
    "offset in words": _place("offset", "ten"),
    "offset beyond 64 bits": _place("offset", str(1 << 70)),
    "length that is not the shape's": _place("length", "4"),
    "place named twice": lambda m: _tensor(m).external_data.add(key="location", value="stage1.bin"),
    "place with more keys": lambda m: _tensor(m).external_data.add(key="checksum", value="0"),
    "no place": lambda m: _tensor(m).ClearField("external_data"),
    "inline data and a place": lambda m: setattr(_tensor(m), "raw_data", b"0000"),
    "short inline data": lambda m: setattr(_tensor(m, external=False), "raw_data", b"0"),
    "absurd shape": _dims(1 << 40, 1 << 40),
    "negative shape": _dims(-1, 64),
    "no rows": _dims(0, 64),
    "many dimensions": _dims(*[1] * 9, 64),
    "text in a tensor": lambda m: setattr(_tensor(m), "data_type", onnx.TensorProto.STRING),
    "tensor named twice": lambda m: m.graph.initializer.append(_tensor(m)),
    "unknown operator": _added(helper.make_node("Launch", ["hidden_in"], ["x"])),
    "unknown domain": _added(helper.make_node("Add", ["hidden_in", "hidden_in"], ["x"], domain="evil")),
    "loop": _added(helper.make_node("Loop", ["hidden_in"], ["x"])),
    "optional sequence": _added(helper.make_node("SequenceConstruct", ["hidden_in"], ["x"])),
    "value from nowhere": _added(helper.make_node("Add", ["hidden_in", "nothing"], ["x"])),
    "value from later": lambda m: m.graph.node.reverse(),
    "value given twice": _added(helper.make_node("Add", ["hidden_in", "hidden_in"], ["hidden_out"])),
    "endless name": _added(helper.make_node("Add", ["hidden_in", "hidden_in"], ["x" * 5000])),
    "name that is no text": lambda m: setattr(m.graph.node[1], "name", "\x1b[2J"),
    "no name": lambda m: setattr(m.graph.node[1], "name", ""),
    "unprintable description": lambda m: setattr(m.graph, "doc_string", "\x00"),
    "metadata": lambda m: m.metadata_props.add(key="a", value="b"),
    "subgraph": _with_subgraph,
    "attribute twice": lambda m: _node(m, "Concat").attribute.append(helper.make_attribute("axis", 1)),
    "attribute of a function": lambda m: setattr(_node(m, "GroupQueryAttention").attribute[0], "ref_attr_name", "x"),
    "attribute that is no number": _attribute("SimplifiedLayerNormalization", "epsilon", float("nan")),
    "endless attribute": _attribute("Concat", "more", [1] * 5000),
    "constant elsewhere": _added(_elsewhere()),
    "large constant": _added(_constant(np.zeros(1 << 16, np.float32))),
    "functions": _with_function,
    "sparse tensors": lambda m: m.graph.sparse_initializer.add(),
    "training": lambda m: m.training_info.add(),
    "future operators": lambda m: setattr(m.opset_import[0], "version", 99),
    "foreign operators": lambda m: m.opset_import.append(helper.make_opsetid("evil", 1)),
    "ancient format": lambda m: setattr(m, "ir_version", 3),
    "missing input": lambda m: m.graph.input.pop(),
    "missing output": lambda m: m.graph.output.pop(),
    "more inputs": lambda m: m.graph.input.append(helper.make_tensor_value_info("x", 1, [1])),
    "input of another type": lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 8),
    "input that is no tensor": lambda m: m.graph.input[0].type.sequence_type.elem_type.tensor_type.SetInParent(),
    "input of another width": lambda m: m.graph.input[2].type.tensor_type.shape.dim.pop(),
    "output that nothing gives": lambda m: m.graph.node.pop(),
    "other heads": _attribute("GroupQueryAttention", "num_heads", 64),
    "no keys": _attribute("GroupQueryAttention", "kv_num_heads", 0),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_harmful_graphs_are_refused(copied: Path, harm: Callable[[Model], object]) -> None:
    change_graph(copied, "stage1.onnx", harm)
    with pytest.raises(BadModelFile, match=r"stage1\.onnx"):
        check_folder(copied)


QUANTISED_HARM: dict[str, Callable[[Model], object]] = {
    "more rows than there are": _attribute("MatMulNBits", "N", 1 << 20),
    "more columns than there are": _attribute("MatMulNBits", "K", 1 << 20),
    "rows below zero": _attribute("MatMulNBits", "N", -64),
    "rows that are no number": _attribute("MatMulNBits", "N", 64.5),
    "blocks of one": _attribute("MatMulNBits", "block_size", 1),
    "blocks of nothing": _attribute("MatMulNBits", "block_size", 0),
    "other bits": _attribute("MatMulNBits", "bits", 2),
    "no scales": lambda m: _node(m, "MatMulNBits").input.pop(),
    "computed weights": lambda m: _node(m, "MatMulNBits").input.__setitem__(1, "hidden_in"),
    "short rotary cache": lambda m: _node(m, "GroupQueryAttention").input.__setitem__(7, "pad_first"),
}


@pytest.mark.parametrize("harm", QUANTISED_HARM.values(), ids=QUANTISED_HARM.keys())
def test_harmful_sizes_of_quantised_products_are_refused(
    quantised_folder: Path, tmp_path: Path, harm: Callable[[Model], object]
) -> None:
    _check_changed(quantised_folder, tmp_path, "stage1.onnx", harm)


def _check_changed(folder: Path, tmp_path: Path, name: str, harm: Callable[[Model], object]) -> None:
    """As `check_folder` of a changed copy, without copying."""
    manifest = read_manifest(folder)
    model = onnx.load(str(folder / name), load_external_data=False)
    harm(model)
    (tmp_path / name).write_bytes(model.SerializeToString())
    data = {file: facts.bytes for file, facts in manifest.files.items() if file in (f"{name[:-5]}.bin", "shared.bin")}
    with pytest.raises(BadModelFile):
        graph_check.check_graph(tmp_path / name, interfaces(manifest)[name], graph_check.sizes_of(manifest), data)


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"GGUF", b"\x0a\xff\xff\xff\xff\x0f"])
def test_what_is_no_graph_is_refused(copied: Path, data: bytes) -> None:
    (copied / "output.onnx").write_bytes(data or b"\x08")
    renew(copied)
    with pytest.raises(BadModelFile, match=r"output\.onnx"):
        check_folder(copied)


def test_a_graph_of_absurd_size_is_not_read(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_check, "_MAX_GRAPH_BYTES", 1000)
    with pytest.raises(BadModelFile, match="more than 1000 bytes"):
        check_folder(copied)


def test_sizes_must_be_those_of_the_graphs(copied: Path) -> None:
    change_manifest(copied, lambda fields: fields.update(vocabulary=321))
    with pytest.raises(BadModelFile, match="logits"):
        check_folder(copied)


def test_a_longer_context_than_the_rotary_caches_is_refused(copied: Path) -> None:
    change_manifest(copied, lambda fields: fields.update(context_length=513))
    with pytest.raises(BadModelFile, match="rotary"):
        check_folder(copied)


def test_without_onnx_the_extra_is_named(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtra) as caught:
        check_folder(copied)
    assert "updraft-llm[onnx]" in caught.value.remedy


def test_embeddings_of_quantised_blocks_are_held_against_the_vocabulary(staged_folder: Path) -> None:
    sizes = graph_check.sizes_of(read_manifest(staged_folder))
    good = {"bits": 4, "block_size": 32, "gather_axis": 0, "quantize_axis": 1}
    shapes = [(320, 32), None, (320, 2)]
    assert operator_fault("GatherBlockQuantized", good, shapes, sizes) is None
    assert operator_fault("GatherBlockQuantized", good, [(319, 32), None, (320, 2)], sizes)
    assert operator_fault("GatherBlockQuantized", good, [(320, 32), None, (320, 1)], sizes)
    assert operator_fault("GatherBlockQuantized", good, [None, None, (320, 2)], sizes)
    assert operator_fault("GatherBlockQuantized", {**good, "gather_axis": 1}, shapes, sizes)
    assert operator_fault("GatherBlockQuantized", {**good, "bits": 3}, shapes, sizes)


def test_no_other_names_have_shapes(staged_folder: Path) -> None:
    sizes = graph_check.sizes_of(read_manifest(staged_folder))
    assert value_shape("attention_mask", sizes) is None
    assert kv_layer("past_key_values.01.key") is None
    assert value_shape("present.3.value", sizes) == (1, ("batch", 1, "total", 32))


@FUZZ
@given(data=st.data())
def test_any_bytes_are_refused_or_still_the_graph_that_engines_expect(
    quantised_folder: Path, tmp_path: Path, data: st.DataObject
) -> None:
    manifest = read_manifest(quantised_folder)
    name = data.draw(st.sampled_from(["stage0.onnx", "stage1.onnx", "exit0.onnx", "output.onnx"]))
    whole = bytearray((quantised_folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(whole)
    part = next(part for part in manifest.graphs if part.file == name)
    files = {file: manifest.files[file].bytes for file in part.external}
    interface = interfaces(manifest)[name]
    try:
        graph_check.check_graph(tmp_path / name, interface, graph_check.sizes_of(manifest), files)
    except ModelError:
        return
    graph = onnx.ModelProto.FromString(bytes(whole)).graph
    assert {value.name for value in graph.input} == interface.inputs
    assert {entry.value for t in graph.initializer for entry in t.external_data if entry.key == "location"} <= set(
        files
    )
