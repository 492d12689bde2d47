"""Device profiles: the edge's defaults for kinds of machines, read from `devices/*.toml`, and detection."""

from __future__ import annotations

import platform
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from updraft.errors import ConfigError, UnknownName

__all__ = ["DeviceProfile", "detect_device", "device_names", "load_profile"]


class DeviceProfile(BaseModel):
    """What is known of a kind of machine. `title`, `memory_limit_mib` and `power` are for people and `doctor`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = Field(min_length=1)
    power: str = Field(min_length=1)  # power mode that the figures hold for, in words
    memory_limit_mib: int = Field(ge=128, le=4_194_304)  # for weights and caches together
    model: str = Field(min_length=1)  # its name says the quantisation
    context: int = Field(ge=64, le=1_048_576)  # tokens
    sequences: int = Field(ge=1, le=256)
    threads: Annotated[int, Field(ge=1, le=512)] | None = None  # None: one a core
    gpu_layers: int = Field(ge=0, le=999)  # 999: all

    def edge_defaults(self) -> dict[str, Any]:
        """The fields of `EdgeSettings` that the profile gives defaults for."""
        return self.model_dump(exclude={"name", "title", "power", "memory_limit_mib"}, exclude_none=True)


def device_names() -> list[str]:
    """All profiles by name, in alphabetical order."""
    return sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml"))


def load_profile(name: str) -> DeviceProfile:
    """The profile of that name.

    Raises:
        UnknownName: there is none.
        ConfigError: its file is damaged.
    """
    names = device_names()
    if name not in names:
        raise UnknownName(f"There is no device profile {name!r}; profiles are {', '.join(names)}.", param="device")
    file = _folder() / f"{name}.toml"
    try:
        return DeviceProfile(name=name, **tomllib.loads(file.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        raise ConfigError(f"The device profile {file} is damaged: {error}", remedy="Install Updraft again.") from error


def detect_device(root: Path = Path("/"), system: str | None = None, machine: str | None = None) -> str:
    """The name of the profile that fits this machine best.

    Args:
        root: where `proc` and `dev` are looked for.
        system, machine: as `platform` names them; this machine's when left out.
    """
    system, machine = system or platform.system(), machine or platform.machine()
    if system == "Darwin" and machine == "arm64":
        return "apple-silicon"
    board = _text(root / "proc/device-tree/model").lower() or _text(root / "proc/cpuinfo").lower()
    if "orin nano" in board or "orin nx" in board:
        return "jetson-orin-nano"
    if "agx orin" in board:
        return "jetson-agx-orin"
    if "raspberry pi" in board:
        return "raspberry-pi-5"
    nvidia = (root / "dev/nvidia0").exists() or (root / "proc/driver/nvidia/version").exists()
    return "laptop-gpu" if nvidia else "laptop-cpu"


def _folder() -> Traversable:
    """The profiles inside the installed package, else those at the root of the source tree."""
    installed: Traversable = resources.files("updraft") / "_devices"
    if installed.is_dir():
        return installed
    source = Path(__file__).resolve().parents[2] / "devices"
    if source.is_dir():
        return source
    raise ConfigError("The device profiles are not installed.", remedy="Install Updraft again.")


def _text(path: Path) -> str:
    """A small file's text; empty if it cannot be read. Device-tree texts end in a zero byte."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""
