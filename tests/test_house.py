"""The house rules hold everywhere, and every check catches the fault that it is there for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

import updraft
from tests import house
from tests.house import ROOT

PACKAGES = ("shared", "edge", "cloud")
CORE = house.sources(*PACKAGES)
PUBLIC = [*CORE, *house.sources("bench", "tests/fakes")]
ALL = [*CORE, *house.sources("bench", "scripts", "tests")]
# Torch code throughout; that nothing imports it along is seen at run time.
TORCH = {*house.sources("shared/updraft/train"), *(ROOT / "shared/updraft/engine").glob("torch*.py")}
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

Check = Callable[[str], list[str]]


def violations(check: Check, files: list[Path]) -> list[str]:
    """What a check finds in files, as `path:line: reason`."""
    assert files, "nothing to check"
    return [f"{path.relative_to(ROOT)}:{found}" for path in files for found in check(path.read_text(encoding="utf-8"))]


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[1]


@pytest.mark.parametrize("folder", PACKAGES)
def test_no_import_crosses_the_tiers(folder: str) -> None:
    files = house.sources(folder)
    assert violations(lambda source: house.crossings(source, package_of(files[0])), files) == []


@pytest.mark.parametrize(
    ("package", "planted"),
    [
        ("updraft_edge", "import updraft_cloud"),
        ("updraft_edge", "def f():\n    from updraft_cloud.sessions.session import Session"),
        ("updraft_edge", "if TYPE_CHECKING:\n    import updraft_cloud"),
        ("updraft_cloud", "from updraft_edge import Agent"),
        ("updraft", "import updraft_edge.agent"),
        ("updraft", "try:\n    import updraft_cloud\nexcept ImportError:\n    pass"),
        ("updraft", "class A:\n    from updraft_edge import Agent"),
        ("updraft", "if sys.platform == 'linux':\n    import updraft_edge"),
        ("updraft", "if TYPE_CHECKING:\n    pass\nelse:\n    import updraft_edge"),
    ],
)
def test_planted_crossings_are_found(package: str, planted: str) -> None:
    assert house.crossings(planted, package)


@pytest.mark.parametrize(
    ("package", "harmless"),
    [
        ("updraft_edge", "import updraft_edge.link\nimport updraft"),
        ("updraft", "def serve():\n    from updraft_edge import server"),
        ("updraft", "if TYPE_CHECKING:\n    from updraft_edge import Agent"),
        ("updraft", "from . import updraft_edge"),
    ],
)
def test_lawful_imports_are_left_alone(package: str, harmless: str) -> None:
    assert house.crossings(harmless, package) == []


def test_no_heavy_import_at_module_level() -> None:
    assert violations(house.heavy_imports, [path for path in CORE if path not in TORCH]) == []


@pytest.mark.parametrize(
    "planted", ["import torch", "from llama_cpp import Llama", "try:\n    import onnxruntime\nfinally:\n    pass"]
)
def test_planted_heavy_imports_are_found(planted: str) -> None:
    assert house.heavy_imports(planted)
    inside = "def f():\n" + "\n".join(f"    {line}" for line in planted.splitlines())
    assert house.heavy_imports(inside) == []


def test_importing_updraft_loads_neither_heavy_libraries_nor_a_tier() -> None:
    code = "import updraft, updraft.cli, updraft.models.rungs\nfor name in updraft.__all__: getattr(updraft, name)"
    assert house.loaded_by(code, {*house.HEAVY, *house.TIERS, "updraft.train"}) == set()


def test_importing_a_tier_loads_neither_heavy_libraries_nor_the_other() -> None:
    assert house.loaded_by("import updraft_edge.agent, updraft_edge.server", {*house.HEAVY, "updraft_cloud"}) == set()
    assert house.loaded_by("import updraft_cloud.server", {*house.HEAVY, "updraft_edge"}) == set()


def test_a_planted_heavy_import_is_seen_at_run_time() -> None:
    assert house.loaded_by("import xml.dom", {"xml.dom", "xml.sax"}) == {"xml.dom"}


def test_every_module_says_what_it_exports() -> None:
    assert violations(house.unnamed_exports, PUBLIC) == []


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        ("__all__ = []", "__future__"),
        ("from __future__ import annotations", "`__all__` is missing"),
        ("from __future__ import annotations\n__all__ = ['f']\ndef g(): ...", "names f"),
        ("from __future__ import annotations\n__all__ = ['f']\ndef g():\n    f = 1", "names f"),
    ],
)
def test_planted_export_faults_are_found(planted: str, reason: str) -> None:
    assert any(reason in found for found in house.unnamed_exports(planted))


def test_exports_may_be_of_every_kind() -> None:
    source = (
        "from __future__ import annotations\nfrom a import b as c\nimport d.e\n"
        "__all__ = ['C', 'c', 'd', 'f', 'x', 'y', 'z']\nclass C: ...\nasync def f(): ...\nx: int = 1\ny, z = 2, 3\n"
    )
    assert house.unnamed_exports(source) == []


def test_every_test_module_has_the_future_import() -> None:
    files = [path for path in house.sources("tests") if path.name != "__init__.py"]
    assert [found for found in violations(house.unnamed_exports, files) if "__future__" in found] == []


def test_files_are_short() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in ALL}
    assert {str(path): length for path, length in lengths.items() if length > house.MODULE_LINES} == {}
    core = [lengths[path.relative_to(ROOT)] for path in CORE]
    # 300 lines are a guide, not a wall: one module in twenty may need more.
    assert sum(length > house.CORE_LINES for length in core) <= len(core) / 20 + 1


def test_functions_are_short() -> None:
    assert violations(house.long_functions, ALL) == []
    measured = (house.function_lengths(path.read_text(encoding="utf-8")) for path in CORE)
    lengths = [length for _, _, length in chain.from_iterable(measured)]
    assert house.quantile(lengths, 0.5) <= 10
    assert house.quantile(lengths, 0.9) <= 30


def test_a_planted_long_function_is_found() -> None:
    body = "    pass\n" * 79
    assert house.long_functions(f"def f():\n{body}") == []
    assert house.long_functions(f"class A:\n  async def f():\n{body}    pass\n")
    assert house.quantile([1, 2, 3, 4, 5], 0.5) == 3


def test_no_module_is_a_drawer() -> None:
    assert [str(path) for path in ALL if path.stem in {"util", "utils", "helpers", "misc"}] == []


def test_every_field_on_the_wire_has_a_comment() -> None:
    assert violations(house.uncommented, PROTOS) == []


@pytest.mark.parametrize(
    "declaration",
    [
        "string name = 1;",
        "repeated uint32 ids = 2;",
        "optional double top_p = 3;",
        "map<uint32, double> bias = 4;",
        "updraft.v1.Sampling sampling = 5;",
        "oneof body {",
        "message M {",
        "enum E {",
        "END_STOP = 1;",
        "service S {",
        "rpc Call(A) returns (stream B);",
    ],
)
def test_planted_declarations_without_comment_are_found(declaration: str) -> None:
    assert house.uncommented(f"message X {{\n  {declaration}\n}}")[-1].startswith("2:")
    assert not any(found.startswith("3:") for found in house.uncommented(f"\n  // Why.\n  {declaration}\n"))


def test_one_version_everywhere() -> None:
    assert PYPROJECT["project"]["version"] == updraft.__version__
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == updraft.__version__


def test_the_parts_of_grpc_have_one_version() -> None:
    project = PYPROJECT["project"]
    wanted = chain(project["dependencies"], *project["optional-dependencies"].values())
    versions = {re.sub(r"^grpcio[a-z-]*[~=]=", "", name) for name in wanted if re.match(r"grpcio[a-z-]*[~=]=", name)}
    assert len(versions) == 1
    generated = (ROOT / "shared/updraft/v1/agent_pb2_grpc.py").read_text(encoding="utf-8")
    assert f"GRPC_GENERATED_VERSION = '{versions.pop()}'" in generated


@pytest.mark.parametrize("name", updraft.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(updraft, name) is not None


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        _ = updraft.Missing
    assert dir(updraft) == sorted(updraft.__all__)
