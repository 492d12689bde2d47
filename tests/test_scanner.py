"""Nothing here does what made others insecure (docs/security.md), and the scanner finds each planted fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import scanner
from tests.house import ROOT, sources

SHIPPED = sources("shared", "edge", "cloud", "bench", "scripts", "deploy")
OWN = {"scanner.py", "test_scanner.py"}  # these name or plant what is looked for
ALL = [*SHIPPED, *(path for path in sources("tests") if path.name not in OWN)]
# What reads a stranger's bytes or decides who comes in.
FACING = [
    *sources("shared/updraft/transport", "edge/updraft_edge/http"),
    *(path for path in sources("shared", "edge", "cloud") if path.stem in {"wire", "frames", "messages", "agent_wire"}),
    *(path for path in sources("cloud") if path.stem in {"admission", "identity", "service", "stream", "server"}),
]
# Looked at by a person: `updraft ping` asks the server of its own machine a question without secrets.
PING = "shared/updraft/cli/ping.py"
SCRIPTS = [path for path in sorted((ROOT / "scripts").iterdir()) if path.is_file() and path.suffix in {"", ".sh"}]
SCRIPTS += sorted(ROOT.glob("Dockerfile*"))


def findings(check: Callable[[str], list[str]], files: list[Path]) -> list[str]:
    assert files, "nothing to scan"
    return [f"{path.relative_to(ROOT)}:{found}" for path in files for found in check(path.read_text(encoding="utf-8"))]


def test_nothing_runs_code_that_came_as_data() -> None:
    assert findings(scanner.runs_data, ALL) == []


def test_nothing_is_exposed_by_default() -> None:
    assert [found for found in findings(scanner.exposes, SHIPPED) if not found.startswith(f"{PING}:")] == []


def test_no_check_of_input_is_an_assertion() -> None:
    assert findings(scanner.asserted, FACING) == []


def test_scripts_trust_no_network() -> None:
    assert findings(scanner.shell_faults, SCRIPTS) == []


def test_the_tests_that_the_security_page_names_are_there() -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)`", page)
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "import os, pickle as safe",
        "from pickle import loads",
        "import cloudpickle",
        "def f():\n    import dill",
        "import marshal",
        "import shelve",
        "from importlib import import_module\nimport_module('pickle')",
        "__import__('marshal')",
        "socket.recv_pyobj()",
        "self.socket.send_pyobj(x)",
        "import pandas as pd\npd.read_pickle(path)",
        "from multiprocessing.connection import Listener",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path)",
        "from torch import load",
        "import yaml\nyaml.load(text)",
        "from yaml import load as parse",
        "load = yaml.unsafe_load",
        "eval('1')",
        "exec(code)",
        "import builtins\nbuiltins.eval('1')",
        "import jinja2\njinja2.Environment()",
        "import jinja2 as j\nj.Template(text)",
        "from jinja2 import Environment",
        "from jinja2 import Template as T",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "socket.bind('tcp://127.0.0.1:5555')",
        "socket.bind(f'tcp://{host}:1')",
    ],
)
def test_planted_code_that_runs_data_is_found(planted: str) -> None:
    assert scanner.runs_data(planted)


@pytest.mark.parametrize(
    "harmless",
    [
        "import json\njson.load(file)",
        "model.eval()",
        "from jinja2.sandbox import ImmutableSandboxedEnvironment\nImmutableSandboxedEnvironment()",
        "import yaml\nyaml.safe_load(text)",
        "np.load(path, allow_pickle=False)",
        "from safetensors.torch import load",
        "socket.bind('ipc://updraft')",
        "'''About pickle, eval( and torch.load('''",
        "from .pickle import x",
    ],
)
def test_harmless_code_is_left_alone(harmless: str) -> None:
    assert scanner.runs_data(harmless) == []


@pytest.mark.parametrize(
    "planted",
    [
        "subprocess.run(command, shell=True)",
        "subprocess.Popen(command, shell=wanted)",
        "import os\nos.system('ls')",
        "from os import popen\npopen('ls')",
        "import subprocess as s\ns.getoutput('ls')",
        "import tempfile\ntempfile.mktemp()",
        "from tempfile import mktemp\nmktemp()",
        "httpx.get(url, verify=False)",
        "import ssl\nssl._create_unverified_context()",
        "context.check_hostname = False",
        "context.verify_mode = ssl.CERT_NONE",
        "context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED",
        "def serve(host='0.0.0.0'): ...",
        "host: str = Field(default='::')",
        "socket.bind('*')",
        "socket.bind(('', 80))",
        "server = socket.create_server(('', 80))",
        "socket.bind('ipc:///tmp/updraft')",
        "archive.extractall(folder)",
        "archive.extractall(folder, filter='tar')",
    ],
)
def test_planted_exposures_are_found(planted: str) -> None:
    assert scanner.exposes(planted)


@pytest.mark.parametrize(
    "harmless",
    [
        "subprocess.run([program, argument], shell=False)",
        "httpx.get(url, verify=context)",
        "tempfile.mkstemp()",
        "context.check_hostname = True",
        "socket.bind((host, 0))",
        "socket.bind(f'ipc://{folder}/engine')",
        "archive.extractall(folder, filter='data')",
        "'''Listens on 0.0.0.0 when told to.'''",
    ],
)
def test_what_exposes_nothing_is_left_alone(harmless: str) -> None:
    assert scanner.exposes(harmless) == []


def test_a_planted_assertion_is_found() -> None:
    assert scanner.asserted("def allow(token):\n    assert token == secret") == ["2: assert is forbidden"]
    assert scanner.asserted("def allow(token):\n    if token != secret:\n        raise AssertionError") == []


@pytest.mark.parametrize(
    "planted",
    [
        "curl -s https://example.org/install | sh",
        "wget -qO- x | sudo bash",
        "curl -sk https://example.org",
        "curl https://example.org --insecure -o x",
        "pip install --trusted-host example.org x",
    ],
)
def test_planted_trust_in_a_network_is_found(planted: str) -> None:
    assert scanner.shell_faults(f"# curl x | sh\n{planted}") and scanner.shell_faults(f"# {planted}") == []


@pytest.mark.parametrize("harmless", ["curl -fsSL https://example.org -o file", "sha256sum --check | tee log.sh"])
def test_careful_scripts_are_left_alone(harmless: str) -> None:
    assert scanner.shell_faults(harmless) == []
