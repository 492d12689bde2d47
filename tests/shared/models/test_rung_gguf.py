from __future__ import annotations

import shutil
import tempfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from numpy.typing import NDArray

from tests.fakes.tiny_model import write_tiny_model
from updraft.engine import Run
from updraft.engine.llama import LlamaEngine
from updraft.errors import BadModelFile, ConfigError, EngineFailure, WrongTrunk
from updraft.models import read_model_info
from updraft.models.rung_gguf import Quantisation, export_gguf, requantise
from updraft.models.rungs import Rung
from updraft.models.staged.hf_folder import write_model
from updraft.models.weights import Weights, read_weights
from updraft.train.llama import of_rung

TOKENS = np.random.default_rng(2).integers(0, 291, 40).tolist()
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 layers in Q8_0; noise, so that no layer equals another tiny model's."""
    return write_tiny_model(tmp_path_factory.mktemp("trunk") / "tiny.gguf", layers=4, context=512, noise=0.1)


@pytest.fixture(scope="module")
def weights(trunk: Path) -> Weights:
    return read_weights(trunk)


def _rung(weights: Weights, kind: Literal["exit", "student"], sources: tuple[int, ...], trained: set[int]) -> Rung:
    """Trained layers as copies of their sources with every number a little larger."""
    tensors = {f"layers.{n}.{s}": 1.05 * v for n in trained for s, v in weights.block(sources[n]).items()}
    norm = 0.9 * weights["model.norm.weight"]
    return Rung(kind, weights.fingerprint, sources, frozenset(trained), {**tensors, "norm.weight": norm})


@pytest.fixture(params=["exit", "student", "whole"])
def rung(request: pytest.FixtureRequest, weights: Weights) -> Rung:
    if request.param == "exit":
        return _rung(weights, "exit", (0, 1, 2), {2})
    return _rung(weights, "student", (0, 3), {0, 1} if request.param == "whole" else {1})


def _reference(rung: Rung, weights: Weights) -> NDArray[np.float32]:
    embedded = torch.from_numpy(weights["model.embed_tokens.weight"][TOKENS])[None]
    with torch.inference_mode():
        logits: NDArray[np.float32] = (of_rung(rung, weights)(embedded)[0] @ torch.from_numpy(weights.output).T).numpy()
    return logits


def _logits(path: Path) -> NDArray[np.float32]:
    engine = LlamaEngine(path, context=64, sequences=1, threads=1)
    try:
        return engine.forward([Run(engine.open(), 0, TOKENS, rows=len(TOKENS))])[0].logits.copy()
    finally:
        engine.shutdown()


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normalised


def _divergence(exact: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean KL in nats."""
    p, q = _log_softmax(exact), _log_softmax(other)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


@pytest.mark.parametrize(
    ("quantisation", "bound", "agreement"), [("F16", 1e-4, 0.97), ("Q8_0", 5e-3, 0.9), ("Q4_0", 0.5, 0.5)]
)
def test_llama_cpp_runs_it_as_the_reference_does(
    tmp_path: Path,
    trunk: Path,
    weights: Weights,
    rung: Rung,
    quantisation: Quantisation,
    bound: float,
    agreement: float,
) -> None:
    export_gguf(trunk, rung, tmp_path / "made/rung.gguf", quantisation=quantisation)
    exact, own = _reference(rung, weights), _logits(tmp_path / "made/rung.gguf")
    assert _divergence(exact, own) < bound
    assert (exact.argmax(-1) == own.argmax(-1)).mean() >= agreement
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["rung.gguf"]
    assert read_model_info(tmp_path / "made/rung.gguf").quantisation == quantisation


def test_an_untrained_rung_of_all_layers_is_the_trunk(tmp_path: Path, trunk: Path, weights: Weights) -> None:
    copies = {f"layers.3.{suffix}": values for suffix, values in weights.block(3).items()}
    whole = Rung(
        "exit",
        weights.fingerprint,
        (0, 1, 2, 3),
        frozenset({3}),
        {**copies, "norm.weight": weights["model.norm.weight"]},
    )
    export_gguf(trunk, whole, tmp_path / "a.gguf", quantisation="Q8_0")
    # Q8_0 to half precision and back: scales are rounded anew, quants are the same or next to it.
    assert _divergence(_logits(trunk), _logits(tmp_path / "a.gguf")) < 5e-3


def test_the_trunks_description_but_for_layers_and_name(tmp_path: Path, trunk: Path, rung: Rung) -> None:
    export_gguf(trunk, rung, tmp_path / "rung.gguf", quantisation="Q8_0")
    full, small = read_model_info(trunk), read_model_info(tmp_path / "rung.gguf")
    assert small.layers == len(rung.sources)
    assert small.tokenizer_hash == full.tokenizer_hash
    assert small.chat_template == full.chat_template is not None
    assert (small.vocabulary, small.width, small.end_tokens) == (full.vocabulary, full.width, full.end_tokens)
    assert (small.context_length, small.architecture) == (512, "llama")
    assert small.fingerprint != full.fingerprint
    name = str(GGUFReader(tmp_path / "rung.gguf").fields["general.name"].contents())
    assert name == f"{rung.kind} of {len(rung.sources)} layers ({'0-2' if rung.kind == 'exit' else '0, 3'})"


@pytest.mark.parametrize(("output_type", "kinds"), [("Q8_0", (8, 8)), ("Q4_0", (2, 8))])
def test_the_output_matrix_has_a_type_of_its_own(
    tmp_path: Path, trunk: Path, weights: Weights, output_type: Literal["Q8_0", "Q4_0"], kinds: tuple[int, int]
) -> None:
    rung = _rung(weights, "exit", (0, 1), {1})
    export_gguf(trunk, rung, tmp_path / "rung.gguf", quantisation="Q4_0", output_type=output_type)
    types = {tensor.name: int(tensor.tensor_type) for tensor in GGUFReader(tmp_path / "rung.gguf").tensors}
    assert (types["output.weight"], types["token_embd.weight"]) == kinds
    assert types["blk.1.ffn_up.weight"] == 2 and types["output_norm.weight"] == 0


def test_a_trunk_with_another_alignment(tmp_path: Path, trunk: Path) -> None:
    reader, writer = GGUFReader(trunk), GGUFWriter(str(tmp_path / "trunk.gguf"), "llama")
    writer.add_custom_alignment(64)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=field.types[-1])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    aligned = read_weights(tmp_path / "trunk.gguf")
    rung = _rung(aligned, "exit", (0, 1), {1})
    export_gguf(tmp_path / "trunk.gguf", rung, tmp_path / "rung.gguf", quantisation="F16")
    assert _divergence(_reference(rung, aligned), _logits(tmp_path / "rung.gguf")) < 1e-4


def test_other_trunks_are_refused(tmp_path: Path, trunk: Path, weights: Weights) -> None:
    rung = _rung(weights, "exit", (0, 1), {1})
    other = write_tiny_model(tmp_path / "other.gguf", layers=4, noise=0.2)
    target = tmp_path / "out/rung.gguf"
    with pytest.raises(WrongTrunk):
        export_gguf(other, rung, target)
    write_model(weights, tmp_path / "folder", bos=1, end_tokens=[2])
    own = _rung(read_weights(tmp_path / "folder"), "exit", (0, 1), {1})
    with pytest.raises(BadModelFile, match="is a folder"):
        export_gguf(tmp_path / "folder", own, target)
    (tmp_path / "bad.gguf").write_bytes(trunk.read_bytes()[:1000])
    with pytest.raises(BadModelFile):
        export_gguf(tmp_path / "bad.gguf", rung, target)
    assert not target.parent.exists()


def test_the_trunk_is_never_written_over(tmp_path: Path, trunk: Path, weights: Weights) -> None:
    before = trunk.read_bytes()
    (tmp_path / "link.gguf").symlink_to(trunk)
    for target in (trunk, tmp_path / "link.gguf"):
        with pytest.raises(ConfigError, match="the trunk itself"):
            export_gguf(trunk, _rung(weights, "exit", (0, 1), {1}), target)
    assert trunk.read_bytes() == before


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 1 << 40, 1 << 20))
    yield


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_said_first(tmp_path: Path, trunk: Path, weights: Weights) -> None:
    with pytest.raises(ConfigError, match=r"1 MiB free; rung\.gguf needs 16 MiB"):
        export_gguf(trunk, _rung(weights, "exit", (0, 1), {1}), tmp_path / "rung.gguf")
    with pytest.raises(ConfigError, match="MiB free"):
        requantise(_big(tmp_path), tmp_path / "b.gguf", "Q4_0")
    assert [path.name for path in tmp_path.iterdir()] == ["big.gguf"]


def _big(folder: Path) -> Path:
    """More than the small disk has room for."""
    return write_tiny_model(folder / "big.gguf", layers=4, width=256, quantised=False)


@pytest.mark.parametrize("quantisation", ["F16", "Q4_0"])
def test_a_disk_that_fills_up_leaves_nothing_behind(
    tmp_path: Path, trunk: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch, quantisation: Quantisation
) -> None:
    def full(_writer: GGUFWriter, **_options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        export_gguf(trunk, _rung(weights, "exit", (0, 1), {1}), tmp_path / "rung.gguf", quantisation=quantisation)
    assert list(tmp_path.iterdir()) == []


def test_llama_cpp_that_fails_leaves_the_old_file(
    tmp_path: Path, trunk: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    from updraft.engine import llama_native

    target = tmp_path / "rung.gguf"
    target.write_text("the old one")
    with monkeypatch.context() as patch:
        patch.setattr(llama_native.library(), "llama_model_quantize", lambda *_: 1)
        with pytest.raises(EngineFailure, match="status 1"):
            export_gguf(trunk, _rung(weights, "exit", (0, 1), {1}), target)
    with monkeypatch.context() as patch:
        patch.setattr(llama_native.library(), "llama_model_quantize", lambda *_: 0)  # and an empty file
        with pytest.raises(EngineFailure, match="damaged"):
            export_gguf(trunk, _rung(weights, "exit", (0, 1), {1}), target)
    assert target.read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["rung.gguf"]


@pytest.mark.parametrize("quantisation", ["F16", "Q4_0"])
def test_places_that_cannot_be_written(
    tmp_path: Path, trunk: Path, weights: Weights, quantisation: Quantisation
) -> None:
    rung = _rung(weights, "exit", (0, 1), {1})
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.gguf").mkdir()
    for target in (tmp_path / "file/rung.gguf", tmp_path / "taken.gguf"):
        with pytest.raises(ConfigError, match="cannot be written"):
            export_gguf(trunk, rung, target, quantisation=quantisation)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.gguf"]
    assert list((tmp_path / "taken.gguf").iterdir()) == []


def test_a_folder_that_this_user_may_not_write(
    tmp_path: Path, trunk: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(**_: Any) -> None:  # whoever runs the tests may be allowed everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", denied)
    with pytest.raises(ConfigError, match="Permission denied"):
        export_gguf(trunk, _rung(weights, "exit", (0, 1), {1}), tmp_path / "rung.gguf")


def test_a_damaged_file_never_reaches_llama_cpp(tmp_path: Path, trunk: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(trunk.read_bytes()[:5000])
    with pytest.raises(BadModelFile):
        requantise(tmp_path / "bad.gguf", tmp_path / "b.gguf", "Q4_0")
