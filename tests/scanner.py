"""A scanner of what has made programs of this field insecure. Each check gives what it finds as `line: reason`.

It reads the syntax tree, so a word in a comment or a name that only looks alike is not found.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

__all__ = ["asserted", "exposes", "runs_data", "shell_faults"]

_UNSAFE_MODULES = frozenset({"_pickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "shelve"})
_UNSAFE_BUILTINS = frozenset({"eval", "exec"})
_UNSAFE_METHODS = frozenset({"read_pickle", "recv_pyobj", "send_pyobj", "to_pickle"})
_UNSAFE_CALLS = frozenset(
    {
        "builtins.eval",
        "builtins.exec",
        "jinja2.Environment",
        "jinja2.Template",
        "jinja2.environment.Environment",
        "jinja2.environment.Template",
        "jinja2.nativetypes.NativeEnvironment",
        "multiprocessing.connection.Client",
        "multiprocessing.connection.Listener",
        "multiprocessing.managers.BaseManager",
        "torch.load",
        "yaml.full_load",
        "yaml.load",
        "yaml.load_all",
        "yaml.unsafe_load",
    }
)
_EXPOSING_CALLS = frozenset(
    {
        "os.popen",
        "os.system",
        "ssl._create_unverified_context",
        "subprocess.getoutput",
        "subprocess.getstatusoutput",
        "tempfile.mktemp",
    }
)
_EVERYWHERE = frozenset({"*", "0.0.0.0", "::"})  # addresses at which anyone can call
_SHELL = (
    (re.compile(r"\b(curl|wget)\b.*\|\s*(sudo\s+)?(ba|z|da)?sh\b"), "runs what it fetches"),
    (re.compile(r"\bcurl\b.*\s(-[a-zA-Z]*k\b|--insecure\b)"), "checks no certificate"),
    (re.compile(r"--no-check-certificate\b|--trusted-host\b"), "checks no certificate"),
)

Found = tuple[ast.stmt | ast.expr, str]


def runs_data(source: str) -> list[str]:
    """Uses of what can run code that came as data, and ZeroMQ sockets that leave the machine."""
    nodes = [*ast.walk(ast.parse(source))]
    names = _imported_names(nodes)
    return _reported(found for node in nodes for found in _data_faults(node, names))


def exposes(source: str) -> list[str]:
    """Shells, addresses that anyone can call, TLS without its checks, file names that others can guess or choose."""
    nodes = [*ast.walk(ast.parse(source))]
    names = _imported_names(nodes)
    return _reported(found for node in nodes for found in _exposures(node, names))


def asserted(source: str) -> list[str]:
    """Assertions, which `python -O` leaves out: no check of input may be one."""
    asserts = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert))
    return _reported((node, "assert") for node in asserts)


def shell_faults(text: str) -> list[str]:
    """Lines of a shell script that trust what comes over a network."""
    return [
        f"{number}: {reason}"
        for number, line in enumerate(text.splitlines(), start=1)
        if not line.lstrip().startswith("#")
        for pattern, reason in _SHELL
        if pattern.search(line)
    ]


def _reported(found: Iterator[Found]) -> list[str]:
    return [f"{node.lineno}: {reason} is forbidden" for node, reason in found]


def _data_faults(node: ast.AST, names: dict[str, str]) -> Iterator[Found]:
    if isinstance(node, ast.Import):
        yield from ((node, alias.name) for alias in node.names if _is_unsafe(alias.name))
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        full = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from ((node, name) for name in full if name in _UNSAFE_CALLS or _is_unsafe(name))
    elif isinstance(node, ast.Attribute | ast.Name):
        name = _dotted(node, names)
        if name in _UNSAFE_CALLS or (isinstance(node, ast.Attribute) and node.attr in _UNSAFE_METHODS):
            yield node, name
    elif isinstance(node, ast.Call):
        yield from ((node, reason) for reason in _unsafe_call(node))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "tcp://" in node.value:
        yield node, "tcp:// (ZeroMQ goes over ipc:// only)"


def _is_unsafe(module: str) -> bool:
    return module.partition(".")[0] in _UNSAFE_MODULES


def _unsafe_call(node: ast.Call) -> Iterator[str]:
    if isinstance(node.func, ast.Name) and node.func.id in _UNSAFE_BUILTINS:
        yield node.func.id
    dynamic = _dotted(node.func, {}).rpartition(".")[2] in {"import_module", "__import__"}
    if dynamic and node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value in _UNSAFE_MODULES:
        yield str(node.args[0].value)
    if _given(node, "allow_pickle") not in (None, "False"):
        yield "allow_pickle"


def _exposures(node: ast.AST, names: dict[str, str]) -> Iterator[Found]:
    if isinstance(node, ast.Attribute | ast.Name) and _dotted(node, names) in _EXPOSING_CALLS:
        yield node, _dotted(node, names)
    elif isinstance(node, ast.Call):
        yield from ((node, reason) for reason in _exposing_call(node))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value in _EVERYWHERE - {"*"}:
            yield node, f"{node.value} (the user chooses where to listen)"
        elif node.value.startswith(("ipc:///tmp", "ipc:///var/tmp", "ipc:///dev/shm")):
            yield node, "a socket whose name others can guess"
    elif isinstance(node, ast.Assign):
        yield from ((node, reason) for target in node.targets for reason in _unchecked(target, node.value))


def _exposing_call(node: ast.Call) -> Iterator[str]:
    if _given(node, "shell") not in (None, "False"):
        yield "shell"
    if _given(node, "verify") == "False":
        yield "verify=False"
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if method == "extractall" and _given(node, "filter") != "'data'":
        yield "extractall without filter='data'"
    if method in {"bind", "create_server"} and node.args:
        first = node.args[0]
        host = first.elts[0] if isinstance(first, ast.Tuple) and first.elts else first
        if isinstance(host, ast.Constant) and host.value in {"", *_EVERYWHERE}:
            yield f"binding to {host.value!r}"


def _unchecked(target: ast.expr, value: ast.expr) -> Iterator[str]:
    """Assignments that switch the checks of TLS off."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=False):
            yield from _unchecked(one, its)
    if isinstance(target, ast.Attribute):
        if target.attr == "check_hostname" and ast.unparse(value) == "False":
            yield "check_hostname = False"
        if target.attr == "verify_mode" and ast.unparse(value).endswith("CERT_NONE"):
            yield "verify_mode = CERT_NONE"


def _given(node: ast.Call, name: str) -> str | None:
    """The source of a keyword argument."""
    return next((ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == name), None)


def _imported_names(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """What each imported name stands for."""
    names: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """`a.b.c` of a chain of attributes, its first name replaced by what was imported under it."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(names.get(node.id, node.id) if isinstance(node, ast.Name) else "")
    return ".".join(reversed(parts))
