"""What goes into the cloud's image, without building it: scripts/image builds and runs it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy.image import collect
from scripts import image
from scripts.image_run import STATE, Chroot, Engine
from tests.house import ROOT
from updraft.cli import VERBS

DOCKERFILE = (ROOT / "Dockerfile.cloud").read_text().replace("\\\n", " ")
INSTRUCTIONS = [line.split(" ", 1) for line in DOCKERFILE.splitlines() if re.match("[A-Z]+ ", line)]
LAST = INSTRUCTIONS[max(number for number, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]
LOCKS = sorted((ROOT / "deploy/image").glob("*.lock"))


def last(word: str) -> list[str]:
    """What follows this instruction in the stage that becomes the image."""
    return [rest for name, rest in LAST if name == word]


def locked(lock: Path) -> dict[str, list[str]]:
    """Names with the versions that a lock gives them."""
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE):
        versions.setdefault(name, []).append(version)
    return versions


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_has_a_hash_of_everything_and_no_address(lock: Path) -> None:
    requirements = re.split(r"\n(?! )", lock.read_text().strip())
    assert requirements
    for requirement in requirements:
        assert re.match(r"[a-z0-9-]+==\S+ ", requirement)
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement)
    assert "://" not in lock.read_text()


def test_the_lock_is_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    versions = locked(ROOT / "deploy/image/cloud.lock")
    for text in [*project["dependencies"], *extras["cloud"], *extras["otel"]]:
        wanted = Requirement(text)
        assert any(wanted.specifier.contains(version) for version in versions[wanted.name]), f"run scripts/lock: {text}"


def test_the_image_is_nothing_but_what_is_copied() -> None:
    assert last("FROM") == ["scratch"]
    assert not last("RUN")
    assert not last("ADD")
    assert all(rest.startswith("--from=") for rest in last("COPY"))


def test_its_user_is_a_number_without_rights() -> None:
    assert last("USER") == [f"{collect.USER_ID}:{collect.USER_ID}"]
    assert last("VOLUME") == [STATE]


def test_it_starts_and_is_asked_without_a_shell() -> None:
    assert last("ENTRYPOINT") == ['["updraft"]']
    assert last("CMD") == ['["serve", "cloud"]']
    assert last("STOPSIGNAL") == ["SIGTERM"]
    (check,) = last("HEALTHCHECK")
    assert check.endswith('CMD ["updraft", "ping"]')
    assert "updraft.cli.ping" in {verb.__name__ for verb in VERBS}


def test_what_comes_from_an_index_is_checked_by_hash() -> None:
    installs = [part for word, rest in INSTRUCTIONS if word == "RUN" for part in rest.split("&&") if "pip" in part]
    installs = [
        part for part in installs if re.search(r"\b(install|wheel)\b(?!s)", part) and "/build/source" not in part
    ]
    assert len(installs) >= 4
    assert all("--require-hashes" in part or "--no-index" in part for part in installs if "apt-get" not in part)


def test_secrets_are_mounted_and_never_arguments() -> None:
    arguments = [rest for word, rest in INSTRUCTIONS if word in {"ARG", "ENV"}]
    assert not [rest for rest in arguments if re.search("TOKEN|PASSWORD|INDEX_URL|SECRET|PROXY", rest)]


def test_the_builder_is_sent_what_it_copies_and_little_else() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for word, rest in INSTRUCTIONS if word == "COPY" and "--from" not in rest]
    sources = {source for group in copied for source in group}
    assert all((ROOT / source).exists() for source in sources if "*" not in source)
    assert {source if source in allowed else str(Path(source).parent) for source in sources} == allowed


def test_trim_leaves_what_runs(tmp_path: Path) -> None:
    packages = tmp_path / "lib/site-packages"
    for name in (
        "one/__init__.py",
        "one/tests/test_one.py",
        "one/include/one.h",
        "one/__init__.pyi",
        "lib/libone.so.1",
    ):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text("")
    libraries = {"libone.so": "one", "libone.so.1": "one", "libone.so.1.2": "one", "libone-base.so": "base"}
    for name, content in libraries.items():
        (packages / "one" / name).write_text(content)
    collect.trim(tmp_path)
    left = {str(path.relative_to(packages)) for path in packages.rglob("*") if path.is_file()}
    cached = importlib.util.cache_from_source("one/__init__.py")
    assert left == {"one/__init__.py", cached, *(f"one/{name}" for name in libraries)}
    assert os.readlink(packages / "one/libone.so") == os.readlink(packages / "one/libone.so.1") == "libone.so.1.2"
    assert not (packages / "one/libone-base.so").is_symlink()
    flags = int.from_bytes((packages / cached).read_bytes()[4:8], "little")
    assert flags == 0b01  # by hash, and not checked: see PEP 552


def test_a_file_is_found_by_every_name_that_it_is_asked_for(tmp_path: Path) -> None:
    there, root = tmp_path / "there", tmp_path / "root"
    (there / "usr/lib").mkdir(parents=True)
    (there / "usr/lib/libone.so.1.2").write_text("one")
    (there / "usr/lib/libone.so.1").symlink_to("libone.so.1.2")
    (there / "lib").symlink_to("usr/lib")
    collect._copy(there / "lib/libone.so.1", root)
    inside = root / there.relative_to("/") / "usr/lib"
    assert (inside / "libone.so.1.2").read_text() == "one"
    assert os.readlink(inside / "libone.so.1") == str(there / "usr/lib/libone.so.1.2")


def test_shared_libraries_are_found_and_a_missing_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {path.name.partition(".so")[0] for path in collect._needed([Path(sys.executable)], inside=tmp_path)}
    assert "libc" in needed
    listing = "\tlibcuda.so.1 => not found\n\tlibone.so.1 => not found\n"
    done = subprocess.CompletedProcess([], 0, listing)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(SystemExit, match=r"needs libone\.so\.1, which"):
        list(collect._needed([Path("x")], inside=tmp_path))


def test_settings_of_the_package_index_reach_the_build_without_folders_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CERT", str(authority))
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///mirror/simple https://more.example/simple")
    secrets = image.index_settings(tmp_path)
    lines = secrets["pip_conf"].read_text().splitlines()
    assert "index-url = https://index.example/simple" in lines
    assert "extra-index-url = https://more.example/simple" in lines
    assert "cert = /run/secrets/ca" in lines
    assert secrets["ca"] == authority


def test_it_is_run_without_rights(tmp_path: Path) -> None:
    engine = Engine(["podman", "--runtime", "runc"])
    command = engine.command("image", {"A": "1"}, tmp_path, ["serve", "cloud"])
    assert command[:4] == ["podman", "--runtime", "runc", "run"]
    assert {"--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--env=A=1"} < set(command)
    assert f"--volume={tmp_path}:/secrets:ro" in command
    assert command[-3:] == ["image", "serve", "cloud"]
    name = next(word for word in command if word.startswith("--name=")).removeprefix("--name=")
    assert engine.again(["updraft", "ping"]) == ["podman", "--runtime", "runc", "exec", name, "updraft", "ping"]


def test_without_a_container_runtime_the_kernel_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    config = (
        '{"OCIv1": {"config": {"Env": ["PATH=/opt/app/bin"], "Entrypoint": ["updraft"], "Cmd": ["serve", "cloud"]}}}'
    )
    answers = {"from": "container", "inspect": config, "mount": "/mounted"}
    monkeypatch.setattr("scripts.image_run._said", lambda *words: answers[words[1]])
    command = Chroot().command("image", {"A": "1"}, None, [])
    assert command[:2] == ["unshare", "--mount"]
    tail = ["PATH=/opt/app/bin", "A=1", "/usr/bin/setpriv", "--no-new-privs", "/usr/sbin/chroot"]
    tail += [f"--userspec={collect.USER_ID}:{collect.USER_ID}", "--groups=", "/mounted", "updraft", "serve", "cloud"]
    assert command[-len(tail) :] == tail
    subprocess.run(["sh", "-n", "-c", command[command.index("-c") + 1]], check=True)
