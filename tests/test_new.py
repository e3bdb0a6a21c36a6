"""`miniflow new`: a flow and a task to start from, which run at once; never at the cost of what is there."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import Space, events, only


def call(*args: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as it is usually called, in a directory that may hold nothing yet."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MINIFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "miniflow", *args],
        cwd=cwd,
        env=environment | dict(env or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def content(path: Path) -> dict[str, str | None]:
    """Return what is in a directory: the texts of files, None for directories."""
    return {str(found.relative_to(path)): found.read_text() if found.is_file() else None for found in sorted(path.rglob("*"))}


def test_a_flow_and_a_script_are_made_in_directories_that_are_not_there_yet(tmp_path: Path) -> None:
    result = call("new", "hello", cwd=tmp_path)
    assert result.stdout == "made flows/hello.json\nmade tasks/hello.py\nrun it: miniflow run hello\n"
    assert (result.stderr, result.returncode) == ("", 0)
    assert content(tmp_path).keys() == {"flows", "flows/hello.json", "tasks", "tasks/hello.py"}


@pytest.mark.parametrize("name", ["hello", "0", "_", "a.b-c", "x.py", "NAME", "SCRIPT", "x" * 200, "json", "argparse", "os"])
def test_it_runs_at_once(tmp_path: Path, name: str) -> None:
    assert call("new", name, cwd=tmp_path).returncode == 0
    assert call("validate", cwd=tmp_path).stdout == "1 flow is valid\n"
    result = call("run", name, "-p", '{"who": "moon"}', cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    output = only(events(tmp_path / "miniflow_output" / name / "latest"), "task.finished")
    assert [event["state"] for event in output] == ["succeeded", "succeeded"]
    assert "hello moon" in result.stdout
    assert "goodbye moon" in result.stdout


def test_the_script_runs_by_hand_as_it_says(tmp_path: Path) -> None:
    call("new", "hello", cwd=tmp_path)
    script = tmp_path / "tasks/hello.py"
    [command] = [line.strip() for line in script.read_text().splitlines() if line.startswith("    python3 ")]
    result = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=script.parent, capture_output=True, text=True, check=True
    )
    assert result.stdout == "hello moon, from task run by hand\n"


def test_it_says_how_to_run_the_flow_from_other_directories(tmp_path: Path) -> None:
    result = call("-f", "my flows", "-t", "scripts/new", "-o", "./miniflow_output", "new", "hello", cwd=tmp_path)
    *_, last = result.stdout.splitlines()
    assert last == "run it: miniflow -f 'my flows' -t scripts/new run hello"
    assert call(*shlex.split(last)[3:], cwd=tmp_path).returncode == 0
    result = call("new", "hello", cwd=tmp_path, env={"MINIFLOW_FLOWS_DIR": "others"})
    assert result.stdout.endswith("\nrun it: miniflow run hello\n")


def test_it_names_the_schema_that_is_beside_the_flows(tmp_path: Path) -> None:
    (tmp_path / "flow.schema.json").write_text(call("schema", cwd=tmp_path).stdout)
    call("new", "hello", cwd=tmp_path)
    flow = json.loads((tmp_path / "flows/hello.json").read_text())
    assert (tmp_path / "flows" / flow["$schema"]).resolve() == tmp_path / "flow.schema.json"
    assert call("run", "hello", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "there", [["flows/hello.json"], ["tasks/hello.py"], ["flows/hello.json", "tasks/hello.py"]], ids=" ".join
)
@pytest.mark.parametrize("kind", ["file", "link to nowhere", "directory"])
def test_nothing_that_is_there_is_overwritten_and_nothing_else_is_made(tmp_path: Path, there: list[str], kind: str) -> None:
    for name in there:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if kind == "file":
            path.write_text("mine")
        elif kind == "directory":
            path.mkdir()
        else:
            path.symlink_to("nowhere")
    before = content(tmp_path)
    result = call("new", "hello", cwd=tmp_path)
    are = "are" if len(there) > 1 else "is"
    expected = f"error: {' and '.join(there)} {are} there already, and nothing was made; choose another name\n"
    assert (result.stdout, result.stderr, result.returncode) == ("", expected, 2)
    assert content(tmp_path) == before


def test_a_flow_of_that_name_in_another_file_is_told(space: Space) -> None:
    space.script("a.py")
    space.flow({"name": "hello", "tasks": [{"id": "a", "script": "a.py"}]}, "other")
    before = content(space.path)
    result = call("new", "hello", cwd=space.path)
    assert result.stderr == 'error: flows/other.json holds a flow named "hello" already, and nothing was made\n'
    assert (result.returncode, content(space.path)) == (2, before)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b", '"a b" is no flow name: letters, digits and _ . - alone, the first a letter, digit or _'),
        ("../x", '"../x" is no flow name: letters, digits and _ . - alone, the first a letter, digit or _'),
        ("", '"" is no flow name: letters, digits and _ . - alone, the first a letter, digit or _'),
        ("x" * 201, "the name is longer than 200 characters"),
        ("x.sh", '"x.sh" ends with ".sh", like the script that is written beside its runs'),
        ("x.json", '"x.json" is the name of a file; a flow is named without .json'),
    ],
)
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str, expected: str) -> None:
    result = call("new", name, cwd=tmp_path)
    assert (result.stdout, result.stderr, result.returncode) == ("", f"error: {expected}\n", 2)
    assert content(tmp_path) == {}


def test_if_one_file_cannot_be_made_neither_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = call("-f", "file/below", "new", "hello", cwd=tmp_path)
    assert (result.stdout, result.stderr, result.returncode) == ("", "error: cannot write file: Not a directory\n", 2)
    assert content(tmp_path) == {"file": "mine"}


def test_if_the_disk_is_full_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    command = f"ulimit -f 0; trap '' XFSZ; {sys.executable} -B -m miniflow new hello 2>&1 | cat"
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout == "error: cannot write tasks/hello.py: File too large\n"
    assert content(tmp_path) == {"tasks": None}


def test_of_many_that_make_the_same_flow_at_once_one_makes_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "miniflow", "new", "hello"]
    processes = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(8)]
    for process in processes:
        process.communicate()
    assert sorted(process.returncode for process in processes) == [0, *[2] * 7]
    assert call("run", "hello", cwd=tmp_path).returncode == 0
