"""The runner dies without a word (`kill -9`, out of memory): whoever it has started ends within two seconds."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import random
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from miniflow import HostError, guardian, lifeline, read_run, run_flow
from tests.conftest import Space, events, only

FIGURE_S = 2.0
"""How long a task may outlive its runner."""

UP = 'echo up > "$UP"; '
DOUBLE_FORK = """
import os, time
if os.fork():
    {parent}
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(0, 3)
open(os.environ["UP"], "w").write("up\\n")
time.sleep(600)
"""
IGNORE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
SCRIPTS = {
    "sleeper.sh": UP + "exec sleep 600",
    "stubborn.sh": "trap '' TERM INT HUP; " + UP + "sleep 600; sleep 600",
    "daemon.py": DOUBLE_FORK.format(parent="time.sleep(600)"),
    "stubborn_daemon.py": IGNORE + DOUBLE_FORK.format(parent="time.sleep(600)"),
    "nameless.sh": """exec env -i "MARK=$MARK" "UP=$UP" /bin/sh -c 'echo up > "$UP"; sleep 600'""",
    "group.sh": "sleep 600 & (sleep 600 & sleep 600 &) ; " + UP + "wait",
    "job_control.sh": "set -m; env -i MARK=$MARK sleep 600 & " + UP + "wait",
    "stopped.sh": UP + "kill -STOP $$",
}


class World:
    """A flow whose processes all carry a mark in their environment, and a FIFO on which they say that they are up."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._mark = f"MARK={secrets.token_hex(8)}"
        fifo = space.path / "up"
        os.mkfifo(fifo)
        self._up = os.open(fifo, os.O_RDWR)  # also for writing, so that nobody waits for a reader, nor we for the first writer
        self.env = {"UP": str(fifo), "MARK": self._mark.partition("=")[2]}
        for name, text in SCRIPTS.items():
            space.script(name, text)

    def flow(self, scripts: Sequence[str], name: str = "x", **task: Any) -> None:
        tasks = [{"id": f"t{n}", "script": script, **task} for n, script in enumerate(scripts)]
        self.space.flow({"name": name, "env": self.env, "tasks": tasks})

    def start(self, *options: str, flow: str = "x", **popen: Any) -> subprocess.Popen[bytes]:
        """Start the command line, in a group of its own."""
        directories = ["-f", self.space.flows_dir, "-t", self.space.tasks_dir, "-o", self.space.output_dir]
        return subprocess.Popen(
            [sys.executable, "-m", "miniflow", *directories, "run", flow, "--parallel", "8", "--keep-going", *options],
            cwd=self.space.path,
            env=self.space.environ(),
            start_new_session=True,
            **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **popen},
        )

    def wait_up(self, count: int, started: int | None = None, journal: str = "out/x/latest/events.jsonl") -> None:
        """Wait until so many processes have said that they are up, and the journal knows as many tasks (or `started`)."""
        heard = 0
        while heard < count:
            heard += os.read(self._up, 3 * (count - heard)).count(b"\n")
        # Whoever is up may be so before the runner has got round to noting it.
        while (self.space.path / journal).read_bytes().count(b'"event":"task.started"') < (
            count if started is None else started
        ):
            os.sched_yield()

    def processes(self) -> list[int]:
        """Return the pids of all that carry the mark."""
        found = []
        for path in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if path.name.isdigit() and self._mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                    found.append(int(path.name))
        return found

    def close(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.close(self._up)

    def expect_an_end(self, kill: Callable[[], object]) -> None:
        """Kill, and expect that nobody who carries the mark is left two seconds later."""
        with watched(self.processes()) as pidfds:
            kill()
            deadline = time.monotonic() + FIGURE_S
            wait_ended(pidfds, deadline)
            while (left := self.processes()) and time.monotonic() < deadline:
                with watched(left) as more:
                    wait_ended(more, deadline)
        assert [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left] == []


@contextlib.contextmanager
def watched(pids: Sequence[int]) -> Iterator[list[int]]:
    """Hold a pidfd of each process that is still there."""
    with contextlib.ExitStack() as stack:
        pidfds = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                pidfds.append(os.pidfd_open(pid))
                stack.callback(os.close, pidfds[-1])
        yield pidfds


def wait_ended(pidfds: Sequence[int], deadline: float) -> None:
    """Wait until all these processes have ended, until the deadline at most."""
    poll = select.poll()
    left = set(pidfds)
    for descriptor in left:
        poll.register(descriptor, select.POLLIN)
    while left and (timeout_s := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(timeout_s * 1000):
            poll.unregister(descriptor)
            left.discard(descriptor)


def guardians(runner: int) -> list[int]:
    """Return the pids of the guardians of a runner."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit():
                command = (path / "cmdline").read_bytes().split(b"\0")
                if len(command) > 3 and command[2].endswith(b"/guardian.py") and command[3] == b"%d" % runner:
                    found.append(int(path.name))
    return found


def wait_guardian(runner: int) -> int:
    """Wait until the guardian of a runner can be told from others, which is a moment after its start; return its pid."""
    while not (found := guardians(runner)):
        os.sched_yield()
    (guardian,) = found
    return guardian


def wait_no_guardian(runner: int) -> None:
    """Wait until a runner has no guardian any more; the test's time runs out for one that stays."""
    while left := guardians(runner):
        with watched(left) as pidfds:
            wait_ended(pidfds, float("inf") if not pidfds else time.monotonic() + 60)


@pytest.fixture
def world(space: Space) -> Iterator[World]:
    world = World(space)
    yield world
    world.close()


# --- whoever it is


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_nobody_outlives_a_runner_that_was_killed(world: World, script: str) -> None:
    world.flow([script])
    with world.start() as runner:
        world.wait_up(1)
        while not world.processes():  # a script that becomes `sleep` has no environment for a moment
            os.sched_yield()

        world.expect_an_end(runner.kill)

    wait_no_guardian(runner.pid)


def test_nobody_outlives_it_if_its_whole_group_is_killed(world: World) -> None:
    world.flow([*SCRIPTS] * 2)
    with world.start() as runner:
        world.wait_up(8)

        world.expect_an_end(lambda: os.killpg(runner.pid, signal.SIGKILL))


def test_nobody_outlives_it_that_was_asked_to_end_already(world: World) -> None:
    world.flow(["stubborn.sh", "stubborn_daemon.py"])
    with world.start() as runner:
        world.wait_up(2)
        runner.terminate()

        world.expect_an_end(runner.kill)


def test_a_run_within_a_run_ends_with_it(world: World) -> None:
    world.flow([*SCRIPTS], name="inner")
    world.space.script("nest.py", NEST)
    inner = [str(path) for path in (world.space.flows_dir, world.space.tasks_dir, world.space.path / "inner")]
    world.flow(["nest.py"], args=inner)
    with world.start() as runner:
        world.wait_up(len(SCRIPTS), journal="inner/inner/latest/events.jsonl")

        world.expect_an_end(runner.kill)


NEST = """
import os, sys
flows, tasks, output = sys.argv[1:]
command = ["-m", "miniflow", "-f", flows, "-t", tasks, "-o", output, "run", "inner", "--parallel", "8"]
os.execv(sys.executable, [sys.executable, *command])
"""


def test_a_task_has_some_time_to_end_in_order(world: World) -> None:
    world.space.script("orderly.sh", "trap 'echo > ended; exit 0' TERM; " + UP + "sleep 600 & wait")
    world.flow(["orderly.sh"])
    with world.start() as runner:
        world.wait_up(1)

        world.expect_an_end(runner.kill)

    assert (world.space.path / "ended").exists()


def test_what_a_task_that_has_ended_left_in_a_session_of_its_own_goes_on(world: World) -> None:
    world.space.script("leave.py", DOUBLE_FORK.format(parent="os.wait(); os._exit(0)"))
    world.flow(["leave.py"])
    world.space.script("after.sh", UP + "exec sleep 600")
    tasks = [{"id": "leaves", "script": "leave.py"}, {"id": "after", "script": "after.sh", "depends_on": "leaves"}]
    world.space.flow({"name": "x", "env": world.env, "tasks": tasks})
    with world.start() as runner:
        world.wait_up(2)
        (after,) = [event["pid"] for event in only(events(world.space.latest("x")), "task.started")[1:]]

        with watched([after]) as pidfds:
            runner.kill()
            wait_ended(pidfds, time.monotonic() + FIGURE_S)

    wait_no_guardian(runner.pid)
    (left,) = world.processes()
    assert left != after


def test_the_journal_stays_readable_and_shows_a_run_that_did_not_end(world: World) -> None:
    world.space.script("done.sh", "exit 0")
    tasks = [{"id": "t0", "script": "done.sh"}, {"id": "t1", "script": "sleeper.sh", "depends_on": "t0"}]
    world.space.flow({"name": "x", "env": world.env, "tasks": tasks})
    with world.start() as runner:
        world.wait_up(1, started=2)
        world.expect_an_end(runner.kill)

    result = read_run(world.space.latest("x"))

    assert (result.state, result.exit_status) == ("interrupted", None)
    assert (result.tasks["t0"].state, result.tasks["t1"].state) == ("succeeded", "interrupted")


# --- hosts

HOST = """
import anyio, ctypes, json, os, signal, sys
from miniflow import run_flow
how, directories = sys.argv[1], json.loads(sys.argv[2])

def on_event(event):
    if event.name == "task.started" and event.task_id == "t0":
        child = {"fork": os.fork, "unseen": ctypes.CDLL(None).fork, "none": lambda: 1}[how]()
        if child == 0:
            signal.pause()

async def main():
    await run_flow("x", parallel=2, on_event=on_event, **directories)

anyio.run(main)
"""


@pytest.mark.parametrize("how", ["fork", "unseen", "none"])
def test_a_copy_of_a_host_that_lives_on_does_not_keep_its_tasks_alive(world: World, how: str) -> None:
    world.flow(["sleeper.sh", "stubborn.sh"])
    directories = json.dumps({key: str(path) for key, path in world.space.directories.items()})
    with subprocess.Popen([sys.executable, "-c", HOST, how, directories], start_new_session=True) as host:
        world.wait_up(2)
        try:
            world.expect_an_end(host.kill)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(host.pid, signal.SIGKILL)  # the copy


# --- the guardian


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("end", ["succeeds", "fails", "is cancelled", "cannot be recorded"])
def test_no_guardian_descriptor_or_zombie_is_left_of_a_run_that(space: Space, backend: str, end: str) -> None:
    space.script("task.sh", "exit $1")
    space.script("long.sh", "exec sleep 600")
    tasks = [{"id": "a", "script": "task.sh", "args": [1 if end == "fails" else 0]}]
    if end == "is cancelled":
        tasks.append({"id": "b", "script": "long.sh"})

    async def go() -> None:
        with anyio.CancelScope() as scope:

            def on_event(event: Any) -> None:
                if event.name == "task.started":
                    wait_guardian(os.getpid())
                    if end == "cannot be recorded":
                        raise ArithmeticError
                    if event.task_id == "b":
                        scope.cancel()

            with contextlib.suppress(ArithmeticError):
                await run_flow({"name": "x", "tasks": tasks}, on_event=on_event, **space.directories)

    anyio.run(go, backend=backend)  # what is loaded and opened once
    before = sorted(os.listdir("/proc/self/fd"))

    anyio.run(go, backend=backend)

    assert sorted(os.listdir("/proc/self/fd")) == before
    assert guardians(os.getpid()) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_hundred_runs_in_one_process_leave_nothing_behind(space: Space, backend: str) -> None:
    space.script("task.sh", "")
    flow = {"name": "x", "tasks": [{"id": "a", "script": "task.sh"}]}

    async def go() -> None:
        await run_flow(flow, **space.directories)
        before = sorted(os.listdir("/proc/self/fd"))
        for _ in range(10):
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(lambda: run_flow(flow, **space.directories))
        assert sorted(os.listdir("/proc/self/fd")) == before

    anyio.run(go, backend=backend)

    assert guardians(os.getpid()) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_guardian_that_is_asked_to_end_stays(world: World) -> None:
    world.flow(["sleeper.sh"])
    with world.start() as runner:
        world.wait_up(1)
        guardian = wait_guardian(runner.pid)
        wait_ignoring(guardian)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(guardian, number)

        world.expect_an_end(runner.kill)


def wait_ignoring(pid: int) -> None:
    """Wait until a process ignores SIGTERM."""
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        ignored = next(line for line in status.splitlines() if line.startswith("SigIgn"))
        if int(ignored.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        os.sched_yield()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_guardian_that_was_killed_or_stopped_is_replaced_by_one_that_knows_all(world: World, number: signal.Signals) -> None:
    world.space.script("wait.py", "import os; open(os.environ['UP'], 'w').write('up\\n'); open(os.environ['GO']).read()")
    go = world.space.path / "go"
    os.mkfifo(go)
    tasks = [
        {"id": "stays", "script": "stubborn.sh"},
        {"id": "waits", "script": "wait.py", "env": {"GO": str(go)}},
        {"id": "after", "script": "sleeper.sh", "depends_on": "waits"},
    ]
    world.space.flow({"name": "x", "env": world.env, "tasks": tasks})
    with world.start() as runner:
        world.wait_up(2)
        first = wait_guardian(runner.pid)
        os.kill(first, number)
        while Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[0] not in "ZT":
            os.sched_yield()
        go.write_text("")
        world.wait_up(1)
        assert wait_guardian(runner.pid) != first

        world.expect_an_end(runner.kill)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_guardian_that_does_not_listen_does_not_hold_the_run_up(space: Space, number: signal.Signals) -> None:
    space.script("task.sh", "")
    program = """
import anyio, json, os, signal, sys
from miniflow import run_flow
from tests.test_death_of_the_runner import guardians, wait_guardian

signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a host that is ended by a pipe that nobody reads

def on_event(event):
    if event.name == "task.started" and event.task_id == "t0":
        os.kill(wait_guardian(os.getpid()), int(sys.argv[1]))

async def main():
    tasks = [{"id": f"t{n}", "script": "task.sh"} for n in range(300)]
    return await run_flow({"name": "x", "tasks": tasks}, on_event=on_event, parallel=2, **json.loads(sys.argv[2]))

print(anyio.run(main).state, guardians(os.getpid()))
"""
    directories = json.dumps({key: str(path) for key, path in space.directories.items()})

    host = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(int(number)), directories],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (host.stdout, host.stderr) == ("succeeded []\n", "")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_that_cannot_be_guarded_does_not_begin(space: Space, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space.script("task.sh", "")

    def refuse(*args: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(lifeline.subprocess, "Popen", refuse)

    async def go() -> None:
        await run_flow({"name": "x", "tasks": [{"id": "a", "script": "task.sh"}]}, **space.directories)

    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match="Resource temporarily unavailable; raise the limits"):
        anyio.run(go, backend=backend)

    assert not space.output_dir.exists()
    assert sorted(os.listdir("/proc/self/fd")) == before


# --- what the guardian reads


@pytest.fixture
def line() -> Iterator[lifeline.Lifeline]:
    """A lifeline that is open."""
    line = lifeline.Lifeline()
    line.open("x")
    yield line
    line.close()
    assert guardians(os.getpid()) == []


def known(line: lifeline.Lifeline) -> list[tuple[tuple[bytes, ...], int | None, dict[int, int], bool]]:
    """Return what a guardian would read now."""
    attempts = guardian.recall(line._memory)
    return [(attempt.marks, attempt.leader, attempt.sessions, attempt.asked_at is not None) for attempt in attempts]


def test_it_reads_what_was_noted_of_the_attempts_that_run(line: lifeline.Lifeline) -> None:
    first, second = line.begin((b"A=1", "B=ä".encode())), line.begin((b"A=" + b"x" * 300, b"B=2"))
    assert known(line) == [((b"A=1", "B=ä".encode()), None, {}, False), ((b"A=" + b"x" * 300, b"B=2"), None, {}, False)]

    line.started(second, 4711, 99)
    line.stopping(second)
    line.ended(first)
    assert known(line) == [((b"A=" + b"x" * 300, b"B=2"), 4711, {4711: 99}, True)]

    third = line.begin(())  # where the first was
    assert known(line) == [((), None, {}, False), ((b"A=" + b"x" * 300, b"B=2"), 4711, {4711: 99}, True)]

    line.ended(second)
    line.ended(third)
    assert known(line) == []


def test_what_it_cannot_read_does_not_keep_it_from_the_others(line: lifeline.Lifeline) -> None:
    attempts = [line.begin((b"A=%d" % number,)) for number in range(3)]
    os.pwrite(line._memory, b"\0\1", guardian.SLOT_BYTES)  # a length that no slot has

    assert [marks for marks, *_ in known(line)] == [(b"A=0",), (b"A=2",)]
    for attempt in attempts:
        line.ended(attempt)


@pytest.mark.parametrize("length", [1, 8, 16, 20])
def test_an_attempt_of_which_the_runner_died_while_it_noted_more_is_known_by_its_marks(
    line: lifeline.Lifeline, length: int
) -> None:
    attempt = line.begin((b"A=1",))
    os.pwrite(line._memory, guardian.noted_leader(4711, 99)[:length], guardian.LEADER_AT)
    os.pwrite(line._memory, guardian.noted_request(12_345.678)[:length], guardian.ASKED_AT)

    assert [marks for marks, *_ in known(line)] == [(b"A=1",)]
    line.ended(attempt)


def test_what_there_was_no_memory_for_is_noted_later(line: lifeline.Lifeline, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.posix_fallocate

    def refuse(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    attempt = line.begin((b"A=1",))
    assert known(line) == []

    monkeypatch.setattr(os, "posix_fallocate", real)
    line.started(attempt, 4711, 99)
    assert known(line) == [((b"A=1",), 4711, {4711: 99}, False)]
    line.ended(attempt)


def test_where_no_memory_can_be_named_it_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    line = lifeline.Lifeline()
    line.open("x")
    try:
        number = line.begin((b"A=1",))
        assert known(line) == [((b"A=1",), None, {}, False)]
        line.ended(number)
    finally:
        line.close()


def test_a_copy_of_the_runner_changes_nothing_of_it(line: lifeline.Lifeline) -> None:
    number = line.begin((b"A=1",))

    process = multiprocessing.get_context("fork").Process(target=line.ended, args=(number,))
    process.start()
    process.join()

    assert process.exitcode == 0
    assert known(line) == [((b"A=1",), None, {}, False)]
    line.ended(number)


# --- at any instant


def kill_at_a_random_instant(world: World, chance: random.Random) -> None:
    """Kill a runner some events and some loops after its start; expect that nobody is left, and a journal that holds."""
    with world.start("--log-format", "json", stdout=subprocess.PIPE) as runner:
        assert runner.stdout is not None
        for _ in range(chance.choice([0, 1, chance.randrange(60)])):
            runner.stdout.readline()
        for _ in range(chance.randrange(100_000)):
            pass
        world.expect_an_end(runner.kill)
    wait_no_guardian(runner.pid)
    for run_dir in (world.space.output_dir / "x").glob("2*"):
        expect_statuses_to_agree_with_the_journal(run_dir)


def expect_statuses_to_agree_with_the_journal(run_dir: Path) -> None:
    tasks: Mapping[str, Any] = read_run(run_dir).tasks if (run_dir / "plan.json").exists() else {}
    for status in (run_dir / "status").glob("t*"):
        assert int(status.read_text()) == tasks[status.name].exit_status


@pytest.mark.parametrize("seed", range(12))
def test_nobody_outlives_a_runner_killed_at_a_random_instant(world: World, seed: int) -> None:
    prepare_random_kills(world)

    kill_at_a_random_instant(world, random.Random(seed))  # noqa: S311


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_nobody_outlives_a_runner_killed_at_500_random_instants(world: World) -> None:
    prepare_random_kills(world)
    for seed in range(500):
        kill_at_a_random_instant(world, random.Random(seed))  # noqa: S311


def prepare_random_kills(world: World) -> None:
    world.space.script("short.sh", "echo one; echo two >&2")
    world.space.script("forks.sh", "sleep 600 & (setsid sleep 600 &) ; echo; sleep 600")
    world.flow(["short.sh", "forks.sh", "short.sh", "daemon.py", *["short.sh"] * 40, "stubborn.sh", "job_control.sh"])
