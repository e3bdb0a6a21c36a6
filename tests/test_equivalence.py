"""One flow, one outcome: the canonical bash script, the scheduler with one worker, and the scheduler with four."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniflow import TaskResult, plan_flow, read_run, run_flow, write_script
from tests.conftest import RECORDER, Space
from tests.hostile import file_names, texts, variable_names

FOLDER = "it's $(touch canary)\nhere"
"""A working directory that is there; `gone` is not."""

OWN_OF_EACH_RUN = {"RECORDS", "MINIFLOW_RUN_ID", "MINIFLOW_RUN_DIR"}
OWN_OF_BASH = {"PWD", "OLDPWD", "SHLVL", "_", "PS1", "PS2"}


@dataclass
class Seen:
    """What is left of a run: what is compared."""

    exit_status: int
    state: str
    statuses: dict[str, str]
    tasks: dict[str, TaskResult]
    records: dict[str, Any]
    """By attempt: argv, working directory and environment."""
    journal: list[dict[str, Any]]

    def ends(self) -> dict[str, tuple[Any, ...]]:
        return {
            name: (task.state, task.reason, task.exit_status, task.signal, task.attempts)
            for name, task in self.tasks.items()
        }  # fmt: skip

    def ran(self) -> set[str]:
        return {name for name, task in self.tasks.items() if task.attempts}


def seen(run_dir: Path, exit_status: int, records_dir: Path) -> Seen:
    run_dir = run_dir.resolve()
    result = read_run(run_dir)
    records = {path.stem: json.loads(path.read_bytes()) for path in records_dir.glob("*.json")}
    for record in records.values():
        for name in OWN_OF_EACH_RUN | OWN_OF_BASH:
            record["env"].pop(name, None)
    journal = []
    for line in (run_dir / "events.jsonl").read_text().replace(run_dir.name, "RUN").split("\n")[:-1]:
        event = json.loads(line)
        event["message"] = re.sub(r"in \d+\.\d\d s", "in N s", event["message"])
        for name in ("timestamp", "pid", "duration_s"):
            if name in event:
                event[name] = type(event[name])()
        event.pop("start_time", None)  # the script does not know it
        journal.append(event)
    statuses = {path.name: path.read_text() for path in (run_dir / "status").iterdir()}
    assert result.exit_status == exit_status
    return Seen(exit_status, result.state, statuses, dict(result.tasks), records, journal)


class World:
    """A folder in which one flow is run in all ways."""

    def __init__(self, root: Path, flow: Mapping[str, Any], *, keep_going: bool, **options: Any) -> None:
        self.root, self.flow, self.keep_going, self.options = root, flow, keep_going, options
        self.work_dir = root / "work"
        (self.work_dir / FOLDER).mkdir(parents=True)
        (root / "tasks" / "sub").mkdir(parents=True)
        for name in ("record.py", "sub/record.py"):
            (root / "tasks" / name).write_text(RECORDER)
        program = root / "tasks" / "record"
        program.write_text(f"#!{sys.executable}\n{RECORDER}")
        program.chmod(0o755)
        (root / "tasks" / "by_sh").write_text(f'exec {sys.executable} "$0.py" "$@"\n')  # no first line that says so
        (root / "tasks" / "by_sh").chmod(0o755)
        (root / "tasks" / "by_sh.py").write_text(RECORDER)

    @contextlib.contextmanager
    def _inside(self, name: str) -> Iterator[Path]:
        records = self.root / f"records of {name}"
        records.mkdir()
        before = dict(os.environ)
        try:
            os.environ["RECORDS"] = str(records)
            with contextlib.chdir(self.work_dir):
                yield records
        finally:
            os.environ.clear()
            os.environ.update(before)
        assert not list(self.root.rglob("canary"))

    def _options(self, name: str) -> dict[str, Any]:
        return {
            "flows_dir": self.root,
            "tasks_dir": self.root / "tasks",
            "output_dir": self.root / name,
            "python": sys.executable,
            "keep_going": self.keep_going,
            **self.options,
        }

    def bash(self) -> Seen:
        """Run the script."""
        with self._inside("bash") as records:
            script = write_script(plan_flow(self.flow, **self._options("by bash")))
            # Named, as the environment of this process has more than Python knows: readline adds to it.
            env = dict(os.environ)
            done = subprocess.run(
                ["bash", script], cwd="/", env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
        return seen(self.root / "by bash" / self.flow["name"] / "latest", done.returncode, records)

    def scheduler(self, parallel: int) -> Seen:
        """Run the flow with so many workers."""
        name = f"by {parallel}"
        with self._inside(name) as records:
            result = anyio.run(lambda: run_flow(self.flow, parallel=parallel, **self._options(name)))
        assert result.exit_status is not None
        return seen(result.run_dir, result.exit_status, records)


# --- flows

values = st.one_of(texts, st.sampled_from(["{{ params.p }}", "x{{ params.p }}", "{{ task.id }}", "\\{{"]))
scalars = st.one_of(values, st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
option_names = texts.filter(lambda text: text and not text.startswith("-"))
args = st.one_of(
    st.lists(scalars, max_size=4),
    st.dictionaries(option_names, st.one_of(scalars, st.none(), st.lists(scalars, max_size=2)), max_size=3),
)
behaviours = st.lists(st.sampled_from([0, 0, 0, 0, 1, 3, 75, 126, 255, "SIGKILL", "SIGTERM"]), min_size=1, max_size=3)
retries = st.one_of(
    st.just(0),
    st.just(2),
    st.fixed_dictionaries(
        {"max": st.integers(0, 2), "delay": st.sampled_from([0, 0.01, 0.05]), "backoff": st.sampled_from([1, 2])},
        optional={"on_exit_codes": st.lists(st.sampled_from([1, 3, 75, 124, 137]), min_size=1, unique=True)},
    ),
)
rules = st.sampled_from(["all_success", "all_success", "all_done", "one_failed"])


@st.composite
def tasks_of_flows(draw: st.DrawFn) -> list[dict[str, Any]]:
    count = draw(st.integers(1, 8))
    ids = draw(st.permutations(["a", "b.1", "c-d", "if", "_", "0", "x.sh", "a.tmp", "_.tmp"]))[:count]
    tasks: list[dict[str, Any]] = []
    for index, task_id in enumerate(ids):
        hangs = draw(st.integers(0, 15)) == 15
        task: dict[str, Any] = {
            "id": task_id,
            "script": draw(st.sampled_from(["record.py", "sub/record.py", "record", "by_sh"])),
            "description": draw(texts),
            "depends_on": draw(st.lists(st.sampled_from(ids[:index]), unique=True, max_size=3)) if index else [],
            "args": draw(args),
            "env": {**draw(st.dictionaries(variable_names, scalars, max_size=2)), "BEHAVIOUR": json.dumps(draw(behaviours))},
            "trigger_rule": draw(rules),
            "retries": draw(retries),
        }
        if hangs:
            task |= {"timeout": 0.3, "retries": draw(st.integers(0, 1))}
            task["env"]["BEHAVIOUR"] = '["hang"]'
        elif draw(st.booleans()):
            task["timeout"] = "10m"
        where = draw(st.sampled_from([None, None, None, FOLDER, "gone"]))
        if where:
            task["cwd"] = where
        tasks.append(task)
    return draw(st.permutations(tasks))


flows = st.builds(
    lambda tasks, env, params: {"name": "demo", "env": env, "params": {"p": params}, "tasks": tasks},
    tasks_of_flows(),
    st.dictionaries(variable_names, scalars, max_size=2),
    st.one_of(texts, st.integers(), st.booleans(), file_names),
)

# --- what must hold


def check_rules(world: World, run: Seen) -> None:
    """Judge every task by the table of trigger rules, from how its upstream ended in this very run."""
    some_failed = any(task.state == "failed" for task in run.tasks.values())
    assert run.tasks.keys() == {task["id"] for task in world.flow["tasks"]}
    for task in world.flow["tasks"]:
        end = run.tasks[task["id"]]
        upstream = [run.tasks[name] for name in task["depends_on"]]
        failed = [up for up in upstream if up.state == "failed" or up.reason == "upstream_failed"]
        cancelled = [up for up in upstream if up.state == "cancelled"]
        skipped = [up for up in upstream if up.state == "skipped"]
        expected = None
        if task["trigger_rule"] == "all_success" and (failed or cancelled):
            expected = ("skipped", "upstream_failed")
        elif task["trigger_rule"] == "all_success" and skipped:
            expected = ("skipped", "upstream_skipped")
        elif task["trigger_rule"] == "one_failed" and not failed:
            expected = ("skipped", "no_failure")
        if expected:
            assert (end.state, end.reason) == expected
        elif end.state == "cancelled":
            assert (end.reason, task["trigger_rule"]) == ("fail_fast", "all_success")
            assert some_failed
            assert not world.keep_going
        else:
            assert end.attempts > 0
    assert run.state == ("failed" if some_failed else "succeeded")
    assert run.statuses == {name: f"{run.tasks[name].exit_status}\n" for name in run.ran()}


def check_attempts(world: World, one: Seen, other: Seen) -> None:
    """Compare the attempts of tasks that ran in both: how often, with what, in what, where."""
    both = one.ran() & other.ran()
    assert {name: one.ends()[name] for name in both} == {name: other.ends()[name] for name in both}
    hanging = {task["id"] for task in world.flow["tasks"] if task["env"]["BEHAVIOUR"] == '["hang"]'}
    for name in both:
        attempts = range(1, one.tasks[name].attempts + 1)
        for key in [f"{name}.{number}" for number in attempts]:
            if one.tasks[name].reason == "spawn":
                assert key not in one.records.keys() | other.records.keys()
            elif name not in hanging or key in one.records.keys() & other.records.keys():  # else: stopped before it could say
                assert one.records[key] == other.records[key]


def check_journals(by_bash: Seen, by_one: Seen) -> None:
    """Compare every event, its keys and their order; all that may differ is when a task is found not to run."""

    def parts(run: Seen) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        not_run = [event for event in run.journal if event["event"] in ("task.skipped", "task.cancelled")]
        return [event for event in run.journal if event not in not_run], sorted(not_run, key=lambda event: event["task_id"])

    for one, other in zip(parts(by_bash), parts(by_one), strict=True):
        assert one == other
        assert [list(event) for event in one] == [list(event) for event in other]


def check_equivalence(flow: Mapping[str, Any], keep_going: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder).resolve(), flow, keep_going=keep_going)
        by_bash, by_one, by_four = world.bash(), world.scheduler(1), world.scheduler(4)
        for run in (by_bash, by_one, by_four):
            check_rules(world, run)
        for run in (by_one, by_four):
            check_attempts(world, by_bash, run)
            assert (run.exit_status, run.state) == (by_bash.exit_status, by_bash.state)
        assert by_one.ends() == by_bash.ends()
        check_journals(by_bash, by_one)
        if keep_going or by_bash.state == "succeeded":
            assert by_four.ends() == by_bash.ends()
        # Otherwise it is up to chance what had started by the time of the first failure.


@pytest.mark.long
@settings(max_examples=12)
@given(flows, st.booleans())
def test_script_and_scheduler_have_the_same_outcome(flow: dict[str, Any], keep_going: bool) -> None:
    check_equivalence(flow, keep_going)


@pytest.mark.stress
@pytest.mark.timeout(0)
@settings(max_examples=2000, derandomize=False)
@given(flows, st.booleans())
def test_script_and_scheduler_have_the_same_outcome_of_many_flows(flow: dict[str, Any], keep_going: bool) -> None:
    check_equivalence(flow, keep_going)


# --- what chance would not find


def behaving(task_id: str, *what: int | str, **fields: Any) -> dict[str, Any]:
    env = {"BEHAVIOUR": json.dumps(what or (0,)), **fields.pop("env", {})}
    return {"id": task_id, "script": "record.py", "depends_on": [], "trigger_rule": "all_success", **fields, "env": env}


CASES: dict[str, list[dict[str, Any]]] = {
    "every end at once": [
        *[behaving(f"exit{status}", status) for status in (0, 1, 2, 124, 126, 127, 128, 255)],
        *[behaving(name, name) for name in ("SIGTERM", "SIGKILL", "SIGINT", "SIGHUP", "SIGUSR2", "SIGPIPE", "SIGALRM")],
    ],
    "a program that is not on the task's PATH": [behaving("a", script="a.sh", env={"PATH": "/gone"}, retries=2)],
    "an empty PATH": [behaving("a", script="a.sh", env={"PATH": ""}, retries=2)],
    "an interpreter that is not there": [behaving("a", script="no_interpreter", retries=2)],
    "an interpreter that is a directory": [behaving("a", script="odd_interpreter", retries=2)],
    "a working directory that is a file": [behaving("a", cwd="file", retries=2)],
    "an absolute working directory": [behaving("a", cwd="/")],
    "a working directory with dots after a link": [behaving("a", cwd="link/..")],
    "a link as working directory": [behaving("a", cwd="link")],
    "an interpreter named by its path": [behaving("a", python="bin/my=python", cwd="link", env={"V": "1"})],
    "an interpreter on the PATH of the task": [behaving("a", python="python3", env={"PATH": "bin"}, cwd="real")],
    "a status worth a retry after one that is not": [behaving("a", 75, 1, 0, retries={"max": 3, "on_exit_codes": [75]})],
    "a timeout that is worth a retry": [behaving("a", "hang", timeout=0.3, retries={"max": 1, "on_exit_codes": [124]})],
    "a failure during the delay of a retry": [
        behaving("a", 1, 0, retries={"max": 1, "delay": 0.1}),
        behaving("b", 1),
        behaving("c", depends_on=["a"]),
    ],
    "a diamond whose one side fails": [
        behaving("d", depends_on=["b", "c"]),
        behaving("e", depends_on=["d"], trigger_rule="one_failed"),
        behaving("a"),
        behaving("b", 7, depends_on=["a"]),
        behaving("c", depends_on=["a"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("keep_going", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_script_and_scheduler_agree_about(tmp_path: Path, case: str, keep_going: bool) -> None:
    world = World(tmp_path, {"name": "demo", "tasks": CASES[case]}, keep_going=keep_going)
    for name, text in {"no_interpreter": "#!/gone/x -y\n", "odd_interpreter": "#! /tmp\n", "a.sh": ""}.items():
        (tmp_path / "tasks" / name).write_text(text)
        (tmp_path / "tasks" / name).chmod(0o755)
    (world.work_dir / "file").touch()
    (world.work_dir / "real" / "inside").mkdir(parents=True)
    (world.work_dir / "link").symlink_to("real/inside")
    for name in ("bin/my=python", "real/bin/python3"):
        python = world.work_dir / name
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nVIA={name} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
    by_bash, by_one = world.bash(), world.scheduler(1)
    check_rules(world, by_bash)
    check_attempts(world, by_bash, by_one)
    check_journals(by_bash, by_one)
    assert by_one.statuses == by_bash.statuses
    if keep_going:
        assert world.scheduler(4).ends() == by_bash.ends()


CLEANS_UP = {
    # bash dies of SIGTERM at once; its child takes longer than the second that a task's leftovers would have.
    "a child of a timed-out .sh task cleans up within the grace": (
        {"timeout": 1},
        """(trap 'trap "" TERM; sleep 1.5; : >cleaned; exit' TERM; while :; do sleep 600 & wait; done) &
        wait
        """,
        ("failed", "timeout", 124, None, 1),
    ),
    "a leftover without a pipe cleans up within its second": (
        {},
        """mkfifo ready
        (
          trap 'trap "" TERM; sleep 0.2; : >cleaned; exit' TERM
          : >ready
          while :; do sleep 600 & wait; done
        ) </dev/null >/dev/null 2>&1 &
        : <ready
        """,
        ("succeeded", "exit", 0, None, 1),
    ),
}


@pytest.mark.parametrize("parallel", [0, 1], ids=["bash", "scheduler"])
@pytest.mark.parametrize("what", CLEANS_UP)
def test_in_script_and_scheduler(tmp_path: Path, what: str, parallel: int) -> None:
    fields, text, end = CLEANS_UP[what]
    task = {"id": "a", "script": "clean.sh", **fields}
    world = World(tmp_path, {"name": "demo", "tasks": [task]}, keep_going=False)
    (tmp_path / "tasks" / "clean.sh").write_text(text)
    run = world.scheduler(parallel) if parallel else world.bash()
    assert run.ends() == {"a": end}
    assert (world.work_dir / "cleaned").exists()


def test_the_command_line_exits_as_the_script_does(space: Space) -> None:
    space.recorder()
    space.flow({"name": "demo", "tasks": [{"id": "a", "script": "record.py"}]})
    for exit_status in (0, 1):
        env = {"BEHAVIOUR": json.dumps([exit_status])}
        script = space.path / space.miniflow("run", "demo", "--dry-run").stdout.strip()
        assert space.bash(script, env=env).returncode == exit_status
        assert space.miniflow("run", "demo", env=env).returncode == exit_status
