"""Command lines that are answered without click: as click would answer them, and at once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from miniflow import launch, listing
from miniflow.cli import cli
from miniflow.simple import asked_list, asked_run, asks_for_version
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


RUN_WORDS = st.sampled_from([
    "x", "y/z.json", "", "-", "--", "--parallel", "2", "auto", "--parallel=3", "--parallel=", "-p", "{}", "-p{}", "-p={}",
    "--params={}", "--keep-going", "--keep-going=1", "--dry-run", "--log-format", "json", "--log-format=console", "--only",
    "--log-format=nonsense", "--only=a",
    "--resume", "--resume=latest", "--grace=1", "--timeout", "--junit=f", "--python=p", "-h", "--par", "-k",
])  # fmt: skip
RUN_ENVIRONS = st.fixed_dictionaries(
    {},
    optional={
        "MINIFLOW_FLOWS_DIR": st.sampled_from(["", "there"]),
        "MINIFLOW_PARALLEL": st.sampled_from(["", "5"]),
        "MINIFLOW_GRACE": st.sampled_from(["", "7"]),
        "MINIFLOW_KEEP_GOING": st.sampled_from(["", "1"]),
        "MINIFLOW_TIMEOUT": st.sampled_from(["", "7"]),
        "MINIFLOW_LOG_FORMAT": st.sampled_from(["", "json"]),
        "MINIFLOW_LOG_LEVEL": st.sampled_from(["", "debug"]),
    },
)


@given(
    st.lists(WORDS, max_size=2),
    st.lists(RUN_WORDS, max_size=5),
    RUN_ENVIRONS,
)
@example([], ["x", "--parallel", "2", "--keep-going", "--params={}", "--log-format", "json"], {})
@example(["-f", "x", "--output-dir=b"], ["--parallel=3", "x", "-p", "{}", "--dry-run"], {"MINIFLOW_FLOWS_DIR": "there"})
def test_a_run_that_is_read_without_click_is_what_click_would_have_read(
    monkeypatch: pytest.MonkeyPatch, before: list[str], words: list[str], environ: dict[str, str]
) -> None:
    calls = []

    def launched(flow: str, directories: dict[str, str], level: str, *, echo: Any, **options: Any) -> int:
        calls.append((flow, directories, level, options))
        return 0

    monkeypatch.setattr(launch, "launch", launched)
    args = [*before, "run", *words]
    asked = asked_run(args, environ)
    unset = dict.fromkeys([name for name in os.environ if name.startswith("MINIFLOW_")])

    result = CliRunner().invoke(cli, args, env={**unset, **environ})

    if asked is not None:
        flow, directories, options = asked
        assert (calls, result.exit_code) == ([(flow, directories, "info", options)], 0)


@pytest.mark.parametrize(
    "args",
    [
        "run x",
        "run x --parallel 2",
        "-f here run --parallel=auto x",
        "run x -p {} --keep-going",
        "run x --log-format json --dry-run",
    ],
)
def test_usual_ways_to_run_a_flow_are_understood(args: str) -> None:
    asked = asked_run(args.split(), {})

    assert asked is not None
    assert asked[0] == "x"


@pytest.mark.parametrize("args", ["run x --only a", "run x --resume", "run", "run x y", "-l debug run x", "run x -h"])
def test_unusual_ones_are_left_to_click(args: str) -> None:
    assert asked_run(args.split(), {}) is None


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
        ("run x", {"click", "rich", "pygments", "trio"}),
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
