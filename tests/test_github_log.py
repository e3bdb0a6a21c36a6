"""Under GitHub Actions: the output of each task in one piece and none of it obeyed, failures at their line of the flow file."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniflow.events import LEVELS, TaskFinished
from miniflow.sinks.github import annotation, inert, workflow_command
from tests.conftest import Space

HOSTILE = """
import sys
print("::error::not mine")
print("  ::set-output name=x::y")
print("::stop-commands::me")
print("a\\r::add-path::/tmp")
print("see ##[add-path]/tmp")
print("\\x1b[2Jgone")
print("loud", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


class Runner:
    """Reads a log as the service does: obeys commands, but not while they are stopped."""

    def __init__(self, text: str) -> None:
        self.obeyed: list[tuple[str, dict[str, str], str]] = []
        self.groups: dict[str, list[str]] = {}
        group: list[str] | None = None
        stopped: str | None = None
        for line in re.split(r"\r\n|\r|\n", text):
            match = re.fullmatch(r"\s*::([^ :]+)(?: ([^:]*))?::(.*)", line)
            if stopped is not None:
                if match and match[1] == stopped:
                    stopped = None
                elif group is not None:
                    group.append(line)
                assert "##[" not in line
                continue
            if not match:
                assert "##[" not in line
                continue
            name, properties, message = match.groups()
            if name == "stop-commands":
                stopped = message
            elif name == "group":
                assert group is None, "a group within a group"
                group = self.groups.setdefault(message, [])
            elif name == "endgroup":
                assert group is not None
                group = None
            else:
                pairs = dict(pair.split("=", 1) for pair in (properties or "").split(",") if pair)
                self.obeyed.append((name, {key: unescaped(value) for key, value in pairs.items()}, unescaped(message)))
        assert group is None
        assert stopped is None


def unescaped(text: str) -> str:
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


FLOW = """{
  "name": "x",
  "tasks": [
    {"id": "good", "script": "hostile.py", "args": ["0"]},
    {"script": "hostile.py", "args": ["3"],
     "id": "bad", "retries": 1},
    {"id": "after", "script": "hostile.py", "depends_on": "bad"}
  ]
}"""


def run(space: Space, *args: str, **env: str) -> tuple[Runner, subprocess.CompletedProcess[str]]:
    space.script("hostile.py", HOSTILE)
    space.flow(FLOW, "x")
    done = space.miniflow("run", "x", *args, env={"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(space.path), **env})
    return Runner(done.stdout), done


SHOWN = [
    "::error::not mine",
    "  ::set-output name=x::y",
    "::stop-commands::me",
    "a\\r::add-path::/tmp",
    "see \\x23#[add-path]/tmp",
    "\\x1b[2Jgone",
    "loud",
]


def test_each_attempt_of_a_task_that_runs_alone_is_a_group(space: Space) -> None:
    log, done = run(space, "--keep-going")

    assert log.groups == {"good": SHOWN, "bad": SHOWN, "bad, attempt 2": SHOWN}
    assert done.returncode == 1
    assert done.stderr == ""


def test_the_output_of_tasks_that_run_at_once_is_shown_whole_when_they_have_ended(space: Space) -> None:
    log, done = run(space, "--keep-going", "--parallel", "2")

    assert log.groups == {"good": SHOWN, "bad": [*SHOWN, *SHOWN]}
    assert done.stderr == ""


@pytest.mark.parametrize("parallel", ["1", "2"])
def test_a_failure_is_an_annotation_at_the_line_of_its_task(space: Space, parallel: str) -> None:
    log, _ = run(space, "--keep-going", "--parallel", parallel)

    (error,) = log.obeyed
    place = {"file": "flows/x.json", "line": "6", "col": "12", "title": "x: bad"}
    assert error[:2] == ("error", place)
    assert error[2].split("\n") == ["bad failed with exit status 3, attempt 2", *SHOWN]


def test_files_are_named_as_they_are_below_the_checkout(space: Space) -> None:
    log, _ = run(space, GITHUB_WORKSPACE=str(space.path.parent))

    assert log.obeyed[0][1]["file"] == f"{space.path.name}/flows/x.json"


def test_a_flow_file_that_is_gone_costs_the_place_alone(space: Space) -> None:
    space.script("rm.py", "import os, sys; os.unlink(sys.argv[1]); sys.exit(1)")
    path = space.flow({"name": "gone", "tasks": [{"id": "a", "script": "rm.py", "args": [str(space.flows_dir / "gone.json")]}]})

    done = space.miniflow("run", "gone", env={"GITHUB_ACTIONS": "true"})

    assert not path.exists()
    assert Runner(done.stdout).obeyed == [("error", {"title": "gone: a"}, "a failed with exit status 1")]


def test_what_is_wrong_with_a_flow_is_an_annotation_at_its_line(space: Space) -> None:
    log, done = run(space, "--only", "bad")
    assert done.returncode == 1
    space.flow(FLOW.replace('"bad",', '"good",'), "x")

    done = space.miniflow("run", "x", env={"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(space.path)})

    assert done.returncode == 2
    log = Runner(done.stdout)
    places = [(name, properties["file"], properties["line"]) for name, properties, _ in log.obeyed]
    assert places == [("error", "flows/x.json", "6"), ("error", "flows/x.json", "7")]
    assert "flows/x.json:6:12: tasks[1].id: " in done.stderr


def test_a_run_that_is_out_of_time_is_an_annotation_of_its_own(space: Space) -> None:
    space.script("wait.py", "import time; time.sleep(600)")
    space.flow({"name": "slow", "tasks": [{"id": "a", "script": "wait.py"}]})

    done = space.miniflow("run", "slow", "--timeout", "0.2", "--grace", "0", env={"GITHUB_ACTIONS": "true"})

    assert done.returncode == 124
    assert [(name, properties["title"]) for name, properties, _ in Runner(done.stdout).obeyed] == [("error", "slow")]


def test_a_level_hides_the_output_and_no_failure(space: Space) -> None:
    for parallel in ("1", "2"):
        space.script("hostile.py", HOSTILE)
        space.flow(FLOW, "x")
        done = space.miniflow("-l", "ERROR", "run", "x", "--parallel", parallel, env={"GITHUB_ACTIONS": "true"})
        log = Runner(done.stdout)
        assert log.groups == {}
        assert [name for name, *_ in log.obeyed] == ["error"]


@pytest.mark.parametrize(
    ("args", "env", "first"),
    [
        ([], {}, '{"timestamp"'),
        ([], {"GITHUB_ACTIONS": "false"}, '{"timestamp"'),
        ([], {"GITHUB_ACTIONS": "true"}, "run "),
        (["--log-format", "json"], {"GITHUB_ACTIONS": "true"}, '{"timestamp"'),
        (["--log-format", "github"], {}, "run "),
        ([], {"MINIFLOW_LOG_FORMAT": "json", "GITHUB_ACTIONS": "true"}, '{"timestamp"'),
    ],
)
def test_the_variable_of_the_service_decides_what_is_not_said(
    space: Space, args: list[str], env: dict[str, str], first: str
) -> None:
    space.script("a.py")
    space.flow({"name": "quick", "tasks": [{"id": "a", "script": "a.py"}]})

    assert space.miniflow("run", "quick", *args, env=env).stdout.startswith(first)


@pytest.mark.long
def test_long_output_of_many_at_once_takes_little_memory(space: Space) -> None:
    space.script("much.py", "import sys\nfor n in range(100_000): sys.stdout.write(f'{n} {sys.argv[1] * 200}\\n')")
    space.flow({"name": "much", "tasks": [{"id": name, "script": "much.py", "args": [name]} for name in "abcd"]})
    program = (
        "import resource, subprocess, sys\n"
        "command = [sys.executable, '-m', 'miniflow', 'run', 'much', '--parallel', '4']\n"
        "subprocess.run(command, stdout=open('log', 'w'), check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    env = space.environ({"GITHUB_ACTIONS": "true"})
    done = subprocess.run([sys.executable, "-c", program], cwd=space.path, env=env, capture_output=True, text=True, check=True)

    log = Runner((space.path / "log").read_text())
    for name in "abcd":
        assert log.groups[name] == [f"{n} {name * 200}" for n in range(100_000)]
    assert int(done.stdout) < 80 * 1024  # of 20 MB of output each


@given(st.text(), st.text(st.characters(exclude_characters="="), min_size=1))
def test_a_command_says_what_it_is_given(message: str, value: str) -> None:
    message, value = (re.sub("[\ud800-\udfff]", "", text) for text in (message, value))
    line = workflow_command("error", message, file=value, line=None)

    match = re.fullmatch(r"::error file=([^,:\r\n]*)::([^\r\n]*)\n", line)
    assert match is not None
    assert (unescaped(match[1]), unescaped(match[2])) == (value, message)


@given(st.text(st.sampled_from("#[:\r\n\x1b a\u2028")))
def test_no_line_of_a_task_can_be_more_than_one_or_a_mark(text: str) -> None:
    shown = inert(text)
    assert shown.count("\n") == text.count("\n") + 1
    assert not {"\r", "\x1b", "\u2028"} & set(shown)
    assert "##[" not in shown


def test_every_failure_has_an_annotation_whatever_is_shown() -> None:
    event = TaskFinished(0, "x", "r", "a", 1, "failed", 126, "spawn", None, "no\nsuch ##[file]", 0.0, 1)

    assert LEVELS[event.level] == LEVELS["error"]
    assert annotation(event, "x: a") == "::error title=x%3A a::a could not be started: no\\nsuch \\x23#[file]\n"
