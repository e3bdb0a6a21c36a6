"""What shells complete: ids of tasks, names of flows. Their side of it is click's; ours is what is offered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Space

MINIFLOW = Path(sys.executable).with_name("miniflow")
HEAVY = {"asyncio", "anyio", "structlog", "msgspec", "trio", "rich", "subprocess"}


@pytest.fixture
def project(space: Space) -> Space:
    tasks = [
        {"id": "fetch_data", "script": "x.py", "description": "Get\nthe:\trows"},
        {"id": "fetch_rates", "script": "x.py"},
        {"id": "report", "script": "x.py", "depends_on": ["fetch_data", "fetch_rates"]},
    ]
    space.flow({"name": "demo", "tasks": tasks})
    space.flow({"name": "daily", "tasks": [{"id": "one", "script": "x.py"}]}, name="another_file")
    space.flow("{", name="broken")
    return space


def environment(project: Space, **env: str) -> dict[str, str]:
    return project.environ({"PATH": f"{MINIFLOW.parent}{os.pathsep}{os.environ['PATH']}", **env})


def completed(project: Space, line: str, shell: str = "bash", **variables: str) -> list[str]:
    """Return what the command prints for a shell in which a line has been typed, its last word not to the end."""
    words = line.split(" ")
    last = words[-1] if shell == "fish" else str(len(words) - 1)
    env = environment(project, _MINIFLOW_COMPLETE=f"{shell}_complete", COMP_WORDS=line, COMP_CWORD=last, **variables)
    done = subprocess.run([MINIFLOW], cwd=project.path, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def plain(project: Space, line: str, **variables: str) -> list[str]:
    return [word.removeprefix("plain,") for word in completed(project, line, **variables) if word]


ALL = ["fetch_data", "fetch_rates", "report"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("miniflow run demo --only ", ALL),
        ("miniflow run demo --from f", ALL[:2]),
        ("miniflow run demo --until fetch_r", ["fetch_rates"]),
        ("miniflow run demo --only report --only ", ALL[:2]),
        ("miniflow run demo --only report --from ", ALL),
        ("miniflow run --parallel 2 demo --keep-going --from r", ["report"]),
        ("miniflow run flows/demo.json --only ", ALL),
        ("miniflow run demo.json --only ", ALL),
        ("miniflow run daily --only ", ["one"]),
        ("miniflow -f flows run demo --only r", ["report"]),
        ("miniflow --flows-dir flows -l ERROR run demo --only r", ["report"]),
        ("miniflow -f ~ run ~/demo.json --only r", ["report"]),
        ("miniflow -f ~ run demo --only r", ["report"]),
        ("miniflow run demo --only x", []),
    ],
)
def test_the_ids_of_the_flow_on_the_command_line_are_offered(
    project: Space, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    monkeypatch.setenv("HOME", str(project.flows_dir))
    assert plain(project, line) == expected


def test_the_flows_directory_of_the_environment_counts(project: Space) -> None:
    project.flows_dir.rename(project.path / "elsewhere")
    assert plain(project, "miniflow run demo --only r") == []
    assert plain(project, "miniflow run demo --only r", MINIFLOW_FLOWS_DIR="elsewhere") == ["report"]


def test_names_of_flows_are_offered_and_files_where_a_path_is_typed(project: Space) -> None:
    assert plain(project, "miniflow run ") == ["broken", "daily", "demo"]
    assert plain(project, "miniflow run d") == ["daily", "demo"]
    assert completed(project, "miniflow run ./fl") == ["file,./fl"]


@pytest.mark.parametrize(
    "line",
    [
        "miniflow run --only ",
        "miniflow run broken --only ",
        "miniflow run nobody --only ",
        "miniflow run flows --only ",
        "miniflow run /dev/zero --only ",
        "miniflow run ~no_such_user/x --only ",
        "miniflow -f /nowhere run demo --only ",
        "miniflow -f /nowhere run ",
        "miniflow -f ~no_such_user run ",
    ],
)
def test_what_is_wrong_completes_to_nothing_without_a_word(project: Space, line: str) -> None:
    assert plain(project, line) == []


def test_a_name_that_is_none_is_not_offered(project: Space) -> None:
    project.flow('{"name": "$(touch x)\\n a b"}', name="odd")
    assert plain(project, "miniflow run ") == ["broken", "daily", "demo"]


def test_shells_that_show_descriptions_get_them_on_one_line(project: Space) -> None:
    zsh = completed(project, "miniflow run demo --only fetch", "zsh")
    assert zsh == ["plain", "fetch_data", "Get the: rows", "plain", "fetch_rates", "_"]
    fish = completed(project, "miniflow run demo --only fetch", "fish")
    assert fish == ["plain,fetch_data\tGet the: rows", "plain,fetch_rates"]


def test_runs_that_can_be_resumed_are_offered_the_latest_first(project: Space) -> None:
    runs = ["20260101T000000.000Z-00000a", "20260102T000000.000Z-00000b"]
    for run in runs:
        (project.path / "miniflow_output/demo" / run).mkdir(parents=True)
    assert plain(project, "miniflow run demo --resume ") == ["latest", *reversed(runs)]
    assert plain(project, "miniflow run demo --resume 20260101") == runs[:1]
    assert plain(project, f"miniflow run {'x' * 300} --resume ") == ["latest"]


@pytest.mark.parametrize("line", ["miniflow run demo --only ", "miniflow run demo --resume ", "miniflow run "])
def test_nothing_heavy_is_loaded_for_it(project: Space, line: str) -> None:
    program = f"""
import sys
from miniflow.commandline import main
try:
    main()
except SystemExit:
    print(sorted({HEAVY} & set(sys.modules)))
"""
    env = environment(project, _MINIFLOW_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(line.split(" ")) - 1))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project.path, env=env, capture_output=True, text=True, check=True
    )
    *offered, loaded = done.stdout.splitlines()
    assert offered
    assert loaded == "[]"


BASH = """
eval "$(_MINIFLOW_COMPLETE=bash_source miniflow)"
COMP_WORDS=(miniflow run demo --from fe) COMP_CWORD=4
_miniflow_completion miniflow fe --from
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
autoload -Uz compinit && compinit -u -D
eval "$(_MINIFLOW_COMPLETE=zsh_source miniflow)"
compadd() { print -l -- "${completions[@]}" }
_describe() { print -l -- "${completions_with_descriptions[@]%%:*}" }
words=(miniflow run demo --from fe) CURRENT=5
_miniflow_completion
"""
FISH = """
_MINIFLOW_COMPLETE=fish_source miniflow | source
complete --do-complete "miniflow run demo --from fe" | string replace -r "\\t.*" ""
"""


@pytest.mark.parametrize(("shell", "program"), [("bash", BASH), ("zsh", ZSH), ("fish", FISH)])
def test_the_line_of_the_readme_switches_it_on(project: Space, shell: str, program: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(
        [shell, "-c", program], cwd=project.path, env=environment(project), capture_output=True, text=True, check=False
    )
    assert sorted(done.stdout.split()) == ALL[:2], done.stderr
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    line = program.strip().splitlines()[1 if shell == "zsh" else 0]
    assert line in readme.replace("\\|", "|")  # as it is written in a table
