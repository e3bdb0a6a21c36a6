"""A run without an end: it goes on while its writer lives, and was interrupted if that is gone, however it died."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import re
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

from miniflow import plan_flow, read_run, run_flow, write_script
from miniflow.files import close_kept
from miniflow.rundir import RunDir, create_run_dir
from miniflow.sinks.json_lines import JsonRenderer
from miniflow.sinks.run_directory import RunDirectorySink
from tests.conftest import Space

TASK = """
import os, sys
os.close(os.open(os.environ["STARTED"], os.O_WRONLY))
os.read(os.open(os.environ["GO_ON"], os.O_RDONLY), 1)
"""
"""Says that it has started, and ends once it may."""


def recorder_of(run_dir: RunDir) -> RunDirectorySink:
    return RunDirectorySink(run_dir, JsonRenderer())


FLOW = {
    "name": "x",
    "tasks": [
        {"id": "done", "script": "done.py"},
        {"id": "long", "script": "long.py", "depends_on": "done"},
        {"id": "later", "script": "done.py", "depends_on": "long"},
    ],
}


@pytest.fixture
def project(space: Space) -> Space:
    space.script("done.py")
    space.script("long.py", TASK)
    space.flow(FLOW)
    for name in ("started", "go on"):
        os.mkfifo(space.path / name)
    return space


@contextlib.contextmanager
def started(space: Space, *command: str | Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command that runs the flow; the block begins when its task `long` runs."""
    fifos = {"STARTED": str(space.path / "started"), "GO_ON": str(space.path / "go on")}
    with subprocess.Popen(
        command,
        cwd=space.path,
        env=space.environ({**fifos, "MARKER": str(space.path), **env}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for_start(space)
            yield process
        finally:
            process.kill()
            process.wait()
            end_marked(space)


def wait_for_start(space: Space) -> None:
    with (space.path / "started").open("rb") as fifo:
        fifo.read()


def go_on(space: Space) -> None:
    os.close(os.open(space.path / "go on", os.O_WRONLY))


def end_marked(space: Space) -> None:
    """Kill what is left of a command that was killed, and wait until it is gone."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARKER={space.path}".encode() not in (process / "environ").read_bytes().split(b"\0"):
                continue
            pidfd = os.pidfd_open(int(process.name))
        except (OSError, ValueError):
            continue
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def command_of(space: Space) -> list[str]:
    directories = ["-f", str(space.flows_dir), "-t", str(space.tasks_dir), "-o", str(space.output_dir)]
    return [sys.executable, "-m", "miniflow", *directories, "run", "x"]


def script_of(space: Space) -> list[str]:
    with contextlib.chdir(space.path):
        return ["bash", str(write_script(plan_flow("x", python=sys.executable, **space.directories)))]


def path_without_flock(space: Space) -> str:
    """Return a PATH on which everything is but flock(1)."""
    folder = space.path / "bin"
    folder.mkdir()
    for directory in reversed(os.environ["PATH"].split(":")):
        for program in Path(directory).glob("*"):
            if program.name != "flock":
                (folder / program.name).unlink(missing_ok=True)
                (folder / program.name).symlink_to(program)
    return str(folder)


WAYS = ["command", "script", "script without flock"]


@pytest.fixture(params=WAYS)
def command(project: Space, request: pytest.FixtureRequest) -> tuple[list[str], dict[str, str]]:
    if request.param == "command":
        return command_of(project), {}
    assert shutil.which("flock")
    return script_of(project), {"PATH": path_without_flock(project)} if "without" in request.param else {}


def test_a_run_without_an_end_is_running_while_its_writer_lives(
    project: Space, command: tuple[list[str], dict[str, str]]
) -> None:
    with started(project, *command[0], **command[1]) as process:
        result = read_run(project.latest("x"))

        assert (result.state, result.exit_status) == ("running", None)
        assert {task.id: task.state for task in result.tasks.values()} == {"done": "succeeded", "long": "running"}
        go_on(project)
        assert process.wait() == 0
        assert read_run(project.latest("x")).state == "succeeded"


def test_a_run_whose_writer_was_killed_is_interrupted_though_its_tasks_may_live(
    project: Space, command: tuple[list[str], dict[str, str]]
) -> None:
    with started(project, *command[0], **command[1]) as process:
        process.kill()
        process.wait()

        result = read_run(project.latest("x"))

        assert (result.state, result.exit_status) == ("interrupted", None)
        assert {task.id: task.state for task in result.tasks.values()} == {"done": "succeeded", "long": "interrupted"}


@pytest.mark.parametrize("delay", [0, 600])
def test_a_script_that_is_killed_leaves_its_lock_to_no_helper(project: Space, delay: int) -> None:
    # The watchdog of a time limit, and the sleep before a retry.
    project.script("long.py", "import sys; sys.exit(1)" if delay else TASK)
    task = {"id": "long", "script": "long.py", "timeout": 600, "retries": {"max": 1, "delay": delay}}
    project.flow({"name": "x", "tasks": [task]})
    command = script_of(project)
    if not delay:
        with started(project, *command) as process:
            process.kill()
            process.wait()
            assert read_run(project.latest("x")).state == "interrupted"
        return
    env = project.environ({"MARKER": str(project.path)})
    with subprocess.Popen(command, cwd=project.path, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            while b"next attempt" not in process.stderr.readline():
                pass
            wait_for_child(process.pid, "sleep")
            process.kill()
            process.wait()
            assert read_run(project.latest("x")).tasks["long"].state == "interrupted"
        finally:
            end_marked(project)


def wait_for_child(pid: int, name: str) -> None:
    """Wait until a process has a child that runs this program."""
    while True:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text() == f"{name}\n":
                    return
        os.sched_yield()


def test_a_run_that_is_not_recorded_any_more_is_interrupted_also_in_the_same_process(
    project: Space, anyio_backend: str
) -> None:
    class OopsError(Exception):
        pass

    async def go() -> None:
        def fail(event: Any) -> None:
            shutil.copytree(project.latest("x"), project.path / "copy")
            raise OopsError

        with pytest.raises(OopsError):
            await run_flow("x", on_event=fail, **project.directories)

    anyio.run(go, backend=anyio_backend)
    assert read_run(project.latest("x")).state == "failed"
    assert read_run(project.path / "copy").state == "interrupted"  # a copy of a run that goes on has no writer


def test_a_child_that_the_host_forks_does_not_keep_the_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    recorder = recorder_of(create_run_dir(tmp_path, "x"))
    (run_dir,) = (path for path in (tmp_path / "x").iterdir())
    go_on, is_there = context.Event(), context.Event()
    child = context.Process(target=lambda: is_there.set() or go_on.wait(), daemon=True)
    child.start()
    is_there.wait()
    assert read_run(run_dir).state == "running"

    close_kept(recorder._journal._descriptor)  # as our death would

    assert child.is_alive()
    assert read_run(run_dir).state == "interrupted"
    go_on.set()
    child.join()
    assert child.exitcode == 0


def test_a_child_that_is_forked_keeps_its_own_files(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    recorder = recorder_of(create_run_dir(tmp_path, "x"))
    number = recorder._journal._descriptor
    recorder.close()
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    if other != number:  # what was the journal's number is somebody else's now
        os.dup2(other, number)
        os.close(other)
    child = context.Process(target=os.write, args=(number, b"still there"))
    child.start()
    child.join()
    os.close(number)

    assert (tmp_path / "other").read_text() == "still there"


def test_a_program_that_the_host_starts_does_not_keep_the_lock(tmp_path: Path) -> None:
    recorder = recorder_of(create_run_dir(tmp_path, "x"))
    (run_dir,) = (path for path in (tmp_path / "x").iterdir())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        close_kept(recorder._journal._descriptor)
        while read_run(run_dir).state == "running":  # the kernel lets go of it a moment after the program has begun
            os.sched_yield()
        assert child.poll() is None
        assert read_run(run_dir).state == "interrupted"
        child.communicate(b"\n")


def test_a_writer_waits_for_a_reader_that_looks_whether_it_lives(tmp_path: Path) -> None:
    run_dir = create_run_dir(tmp_path, "x")
    run_dir.journal.touch()
    reader = os.open(run_dir.journal, os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    recorders: list[RunDirectorySink] = []
    writer = threading.Thread(target=lambda: recorders.append(recorder_of(run_dir)))
    writer.start()
    is_waiting = re.compile(rf"-> FLOCK .*:{run_dir.journal.stat().st_ino} ").search
    while not is_waiting(Path("/proc/locks").read_text()):
        assert writer.is_alive()
        os.sched_yield()
    assert not recorders

    os.close(reader)
    writer.join()

    assert read_run(run_dir.path).state == "running"
    recorders[0].close()
    assert read_run(run_dir.path).state == "interrupted"


def test_where_there_are_no_locks_a_run_is_recorded_all_the_same(project: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    project.flow({"name": "x", "tasks": [{"id": "a", "script": "done.py"}]})

    result = anyio.run(lambda: run_flow("x", **project.directories))

    assert result.state == "succeeded"
    journal = result.run_dir / "events.jsonl"
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    assert read_run(result.run_dir).state == "running"  # nobody can know
