from __future__ import annotations

import importlib.resources
import shutil
from pathlib import Path

import pytest

from updraft import devices
from updraft.config import EdgeSettings, load_edge_settings
from updraft.devices import DeviceProfile, detect_device, device_names, load_profile
from updraft.errors import ConfigError, UnknownName

NAMES = ["apple-silicon", "jetson-agx-orin", "jetson-orin-nano", "laptop-cpu", "laptop-gpu", "raspberry-pi-5"]


def test_the_profiles_are_those_of_the_contract() -> None:
    assert device_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_gives_valid_edge_settings(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    defaults = profile.edge_defaults()
    assert defaults.keys() <= EdgeSettings.model_fields.keys()
    loaded = load_edge_settings(device=name)
    assert {key: getattr(loaded, key) for key in defaults} == defaults


@pytest.mark.parametrize("name", ["toaster", "", "../laptop-cpu", "laptop-cpu.toml"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownName) as caught:
        load_profile(name)
    assert repr(name) in caught.value.message and "raspberry-pi-5" in caught.value.message


@pytest.mark.parametrize(
    ("files", "system", "machine", "name"),
    [
        ({}, "Linux", "x86_64", "laptop-cpu"),
        ({"dev/nvidia0": ""}, "Linux", "x86_64", "laptop-gpu"),
        ({"proc/driver/nvidia/version": "NVRM"}, "Linux", "x86_64", "laptop-gpu"),
        ({}, "Darwin", "arm64", "apple-silicon"),
        ({}, "Darwin", "x86_64", "laptop-cpu"),
        (
            {"proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0", "dev/nvidia0": ""},
            "Linux",
            "aarch64",
            "jetson-orin-nano",
        ),
        ({"proc/device-tree/model": "NVIDIA Orin NX Developer Kit\0"}, "Linux", "aarch64", "jetson-orin-nano"),
        ({"proc/device-tree/model": "NVIDIA Jetson AGX Orin\0"}, "Linux", "aarch64", "jetson-agx-orin"),
        ({"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}, "Linux", "aarch64", "raspberry-pi-5"),
        (
            {"proc/cpuinfo": "processor : 0\nModel : Raspberry Pi 5 Model B\n"},
            "Linux",
            "aarch64",
            "raspberry-pi-5",
        ),
    ],
)
def test_detection(files: dict[str, str], system: str, machine: str, name: str, tmp_path: Path) -> None:
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    assert detect_device(tmp_path, system, machine) == name


def test_this_machine_has_a_profile() -> None:
    assert detect_device() in NAMES


def test_profiles_inside_the_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(str(devices._folder())) / "laptop-cpu.toml"
    inside = tmp_path / "_devices"
    inside.mkdir()
    shutil.copy(source, inside / "my-board.toml")
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    assert device_names() == ["my-board"]
    assert load_profile("my-board").context == load_profile("my-board").edge_defaults()["context"] == 2048


@pytest.mark.parametrize("damage", ["contxt = 1", "context = 0", "context = nan", "name = 'x'", "= 3"])
def test_a_damaged_profile_is_named(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(str(devices._folder())) / "laptop-cpu.toml"
    lines = [line for line in source.read_text().splitlines() if not line.startswith(damage.partition(" ")[0])]
    (tmp_path / "_devices").mkdir()
    (tmp_path / "_devices" / "bad.toml").write_text("\n".join([*lines, damage]))
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(ConfigError, match=r"bad\.toml is damaged"):
        load_profile("bad")


def test_a_profile_gives_threads_only_where_it_names_them() -> None:
    named = DeviceProfile(
        name="n",
        title="t",
        power="p",
        memory_limit_mib=256,
        model="m",
        context=64,
        sequences=1,
        threads=3,
        gpu_layers=0,
    )
    assert named.edge_defaults()["threads"] == 3
    assert "threads" not in named.model_copy(update={"threads": None}).edge_defaults()
