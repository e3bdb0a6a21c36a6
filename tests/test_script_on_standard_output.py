"""`miniflow script`: the bash script that `run --dry-run` writes, on standard output."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import Space


@pytest.fixture
def project(space: Space) -> Space:
    """A flow of three tasks whose plan depends on every option that decides about one."""
    space.script("say.py", "import sys; print(*sys.argv[1:])")
    tasks = [
        {"id": "a", "script": "say.py", "args": ["{{ params.what }}", "ü"]},
        {"id": "b", "script": "say.py", "depends_on": "a"},
        {"id": "c", "script": "say.py", "depends_on": "b"},
    ]
    space.flow({"name": "talk", "params": {"what": "hello"}, "tasks": tasks})
    return space


OPTIONS = [
    [],
    ["-p", '{"what": "good day"}'],
    ["--keep-going"],
    ["--only", "b"],
    ["--from", "b"],
    ["--until", "b"],
    ["--grace", "500ms"],
    ["--timeout", "1h"],
    ["--python", "python3"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=[" ".join(options) for options in OPTIONS])
def test_it_prints_the_bytes_that_a_dry_run_writes_and_makes_nothing(project: Space, options: list[str]) -> None:
    printed = project.miniflow("script", "talk", *options)
    assert not project.output_dir.exists()
    project.miniflow("run", "talk", "--dry-run", *options)
    written = (project.output_dir / "talk.sh").read_bytes()
    assert (printed.stdout.encode(), printed.stderr, printed.returncode) == (written, "", 0)


def test_each_option_makes_another_script(project: Space) -> None:
    assert len({project.miniflow("script", "talk", *options).stdout for options in OPTIONS}) == len(OPTIONS)


def test_bash_runs_it_from_a_pipe(project: Space) -> None:
    directories = f"-f {project.flows_dir} -t {project.tasks_dir} -o {project.output_dir}"
    command = f"{sys.executable} -m miniflow {directories} script talk | bash"
    result = subprocess.run(
        ["bash", "-c", command], cwd=project.path, env=project.environ(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert (project.latest("talk") / "status/c").read_text() == "0\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tlak"], 'no flow "tlak" in flows; did you mean "talk"?'),
        (["talk", "-p", '{"waht": 1}'], 'declares no parameter "waht"; did you mean "what"?'),
        (["talk", "--only", "d"], 'no task "d"'),
        (["talk", "--grace", "soon"], "--grace must be a duration"),
        ([], "Missing argument 'FLOW'"),
        (["talk", "--parallel", "2"], "No such option"),
    ],
)
def test_a_mistake_prints_no_part_of_a_script(project: Space, arguments: list[str], expected: str) -> None:
    environment = {"MINIFLOW_FLOWS_DIR": "flows"}
    result = subprocess.run(
        [sys.executable, "-m", "miniflow", "script", *arguments],
        cwd=project.path,
        env=project.environ(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.returncode) == ("", 2)
    assert expected in result.stderr


def test_a_full_disk_is_an_error(project: Space) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "miniflow", "script", "talk"],
            cwd=project.path,
            env={**os.environ, **project.environ({})},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (result.stderr, result.returncode) == ("error: cannot write standard output: No space left on device\n", 2)
