from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.fakes.staged_model import export_without_builder, write_exit, write_staged_model
from tests.fakes.tiny_model import write_tiny_model
from updraft.errors import BadModelFile, ConfigError, InvalidRequest, ModelNotFound, WrongTrunk
from updraft.models import read_model_info
from updraft.models.gguf_info import read_vocabulary
from updraft.models.rungs import Rung, write_rung
from updraft.models.staged import check_folder, disk, export
from updraft.models.staged.hf_folder import write_model
from updraft.models.weights import read_weights


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("trunk") / "tiny.gguf", layers=4, context=256)


@pytest.fixture
def exits(trunk: Path, tmp_path: Path) -> Callable[..., list[Path]]:
    """Writes exits at these layers."""
    weights = read_weights(trunk)

    def write(*layers: int, **options: Any) -> list[Path]:
        return [write_exit(tmp_path / f"exit{layer}.safetensors", weights, layer, **options) for layer in layers]

    return write


def test_what_is_made_names_its_source(trunk: Path, exits: Callable[..., list[Path]], tmp_path: Path) -> None:
    said: list[str] = []
    target = tmp_path / "staged"
    made = export_without_builder(trunk, target, rungs=exits(1, 3), precision="fp32", progress=said.append)
    info = read_model_info(trunk)
    assert check_folder(target) == made
    assert (made.name, made.trunk_fingerprint, made.tokenizer_hash) == ("tiny", info.fingerprint, info.tokenizer_hash)
    assert made.end_tokens == tuple(sorted(info.end_tokens)) and made.chat_template == info.chat_template
    assert [(stage.first, stage.last) for stage in made.stages] == [(0, 1), (1, 3), (3, 4)]
    assert [part.stage for part in made.exits] == [0, 1]
    assert (made.accuracy_level, made.exact) == (1, True)
    assert any(line.startswith("Reading") for line in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exit1.safetensors", "exit3.safetensors", "staged"]


def test_the_tokenizer_is_the_sources(trunk: Path, tmp_path: Path) -> None:
    made = export_without_builder(trunk, tmp_path / "staged", precision="int4")
    path = tmp_path / "staged" / made.tokenizer
    assert read_vocabulary(path, vocabulary_only=True) == read_vocabulary(trunk)
    with pytest.raises(BadModelFile, match="0 tensors"):
        read_model_info(path)


def test_the_same_source_gives_the_same_trunk_whatever_its_exits_hold(
    trunk: Path, exits: Callable[..., list[Path]], tmp_path: Path
) -> None:
    first = export_without_builder(trunk, tmp_path / "a", rungs=exits(2))
    again = export_without_builder(trunk, tmp_path / "b", rungs=exits(2))
    noisy = export_without_builder(trunk, tmp_path / "c", rungs=exits(2, noise=0.1))
    without = export_without_builder(trunk, tmp_path / "d", cuts=[2])
    elsewhere = export_without_builder(trunk, tmp_path / "e", cuts=[3])
    slow = export_without_builder(trunk, tmp_path / "f", cuts=[2], accuracy_level=1)
    assert first == again
    assert first.fingerprint == noisy.fingerprint == without.fingerprint
    assert len({first.fingerprint, elsewhere.fingerprint, slow.fingerprint}) == 3
    assert first.files["exit0.bin"] != noisy.files["exit0.bin"]
    assert (slow.accuracy_level, slow.exact, first.exact) == (1, False, True)


def test_heads_of_exits_go_along(trunk: Path, exits: Callable[..., list[Path]], tmp_path: Path) -> None:
    [rung] = exits(2, heads=True)
    made = export_without_builder(trunk, tmp_path / "staged", rungs=[rung], precision="fp32")
    name = made.exits[0].heads
    assert name is not None
    assert load_file(tmp_path / "staged" / name).keys() == {"head.0.weight"}


@pytest.mark.parametrize(
    ("layers", "cuts"), [([3, 1], []), ([1, 1], []), ([], [0]), ([], [4]), ([], [-1]), ([], [2, 1]), ([2], [2])]
)
def test_layers_out_of_range_or_unordered_are_refused(
    trunk: Path, exits: Callable[..., list[Path]], tmp_path: Path, layers: list[int], cuts: list[int]
) -> None:
    with pytest.raises(InvalidRequest):
        export_without_builder(trunk, tmp_path / "staged", rungs=exits(*layers), cuts=cuts)
    assert not (tmp_path / "staged").exists()


def test_an_exit_before_the_first_layer_is_refused(
    trunk: Path, exits: Callable[..., list[Path]], tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="1 to 3"):
        export_without_builder(trunk, tmp_path / "staged", rungs=exits(0))


def test_rungs_of_another_trunk_and_students_are_refused(
    trunk: Path, exits: Callable[..., list[Path]], tmp_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other.gguf", layers=4, seed=1)
    with pytest.raises(WrongTrunk):
        export_without_builder(other, tmp_path / "staged", rungs=exits(2))
    weights = read_weights(trunk)
    tensors = {f"layers.1.{suffix}": values for suffix, values in weights.block(3).items()}
    tensors["norm.weight"] = weights["model.norm.weight"]
    student = Rung("student", weights.fingerprint, (0, 3), frozenset({1}), tensors)
    write_rung(student, tmp_path / "student.safetensors")
    with pytest.raises(InvalidRequest, match="student"):
        export_without_builder(trunk, tmp_path / "staged", rungs=[tmp_path / "student.safetensors"])


def test_a_target_that_exists_is_left_alone(trunk: Path, tmp_path: Path) -> None:
    (tmp_path / "staged").mkdir()
    with pytest.raises(ConfigError, match="exists"):
        export_without_builder(trunk, tmp_path / "staged")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="exists"):
        export_without_builder(trunk, tmp_path / "link")


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        export_without_builder(tmp_path / "none.gguf", tmp_path / "staged")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        export_without_builder(tmp_path / "folder", tmp_path / "staged")
    (tmp_path / "folder" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelNotFound, match="safetensors"):
        export_without_builder(tmp_path / "folder", tmp_path / "staged")


def test_too_little_room_is_seen_before_anything_is_made(
    trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ConfigError, match="needed") as caught:
        export_without_builder(trunk, tmp_path / "deep" / "staged")
    assert "room" in caught.value.remedy
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("step", ["write_pieces", "write_manifest", "publish", "write_block"])
def test_a_disk_that_fills_up_leaves_nothing_behind(
    trunk: Path,
    exits: Callable[..., list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    code: int,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(code, "No space left on device")

    rungs = exits(2)
    monkeypatch.setattr(export, step, full)
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="staged") as caught:
        export_without_builder(trunk, tmp_path / "out" / "staged", rungs=rungs)
    assert caught.value.remedy
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("at", ["stage0.bin", "made", "out"])
def test_what_does_not_reach_the_disk_is_not_there(
    trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def sync(path: Path) -> None:
        if path.name == at:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk, "sync", sync)
    with pytest.raises(ConfigError, match="cannot be made"):
        export_without_builder(trunk, tmp_path / "out" / "staged")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_fills_up_under_a_library_or_an_interruption_leaves_nothing_behind(
    trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, seen in ((RuntimeError("I/O error: No space left on device"), ConfigError), (KeyboardInterrupt(),) * 2):

        def fail(*_: Any, error: BaseException = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(export, "cut_trunk", fail)
        with pytest.raises(seen if isinstance(seen, type) else KeyboardInterrupt):
            export_without_builder(trunk, tmp_path / "staged")
        assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder(trunk: Path, tmp_path: Path) -> Path:
    """The trunk as a Hugging Face folder."""
    made = tmp_path / "model"
    write_model(read_weights(trunk), made, bos=1, end_tokens=[2])
    (made / "tokenizer.json").write_text('{"model": {}}')
    (made / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (made / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 2]}))
    return made


def test_a_hugging_face_folder_is_a_source_too(trunk: Path, folder: Path, tmp_path: Path) -> None:
    weights = read_weights(folder)
    rung = write_exit(tmp_path / "exit.safetensors", weights, 2)
    made = export_without_builder(folder, tmp_path / "staged", rungs=[rung], precision="fp32")
    assert (made.tokenizer, made.end_tokens, made.chat_template) == ("tokenizer.json", (0, 2), "{{ messages }}")
    assert made.trunk_fingerprint == weights.fingerprint
    assert (tmp_path / "staged" / "tokenizer.json").read_text() == '{"model": {}}'
    same = export_without_builder(trunk, tmp_path / "gguf", cuts=[2], precision="fp32")
    assert same.fingerprint == made.fingerprint  # the same numbers, wherever they came from


def test_other_architectures_are_cut_but_have_no_exits(folder: Path, tmp_path: Path) -> None:
    rung = write_exit(tmp_path / "exit.safetensors", read_weights(folder), 2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "qwen2"}))
    made = export_without_builder(folder, tmp_path / "staged", cuts=[1, 3], precision="fp32")
    assert (made.architecture, len(made.stages), made.exits) == ("qwen2", 3, ())
    with pytest.raises(BadModelFile, match="llama"):
        export_without_builder(folder, tmp_path / "refused", rungs=[rung])
    with pytest.raises(InvalidRequest, match="1 to 3"):
        export_without_builder(folder, tmp_path / "refused", cuts=[4])


def test_a_folder_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelNotFound, match=r"tokenizer\.json"):
        export_without_builder(folder, tmp_path / "staged")
    assert not (tmp_path / "staged").exists()


def test_the_tiny_staged_model_is_made_in_one_call(tmp_path: Path) -> None:
    made = write_staged_model(tmp_path / "staged", exits=[1], layers=2, precision="int4")
    assert (made.layers, len(made.exits), made.quantisation) == (2, 1, "int4")


def test_the_output_matrix_of_a_4_bit_model_may_have_8_bits(trunk: Path, tmp_path: Path) -> None:
    wide = export_without_builder(trunk, tmp_path / "wide")
    narrow = export_without_builder(trunk, tmp_path / "narrow", head_bits=4)
    assert wide.files["output.bin"].bytes > 1.5 * narrow.files["output.bin"].bytes
    assert wide.files["stage0.bin"] == narrow.files["stage0.bin"]
