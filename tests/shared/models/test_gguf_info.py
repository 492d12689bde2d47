from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.tiny_model import write_tiny_model
from updraft.errors import BadModelFile, ModelError, ModelNotFound
from updraft.models import gguf_info, read_model_info

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="session")
def tiny_bytes(tiny_model_path: Path) -> bytes:
    return tiny_model_path.read_bytes()


@pytest.fixture(scope="session")
def header_bytes(tiny_model_path: Path) -> int:
    return int(GGUFReader(tiny_model_path).data_offset)


def _written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return path


def _patched(data: bytes, key: str, kind: str, value: object) -> bytes:
    """The file with the scalar of `key` set to another value of the same size."""
    name = key.encode()
    start = data.index(struct.pack("<Q", len(name)) + name) + 8 + len(name) + 4
    packed = struct.pack(f"<{kind}", value)
    return data[:start] + packed + data[start + len(packed) :]


def test_what_the_file_says(tiny_model_path: Path) -> None:
    info = read_model_info(tiny_model_path)
    assert (info.name, info.architecture, info.layers, info.width) == ("tiny", "llama", 2, 64)
    assert (info.vocabulary, info.context_length, info.quantisation) == (320, 4096, "Q8_0")
    assert info.end_tokens == {2}
    assert info.chat_template is not None
    assert info.weight_bytes == sum(int(tensor.n_bytes) for tensor in GGUFReader(tiny_model_path).tensors)


def test_a_file_without_a_template(tmp_path: Path) -> None:
    assert read_model_info(write_tiny_model(tmp_path / "a.gguf", template=None)).chat_template is None


def test_fingerprints_tell_weights_apart_and_hashes_tokenizers(tmp_path: Path, tiny_model_path: Path) -> None:
    tiny = read_model_info(tiny_model_path)
    same = read_model_info(write_tiny_model(tmp_path / "same.gguf"))
    noisy = read_model_info(write_tiny_model(tmp_path / "noisy.gguf", noise=0.01))
    other = read_model_info(write_tiny_model(tmp_path / "other.gguf", vocabulary=330))
    assert same.fingerprint == tiny.fingerprint
    assert noisy.fingerprint != tiny.fingerprint
    assert noisy.tokenizer_hash == tiny.tokenizer_hash
    assert other.tokenizer_hash != tiny.tokenizer_hash


def test_one_byte_of_the_weights_changes_the_fingerprint(tmp_path: Path, tiny_bytes: bytes) -> None:
    fingerprint = read_model_info(_written(tmp_path, tiny_bytes)).fingerprint
    changed = tiny_bytes[:-1] + bytes([tiny_bytes[-1] ^ 1])
    assert read_model_info(_written(tmp_path, changed)).fingerprint != fingerprint


def test_large_files_are_sampled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bytes: bytes) -> None:
    monkeypatch.setattr(gguf_info, "_WHOLE_FILE_BYTES", 1000)
    monkeypatch.setattr(gguf_info, "_SAMPLE_BYTES", 64)
    fingerprint = read_model_info(_written(tmp_path, tiny_bytes)).fingerprint
    changed = tiny_bytes[:-1] + bytes([tiny_bytes[-1] ^ 1])
    assert read_model_info(_written(tmp_path, changed)).fingerprint != fingerprint
    assert read_model_info(_written(tmp_path, tiny_bytes + bytes(32))).fingerprint != fingerprint


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"none\.gguf"):
        read_model_info(tmp_path / "none.gguf")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"GG", "magic"),
        (b"PK\x03\x04" + bytes(100), "letters GGUF"),
        (b"GGUF", "ends inside its header"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(16), "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(16), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "0 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**63), "key-value pairs"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 2**64 - 1), "key is 18446744073709551615 bytes"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 500) + b"abc", "wants 500 bytes, but 3 are left"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 1, 1, 1, b"a", 77), "unknown type 77"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 1, 1, 1, b"a", 9, 4, 2**40), "items"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 1, 1, 1, b"a", 9, 4, 2**20), "left"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 1, 1, 1, b"a", 9, 9, 1), "unsupported type 9"),
        (b"GGUF" + struct.pack("<IQQQ1sIB", 3, 1, 2, 1, b"a", 0, 1) + struct.pack("<Q1sIB", 1, b"a", 0, 1), "twice"),
        (b"GGUF" + struct.pack("<IQQQ2s", 3, 1, 1, 2, b"\xff\xff"), "UTF-8"),
    ],
)
def test_not_a_model(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(BadModelFile, match=reason):
        read_model_info(_written(tmp_path, data))


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="directory"):
        read_model_info(tmp_path)


def test_weights_cut_off(tmp_path: Path, tiny_bytes: bytes) -> None:
    with pytest.raises(BadModelFile, match="cut off"):
        read_model_info(_written(tmp_path, tiny_bytes[:-4096]))


@pytest.mark.parametrize(
    ("key", "kind", "value", "reason"),
    [
        ("llama.context_length", "I", 0, "context_length is 0"),
        ("llama.block_count", "I", 0, "block_count"),
        ("llama.block_count", "I", 2**32 - 1, "block_count"),
        ("llama.embedding_length", "I", 0, "embedding_length"),
        ("llama.embedding_length", "I", 128, r"token_embd\.weight"),
        ("llama.attention.head_count", "I", 0, "head_count"),
        ("llama.attention.head_count", "I", 1000, "head_count"),
        ("llama.attention.head_count_kv", "I", 0, "head_count_kv"),
        ("tokenizer.ggml.eos_token_id", "I", 320, "eos_token_id is 320"),
        ("tokenizer.ggml.bos_token_id", "I", 2**32 - 1, "bos_token_id"),
    ],
)
def test_numbers_that_make_no_sense(
    tmp_path: Path, tiny_bytes: bytes, key: str, kind: str, value: int, reason: str
) -> None:
    with pytest.raises(BadModelFile, match=reason):
        read_model_info(_written(tmp_path, _patched(tiny_bytes, key, kind, value)))


def _tensor_field(data: bytes, name: bytes, field: int) -> int:
    """Offset in the file of a tensor's dimension count (0), first or second dimension (1, 2), type (3) or place (4)."""
    start = data.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)
    return start + (0, 4, 12, 20, 24)[field]


@pytest.mark.parametrize(
    ("field", "kind", "value", "reason"),
    [
        (0, "I", 0, "0 dimensions"),
        (0, "I", 5, "5 dimensions"),
        (1, "Q", 0, "shape"),
        (1, "Q", 2**62, "shape"),
        (1, "Q", 65, "multiple of 32"),
        (2, "Q", 2**39, "but the file has"),
        (3, "I", 250, "unknown type 250"),
        (4, "Q", 2**63, "but the file has"),
        (4, "Q", 8, "multiple of 32"),
    ],
)
def test_tensors_that_do_not_fit(
    tmp_path: Path, tiny_bytes: bytes, field: int, kind: str, value: int, reason: str
) -> None:
    at = _tensor_field(tiny_bytes, b"output.weight", field)
    packed = struct.pack(f"<{kind}", value)
    with pytest.raises(BadModelFile, match=reason):
        read_model_info(_written(tmp_path, tiny_bytes[:at] + packed + tiny_bytes[at + len(packed) :]))


def test_tensors_that_overlap(tmp_path: Path, tiny_bytes: bytes) -> None:
    at = _tensor_field(tiny_bytes, b"blk.0.attn_q.weight", 4)
    other = _tensor_field(tiny_bytes, b"blk.0.attn_k.weight", 4)
    moved = tiny_bytes[:at] + tiny_bytes[other : other + 8] + tiny_bytes[at + 8 :]
    with pytest.raises(BadModelFile, match="overlap"):
        read_model_info(_written(tmp_path, moved))


@FUZZ
@given(st.data())
def test_any_truncation_is_a_model_error(
    tmp_path: Path, tiny_bytes: bytes, header_bytes: int, data: st.DataObject
) -> None:
    near = st.integers(0, header_bytes + 64)
    cut = data.draw(near | st.integers(0, len(tiny_bytes) - 40))
    with pytest.raises(ModelError):
        read_model_info(_written(tmp_path, tiny_bytes[:cut]))


FILLING = st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80"]) | st.binary(min_size=1, max_size=1)


@FUZZ
@given(st.lists(st.tuples(st.integers(0, 2**20), st.sampled_from([1, 4, 8]), FILLING), min_size=1, max_size=4))
def test_any_mutation_of_the_header_is_read_or_refused(
    tmp_path: Path, tiny_bytes: bytes, header_bytes: int, changes: list[tuple[int, int, bytes]]
) -> None:
    mutated = bytearray(tiny_bytes)
    for place, size, filling in changes:
        at = place % header_bytes
        mutated[at : at + size] = filling * size
    try:
        info = read_model_info(_written(tmp_path, bytes(mutated)))
    except ModelError:
        return
    assert 1 <= info.vocabulary <= 4096
    assert info.weight_bytes < len(mutated)
    assert all(0 <= token < info.vocabulary for token in info.end_tokens)


@FUZZ
@given(st.binary(max_size=300))
def test_any_bytes_after_the_magic_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadModelFile):
        read_model_info(_written(tmp_path, b"GGUF\x03\0\0\0" + data))


def test_the_size_of_every_tensor_type_is_known(tmp_path: Path, tiny_bytes: bytes) -> None:
    """The walk and the gguf package must agree on where each tensor lies."""
    from updraft.models.gguf_header import open_header

    path = _written(tmp_path, tiny_bytes)
    expected = {t.name: (int(t.data_offset), int(t.n_bytes)) for t in GGUFReader(path).tensors}
    with open_header(path) as header:
        assert {t.name: (t.start, t.size) for t in header.tensors} == expected
        assert {GGMLQuantizationType(t.kind) for t in header.tensors} == {
            GGMLQuantizationType.Q8_0,
            GGMLQuantizationType.F32,
        }
        array = header.values["tokenizer.ggml.token_type"]
        assert not isinstance(array, int | float | str)
        assert np.unique(header.numbers(array)).tolist() == [1, 3, 5]


@pytest.mark.smollm2
def test_smollm2_and_its_requantisation(smollm2_path: Path, smollm2_q4_0_path: Path) -> None:
    shipped, made = read_model_info(smollm2_path), read_model_info(smollm2_q4_0_path)
    assert (shipped.layers, shipped.width, shipped.vocabulary, shipped.context_length) == (30, 576, 49152, 8192)
    assert (shipped.quantisation, made.quantisation) == ("Q4_1", "Q4_0")
    assert shipped.tokenizer_hash == made.tokenizer_hash
    assert shipped.fingerprint != made.fingerprint
    assert shipped.chat_template == made.chat_template
    assert made.weight_bytes < shipped.weight_bytes
