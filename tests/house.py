"""Checks of the house rules. Each takes text and gives what is wrong with it, as `line: reason`."""

from __future__ import annotations

import ast
import functools
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

__all__ = [
    "CORE_LINES",
    "HEAVY",
    "MODULE_LINES",
    "ROOT",
    "TIERS",
    "crossings",
    "function_lengths",
    "heavy_imports",
    "loaded_by",
    "long_functions",
    "quantile",
    "sources",
    "uncommented",
    "unnamed_exports",
]

ROOT = Path(__file__).resolve().parents[1]
CORE_LINES = 300
MODULE_LINES = 500
FUNCTION_LINES = 80
TIERS = frozenset({"updraft_cloud", "updraft_edge"})
HEAVY = frozenset({"llama_cpp", "matplotlib", "onnxruntime", "torch", "transformers"})


def sources(*folders: str) -> list[Path]:
    """Python files under folders of the repository, without generated code."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in files if "_pb2" not in path.name and path.parent.name != "v1"]


def crossings(source: str, package: str) -> list[str]:
    """Imports of a tier from where it must not be imported.

    A tier never imports the other; `updraft` imports none while it is being imported (inside a function it may).
    """
    tree = ast.parse(source)
    if package == "updraft":
        nodes, others = _imports(_at_import_time(tree)), TIERS
    else:
        nodes, others = _imports(ast.walk(tree)), TIERS - {package}
    return _named(nodes, others, f"must not be imported by {package}")


def heavy_imports(source: str) -> list[str]:
    """Imports of heavy libraries that happen while the module is being imported."""
    return _named(_imports(_at_import_time(ast.parse(source))), HEAVY, "must be imported where it is used")


def loaded_by(code: str, suspects: Iterable[str]) -> set[str]:
    """Those modules of `suspects` that a fresh interpreter has loaded after running `code`."""
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split()) & set(suspects)


def unnamed_exports(source: str) -> list[str]:
    """What is wrong with a module's first lines: the future import, and `__all__` with names that exist."""
    tree = ast.parse(source)
    wrong = []
    if not any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body):
        wrong.append("1: `from __future__ import annotations` is missing")
    exports = next((node for node in tree.body if "__all__" in _bound_by(node)), None)
    if not isinstance(exports, ast.Assign | ast.AnnAssign) or exports.value is None:
        return [*wrong, "1: `__all__` is missing"]
    defined = {name for node in _at_import_time(tree, types=True) for name in _bound_by(node)}
    wrong += [
        f"{exports.lineno}: __all__ names {name}, which does not exist"
        for name in ast.literal_eval(exports.value)
        if name not in defined
    ]
    return wrong


@functools.cache
def function_lengths(source: str) -> list[tuple[str, int, int]]:
    """Name, first line and number of lines of every function."""
    functions = (
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions]


def long_functions(source: str) -> list[str]:
    return [
        f"{line}: {name} has {length} lines; at most {FUNCTION_LINES} are allowed"
        for name, line, length in function_lengths(source)
        if length > FUNCTION_LINES
    ]


def quantile(values: Sequence[int], share: float) -> float:
    """The value below which that share lies, to a percent."""
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]


_DECLARATION = re.compile(
    r"^\s*(?:(?:message|enum|service|oneof|rpc)\s+\w+|(?:(?:repeated|optional)\s+)?[\w.]+(?:<[^>]*>)?\s+\w+\s*=\s*\d+|\w+\s*=\s*\d+)"
)


def uncommented(proto: str) -> list[str]:
    """Declarations of a .proto file without a comment in the line before."""
    lines = proto.splitlines()
    return [
        f"{number}: no comment before `{line.strip()}`"
        for number, (before, line) in enumerate(zip(["", *lines], lines, strict=False), start=1)
        if _DECLARATION.match(line) and not before.strip().startswith("//")
    ]


def _at_import_time(tree: ast.Module, *, types: bool = False) -> Iterator[ast.AST]:
    """Statements that run while a module is imported; with `types` also those under TYPE_CHECKING."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If) and _is_type_checking(node.test) and not types:
            pending += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name | ast.Attribute) and ast.unparse(test).endswith("TYPE_CHECKING")


def _imports(nodes: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    return (node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def _named(nodes: Iterable[ast.Import | ast.ImportFrom], banned: frozenset[str], reason: str) -> list[str]:
    return [
        f"{node.lineno}: {name} {reason}"
        for node in nodes
        for name in _modules(node)
        if name.partition(".")[0] in banned
    ]


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if node.module and not node.level else []


def _bound_by(node: ast.AST) -> set[str]:
    """Names that one statement binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.Assign):
        return {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()
