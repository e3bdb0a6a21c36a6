"""Command lines that are answered without click: as click would answer them, and at once."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from miniflow import listing
from miniflow.cli import cli
from miniflow.simple import asked_list, asks_for_version
from tests.conftest import Space

WORDS = st.sampled_from([
    "list", "--json", "-f", "-t", "-o", "--flows-dir", "--tasks-dir=x", "--flows-dir=a=b", "--output-dir", "--flows-dir=",
    "-fx", "-f=x", "-l", "DEBUG", "--", "-", "", "x", "a b", "--version", "--help", "-h", "run", "--log-level=info", "--flows",
])  # fmt: skip
ENVIRONS = st.fixed_dictionaries(
    {},
    optional={
        "MINIFLOW_FLOWS_DIR": st.sampled_from(["", "there"]),
        "MINIFLOW_TASKS_DIR": st.sampled_from(["", "there"]),
        "MINIFLOW_LOG_LEVEL": st.sampled_from(["", "info", "nonsense"]),
    },
)


@given(st.lists(WORDS, max_size=6) | st.lists(WORDS, max_size=4).map(lambda words: [*words, "list"]), ENVIRONS)
def test_what_is_answered_without_click_is_what_click_would_have_read(
    monkeypatch: pytest.MonkeyPatch, args: list[str], environ: dict[str, str]
) -> None:
    calls = []

    def list_flows(flows_dir: str, as_json: bool, echo: Any) -> int:
        calls.append((flows_dir, as_json))
        return 0

    monkeypatch.setattr(listing, "list_flows", list_flows)
    asked = asked_list(args, environ)
    unset = dict.fromkeys(["MINIFLOW_FLOWS_DIR", "MINIFLOW_TASKS_DIR", "MINIFLOW_OUTPUT_DIR", "MINIFLOW_LOG_LEVEL"])

    result = CliRunner().invoke(cli, args, env={**unset, **environ})

    if asked is not None:
        assert (calls, result.exit_code) == ([asked], 0)
    if asks_for_version(args, environ):
        assert (calls, result.output) == ([], CliRunner().invoke(cli, ["--version"]).output)


@pytest.mark.parametrize(
    ("args", "environ", "asked"),
    [
        ("list", {}, ("./flows", False)),
        ("list --json", {}, ("./flows", True)),
        ("-f here list", {"MINIFLOW_FLOWS_DIR": "there"}, ("here", False)),
        ("--flows-dir=here -t tasks --output-dir out list", {}, ("here", False)),
        ("list", {"MINIFLOW_FLOWS_DIR": "there"}, ("there", False)),
    ],
)
def test_usual_ways_to_list_flows_are_understood(args: str, environ: dict[str, str], asked: tuple[str, bool]) -> None:
    assert asked_list(args.split(), environ) == asked


def test_completion_is_left_to_click() -> None:
    environ = {"_MINIFLOW_COMPLETE": "bash_source"}
    assert not asks_for_version(["--version"], environ)
    assert asked_list(["list"], environ) is None


@pytest.mark.parametrize(
    ("args", "unneeded"),
    [
        ("--version", {"click", "typing", "re", "enum", "json", "miniflow.errors"}),
        ("list", {"click", "typing", "dataclasses", "inspect", "pathlib", "contextlib", "msgspec", "anyio", "structlog"}),
        ("run x", {"rich", "pygments", "trio"}),
    ],
)
def test_little_is_loaded_for_them(space: Space, args: str, unneeded: set[str]) -> None:
    space.script("a.py")
    space.flow({"name": "x", "tasks": [{"id": "a", "script": "a.py"}]})
    program = """
import atexit, sys
before = {*sys.modules}
from miniflow.__main__ import main
sys.argv[1:] = sys.argv[1].split()
atexit.register(lambda: print(*sorted({*sys.modules} - before), file=sys.stderr))
main()
"""
    done = subprocess.run(
        [sys.executable, "-SIc", f"import sys; sys.path[:0] = {sys.path!r}{program}", args],
        cwd=space.path,
        env=space.environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout
    assert not unneeded & {*done.stderr.split()}


@pytest.mark.parametrize("args", [["list"], ["list", "--json"], ["-f", "nowhere", "list"], ["--version"]])
def test_both_ways_say_the_same(space: Space, args: list[str]) -> None:
    space.flow({"name": "x", "description": "Ä", "tasks": [{"id": "a", "script": "a.py"}]})
    space.flow("{}", "broken")
    at_once, by_click = [
        subprocess.run(
            [sys.executable, "-m", "miniflow", *args],
            cwd=space.path,
            env={**space.environ(), **more},
            capture_output=True,
            text=True,
            check=False,
        )
        for more in ({}, {"MINIFLOW_LOG_LEVEL": "INFO", "_MINIFLOW_COMPLETE": ""})
    ]
    assert (at_once.returncode, at_once.stdout, at_once.stderr) == (by_click.returncode, by_click.stdout, by_click.stderr)
