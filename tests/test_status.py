"""`miniflow status` says how a run is, or was, and follows one that goes on."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from miniflow.rundir import RunDir
from miniflow.status import live_lines
from miniflow.timeline import read_timeline
from tests.conftest import Space, events
from tests.test_timeline import DIAMOND, DIAMOND_RUN, RUN_ID, begin, end, event, finish, record, start

GOLDEN = """\
run       20260102T030405.000Z-aaaaaa of f
state     succeeded, exit status 0
started   2026-01-02 05:04:05, took 7.5s
tasks     4 succeeded
critical  load → slow → join
recorded  {path}

TASK  STATE      EXIT  ATTEMPTS  DURATION  WAITED  SLACK  REASON
load  succeeded     0         1      1.0s    0.5s   0.8s
fast  succeeded     0         1      1.0s    0.0s   3.8s
slow  succeeded     0         1      4.0s    0.5s   0.2s
join  succeeded     0         1      1.0s    0.2s   0.0s
"""

GOLDEN_OF_A_FAILURE = """\
run       20260102T030405.000Z-aaaaaa of f
state     failed, exit status 1
started   2026-01-02 05:04:05, took 9.0s
tasks     1 succeeded, 2 failed, 1 skipped, 1 cancelled
resumes   20260101T000000.000Z-aaaaaa
critical  bad → gone
recorded  {path}

TASK   STATE      EXIT  ATTEMPTS  DURATION  WAITED  SLACK  REASON
old    succeeded     0                                     reused from 20260101T000000.000Z-aaaaaa
bad    failed      137         2      1.0s    0.0s   1.0s  signal SIGKILL
gone   failed      127         1      0.0s    1.0s   0.0s  spawn: No such file: \\x1b[2J
after  skipped                                             upstream_failed
rest   cancelled                                           fail_fast

failed bad: {path}/logs/bad.jsonl
failed gone: it has printed nothing
"""


def failure(path: Path) -> RunDir:
    before = "20260101T000000.000Z-aaaaaa"
    how = {"exit_status": 137, "reason": "signal", "signal": "SIGKILL"}
    gone = {"exit_status": 127, "reason": "spawn", "error": "No such file: \x1b[2J", "duration_s": 0.0, "attempts": 1}
    run = record(
        path,
        {"old": [], "bad": [], "gone": ["bad"], "after": ["bad"], "rest": []},
        begin(1, resumed_from=before),
        event(0, "task.reused", "old", reason="unchanged", reused_from=before),
        start(0, "bad"),
        event(1, "task.retrying", "bad", attempt=1, delay_s=6, **how),
        start(7, "bad", 2),
        {**end(8, "bad", 137, attempts=2), **how},
        event(8, "task.skipped", "after", reason="upstream_failed"),
        event(8, "task.cancelled", "rest", reason="fail_fast"),
        event(9, "task.finished", "gone", attempt=1, state="failed", **gone),
        finish(9, "failed", 1),
    )
    run.log("bad").parent.mkdir()
    run.log("bad").touch()
    return run


def golden(template: str, run: RunDir) -> str:
    return template.format(path=run.path)


@pytest.fixture
def live(space: Space) -> Space:
    """A flow whose first task ends, and whose second waits for a line in a FIFO and exits with what stands there."""
    os.mkfifo(space.path / "gate")
    space.script("quick.sh", "echo done")
    space.script("wait.sh", f"read -r status < {space.path / 'gate'}; exit $status")
    tasks = [{"id": "quick", "script": "quick.sh"}, {"id": "wait", "script": "wait.sh", "depends_on": "quick"}]
    space.flow({"name": "f", "tasks": tasks})
    return space


def command(space: Space, *args: str) -> list[str]:
    directories = ["-f", str(space.flows_dir), "-t", str(space.tasks_dir), "-o", str(space.output_dir)]
    return [sys.executable, "-m", "miniflow", *directories, *args]


@contextmanager
def going_on(space: Space) -> Iterator[subprocess.Popen[str]]:
    """A run whose second task is running."""
    with subprocess.Popen(command(space, "run", "f"), env=space.environ(), stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            while "wait started" not in run.stdout.readline():
                pass
            yield run
        finally:
            run.kill()


def let_go(space: Space, status: int) -> None:
    """Have the second task exit; it reads, or will."""
    (space.path / "gate").write_text(f"{status}\n")


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_a_run_is_shown_with_its_tasks(space: Space) -> None:
    run = record(space.path, DIAMOND, *DIAMOND_RUN)

    result = space.miniflow("status", env={"TZ": "Etc/GMT-2"})

    assert result.returncode == 0
    assert result.stdout == golden(GOLDEN, run)


def test_a_failed_run_is_shown_with_where_to_read_why(space: Space) -> None:
    run = failure(space.path)

    result = space.miniflow("status", RUN_ID[:10], env={"TZ": "Etc/GMT-2"})

    assert result.returncode == 0
    assert result.stdout == golden(GOLDEN_OF_A_FAILURE, run)


def test_as_json_all_is_there_that_is_known(space: Space) -> None:
    run = failure(space.path)

    shown = json.loads(space.miniflow("status", "f", "--json").stdout)

    assert (shown["run_id"], shown["state"], shown["critical_path"]) == (RUN_ID, "failed", ["bad", "gone"])
    assert shown["params"] == {"date": "today"}
    tasks = {task["id"]: task for task in shown["tasks"]}
    assert tasks["bad"]["log"] == str(run.log("bad"))
    assert [attempt["exit_status"] for attempt in tasks["bad"]["attempts"]] == [137, 137]
    assert (tasks["gone"]["script"], tasks["gone"]["depends_on"], tasks["gone"]["log"]) == ("gone.sh", ["bad"], None)


def test_a_run_of_the_script_is_shown_with_its_logs(live: Space) -> None:
    live.script("wait.sh", "echo wait; exit 3")
    live.miniflow("run", "f", "--dry-run")
    live.bash(live.output_dir / "f.sh")

    shown = live.miniflow("status").stdout
    assert "state     failed, exit status 1" in shown
    assert "wait   failed        3         1" in shown
    assert f"failed wait: {live.latest('f')}/logs/wait.log\n" in shown


def test_a_run_that_goes_on_is_shown_so_far(live: Space) -> None:
    with going_on(live) as run:
        shown = live.miniflow("status").stdout
        let_go(live, 0)
        assert run.wait() == 0

    assert "\nstate     running for " in shown
    assert "tasks     1 succeeded, 1 running\n" in shown


def test_a_run_whose_runner_died_is_interrupted(live: Space) -> None:
    with going_on(live) as run:
        run.kill()
        run.wait()
        shown = live.miniflow("status").stdout

    assert "state     interrupted\n" in shown
    assert re.search(r"^started   \S+ \S+, last heard of after [0-9.]+s$", shown, re.MULTILINE)
    assert "\ninterrupted wait: " in shown


def test_colours_stand_where_they_are_wanted(space: Space) -> None:
    record(space.path, DIAMOND, *DIAMOND_RUN)

    assert "state     \x1b[32msucceeded\x1b[0m" in space.miniflow("status", env={"FORCE_COLOR": "1"}).stdout
    assert "\x1b" not in space.miniflow("status", env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout


def test_a_run_that_is_not_there_is_a_mistake(space: Space) -> None:
    result = space.miniflow("status", "nothing")

    assert result.returncode == 2
    assert result.stderr.startswith("error: nothing has been run yet")


def test_where_there_is_no_room_what_runs_and_what_failed_comes_first(tmp_path: Path) -> None:
    tasks: dict[str, list[str]] = {f"t{number}": [] for number in range(500)}
    run = record(tmp_path, tasks, begin(), start(0, "t7"), end(1, "t7"), start(0, "t300"), end(1, "t300", 3), start(1, "t400"))
    with run.journal.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        timeline = read_timeline(run)

    lines = live_lines(timeline, 14)

    assert len(lines) <= 14
    assert [line.split()[:2] for line in lines if line.startswith("t")][-2:] == [["t300", "failed"], ["t400", "running"]]
    assert lines[-1] == "… and 494 more"


# --- --follow ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "of_run"), [(0, 0), (3, 1)])
def test_a_run_is_followed_to_its_end_and_its_exit_status_is_ours(live: Space, status: int, of_run: int) -> None:
    with (
        going_on(live) as run,
        subprocess.Popen(
            command(live, "status", "--follow"), env=live.environ(), stdout=subprocess.PIPE, text=True
        ) as follower,
    ):
        assert follower.stdout is not None
        first = [follower.stdout.readline() for _ in range(4)]
        let_go(live, status)
        rest = follower.stdout.read()
        assert run.wait() == of_run

    assert follower.returncode == of_run
    assert [line.split()[-1] for line in first] == ["started", "started", "s", "started"]
    assert rest.splitlines()[-1].startswith("error: run " if status else "run ")


def test_as_json_the_recorded_events_are_followed(live: Space) -> None:
    with (
        going_on(live) as run,
        subprocess.Popen(command(live, "status", "--follow", "--json"), env=live.environ(), stdout=subprocess.PIPE) as follower,
    ):
        assert follower.stdout is not None
        first = follower.stdout.readline()
        let_go(live, 0)
        rest = follower.stdout.read()
        assert run.wait() == 0

    assert first + rest == (live.latest("f") / "events.jsonl").read_bytes()


def test_a_runner_that_dies_ends_the_following(live: Space) -> None:
    with (
        going_on(live) as run,
        subprocess.Popen(
            command(live, "status", "--follow"),
            env=live.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as follower,
    ):
        assert follower.stdout is not None
        follower.stdout.readline()
        run.kill()
        _, complaint = follower.communicate()

    assert follower.returncode == 1
    assert "was interrupted: its runner is gone" in complaint


def test_a_run_that_is_over_is_shown_at_once(space: Space) -> None:
    failure(space.path)

    result = space.miniflow("status", "--follow", "--json")

    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == len(events(space.output_dir / "f" / RUN_ID))


def test_who_closes_the_pipe_has_seen_enough(live: Space) -> None:
    with going_on(live):
        follower = subprocess.Popen(command(live, "status", "--follow"), env=live.environ(), stdout=subprocess.PIPE)
        assert follower.stdout is not None
        follower.stdout.readline()
        follower.stdout.close()
        assert follower.wait() == 0


def test_ctrl_c_ends_the_following_without_a_word(live: Space) -> None:
    with going_on(live):
        follower = subprocess.Popen(
            command(live, "status", "--follow"), env=live.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert follower.stdout is not None
        follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        _, complaint = follower.communicate()

    assert (follower.returncode, complaint) == (-signal.SIGINT, b"")


def read_until(terminal: int, text: bytes) -> bytes:
    """Return what a terminal is sent until a text has come, or nothing more comes."""
    seen = b""
    while text not in seen:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # nobody has it open any more
            break
        if not data:
            break
        seen += data
    return seen


@pytest.mark.parametrize("columns", [40, 200])
def test_on_a_terminal_it_is_drawn_in_place_and_stays_at_the_end(live: Space, columns: int) -> None:
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    environ = {**live.environ(), "TERM": "xterm", "NO_COLOR": "1"}
    with going_on(live) as run:
        follower = subprocess.Popen(command(live, "status", "--follow"), env=environ, stdout=terminal, stderr=terminal)
        os.close(terminal)
        drawn = read_until(controller, b"running for") + read_until(controller, b"running for")
        let_go(live, 3)
        final = read_until(controller, b"never printed")
        assert run.wait() == 1
    os.close(controller)

    assert follower.wait() == 1
    assert b"quick  succeeded" in drawn
    assert b"\x1b[1A" in drawn  # it goes back up
    assert b"?25l" not in drawn  # nobody would show the cursor again after Ctrl-C
    assert b"state     failed, exit status 1" in final
    assert b"failed wait: " in final


def test_a_terminal_that_is_too_low_gets_what_fits_and_no_styles_of_its_own(live: Space) -> None:
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 3, 40, 0, 0))
    environ = {**live.environ(), "TERM": "xterm", "NO_COLOR": "1"}
    with going_on(live) as run:
        follower = subprocess.Popen(command(live, "status", "--follow"), env=environ, stdout=terminal, stderr=terminal)
        os.close(terminal)
        drawn = read_until(controller, b"running for") + read_until(controller, b"running for")
        let_go(live, 0)
        read_until(controller, b"never printed")
        assert run.wait() == 0
    os.close(controller)

    assert follower.wait() == 0
    assert not re.search(rb"\x1b\[[0-9;]*m", drawn)
