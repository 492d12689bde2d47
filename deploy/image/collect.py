"""Used while the image is built: cuts away what only development needs, and gathers Python for an image of its own.

`collect.py trim FOLDER` takes tests and build files out of installed packages and compiles the rest.
`collect.py python PREFIX ROOT`, run by PREFIX's Python, puts that Python, its standard library, and every shared
library that it or the packages in PREFIX need into ROOT, where they stand in this system.
"""

from __future__ import annotations

import compileall
import filecmp
import itertools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

USER_ID = 65532
# Parts of the standard library that no server needs: tools for development, windows, installers.
UNUSED = frozenset(
    {
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "sitecustomize.py",
        "test",
        "tkinter",
        "turtledemo",
    }
)
# Folders of installed packages that nothing reads once they run.
DEVELOPMENT = frozenset({"__pycache__", "include", "tests"})
# llama-cpp-python's wheel holds its libraries twice: beside its modules, and as llama.cpp itself would be installed.
SECOND_COPY = ("bin", "lib")
# The driver's library comes with the machine, not with the image.
FROM_THE_HOST = frozenset({"libcuda.so.1"})


def trim(folder: Path) -> None:
    """Leave what runs: no tests, headers or CMake files, every library once, bytecode that is valid without a clock."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and path.name in DEVELOPMENT:
            shutil.rmtree(path)
        elif path.suffix in {".a", ".pyi"}:
            path.unlink(missing_ok=True)
    for packages in folder.rglob("site-packages"):
        for name in SECOND_COPY:
            shutil.rmtree(packages / name, ignore_errors=True)
    for parent in {path.parent for path in folder.rglob("*.so.*")}:
        _link_copies(parent)
    _compile(folder)


def gather(prefix: Path, root: Path) -> None:
    """Python, its standard library and their shared libraries, with the few files that a system must have."""
    interpreter = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    _copy(Path(sys.base_prefix, "bin/python3"), root)
    shutil.copytree(library, root / library.relative_to("/"), symlinks=True, ignore=_unused)
    _compile(root / library.relative_to("/"))
    for link in ("lib", "lib64", "bin"):
        if Path("/", link).is_symlink():
            (root / link).symlink_to(os.readlink(f"/{link}"))
    binaries = [interpreter, *_shared_objects(root), *_shared_objects(prefix)]
    for needed in sorted(set(_needed(binaries, inside=prefix))):
        _copy(needed, root)
    _system_files(root)


def _copy(path: Path, root: Path) -> None:
    """A file where it stands, and the name that it is asked for by."""
    real = path.resolve()
    target = root / real.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(real, target)
    named = root / path.parent.resolve().relative_to("/") / path.name
    if not os.path.lexists(named):
        named.parent.mkdir(parents=True, exist_ok=True)
        named.symlink_to(real)


def _needed(binaries: Iterable[Path], *, inside: Path) -> Iterator[Path]:
    """Shared libraries outside `inside` that the dynamic linker finds for these files."""
    for binary in binaries:
        listing = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
        for name, path in re.findall(r"^\s+(\S+)(?: => (.+?))?(?: \(0x[0-9a-f]+\))?$", listing, re.MULTILINE):
            found = path or name
            if found == "not found" and name not in FROM_THE_HOST:
                raise SystemExit(f"{binary} needs {name}, which is not installed")
            if found.startswith("/") and not Path(found).is_relative_to(inside):
                yield Path(found)


def _shared_objects(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.so*") if path.is_file() and not path.is_symlink())


def _link_copies(folder: Path) -> None:
    """Wheels cannot hold links: libx.so, libx.so.0 and libx.so.0.1 come as three copies. The longest name stays."""
    files = sorted((path for path in folder.glob("*.so*") if not path.is_symlink()), reverse=True)
    for kept, copy in itertools.pairwise(files):
        real = kept.resolve()
        if real.name.startswith(copy.name) and filecmp.cmp(real, copy, shallow=False):
            copy.unlink()
            copy.symlink_to(real.name)


def _compile(folder: Path) -> None:
    """Bytecode that is never compared with its source: the root file system is read-only."""
    compileall.compile_dir(folder, quiet=2, force=True, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)


def _unused(folder: str, names: list[str]) -> list[str]:
    at_top = Path(folder) == Path(sysconfig.get_path("stdlib"))
    return [name for name in names if name == "__pycache__" or (at_top and (name in UNUSED or name[:7] == "config-"))]


def _system_files(root: Path) -> None:
    for folder, mode in (("etc", 0o755), ("tmp", 0o1777), ("var/lib/updraft", 0o750), ("models", 0o755)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder).chmod(mode)
    os.chown(root / "var/lib/updraft", USER_ID, USER_ID)
    (root / "etc/passwd").write_text(f"updraft:x:{USER_ID}:{USER_ID}::/var/lib/updraft:/nonexistent\n")
    (root / "etc/group").write_text(f"updraft:x:{USER_ID}:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    shutil.copy2("/etc/ld.so.conf", root / "etc")
    shutil.copytree("/etc/ld.so.conf.d", root / "etc/ld.so.conf.d")
    subprocess.run(["ldconfig", "-r", str(root)], check=True)


if __name__ == "__main__":
    if sys.argv[1] == "trim":
        trim(Path(sys.argv[2]))
    else:
        gather(Path(sys.argv[2]), Path(sys.argv[3]))
