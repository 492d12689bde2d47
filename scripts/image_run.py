"""Running the cloud's image as a server should run: without rights, nothing writable but /tmp and the state."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

USER = "65532:65532"
STATE = "/var/lib/updraft"

_NUMBERS = itertools.count()

# Mounts are this process's own and end with it. What may fail is done before the last line, which becomes the server.
_CHROOT = f"""
set -eu
root=$1; shift
mount --bind "$root" "$root"
mkdir -p "$root/proc" "$root/dev" "$root{STATE}" "$root/secrets"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in /dev/null /dev/zero /dev/random /dev/urandom; do
    : > "$root$device"
    mount --bind "$device" "$root$device"
done
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount -t tmpfs -o mode=750,uid=65532,gid=65532,nosuid,nodev tmpfs "$root{STATE}"
if [ -n "$1" ]; then mount --bind "$1" "$root/secrets"; fi
shift
mount -o remount,bind,ro "$root"
exec env -i "$@"
"""


class Runner(Protocol):
    """Makes command lines that run the image in the foreground, on this machine's network."""

    def command(
        self, image: str, environment: Mapping[str, str], secrets: Path | None, words: Sequence[str]
    ) -> list[str]:
        """Run the image with these words after its entry point; `secrets` is a folder that it sees as /secrets."""

    def again(self, words: Sequence[str]) -> list[str]:
        """Run these words beside what the last command started, as a health check does."""

    def close(self) -> None:
        """Remove what the commands left."""


class Engine:
    """docker or podman.

    Args:
        run: the words up to the image, such as ("podman", "--runtime", "runc", "run", "--ulimit", "nofile=4096:4096").
    """

    def __init__(self, run: Sequence[str]) -> None:
        self._run = [*run] if "run" in run else [*run, "run"]
        self._name = ""

    def command(
        self, image: str, environment: Mapping[str, str], secrets: Path | None, words: Sequence[str]
    ) -> list[str]:
        self._name = f"updraft-image-{os.getpid()}-{next(_NUMBERS)}"
        guards = ["--network=host", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"]
        volumes = [f"--volume={secrets}:/secrets:ro"] if secrets else []
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        command = [*self._run, "--rm", f"--name={self._name}", *guards, "--tmpfs=/tmp:mode=1777", *volumes, *variables]
        return [*command, image, *words]

    def again(self, words: Sequence[str]) -> list[str]:
        return [*self._run[: self._run.index("run")], "exec", self._name, *words]

    def close(self) -> None:
        """Nothing: containers go when they end."""


class Chroot:
    """buildah and the kernel alone, for a machine on which no container runtime works: mounts of its own, the image as
    a read-only root, its user, no capabilities, no new privileges; not a seccomp filter or namespaces of its own.
    Needs root.
    """

    def __init__(self) -> None:
        self._before: list[str] = []
        self._last: tuple[Mapping[str, str], Path | None] = ({}, None)
        self._containers: list[str] = []

    def command(
        self, image: str, environment: Mapping[str, str], secrets: Path | None, words: Sequence[str]
    ) -> list[str]:
        container = _said("buildah", "from", image)
        self._containers.append(container)
        config: dict[str, Any] = json.loads(_said("buildah", "inspect", "--type=image", image))["OCIv1"]["config"]
        variables = [*config["Env"], *(f"{name}={value}" for name, value in environment.items())]
        root = _said("buildah", "mount", container)
        shell = ["unshare", "--mount", "--", "sh", "-c", _CHROOT, "sh", root, str(secrets or "")]
        into = ["/usr/bin/setpriv", "--no-new-privs", "/usr/sbin/chroot", f"--userspec={USER}", "--groups=", root]
        self._before = [*shell, *variables, *into]
        return [*self._before, *config["Entrypoint"], *(words or config["Cmd"])]

    def again(self, words: Sequence[str]) -> list[str]:
        return [*self._before, *words]

    def close(self) -> None:
        """Remove the containers."""
        for container in self._containers:
            _said("buildah", "rm", container)


def _said(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
