"""The README is run: every command in it, every Python example, every flow, every configuration.

The first two commands, which set up an environment from a package index, are run by `.ci/run` as they stand there; the second
of them is what runs this test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import miniflow
from miniflow.parse import parse_flow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what a clone has, with an environment that has MiniFlow."""
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("MINIFLOW_", "GITHUB_", "VIRTUAL_ENV"))}


def test_the_first_two_commands_set_up_all_they_need() -> None:
    run, test = blocks("sh")[:2]
    for command in (run, test):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert command.count("\n") == 1
    assert "miniflow run sample_flow --parallel" in run
    assert "pytest" in test


KEEPS_MEASURES = """
miniflow() {
  command miniflow "$@"
  if [[ $* == "run measure_stdlib"* ]]; then mv reports/stdlib_measures.json "$(mktemp measures.XXXXXX)"; fi
}
"""


@pytest.mark.long
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_every_command_works_in_the_order_of_the_page(project: Path) -> None:
    commands = blocks("sh")[2:]
    assert len(commands) >= 8
    script = "set -euo pipefail\n" + KEEPS_MEASURES + "\n".join(commands)
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=project,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "greet │ hello moon" in result.stdout
    assert "again │ hello --to moon" in result.stdout
    # The flow that measures the standard library takes longest of all. That its result does not depend on the worker limit is
    # seen here, where it runs one task at a time and many.
    one_at_a_time, at_once = sorted(project.glob("measures.*"))
    assert one_at_a_time.read_bytes() == at_once.read_bytes()


@pytest.mark.parametrize("example", blocks("python"), ids=range(len(blocks("python"))))
def test_every_python_example_works(project: Path, example: str) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_every_flow_file_is_one(project: Path) -> None:
    for text in blocks("json"):
        assert parse_flow(text).name


def test_the_flow_reference_shows_and_explains_every_field() -> None:
    from miniflow.fields import RETRIES_FIELDS
    from miniflow.parse import FLOW_FIELDS, PARAM_FIELDS, TASK_FIELDS

    (example,) = blocks("json")
    flow = json.loads(example)
    assert set(flow) == set(FLOW_FIELDS)
    assert {key for task in flow["tasks"] for key in task} == set(TASK_FIELDS)
    for field in (*FLOW_FIELDS, *TASK_FIELDS, *PARAM_FIELDS, *RETRIES_FIELDS):
        assert f"`{field}`" in README, field


def test_every_log_pipeline_configuration_is_well_formed() -> None:
    (vector,) = blocks("toml")
    configuration = tomllib.loads(vector)
    known = {*configuration["sources"], *configuration["transforms"]}
    for part in (*configuration["transforms"].values(), *configuration["sinks"].values()):
        assert set(part["inputs"]) <= known


def with_subcommands(command: Any) -> list[Any]:
    """Return a command, and all that are called by it."""
    import click

    if not isinstance(command, click.Group):
        return [command]
    context = click.Context(command)
    inner = [command.get_command(context, name) for name in command.list_commands(context)]
    return [command, *(found for each in inner for found in with_subcommands(each))]


def test_every_option_and_variable_of_the_commands_is_in_the_reference() -> None:
    from miniflow.cli import cli

    for command in with_subcommands(cli):
        for parameter in command.params:
            for name in (*parameter.opts, *([parameter.envvar] if isinstance(parameter.envvar, str) else [])):
                if name.startswith(("-", "MINIFLOW")):
                    assert f"`{name}" in README, name


def test_every_event_and_its_keys_are_in_the_reference() -> None:
    exported = [getattr(miniflow, name) for name in miniflow.__all__]
    events = [kind for kind in exported if isinstance(kind, type) and issubclass(kind, miniflow.Event)]
    names = {kind.name for kind in events if kind is not miniflow.Event}
    assert len(names) == 9
    for name in names:
        assert f"`{name}`" in README
