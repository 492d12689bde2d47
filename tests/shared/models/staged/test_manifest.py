from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.shared.models.staged.damage import change_manifest, renew
from updraft.errors import BadModelFile, ModelError, ModelNotFound
from updraft.models.staged import check_folder, manifest, read_manifest
from updraft.models.staged.manifest import check_files, describe_file, write_manifest

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Fields = dict[str, Any]


def test_what_it_says_is_read_as_it_was_written(staged_folder: Path, tmp_path: Path) -> None:
    read = read_manifest(staged_folder)
    assert [(stage.first, stage.last) for stage in read.stages] == [(0, 2), (2, 4), (4, 6)]
    assert [part.stage for part in read.exits] == [0, 1]
    assert (read.layers, read.width, read.heads, read.kv_heads, read.head_size) == (6, 64, 2, 1, 32)
    assert (read.vocabulary, read.end_tokens, read.context_length) == (320, (2,), 512)
    assert read.exits[0].facts == {"seconds": 1.5}
    write_manifest(tmp_path, read)
    assert read_manifest(tmp_path) == read


def test_sizes_are_those_of_the_files(staged_folder: Path) -> None:
    read = read_manifest(staged_folder)
    files = [path for path in staged_folder.iterdir() if path.name not in ("manifest.json", read.tokenizer)]
    assert read.weight_bytes == sum(path.stat().st_size for path in files)
    assert {*read.files, "manifest.json"} == {path.name for path in staged_folder.iterdir()}


def _set(**values: Any) -> Callable[[Fields], None]:
    return lambda fields: fields.update(values)


def _stages(*edges: tuple[int, int]) -> Callable[[Fields], None]:
    def change(fields: Fields) -> None:
        for stage, (first, last) in zip(fields["stages"], edges, strict=True):
            stage.update(first=first, last=last)

    return change


def _exits(*places: int) -> Callable[[Fields], None]:
    def change(fields: Fields) -> None:
        for part, place in zip(fields["exits"], places, strict=True):
            part["stage"] = place

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set(format="updraft-staged-2"),
        _set(width=0),
        _set(width="64"),
        _set(layers=6.5),
        _set(layers=True),
        _set(heads=3, kv_heads=2),
        _set(vocabulary=1 << 40),
        _set(quantisation="int3"),
        _set(accuracy_level=2),
        _set(end_tokens=[320]),
        _set(end_tokens=[-1]),
        _set(fingerprint="0" * 64),
        _set(trunk_fingerprint="zz"),
        _set(tokenizer="../tokenizer.gguf"),
        _set(name=""),
        _set(surprise=1),
        _set(stages=[]),
        _stages((0, 2), (2, 4), (4, 5)),
        _stages((0, 2), (3, 4), (4, 6)),
        _stages((0, 2), (2, 2), (2, 6)),
        _stages((2, 4), (0, 2), (4, 6)),
        _stages((0, 4), (2, 4), (4, 6)),
        _exits(1, 0),
        _exits(0, 0),
        _exits(0, 2),
        _exits(0, 9),
        lambda fields: fields.pop("head"),
        lambda fields: fields["files"].pop("stage0.onnx"),
        lambda fields: fields["files"]["stage0.onnx"].update(bytes=0),
        lambda fields: fields["files"].update({"more.bin": fields["files"]["stage0.onnx"]}),
        lambda fields: fields["stages"][1].update(file="stage0.onnx"),
        lambda fields: fields["stages"][0].update(file="stage0.bin"),
        lambda fields: fields["stages"][0].update(external=["tokenizer.gguf"]),
        lambda fields: fields["exits"][0].update(heads="exit1.onnx"),
        lambda fields: fields["exits"][0].update(blocks=2),
    ],
)
def test_false_statements_are_refused(copied: Path, change: Callable[[Fields], object]) -> None:
    change_manifest(copied, change)
    with pytest.raises(BadModelFile):
        read_manifest(copied)


@pytest.mark.parametrize(
    "name", ["/etc/hosts", "../outside.bin", "a/b.bin", ".hidden.bin", "", "a\n.bin", "a\\b.bin", "x" * 200]
)
def test_names_that_lead_out_of_the_folder_are_refused(copied: Path, name: str) -> None:
    def change(fields: Fields) -> None:
        stage = fields["stages"][0]
        fields["files"][name] = fields["files"].pop(stage["external"][0])
        stage["external"][0] = name

    change_manifest(copied, change)
    with pytest.raises(BadModelFile):
        read_manifest(copied)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"format": 1', "\x00", "[" * 100_000, '{"layers": NaN}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BadModelFile):
        read_manifest(tmp_path)


def test_an_endless_manifest_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(BadModelFile, match="allowed"):
        read_manifest(tmp_path)


def test_a_folder_without_manifest_or_files(tmp_path: Path, copied: Path) -> None:
    with pytest.raises(ModelNotFound):
        read_manifest(tmp_path)
    with pytest.raises(ModelNotFound):
        read_manifest(tmp_path / "nowhere")
    (copied / "stage1.bin").unlink()
    with pytest.raises(ModelNotFound, match=r"stage1\.bin"):
        check_folder(copied)


@pytest.mark.parametrize("name", ["stage0.onnx", "shared.bin", "tokenizer.gguf", "manifest.json"])
def test_links_and_pipes_are_refused(copied: Path, staged_folder: Path, name: str) -> None:
    (copied / name).unlink()
    (copied / name).symlink_to(staged_folder / name)
    with pytest.raises(BadModelFile, match="plain file"):
        check_folder(copied)
    (copied / name).unlink()
    os.mkfifo(copied / name)
    with pytest.raises(BadModelFile, match="plain file"):
        check_folder(copied)


def test_files_that_changed_are_refused(copied: Path) -> None:
    path = copied / "stage1.bin"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BadModelFile, match="digest"):
        check_folder(copied)
    path.write_bytes(data[:-1])
    with pytest.raises(BadModelFile, match="bytes"):
        check_folder(copied)


def test_large_folders_are_held_against_their_sizes_only(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_manifest(copied)
    monkeypatch.setattr(manifest, "_HASHED_BYTES", 1000)
    data = (copied / "stage1.bin").read_bytes()
    (copied / "stage1.bin").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    check_files(copied, read)
    (copied / "stage1.bin").write_bytes(data[:-1])
    with pytest.raises(BadModelFile):
        check_files(copied, read)


def test_the_fingerprint_is_the_trunks(copied: Path) -> None:
    before = read_manifest(copied).fingerprint
    (copied / "exit0.bin").write_bytes(b"other")
    renew(copied)
    assert read_manifest(copied).fingerprint == before
    (copied / "stage1.bin").write_bytes(b"other")
    renew(copied)
    assert read_manifest(copied).fingerprint != before
    assert describe_file(copied / "stage1.bin").bytes == 5


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["..", "/", "stage0.bin"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@FUZZ
@given(data=st.data())
def test_any_change_is_refused_or_makes_no_difference_to_the_files(
    staged_folder: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """What still is a manifest after a change names the same plain files, with the trunk's fingerprint."""
    fields = json.loads((staged_folder / "manifest.json").read_text(encoding="utf-8"))
    whole = read_manifest(staged_folder)
    place: Any = fields
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    if data.draw(st.booleans()):
        place[key] = data.draw(VALUES)
    else:
        del place[key]
    (tmp_path / "manifest.json").write_text(json.dumps(fields), encoding="utf-8")
    try:
        read = read_manifest(tmp_path)
    except ModelError:
        return
    assert set(read.files) == set(whole.files)
    assert read.trunk_files() == whole.trunk_files()
    assert read.digest() == read.fingerprint
    assert [(s.first, s.last) for s in read.stages] == [(s.first, s.last) for s in whole.stages]


@FUZZ
@given(cut=st.integers(0, 20_000), junk=st.binary(max_size=8))
def test_any_bytes_are_refused_or_read(staged_folder: Path, tmp_path: Path, cut: int, junk: bytes) -> None:
    data = (staged_folder / "manifest.json").read_bytes()
    at = cut % len(data)
    (tmp_path / "manifest.json").write_bytes(data[:at] + junk + data[at + len(junk) :])
    try:
        assert read_manifest(tmp_path).files.keys() == read_manifest(staged_folder).files.keys()
    except ModelError:
        pass
