"""Whatever the encoding of the caller's locale: what cannot be said in it is an escape, and never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Space

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN_1 = {"PYTHONIOENCODING": "latin-1:strict"}
READERS = [
    ["runs"],
    ["status"],
    ["logs"],
    ["explain", "say"],
    ["diff"],
    ["validate"],
    ["list"],
    ["report", "-o", "-"],
    ["graph", "x"],
]


@pytest.fixture
def two_runs(space: Space) -> Space:
    """Whose plans differ, which is shown with an arrow."""
    space.script("say.py", r"import sys; sys.stdout.buffer.write('✓ é\n'.encode())")
    for value in ("→", "é"):
        flow = {"name": "x", "description": "✓", "env": {"A": value}, "tasks": [{"id": "say", "script": "say.py"}]}
        space.flow(json.dumps(flow, ensure_ascii=False))
        assert space.miniflow("run", "x").returncode == 0
    return space


@pytest.mark.parametrize("env", [ASCII, LATIN_1], ids=["ascii", "latin-1"])
def test_what_an_encoding_does_not_have_is_shown_all_the_same(two_runs: Space, env: dict[str, str]) -> None:
    for line in READERS:
        command = [sys.executable, "-m", "miniflow", "-o", "out", *line]
        result = subprocess.run(command, cwd=two_runs.path, env=two_runs.environ(env), capture_output=True, check=False)

        assert (line, result.returncode, result.stderr) == (line, 0, b"")


@pytest.mark.parametrize("args", [["list", "--json"], ["new", "y"], ["report"]])
def test_a_path_that_is_not_utf_8_is_shown_as_an_escape(space: Space, tmp_path: Path, args: list[str]) -> None:
    space.script("a.sh")
    space.flow({"name": "x", "tasks": [{"id": "a", "script": "a.sh"}]})
    space.miniflow("run", "x")
    odd = tmp_path / "\udcff"
    odd.mkdir()
    for name in ("flows", "tasks", "out"):
        (tmp_path / name).rename(odd / name)

    command = [sys.executable, "-m", "miniflow", "-f", odd / "flows", "-t", odd / "tasks", "-o", odd / "out", *args]
    env = space.environ({"PYTHONIOENCODING": "utf-8:strict"})
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert (result.returncode, result.stderr) == (0, "")
    assert r"\udcff" in result.stdout
