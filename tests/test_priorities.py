"""What starts first when more is ready than may run: the longest way to the end, by how long tasks have taken before."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from miniflow import Event, RunResult, run_flow
from miniflow.events import TaskFinished
from miniflow.history import MOST_RUNS, earlier_durations
from tests.conftest import Space, events, only


def task(task_id: str, *upstream: str, **fields: Any) -> dict[str, Any]:
    return {"id": task_id, "script": "task.sh", "depends_on": list(upstream), **fields}


TASKS = [task("first"), task("second"), task("third"), task("long"), task("longer", "long")]


@pytest.fixture
def project(space: Space) -> Space:
    space.script("task.sh", 'exit "${STATUS:-0}"')
    return space


def run(space: Space, tasks: list[dict[str, Any]], **options: Any) -> RunResult:
    with contextlib.chdir(space.path):
        return anyio.run(lambda: run_flow({"name": "x", "tasks": tasks}, **space.directories, **{"parallel": 2, **options}))


def started(result: RunResult) -> list[str]:
    return [event["task_id"] for event in only(events(result.run_dir), "task.started")]


class Runs:
    """Earlier runs as others have left them, the oldest first."""

    def __init__(self, space: Space) -> None:
        self._base = space.output_dir / "x"
        self._count = 0

    def add(self, name: str, content: str | bytes) -> Path:
        self._count += 1
        run_dir = self._base / f"20230101T000000.{self._count:03d}Z-00000a"
        run_dir.mkdir(parents=True)
        (run_dir / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return run_dir

    def summary(self, **durations_s: Any) -> Path:
        """Add a run that has come to its end."""
        return self.add("run.json", json.dumps({"tasks": {name: end(seconds) for name, seconds in durations_s.items()}}))

    def journal(self, **durations_s: Any) -> Path:
        """Add a run that was broken off."""
        finished = [{"event": "task.finished", "task_id": name} | end(seconds) for name, seconds in durations_s.items()]
        lines = [{"event": "run.started"}, *finished, {"event": "task.started", "task_id": "first", "pid": 1}]
        return self.add("events.jsonl", "".join(json.dumps(line) + "\n" for line in lines) + '{"event": "task.fin')

    def known(self, *task_ids: str) -> Mapping[str, float]:
        return earlier_durations(self._base.parent, "x", task_ids or [each["id"] for each in TASKS])


def end(seconds: Any) -> dict[str, Any]:
    return {"state": "succeeded", "exit_status": 0, "reason": "exit", "attempts": 1, "duration_s": seconds}


@pytest.fixture
def runs(project: Space) -> Runs:
    return Runs(project)


# --- what starts first


def test_without_an_earlier_run_what_has_most_tasks_before_it_starts_first(project: Space) -> None:
    assert set(started(run(project, TASKS))[:2]) == {"long", "first"}


def test_a_task_that_took_long_starts_before_those_that_stand_before_it_in_the_file(project: Space, runs: Runs) -> None:
    runs.summary(first=0.1, second=9.5, third=5.5, long=1.5, longer=4.5)
    assert set(started(run(project, TASKS))[:2]) == {"second", "long"}


@pytest.mark.anyio
async def test_the_second_run_starts_first_what_took_longest_in_the_first(project: Space) -> None:
    project.script("slow.sh", 'read -r <"$GO"')
    os.mkfifo(project.path / "go")
    go = os.open(project.path / "go", os.O_RDWR)
    slow = {"id": "slow", "script": "slow.sh", "env": {"GO": str(project.path / "go")}}
    ended: list[Event] = []

    def let_go_at_last(event: Event) -> None:
        if isinstance(event, TaskFinished):
            ended.append(event)
            if len(ended) == 2:
                os.write(go, b"\n\n")

    # What comes after it lets it start first; it ends last.
    flow = {"name": "x", "tasks": [task("a"), task("b"), slow, task("after", "slow")]}
    first = await run_flow(flow, **project.directories, parallel=3, on_event=let_go_at_last)
    flow["tasks"].pop()
    second = await run_flow(flow, **project.directories, parallel=2)
    os.close(go)

    assert started(first)[-1] == "after"
    assert "slow" in started(second)[:2]


def test_the_command_does_so_too(project: Space, runs: Runs) -> None:
    runs.summary(first=0.1, second=9.5, third=5.5, long=1.5, longer=4.5)
    project.flow({"name": "x", "tasks": TASKS})
    assert project.miniflow("run", "x", "--parallel", "2").returncode == 0
    journal = events(project.latest("x"))
    assert {event["task_id"] for event in only(journal, "task.started")[:2]} == {"second", "long"}


def test_so_does_a_part_of_a_flow(project: Space, runs: Runs) -> None:
    runs.summary(first=0.1, second=9.5, third=5.5, long=7.5)
    assert set(started(run(project, TASKS, only=["first", "third", "long"]))[:2]) == {"third", "long"}


def test_so_does_a_run_that_resumes_another(project: Space) -> None:
    names = ("first", "second", "third")
    failed = run(project, [task(name, env={"STATUS": "1"}) for name in names], keep_going=True)
    assert failed.state == "failed"
    summary = project.output_dir / "x" / failed.run_id / "run.json"
    summary.write_text(json.dumps({"tasks": {"second": end(0.1), "third": end(8.5), "first": end(2.5)}}))

    assert set(started(run(project, [task(name) for name in names], resume=True))[:2]) == {"third", "first"}


def test_at_parallel_1_the_order_stays_the_scripts_and_nothing_is_read(
    project: Space, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.summary(second=9.5)
    monkeypatch.setattr("miniflow.prepared.earlier_durations", lambda *_: pytest.fail("it is read"))
    assert started(run(project, TASKS, parallel=1)) == ["first", "second", "third", "long", "longer"]
    assert run(project, TASKS, parallel=len(TASKS)).state == "succeeded"  # nobody waits for a slot


# --- what is known of earlier runs


def test_the_newest_run_counts_and_older_ones_for_what_it_does_not_tell(runs: Runs) -> None:
    runs.summary(first=1, second=2, third=3)
    runs.journal(second=20, third=30)
    runs.summary(third=300)
    assert runs.known() == {"first": 1, "second": 20, "third": 300}


def test_a_run_that_was_broken_off_is_known_by_its_journal(runs: Runs) -> None:
    runs.journal(first=1.5, second=2.5)
    assert runs.known() == {"first": 1.5, "second": 2.5}


def test_so_is_a_run_of_the_bash_script(project: Space, runs: Runs) -> None:
    project.flow({"name": "x", "tasks": TASKS})
    script = project.miniflow("run", "x", "--dry-run").stdout.strip()
    assert project.bash(script).returncode == 0
    assert runs.known().keys() == {each["id"] for each in TASKS}


@pytest.mark.parametrize(
    "ended",
    [
        {"state": "cancelled", "reason": "signal", "duration_s": 1.5},
        {"state": "succeeded", "reason": "reused"},
        {"state": "failed", "reason": "spawn", "duration_s": 0.0},
        {"state": "skipped", "reason": "upstream_failed"},
        {"state": "running", "attempts": 1},
    ],
    ids=lambda ended: ended["state"],
)
def test_a_task_that_has_not_run_to_its_own_end_is_not_known_by_that(runs: Runs, ended: dict[str, Any]) -> None:
    runs.summary(first=7)
    runs.add("run.json", json.dumps({"tasks": {"first": ended, "second": end(2)}}))
    assert runs.known() == {"first": 7, "second": 2}


def test_a_task_that_failed_is_known(runs: Runs) -> None:
    runs.add("run.json", json.dumps({"tasks": {"first": {"state": "failed", "reason": "timeout", "duration_s": 3}}}))
    assert runs.known() == {"first": 3}


def test_no_more_than_so_many_runs_are_looked_at(runs: Runs) -> None:
    runs.summary(first=1)
    for _ in range(MOST_RUNS):
        runs.summary(second=2)
    assert runs.known() == {"second": 2}


def test_what_is_too_long_to_be_read_in_a_moment_is_left_out(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.summary(first=1)
    runs.summary(second=2, **{f"t{number}": 1 for number in range(20)})
    monkeypatch.setattr("miniflow.history.MOST_BYTES", 500)
    assert runs.known() == {"first": 1}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"tasks": []}',
        b'{"tasks": {"first": 3}}',
        b'{"tasks": {"first": {"state": "succeeded", "duration_s": "long"}}}',
        b'{"tasks": {"first": {"state": "succeeded", "duration_s": -1}}}',
        b'{"tasks": {"first": {"state": "succeeded", "duration_s": 1e999}}}',
        b'{"tasks": {"first": {"state": "succeeded", "duration_s": NaN}}}',
        b'{"tasks": {"first": {"state": ["succeeded"], "duration_s": 1}}}',
        b'{"tasks": {"second\xff": {"state": "succeeded", "duration_s": 2}}}',
        b'{"event": "task.finished", "task_id": "second\xff", "state": "succeeded", "duration_s": 2}',
        b'{"x": ' * 100_000,
        b"\0" * 10_000,
    ],
    ids=range(15),
)
@pytest.mark.parametrize("name", ["run.json", "events.jsonl"])
def test_what_is_damaged_or_foreign_tells_nothing_and_stops_nothing(
    project: Space, runs: Runs, content: bytes, name: str
) -> None:
    runs.summary(first=1)
    runs.add(name, content)
    assert runs.known() == {"first": 1}


def test_what_is_no_file_tells_nothing_and_stops_nothing(project: Space, runs: Runs) -> None:
    runs.summary(first=1)
    for make in (lambda path: os.mkfifo(path), lambda path: path.mkdir(), lambda path: path.symlink_to("run.json")):
        path = runs.add("other", "") / "run.json"
        make(path)
    (project.output_dir / "x" / "20230101T000000.999Z-00000a").write_text("no directory")
    descriptors = set(os.listdir("/proc/self/fd"))
    assert runs.known() == {"first": 1}
    assert set(os.listdir("/proc/self/fd")) == descriptors
    assert run(project, TASKS).state == "succeeded"


def test_a_flow_that_has_not_been_run_tells_nothing(runs: Runs) -> None:
    assert runs.known() == {}
