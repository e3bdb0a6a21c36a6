"""The command that tries a task again by hand: what the run did, in any shell."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from miniflow import plan_flow, render_script
from miniflow.again import command_again
from miniflow.planfile import read_planned
from miniflow.rundir import RunDir
from tests.conftest import Space, only
from tests.conftest import events as journal

HOSTILE = ["", "a b", "$HOME `id` \"x\" 'y'", "new\nline", "\x1b[2J", "-n", "ü ☃", "!!", "~", "*", "a=b"]


def test_a_task_without_more_is_its_command_alone() -> None:
    assert command_again({"argv": ["python3", "/w/tasks/a.py", "--limit", "10"]}) == "python3 /w/tasks/a.py --limit 10"


def test_directory_environment_parameters_and_secrets_stand_before_it() -> None:
    task = {"argv": ["bash", "a.sh"], "cwd": "/w/a b", "env": {"MODE": "very fast", "NONE": ""}, "secret_env": ("TOKEN",)}

    line = command_again(task, {"date": "2023-01-01"})

    assert line == (
        "cd '/w/a b' && env MODE='very fast' NONE= TOKEN=\"${TOKEN:?}\" MINIFLOW_PARAMS='{\"date\":\"2023-01-01\"}' bash a.sh"
    )


def test_a_secret_that_is_not_set_is_missed_before_anything_runs() -> None:
    line = command_again({"argv": ["touch", "/nowhere/at/all"], "secret_env": ["NOT_SET_HERE"]})

    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "NOT_SET_HERE" in done.stderr
    assert "touch" not in done.stderr


@pytest.mark.parametrize("script", ["record.py", "a=b/record"])
def test_it_does_what_the_run_did(space: Space, script: str) -> None:
    space.recorder(script)
    if not script.endswith(".py"):
        path = space.tasks_dir / script
        path.write_text("#!/usr/bin/env python3\n" + path.read_text())
        path.chmod(0o755)
    (space.path / "sub dir").mkdir()
    env = {"A": HOSTILE[2], "B": "", "BEHAVIOUR": "[3]"}
    task = {"id": "t", "script": script, "args": HOSTILE, "env": env, "cwd": "sub dir"}
    space.flow({"name": "f", "secret_env": "TOKEN", "params": {"who": "a b"}, "tasks": [task]})
    caller = {"TOKEN": "only by name"}
    assert space.miniflow("run", "f", env=caller).returncode == 1
    run_dir = space.latest("f")
    plan: dict[str, Any] = json.loads((run_dir / "plan.json").read_text())
    before = space.records()["t.1"]

    line = command_again(plan["tasks"][0], plan["params"])
    # What tells a task who it is does not come from the flow.
    done = subprocess.run(
        ["bash", "-c", line],
        env=space.environ({**caller, "MINIFLOW_ATTEMPT": "1", "MINIFLOW_TASK_ID": "t"}),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )

    after = space.records()["t.1"]
    assert (done.returncode, done.stderr) == (3, "")
    assert "only by name" not in line
    assert (after["argv"], after["cwd"]) == (before["argv"], before["cwd"])
    for name in ("A", "B", "TOKEN", "MINIFLOW_PARAMS"):
        assert after["env"][name] == before["env"][name]


def test_a_journal_alone_gives_the_command(space: Space) -> None:
    space.recorder()
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "record.py", "args": ["a b"]}]})
    assert space.miniflow("run", "f").returncode == 0

    started = only(journal(space.latest("f")), "task.started")[0]

    assert command_again(started).endswith("/record.py 'a b'")


def test_the_copy_of_a_script_gives_what_was_planned(space: Space) -> None:
    hostile = ["a b", "it's", '"${MINIFLOW_TASKS_DIR:-x}"/no.sh', "new\nline", "", "~", "$HOME", "a=b", "é\u2028"]
    space.script("it's (a) task.py")
    (space.tasks_dir / "a=b").mkdir()
    space.script("a=b/own", "#!/bin/sh\n", mode=0o755)
    space.script("plain.sh")
    env = {f"V{number}": text for number, text in enumerate(hostile)}
    tasks = [
        {"id": "py", "script": "it's (a) task.py", "args": hostile, "env": env, "cwd": "sub dir/it's"},
        {"id": "named", "script": "it's (a) task.py", "python": "bin/it's python", "secret_env": "OF_ONE", "cwd": "/"},
        {"id": "own", "script": "a=b/own", "env": {"env": "A=b"}, "timeout": "1m30s"},
        {
            "id": "sh",
            "script": "plain.sh",
            "args": ["env", "A=b"],
            "retries": {"max": 2, "delay": 0.5, "on_exit_codes": [7, 3]},
        },
    ]
    path = space.flow({"name": "f", "params": {"p": hostile}, "secret_env": "OF_ALL", "tasks": tasks})
    tasks_dir = space.path / 'it\'s $HOME `x` \\ "quoted" {tasks}'
    space.tasks_dir.rename(tasks_dir)
    plan = plan_flow(path, flows_dir=space.flows_dir, tasks_dir=tasks_dir, output_dir=space.output_dir)
    (run_dir := RunDir(space.output_dir / "f" / "20261123T093612.041Z-3f9a1c")).path.mkdir(parents=True)
    run_dir.script.write_text(render_script(plan))

    params, planned = read_planned(run_dir)

    document = json.loads(json.dumps(plan.to_json()))
    assert params == document["params"]
    assert planned == {task["id"]: {"secret_env": [], **task} for task in document["tasks"]}
