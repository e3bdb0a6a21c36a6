"""What still runs of a run whose runner has died: which processes are taken for it, and how they are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from miniflow import guardian
from miniflow.executors.strays import Search, Strays
from miniflow.processes import end_leftovers, start_time

SLEEPER = [sys.executable, "-ISc", "import sys, time; print(flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-ISc",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)",
]
FAMILY = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-ISc", "import time; time.sleep(600)"])
print(child.pid, flush=True)
if sys.argv[1] == "stays":
    child.wait()
os._exit(0)
"""


class Processes:
    """Processes that a test starts as a runner does; ended with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(self, command: list[str], run_id: str = "the run", **options: object) -> tuple[subprocess.Popen[str], str]:
        """Start a process; return it and the first line that it prints."""
        process = self.launch(command, run_id, **options)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    def launch(self, command: list[str], run_id: str = "the run", **options: object) -> subprocess.Popen[str]:
        """Start a process, and return at once."""
        env = {"PATH": os.environ["PATH"], "MINIFLOW_RUN_ID": run_id}
        process: subprocess.Popen[str] = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, text=True, **{"start_new_session": True, **options}
        )
        self._stack.callback(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()


@pytest.fixture
def processes() -> Iterator[Processes]:
    with ExitStack() as stack:
        yield Processes(stack)


def without_environ(monkeypatch: pytest.MonkeyPatch, looked_at: set[str] | None) -> None:
    """Let the environment of a process be empty whenever it is looked at; if there is a set, for the first time alone."""
    real = os.open

    def opened(path: str, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith("/environ") and path != "/proc/self/environ" and (looked_at is None or path not in looked_at):
            if looked_at is not None:
                looked_at.add(path)
            path = os.devnull
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", opened)


@pytest.fixture
def no_environ_once(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the files that were looked at, and found empty."""
    looked_at: set[str] = set()
    without_environ(monkeypatch, looked_at)
    return looked_at


@pytest.fixture
def no_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miniflow.processes.UNDECIDED_WAIT_S", 0.2)
    without_environ(monkeypatch, None)


def is_there(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_start_time_is_that_of_the_system(processes: Processes) -> None:
    process, _ = processes.start(SLEEPER)

    stat = Path(f"/proc/{process.pid}/stat").read_text()
    assert start_time(process.pid) == int(stat.rpartition(")")[2].split()[19])


def test_a_name_with_parentheses_and_spaces_does_not_hide_the_start_time(tmp_path: Path, processes: Processes) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.write_text("#!/bin/sh\necho\nread x\n")
    odd.chmod(0o755)
    process, _ = processes.start([str(odd)], stdin=subprocess.PIPE)

    before, after = start_time(os.getpid()), start_time(process.pid)

    assert before is not None
    assert after is not None
    assert before <= after


def test_a_process_that_is_not_there_has_no_start_time() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()

    assert start_time(process.pid) is None


def test_a_process_that_goes_while_it_is_looked_at_has_no_start_time(monkeypatch: pytest.MonkeyPatch) -> None:
    open_file = os.open

    def then_reap(*args: Any, **kwargs: Any) -> int:
        descriptor = open_file(*args, **kwargs)
        process.wait()
        return descriptor

    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", then_reap)
            assert start_time(process.pid) is None


def test_a_leader_is_asked_to_end(processes: Processes) -> None:
    process, _ = processes.start(SLEEPER)

    assert end_leftovers("the run", {process.pid: start_time(process.pid)}, 60) == [process.pid]

    assert process.wait() == -signal.SIGTERM


def test_one_that_ignores_sigterm_is_killed_after_the_grace_period(processes: Processes) -> None:
    process, _ = processes.start(STUBBORN)

    assert end_leftovers("the run", {process.pid: start_time(process.pid)}, 0.1) == [process.pid]

    assert process.wait() == -signal.SIGKILL


def test_one_that_is_stopped_hears_it(processes: Processes) -> None:
    process, _ = processes.start(SLEEPER)
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)

    assert end_leftovers("the run", {process.pid: start_time(process.pid)}, 60) == [process.pid]


@pytest.mark.parametrize("leader", ["stays", "goes"])
def test_the_members_of_its_session_are_ended_whether_the_leader_lives_or_not(processes: Processes, leader: str) -> None:
    process, child = processes.start([sys.executable, "-ISc", FAMILY, leader])
    started = start_time(process.pid)
    if leader == "goes":
        process.wait()

    ended = end_leftovers("the run", {process.pid: started}, 60)

    assert int(child) in ended
    assert not is_there(int(child))


@pytest.mark.parametrize("what", ["run", "start time", "pid", "unknown start time"])
def test_one_that_does_not_match_in_everything_is_not_touched(processes: Processes, what: str) -> None:
    process, _ = processes.start(SLEEPER)
    started = start_time(process.pid)
    assert started is not None
    run_id = "another run" if what == "run" else "the run"
    pid = os.getpid() if what == "pid" else process.pid
    expected = {"start time": started - 1, "unknown start time": None}.get(what, started)

    assert end_leftovers(run_id, {pid: expected}, 0) == []

    assert process.poll() is None


def test_one_that_began_before_the_leader_is_none_of_its_session(processes: Processes) -> None:
    process, child = processes.start([sys.executable, "-ISc", FAMILY, "goes"])
    process.wait()
    began = start_time(int(child))
    assert began is not None

    assert end_leftovers("the run", {process.pid: began + 1}, 0) == []

    assert is_there(int(child))
    os.kill(int(child), signal.SIGKILL)


@pytest.mark.parametrize("times", [pytest.param(10, id="some"), pytest.param(300, id="many", marks=pytest.mark.stress)])
def test_one_that_becomes_another_program_all_the_time_is_ended(tmp_path: Path, processes: Processes, times: int) -> None:
    # In between it has no environment to be known by, and that is where it is whenever its start has just been reported.
    again = tmp_path / "again"
    again.write_text('#!/bin/sh\nexec "$0"\n')
    again.chmod(0o755)

    for _ in range(times):
        process = processes.launch([str(again)])

        assert end_leftovers("the run", {process.pid: start_time(process.pid)}, 60) == [process.pid]

        assert process.wait() == -signal.SIGTERM


@pytest.mark.usefixtures("no_environ_once")
def test_one_without_an_environment_for_the_moment_is_looked_at_again(processes: Processes) -> None:
    process, _ = processes.start(SLEEPER)

    assert end_leftovers("the run", {process.pid: start_time(process.pid)}, 60) == [process.pid]


@pytest.mark.usefixtures("no_environ")
def test_one_whose_environment_does_not_come_is_not_waited_for_for_ever(processes: Processes) -> None:
    process, _ = processes.start(SLEEPER)

    assert end_leftovers("the run", {process.pid: start_time(process.pid)}, 60) == []

    assert process.poll() is None


def test_one_that_was_started_without_any_variable_is_not_touched(processes: Processes) -> None:
    process, _ = processes.start(["/usr/bin/env", "-i", *SLEEPER])

    assert guardian.read_environ(process.pid) == b""
    assert end_leftovers("the run", {process.pid: start_time(process.pid)}, 60) == []

    assert process.poll() is None


def test_a_stray_without_an_environment_for_the_moment_is_looked_at_again(
    processes: Processes, no_environ_once: set[str], anyio_backend: str
) -> None:
    process, _ = processes.start(SLEEPER)
    guarded = guardian.Guarded((b"MINIFLOW_RUN_ID=the run",))

    async def look() -> list[int]:
        search = Search()
        search.add(guarded)
        return [pid for pid, _ in await search.look(guarded)]

    assert anyio.run(look, backend=anyio_backend) == [process.pid]
    assert f"/proc/{process.pid}/environ" in no_environ_once

    no_environ_once.clear()
    strays = Strays(Search(), guarded)
    strays.begin()
    strays.close(60)

    assert process.wait() == -signal.SIGKILL


def test_nothing_left_is_nothing_to_do() -> None:
    assert end_leftovers("the run", {}, 60) == []
    assert end_leftovers("the run", {os.getpid(): start_time(os.getpid())}, 60) == []
