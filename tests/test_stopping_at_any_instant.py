"""Signals at every instant of a run: it ends by the signal, in time, with a whole record, and nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from miniflow import MiniFlowError, read_run
from tests.conftest import Space, survivors
from tests.records import assert_whole, is_of_pythons_start
from tests.stubborn import TASKS, only_run, put_scripts

INSTANTS = str(Path(__file__).with_name("instants.py"))
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
GRACE_S = 0.2
FLOW: dict[str, Any] = {
    "name": "f",
    "tasks": [
        *TASKS,
        *({"id": f"quick{n}", "script": "quick.sh"} for n in range(20)),
        {"id": "after", "script": "quick.sh", "depends_on": "sleeps", "trigger_rule": "all_done"},
    ],
}
SHORT: dict[str, Any] = {  # it ends of itself
    "name": "short",
    "tasks": [
        {"id": "fails", "script": "fails.sh", "retries": {"max": 1, "delay": 0.05}},
        {"id": "quick", "script": "quick.sh"},
        {"id": "after", "script": "quick.sh", "depends_on": "fails", "trigger_rule": "all_done"},
    ],
}


@pytest.fixture
def project(space: Space) -> Space:
    put_scripts(space)
    space.script("quick.sh", "echo quick")
    space.flow(FLOW)
    space.flow(SHORT)
    return space


def command(space: Space, flow: dict[str, Any], *args: str, program: Sequence[str] = ("-m", "miniflow")) -> list[str]:
    directories = ["-f", str(space.flows_dir), "-t", str(space.tasks_dir), "-o", str(space.output_dir)]
    return [sys.executable, *program, *directories, "run", flow["name"], "--grace", str(GRACE_S), *args]


def ended(space: Space, flow: dict[str, Any]) -> str | None:
    """Return the state of the one run there was, or None if there was none. What there is goes away."""
    tasks = [task["id"] for task in flow["tasks"]]
    run_dir = only_run(space, flow["name"])
    if run_dir is None:
        return None
    run_dir = run_dir.rename(space.path / run_dir.name)
    if not (run_dir / "events.jsonl").exists() or not (run_dir / "events.jsonl").stat().st_size:
        with contextlib.suppress(MiniFlowError):
            assert read_run(run_dir).state == "interrupted"
        return "half-made"
    return assert_whole(run_dir, tasks)


# --- every instant: the lines of our own code


def stop_at(space: Space, marker: str, instant: int, numbers: Sequence[int], *options: str) -> bool:
    """Send signals at the instant and right after it; return whether the run has ended before."""
    report = space.path / "report.json"
    report.unlink(missing_ok=True)
    program = [INSTANTS, str(report), str(instant), ",".join(str(int(number)) for number in numbers)]
    process = subprocess.run(
        command(space, SHORT, *options, program=program),
        cwd=space.path,
        env=space.environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "Traceback" not in process.stderr, process.stderr
    for pid in survivors(marker):
        with contextlib.suppress(OSError):  # gone
            # The runner was killed at once, by two signals, while it was starting its guardian: that has not become one yet.
            assert INSTANTS in Path(f"/proc/{pid}/cmdline").read_text()
            assert len(numbers) == 2
    while survivors(marker):
        os.sched_yield()
    if process.returncode == 1:
        assert report.exists()  # whoever dies by a signal does not write it, unless that comes in the very last lines
        assert ended(space, SHORT) == "failed"
        return True
    assert process.returncode in [-number for number in numbers]
    # Two at once may come while the run's directory is being made, and nobody takes that for a run.
    assert ended(space, SHORT) in (None, "cancelled", "failed", *(["half-made"] if len(numbers) > 1 else []))
    return False


def stop_at_lines(space: Space, marker: str, step: int, signals_each: int) -> None:
    for turn, instant in enumerate(range(1 + step // 2, 10_000, step)):
        numbers = [SIGNALS[turn % 3], SIGNALS[turn // 3 % 3]][:signals_each]
        if stop_at(space, marker, instant, numbers, "--parallel", str(1 + turn % 3)):
            assert instant > 1000
            return
    pytest.fail("there are not so many lines")


@pytest.mark.parametrize("step", [pytest.param(700, id="some"), pytest.param(5, id="many", marks=pytest.mark.stress)])
@pytest.mark.timeout(3600)
def test_a_signal_at_a_line_of_ours(project: Space, marker: str, step: int) -> None:
    stop_at_lines(project, marker, step, 1)


@pytest.mark.parametrize("step", [pytest.param(1100, id="some"), pytest.param(11, id="many", marks=pytest.mark.stress)])
@pytest.mark.timeout(3600)
def test_a_second_signal_right_after(project: Space, marker: str, step: int) -> None:
    stop_at_lines(project, marker, step, 2)


# --- random instants of a run that does not end of itself


def stop_after(
    space: Space, marker: str, line: list[str], runs: bool, seconds: float, numbers: Sequence[int], pause_s: float
) -> float:
    """Start a command, send it signals; return the seconds from the first to its death. Nothing of it is left then."""
    with subprocess.Popen(
        line,
        cwd=space.path,
        env=space.environ({"MINIFLOW_GRACE": str(GRACE_S)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while runs and not list(space.output_dir.glob("f/2*/logs/*")):
            os.sched_yield()
        spin(seconds)
        sent_at = time.monotonic()
        for nth, number in enumerate(numbers, 1):
            process.send_signal(number)
            if nth < len(numbers):
                spin(pause_s)
        process.wait()
        died_at = time.monotonic()
        assert survivors(marker) == []
        assert process.stderr is not None
        shown = process.stderr.read()
    if not is_of_pythons_start(shown):
        assert process.returncode in [-number for number in numbers], shown
        assert shown == "" or line[0] == "bash"
    return died_at - sent_at


def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        os.sched_yield()


def stop_at_random(space: Space, marker: str, count: int, seed: int, script: Path | None) -> list[float]:
    chance = random.Random(seed)  # noqa: S311
    took = []
    for turn in range(count):
        numbers = [SIGNALS[turn % 3], *([chance.choice(SIGNALS)] if turn % 4 == 3 else [])]
        line = ["bash", str(script)] if script else command(space, FLOW, "--parallel", str(chance.randrange(1, 9)))
        took.append(stop_after(space, marker, line, turn % 8 > 1, chance.uniform(0, 0.3), numbers, chance.uniform(0, 0.1)))
        runs = list((space.output_dir / "f").glob("2*"))
        if not script:
            assert ended(space, FLOW) in (None, "cancelled", *(["half-made"] if len(numbers) > 1 else []))
        elif runs and (runs[0] / "events.jsonl").exists():
            assert assert_whole(runs[0], [task["id"] for task in FLOW["tasks"]], by_script=True) == "cancelled"
        for run_dir in runs:
            if run_dir.exists():
                run_dir.rename(space.path / run_dir.name)
    return took


def report_times(what: str, took: list[float]) -> None:
    took.sort()
    late = sum(seconds > GRACE_S + 0.5 for seconds in took)
    print(  # noqa: T201
        f"\n{what}: {len(took)} stopped, median {statistics.median(took):.3f} s, 99 % {took[len(took) * 99 // 100]:.3f} s,"
        f" longest {took[-1]:.3f} s; {late} later than grace + 0.5 s"
    )


def test_a_signal_at_a_random_instant(project: Space, marker: str) -> None:
    stop_at_random(project, marker, 6, seed=1, script=None)


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_signals_at_random_instants_and_how_long_they_take(project: Space, marker: str) -> None:
    report_times("scheduler", stop_at_random(project, marker, 400, seed=2, script=None))


def script(space: Space) -> Path:
    subprocess.run(command(space, FLOW, "--dry-run"), check=True, cwd=space.path, stdout=subprocess.DEVNULL)
    return space.output_dir / "f.sh"


def test_a_signal_to_the_script_at_a_random_instant(project: Space, marker: str) -> None:
    stop_at_random(project, marker, 4, seed=3, script=script(project))


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_signals_to_the_script_at_random_instants_and_how_long_they_take(project: Space, marker: str) -> None:
    report_times("script", stop_at_random(project, marker, 200, seed=4, script=script(project)))


# --- callers and readers of all kinds

CALLERS = {
    "any": "exec {command}",
    "one whose pipe nobody reads": "exec {command} > >(exec sleep 600)",
    "one whose pipe is closed": "exec {command} > >(exec true)",
    "one who reads a line": "exec {command} > >(exec head -n 1)",
    "nohup": "trap '' HUP; exec {command}",
    "a shell in the background": "trap '' INT QUIT; exec {command}",
    "one who ignores the end of children": "trap '' CHLD; exec {command}",
    "one who blocks signals": "exec {python} -c {block!r} {command}",
}
BLOCK = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals()); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
UP = {"name": "up", "tasks": [{"id": f"t{n}", "script": "up.sh"} for n in range(3)]}


@pytest.mark.parametrize("caller", CALLERS)
def test_whoever_has_called_a_run_it_can_be_stopped(project: Space, marker: str, caller: str) -> None:
    project.flow(UP)
    project.script("up.sh", 'touch "$RECORDS/$MINIFLOW_TASK_ID"; while :; do echo "$MINIFLOW_TASK_ID and a long line"; done')
    line = " ".join(command(project, UP, "--parallel", "3"))
    line = CALLERS[caller].format(command=line, python=sys.executable, block=BLOCK)
    with subprocess.Popen(
        ["bash", "-c", line],
        cwd=project.path,
        env=project.environ(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while len(list(project.records_dir.iterdir())) < 3:
            os.sched_yield()
        if caller in ("nohup", "a shell in the background"):
            process.send_signal(signal.SIGHUP if caller == "nohup" else signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.wait()
        for pid in survivors(marker):  # the readers
            assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
            os.kill(pid, signal.SIGKILL)
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == -signal.SIGTERM
    assert ended(project, UP) == "cancelled"


def test_zombies_that_nobody_reaps_keep_no_run_from_ending(project: Space, marker: str) -> None:
    """As in a container whose first process is miniflow: what its tasks leave behind becomes its child."""
    adopts = "import ctypes, os, sys; assert not ctypes.CDLL(None).prctl(36, 1); os.execv(sys.argv[1], sys.argv[1:])"
    project.flow(UP)
    project.script("up.sh", 'sleep 600 & sleep 600 & echo $! > "$RECORDS/$MINIFLOW_TASK_ID"; wait')
    line = [sys.executable, "-c", adopts, *command(project, UP, "--parallel", "3")]
    with subprocess.Popen(line, cwd=project.path, env=project.environ(), stdout=subprocess.DEVNULL) as process:
        while len(list(project.records_dir.iterdir())) < 3:
            os.sched_yield()
        sent_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait()
        assert time.monotonic() - sent_at < 5  # that a process cannot be killed is believed after ten seconds
    assert ended(project, UP) == "cancelled"


def test_the_first_process_of_a_container_exits_as_if_it_had_died_by_the_signal(project: Space, marker: str) -> None:
    container = ["unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*container, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system lets us make no container")
    project.flow(UP)
    project.script("up.sh", 'touch "$RECORDS/$MINIFLOW_TASK_ID"; sleep 600')
    started = subprocess.Popen(
        [*container, *command(project, UP)], cwd=project.path, env=project.environ(), stdout=subprocess.DEVNULL
    )
    with started as process:
        while not list(project.records_dir.iterdir()):
            os.sched_yield()
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)
        process.wait()
    assert process.returncode == 128 + signal.SIGTERM
    assert ended(project, UP) == "cancelled"


def test_a_second_signal_does_not_wait_for_a_reader(project: Space, marker: str) -> None:
    project.flow(UP)
    project.script("up.sh", "trap 'touch \"$RECORDS/heard\"' TERM; while :; do echo 'a long line'; done")
    with subprocess.Popen(
        [*command(project, UP)[:-1], "600"], cwd=project.path, env=project.environ(), stdout=subprocess.PIPE
    ) as process:
        while not any(path.stat().st_size > 10_000 for path in project.output_dir.rglob("t0.jsonl")):
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        while not (project.records_dir / "heard").exists():
            os.sched_yield()
        process.send_signal(signal.SIGHUP)
        process.wait()  # or the test's time runs out
    assert process.returncode == -signal.SIGINT
    assert ended(project, UP) == "cancelled"
