"""The example of docs/verifiers.md runs, and its table names every verifier."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.house import ROOT
from updraft.verifiers import VERIFIERS

PAGE = (ROOT / "docs" / "verifiers.md").read_text(encoding="utf-8")


def test_the_example_runs() -> None:
    [example] = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "number 'It is 42.' 1.0 True ",
        "number 'Perhaps 41?' 0.0 False the answer is another number",
        "short 'It is 42.' 1.0 True ",
        "short 'Perhaps 41?' 1.0 True ",
    ]


def test_the_table_names_every_verifier() -> None:
    table = PAGE.partition("## Which one")[2].partition("##")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == ["kind", *VERIFIERS]
