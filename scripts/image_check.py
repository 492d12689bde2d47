"""Asks a running image for an answer, and compares it with the same answer without a container."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.image_run import Runner

ROOT = Path(__file__).resolve().parents[1]
UPDRAFT = [sys.executable, "-c", "from updraft.cli import main; main()"]
PROMPT = "Explain in two sentences why the sky is blue."
START_S, STOP_S, ANSWER_S = 120.0, 60.0, 300.0


def check(runner: Runner, image: str, folder: Path) -> dict[str, Any]:
    """Start, ask, stop. Gives what was measured; raises SystemExit with what is wrong."""
    refuses_to_be_open(runner, image)
    token = credentials(folder)
    secrets = folder / "secrets"
    port, operations = free_port(), free_port()
    served = {
        "UPDRAFT_CLOUD__LISTEN__HOST": "127.0.0.1",
        "UPDRAFT_CLOUD__LISTEN__PORT": str(port),
        "UPDRAFT_CLOUD__OPERATIONS__PORT": str(operations),
    }
    files = {
        "UPDRAFT_CLOUD__LISTEN__TLS_CERT": "/secrets/server.pem",
        "UPDRAFT_CLOUD__LISTEN__TLS_KEY": "/secrets/server-key.pem",
        "UPDRAFT_CLOUD__IDENTITY__TOKENS": "/secrets/tokens",
    }
    command = runner.command(image, served | files, secrets, [])
    with started(command) as server:
        ready_s = wait_ready(server, runner.again(["updraft", "ping"]))
        print(f"healthy {ready_s:.1f} s after its start")
        look_inside(runner)
        inside = ask(port, token, folder)
        engine = engine_of(runner, folder)
        stop_s = stop(server)
        print(f"stopped {stop_s:.1f} s after SIGTERM with exit code 0")
    here = {name: value.replace("/secrets", str(secrets)) for name, value in files.items()}
    plain = served | here | {"UPDRAFT_CLOUD__OPERATIONS__ENABLED": "true", "PYTHONPATH": python_path(engine)}
    with started([*UPDRAFT, "serve", "cloud"], plain) as server:
        wait_ready(server, [*UPDRAFT, "ping"], plain)
        outside = ask(port, token, folder)
        stop(server)
    verdict(inside, outside)
    return {"ready_s": ready_s, "stop_s": stop_s, "text": inside["text"]}


def refuses_to_be_open(runner: Runner, image: str) -> None:
    """Without TLS and a token the image serves nobody."""
    done = subprocess.run(
        runner.command(image, {}, None, []), capture_output=True, text=True, timeout=START_S, check=False
    )
    if done.returncode == 0 or "TLS" not in done.stderr + done.stdout:
        raise SystemExit(f"It should have refused to listen without TLS and a token:\n{done.stdout}{done.stderr}")
    print("without TLS and a token: refuses to listen")


def look_inside(runner: Runner) -> None:
    """It has no rights, no tools, and nothing that the build needed."""
    program = (ROOT / "scripts/image_inside.py").read_text()
    found = subprocess.run(
        runner.again(["python", "-c", program]), stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    if found:
        raise SystemExit(found)
    print("inside: no rights, no shell, no tools, nothing to write to but /tmp and the state")


def credentials(folder: Path) -> str:
    """Certificates and a token file that the image's user can read; gives the token."""
    secrets = folder / "secrets"
    updraft("certs", "init", "--dir", str(folder / "authority"), "--host", "127.0.0.1", "--json")
    token = json.loads(updraft("tokens", "add", str(folder / "tokens"), "--tenant=test", "--expires=1h", "--json"))[
        "token"
    ]
    secrets.mkdir()
    for file in (folder / "authority" / "server.pem", folder / "authority" / "server-key.pem", folder / "tokens"):
        shutil.copy(file, secrets)
    folder.chmod(0o755)
    for path in (secrets, *secrets.iterdir()):
        if os.geteuid() == 0:
            os.chown(path, 65532, 65532)
        else:
            path.chmod(0o755 if path.is_dir() else 0o644)  # the keys live as long as this test
    return str(token)


def engine_of(runner: Runner, folder: Path) -> Path:
    """A folder with the image's llama.cpp: other kernels, such as those made for this machine, compute other bits."""
    library = "os.path.dirname(importlib.util.find_spec('llama_cpp').origin), 'llama_cpp'"
    program = (
        f"import importlib.util, os, sys, tarfile; tarfile.open(fileobj=sys.stdout.buffer, mode='w|').add({library})"
    )
    archive = subprocess.run(runner.again(["python", "-c", program]), stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder / "engine", filter="data")
    return folder / "engine"


def ask(port: int, token: str, folder: Path) -> dict[str, Any]:
    """One collaborative answer, written by an edge on this machine."""
    link = {"address": f"127.0.0.1:{port}", "tls": "true", "ca": folder / "authority" / "ca.pem"}
    settings = [word for name, value in link.items() for word in ("--set", f"cloud.{name}={value}")]
    answer = updraft(
        *("run", PROMPT, "--in-process", "--mode=draft", "--max-tokens=48", "--json", *settings),
        environment={"UPDRAFT_EDGE__CLOUD__TOKEN": token},
    )
    found: dict[str, Any] = json.loads(answer)
    if found["degraded"] or not found["statistics"]["round_trips"]:
        raise SystemExit(f"The edge wrote without the cloud: {found['degraded_reason']}")
    return found


def verdict(inside: Mapping[str, Any], outside: Mapping[str, Any]) -> None:
    counts = inside["statistics"]
    print(f"answer: {inside['text']!r}")
    print(f"{counts['drafted']} tokens drafted, {counts['accepted']} accepted, {counts['round_trips']} round trips")
    if inside["token_ids"] != outside["token_ids"]:
        raise SystemExit(f"Without a container it reads: {outside['text']!r}")
    print("the same without a container, with the same llama.cpp")


@contextlib.contextmanager
def started(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A server whose log is shown if something goes wrong; killed if it is still there at the end."""
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield server
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read())
            raise
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()


def wait_ready(
    server: subprocess.Popen[bytes], probe: Sequence[str], environment: Mapping[str, str] | None = None
) -> float:
    """Seconds until its health check passes."""
    begin = time.monotonic()
    while time.monotonic() - begin < START_S:
        if server.poll() is not None:
            raise SystemExit(f"It ended with exit code {server.returncode} before it served.")
        done = subprocess.run(probe, env=os.environ | (environment or {}), capture_output=True, check=False)
        if done.returncode == 0:
            return time.monotonic() - begin
        time.sleep(0.2)
    raise SystemExit(f"Its health check still fails after {START_S:.0f} s: {done.stderr.decode()}")


def stop(server: subprocess.Popen[bytes]) -> float:
    """Seconds that an orderly end takes."""
    begin = time.monotonic()
    server.send_signal(signal.SIGTERM)
    code = server.wait(STOP_S)
    if code != 0:
        raise SystemExit(f"It ended with exit code {code} after SIGTERM.")
    return time.monotonic() - begin


def updraft(*words: str, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of the command line of this checkout."""
    variables = {**os.environ, "PYTHONPATH": python_path(), **(environment or {})}
    done = subprocess.run(
        [*UPDRAFT, *words], env=variables, stdout=subprocess.PIPE, text=True, timeout=ANSWER_S, check=False
    )
    if done.returncode:
        raise SystemExit(f"updraft {words[0]} ended with exit code {done.returncode}")
    return done.stdout


def python_path(*first: Path) -> str:
    """Where this checkout's packages are found, after these folders."""
    return os.pathsep.join(map(str, [*first, *(ROOT / tier for tier in ("shared", "edge", "cloud"))]))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
