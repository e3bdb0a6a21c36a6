"""Runs that were broken off, at any instant, and their continuation: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from miniflow import MiniFlowError, RunResult, UsageError, read_run, run_flow
from miniflow.reuse import old_run
from miniflow.rundir import RunDir, read_record
from tests.conftest import Space, events
from tests.faulty import ERRORS
from tests.judging import Faulty

SCRIPT = """
echo "start $MINIFLOW_TASK_ID" >>"$RECORDS/log"
echo "$MINIFLOW_TASK_ID prints"
echo "end $MINIFLOW_TASK_ID" >>"$RECORDS/log"
"""

FLOW: dict[str, Any] = {
    "name": "x",
    "tasks": [
        {"id": "a", "script": "a.sh"},
        {"id": "b", "script": "a.sh"},
        {"id": "c", "script": "a.sh", "depends_on": ["a", "b"]},
        {"id": "alarm", "script": "a.sh", "depends_on": ["c"], "trigger_rule": "one_failed"},
        {"id": "d", "script": "a.sh", "depends_on": ["c", "alarm"], "trigger_rule": "all_done"},
        {"id": "e", "script": "flaky.sh", "depends_on": "c", "retries": 1},
        {"id": "f", "script": "a.sh", "depends_on": ["d", "e"]},
    ],
}
RUNS = {"a", "b", "c", "d", "e", "f"}
"""The tasks that run if all goes well."""


@pytest.fixture
def project(space: Space) -> Space:
    space.script("a.sh", SCRIPT)
    space.script("flaky.sh", SCRIPT + '[ "$MINIFLOW_ATTEMPT" = 2 ]')
    space.flow(FLOW)
    return space


def run(space: Space, **options: Any) -> RunResult:
    os.environ["RECORDS"] = str(space.records_dir)
    try:
        return anyio.run(lambda: run_flow(FLOW, **space.directories, **options))
    finally:
        del os.environ["RECORDS"]


def known(run_dir: Path) -> dict[str, str]:
    """Return the state of each task of which a run has recorded something."""
    return {task.id: task.state for task in read_run(run_dir).tasks.values()}


# --- the journal cut off


def test_what_a_resume_knows_only_shrinks_with_the_journal_however_it_is_cut(project: Space) -> None:
    result = run(project, parallel=2)
    whole = (result.run_dir / "events.jsonl").read_bytes()
    plan = json.loads((result.run_dir / "plan.json").read_text())
    before: dict[str, Any] = {}
    lines = -1
    for length in range(len(whole) + 1):
        if (lines_now := whole[:length].count(b"\n")) == lines and whole[length - 1 : length + 1].strip():
            continue  # in the midst of a line: `test_run_directory` reads those byte by byte
        lines = lines_now
        (result.run_dir / "events.jsonl").write_bytes(whole[:length])

        record, _, has_writer = read_record(RunDir(result.run_dir))
        tasks = old_run(result.run_id, plan, record.tasks, record.changed_scripts).tasks

        assert not has_writer
        for task_id, end in before.items():
            assert end in ("not_started", "interrupted") or tasks[task_id].end == end
            assert end != "interrupted" or tasks[task_id].end != "not_started"
        before = {task_id: task.end for task_id, task in tasks.items()}
    assert before == {**dict.fromkeys(RUNS), "alarm": "skipped"}


def check_resume_from_a_cut(project: Space, whole: bytes, length: int, run_dir: Path) -> None:
    (run_dir / "events.jsonl").write_bytes(whole[:length])
    succeeded = {task for task, state in known(run_dir).items() if state == "succeeded"}

    result = run(project, resume=run_dir.name, parallel=2)

    assert result.state == "succeeded"
    assert {task.id for task in result.tasks.values() if task.reason == "reused"} == succeeded
    assert {task.id for task in result.tasks.values() if task.attempts} == RUNS - succeeded


def test_a_run_is_resumed_from_wherever_its_journal_is_cut(project: Space) -> None:
    run_dir = run(project, parallel=2).run_dir
    whole = (run_dir / "events.jsonl").read_bytes()
    ends = [length for length in range(len(whole) + 1) if length == 0 or whole[length - 1 : length] == b"\n"]
    for length in [*ends[::3], ends[-2] + 7]:
        check_resume_from_a_cut(project, whole, length, run_dir)


@pytest.mark.stress
@pytest.mark.timeout(0)
def test_a_run_is_resumed_from_every_byte_where_its_journal_is_cut(project: Space) -> None:
    run_dir = run(project, parallel=2).run_dir
    whole = (run_dir / "events.jsonl").read_bytes()
    for length in range(0, len(whole) + 1, 7):
        check_resume_from_a_cut(project, whole, length, run_dir)


# --- runs that go on, and resumes at once

WAITS = """
import os
os.close(os.open(os.environ["STARTED"], os.O_WRONLY))
os.read(os.open(os.environ["GO_ON"], os.O_RDONLY), 1)
"""


@contextlib.contextmanager
def command(space: Space, *args: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a run of the flow; kill what is left of it at the end of the block."""
    directories = ["-f", str(space.flows_dir), "-t", str(space.tasks_dir), "-o", str(space.output_dir)]
    with subprocess.Popen(
        [sys.executable, "-m", "miniflow", *directories, "run", "x", "--log-format", "json", *args],
        cwd=space.path,
        env=space.environ({"MARKER": str(space.path), **env}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_nobody_is_left(space: Space) -> None:
    """Wait until no process has this space's marker in its environment.

    Raises:
        AssertionError: One is still there after a time in which the guardian of a killed runner has ended all.
    """
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARKER={space.path}".encode() not in (process / "environ").read_bytes().split(b"\0"):
                continue
            command_line = (process / "cmdline").read_bytes()
            pidfd = os.pidfd_open(int(process.name))
        except OSError:
            continue
        ended, _, _ = select.select([pidfd], [], [], 20)
        os.close(pidfd)
        assert ended, command_line


@pytest.fixture
def waiting(project: Space) -> Space:
    """A project whose flow has a task that waits."""
    project.script("waits.py", WAITS)
    project.flow({"name": "x", "tasks": [{"id": "a", "script": "a.sh"}, {"id": "waits", "script": "waits.py"}]})
    for name in ("started", "go on"):
        os.mkfifo(project.path / name)
    return project


def fifos(space: Space) -> dict[str, str]:
    return {"STARTED": str(space.path / "started"), "GO_ON": str(space.path / "go on"), "RECORDS": str(space.records_dir)}


def wait_for_start(space: Space) -> None:
    with (space.path / "started").open("rb") as fifo:
        fifo.read()


def test_a_run_that_goes_on_cannot_be_resumed(waiting: Space) -> None:
    with command(waiting, **fifos(waiting)) as process:
        wait_for_start(waiting)
        run_id = waiting.latest("x").name

        done = waiting.miniflow("run", "x", "--resume")

        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: run {run_id} is still going on; wait for its end, or stop it\n"
        assert process.poll() is None
        assert sorted(path.name for path in (waiting.output_dir / "x").iterdir()) == sorted([run_id, "latest"])


def test_a_run_that_is_being_resumed_cannot_be_resumed_by_another(waiting: Space) -> None:
    with command(waiting, **fifos(waiting)):
        wait_for_start(waiting)
    run_id = waiting.latest("x").name
    with command(waiting, "--resume", **fifos(waiting)):
        wait_for_start(waiting)

        done = waiting.miniflow("run", "x", "--resume", run_id)

        assert done.returncode == 2
        assert f"error: run {run_id} is being resumed by another run" in done.stderr
    wait_until_nobody_is_left(waiting)


def test_of_two_resumes_at_once_one_resumes(project: Space, anyio_backend: str) -> None:
    first = run(project)
    results: list[RunResult] = []
    errors: list[str] = []

    async def one(barrier: threading.Barrier) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            await anyio.to_thread.run_sync(barrier.wait)
        try:
            results.append(await run_flow(FLOW, resume=first.run_id, **project.directories))
        except UsageError as error:
            errors.append(str(error))

    async def both() -> None:
        barrier = threading.Barrier(2)
        async with anyio.create_task_group() as group:
            group.start_soon(one, barrier)
            group.start_soon(one, barrier)

    for _ in range(5):
        anyio.run(both, backend=anyio_backend)
    assert len(results) + len(errors) == 10
    assert len(results) >= 5
    assert all(error.startswith(f"run {first.run_id} is being resumed by another run") for error in errors)
    run(project, resume=first.run_id)  # and then it is free again


def test_a_resume_that_is_refused_leaves_the_run_free(project: Space) -> None:
    first = run(project)
    bad = {**FLOW, "tasks": [*FLOW["tasks"], {"id": "f", "script": "gone.sh"}]}
    for _ in range(2):
        with pytest.raises(MiniFlowError):
            anyio.run(lambda: run_flow(bad, resume=True, params={"x": object()}, **project.directories))

    assert run(project, resume=True).resumed_from == first.run_id


def test_what_an_old_run_has_left_running_is_ended_before_the_new_one_begins(waiting: Space) -> None:
    # The guardian is killed with its runner, which has no time to start another: so there is something left.
    with command(waiting, **fifos(waiting)) as process:
        wait_for_start(waiting)
        (left,) = [event["pid"] for event in events(waiting.latest("x")) if event.get("task_id") == "waits"]
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        children = [path.read_text().split() for path in Path(f"/proc/{process.pid}/task").glob("*/children")]
        for child in {int(child) for of_thread in children for child in of_thread} - {left}:
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()
        pidfd = os.pidfd_open(left)
        assert not select.select([pidfd], [], [], 0)[0]

        with command(waiting, "--resume", "--grace", "1", **fifos(waiting)) as resumed:
            assert resumed.stdout is not None
            assert json.loads(resumed.stdout.readline())["event"] == "run.started"
            assert select.select([pidfd], [], [], 0)[0]
    os.close(pidfd)
    wait_until_nobody_is_left(waiting)


# --- one call of the operating system fails

CALLS = [(kind, number) for kind in ("open", "file", "read", "write", "rename", "flock", "close") for number in ERRORS[kind]]


def check_calls_that_fail(space: Space, kind: str, number: int, growth: int) -> None:
    """Let one call of a resume fail, at indices that are ever further apart (or not, with a growth of 1)."""
    server = Faulty(space)
    try:
        assert space.miniflow("run", "good", "--parallel", "2").returncode == 0
        old = space.latest("good")
        journal = (old / "events.jsonl").read_bytes().splitlines(keepends=True)
        end = next(n for n, line in enumerate(journal) if b'"task.finished"' in line)
        (old / "events.jsonl").write_bytes(b"".join(journal[: end + 1]))
        before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
        index, step, is_reached = 0, 1, True
        while is_reached:
            answer, _, stderr = server.answer(["run", "good", f"--resume={old.name}"], kind, index, number)
            is_reached = answer["calls"] > index
            what = f"{kind} {index} {number}: {answer} {stderr}"
            assert answer["left"] == [], what
            assert answer["status"] in (0, 1, 2), what
            assert "Traceback" not in stderr, what
            assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before, what
            new = space.latest("good")
            if answer["status"] == 0:
                ends = {(task.state, task.attempts > 0) for task in read_run(new).tasks.values()}
                if b'"script_changed"' in (new / "events.jsonl").read_bytes():
                    # What a script holds that cannot be read nobody knows: then its task runs again.
                    assert kind in ("open", "read", "close"), what
                    assert ends == {("succeeded", True)}, what
                else:
                    assert ends == {("succeeded", False), ("succeeded", True)}, what
            for path in old.parent.iterdir():
                if path.name not in (old.name, "latest"):
                    shutil.rmtree(path)
            index += step
            step *= growth
    finally:
        server.close()


@pytest.mark.parametrize(("kind", "number"), CALLS[::4])
def test_a_call_that_fails_in_a_resume_costs_the_old_run_nothing(space: Space, kind: str, number: int) -> None:
    check_calls_that_fail(space, kind, number, 3)


@pytest.mark.stress
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("kind", "number"), CALLS)
def test_every_call_that_fails_in_a_resume_costs_the_old_run_nothing(space: Space, kind: str, number: int) -> None:
    check_calls_that_fail(space, kind, number, 1)


# --- killed at random instants


def kill_at_random(space: Space, rng: random.Random, *args: str) -> None:
    """Run the flow, and kill the runner somewhere; it may have come to its end before."""
    with command(space, "--parallel", "2", *args, RECORDS=str(space.records_dir)) as process:
        assert process.stdout is not None
        if args and rng.random() < 0.1:
            for _ in range(rng.randrange(400_000)):  # while it starts, or prepares its run
                pass
        else:
            for _ in range(rng.randrange(1, 26)):
                process.stdout.readline()
            for _ in range(rng.randrange(30_000)):
                pass
        process.kill()
        process.stdout.read()
        process.wait()


def check_record(run_dir: Path) -> None:
    """Check that nothing of a run contradicts its journal."""
    ends = {}
    for line in (run_dir / "events.jsonl").read_bytes().split(b"\n")[:-1]:
        event = json.loads(line)
        if event["event"] in ("task.finished", "task.reused"):
            ends[event["task_id"]] = event.get("exit_status", 0)
    statuses = {path.name: path.read_text() for path in (run_dir / "status").iterdir() if not path.name.startswith(".")}
    assert statuses.items() <= {task_id: f"{status}\n" for task_id, status in ends.items()}.items()
    assert len(ends) - len(statuses) <= 1  # the last may not be there yet
    if (run_dir / "run.json").exists():
        assert json.loads((run_dir / "run.json").read_text())["state"] == read_run(run_dir).state


def check_kills_and_resumes(space: Space, rng: random.Random) -> None:
    for path in space.records_dir.iterdir():
        path.unlink()
    runs: list[Path] = []
    for number in range(rng.randrange(1, 4)):
        kill_at_random(space, rng, *(["--resume"] if number else []))
        if (latest := space.latest("x")) not in runs:
            runs.append(latest)
    done = space.miniflow("run", "x", "--resume", "--parallel", "2", env={"MARKER": str(space.path)})
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    runs.append(space.latest("x"))

    succeeded: set[str] = set()
    for run_dir in runs:
        check_record(run_dir)
        assert read_run(run_dir).state in ("interrupted", "succeeded")
        started = {event["task_id"] for event in events(run_dir) if event["event"] == "task.started"}
        assert not started & succeeded, "a task that succeeded ran again"
        succeeded |= {task.id for task in read_run(run_dir).tasks.values() if task.state == "succeeded"}
    assert read_run(runs[-1]).state == "succeeded"
    assert succeeded == RUNS
    log = (space.records_dir / "log").read_text().split("\n")
    assert {line.removeprefix("end ") for line in log if line.startswith("end ")} == RUNS
    wait_until_nobody_is_left(space)


@pytest.mark.long
def test_a_runner_that_is_killed_at_random_instants_loses_nothing_and_nothing_runs_twice(project: Space) -> None:
    rng = random.Random(0)  # noqa: S311
    for _ in range(12):
        check_kills_and_resumes(project, rng)


@pytest.mark.stress
@pytest.mark.timeout(0)
def test_a_runner_that_is_killed_at_many_random_instants_loses_nothing_and_nothing_runs_twice(project: Space) -> None:
    rng = random.Random()  # noqa: S311
    for _ in range(500):
        check_kills_and_resumes(project, rng)
