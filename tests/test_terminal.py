"""Who is sent colours."""

from __future__ import annotations

import subprocess
import sys

import pytest

from miniflow.terminal import has_colors
from tests.conftest import Space


@pytest.mark.parametrize(
    ("is_terminal", "environ", "expected"),
    [
        (True, {"TERM": "xterm-256color"}, True),
        (True, {}, True),
        (False, {"TERM": "xterm-256color"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": ""}, False),
        (True, {"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        (True, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours_go_to_terminals_unless_somebody_says_otherwise(
    is_terminal: bool, environ: dict[str, str], expected: bool
) -> None:
    assert has_colors(is_terminal, environ) is expected


@pytest.fixture
def foreign(space: Space) -> Space:
    """Two runs that differ, and a flow that is broken, with signs that few encodings have."""
    space.script("fail.py", "raise SystemExit('漢 → é')")
    space.flow({"name": "w", "description": "漢 → é", "tasks": [{"id": "a", "script": "none.py", "args": ["漢"]}]})
    for sign in ("漢", "→"):
        tasks = [{"id": "a", "script": "fail.py", "args": [sign]}, {"id": "b", "script": "fail.py", "depends_on": "a"}]
        space.flow({"name": "f", "description": "漢", "tasks": tasks})
        space.miniflow("run", "f")
    return space


def answer(space: Space, command: str, env: dict[str, str]) -> tuple[bytes, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "miniflow", "-o", str(space.output_dir), *command.split()],
        cwd=space.path,
        env=space.environ({"NO_COLOR": "", "FORCE_COLOR": "", **env}),
        capture_output=True,
        check=False,
    )
    return done.stdout, done.stderr


def test_every_command_that_has_colours_has_them_in_a_pipe_if_that_is_asked_for_and_then_alone(foreign: Space) -> None:
    commands = ("runs", "status", "logs", "diff", "validate w", "graph f")

    assert [name for name in commands if b"\x1b[" not in answer(foreign, name, {"FORCE_COLOR": "1"})[0]] == []
    assert [name for name in commands if b"\x1b[" in answer(foreign, name, {"FORCE_COLOR": "1", "NO_COLOR": "1"})[0]] == []
    assert [name for name in commands if b"\x1b[" in answer(foreign, name, {})[0]] == []


@pytest.mark.parametrize(
    "encoding",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""},
    ],
    ids=["latin-1", "ascii"],
)
def test_signs_that_an_encoding_lacks_keep_no_command_from_answering(foreign: Space, encoding: dict[str, str]) -> None:
    commands = ("list --json", "explain a", "diff", "graph f", "script f", "report -o -", "completion bash")
    answers = {command: answer(foreign, command, encoding) for command in commands}

    assert [command for command, (shown, complaint) in answers.items() if not shown or complaint] == []
