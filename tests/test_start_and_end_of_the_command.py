"""Ctrl-C before a run, after it, and where there is none: a death by the signal, at any instant, and nothing half-written."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Space
from tests.records import is_of_pythons_start

INSTANTS = str(Path(__file__).with_name("instants.py"))
FEW = ["--version", "list", "run hello --dry-run"]
MORE = ["--help", "list --json", "run --help", "run nothing --dry-run"]
COMMANDS = [*FEW, *MORE, "run hello"]


@pytest.fixture
def hello(space: Space) -> Space:
    space.script("hello.py", "print('hello')")
    space.flow({"name": "hello", "tasks": [{"id": "greet", "script": "hello.py"}]})
    return space


def at(space: Space, instant: int | str, command: str, number: int = signal.SIGINT) -> tuple[int, str, dict[str, Any]]:
    """Send a command a signal at an instant; return its exit status, what it says on standard error, and the report."""
    report = space.path / "report.json"
    report.unlink(missing_ok=True)
    process = subprocess.run(
        [sys.executable, INSTANTS, str(report), str(instant), str(int(number)), "-o", str(space.output_dir), *command.split()],
        cwd=space.path,
        env=space.environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return process.returncode, process.stderr, json.loads(report.read_text()) if report.exists() else {}


def temporary_files(space: Space) -> list[str]:
    return [path.name for path in space.output_dir.rglob(".*")]


def end_at_lines(hello: Space, command: str, every: int) -> None:
    status, shown, report = at(hello, f"fork{every}", command)

    assert status == (2 if "nothing" in command else 0)
    assert "Traceback" not in shown
    assert "KeyboardInterrupt" not in shown
    assert len(report["ends"]) > 100 / every
    assert set(report["ends"].values()) == {-signal.SIGINT}
    assert bool(report["whole"]) == ("hello --dry-run" in command)


@pytest.mark.parametrize("command", FEW)
def test_ctrl_c_at_lines_of_ours_ends_a_command_that_runs_nothing(hello: Space, command: str) -> None:
    end_at_lines(hello, command, every=10)


@pytest.mark.stress
@pytest.mark.parametrize("command", [*FEW, *MORE])
def test_ctrl_c_at_any_line_of_ours_ends_a_command_that_runs_nothing(hello: Space, command: str) -> None:
    end_at_lines(hello, command, every=1)


def write_the_script_whole(hello: Space, every: int) -> None:
    _, _, report = at(hello, "fork1000000", "run hello --dry-run")
    script = hello.output_dir / "hello.sh"
    expected = script.read_bytes()
    for instant in report["whole"][::every]:
        script.unlink()

        status, shown, _ = at(hello, instant, "run hello --dry-run")

        assert (status, shown) == (-signal.SIGINT, "")
        assert script.read_bytes() == expected
        assert temporary_files(hello) == []


def test_ctrl_c_while_a_script_is_written_waits_until_it_is_whole(hello: Space) -> None:
    write_the_script_whole(hello, every=25)


@pytest.mark.stress
def test_ctrl_c_at_any_line_while_a_script_is_written_waits_until_it_is_whole(hello: Space) -> None:
    write_the_script_whole(hello, every=1)


@pytest.mark.parametrize("command", ["list", "run nothing --dry-run", "run hello"])
def test_ctrl_c_when_nothing_is_left_to_do_is_a_death_by_it(hello: Space, command: str) -> None:
    status, shown, _ = at(hello, "exit", command)

    assert status == -signal.SIGINT
    assert "Traceback" not in shown
    assert temporary_files(hello) == []


def test_nothing_is_loaded_before_ctrl_c_has_its_default(hello: Space) -> None:
    _, _, report = at(hello, 10**9, "--version")

    assert report["loaded"] == ["miniflow"]


def test_a_hangup_that_the_caller_ignores_is_ignored_to_the_very_end(hello: Space) -> None:
    report = hello.path / "report.json"
    command = f"trap '' HUP INT; exec {sys.executable} {INSTANTS} {report} {{}} {{}} -o {hello.output_dir} run hello"
    for instant in ("exit", "100"):
        for number in (signal.SIGHUP, signal.SIGINT):
            status = subprocess.run(
                ["bash", "-c", command.format(instant, int(number))],
                cwd=hello.path,
                env=hello.environ(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert (status.returncode, status.stderr) == (0, "")


@pytest.mark.stress
def test_ctrl_c_at_random_instants(hello: Space) -> None:
    """Also in what is Python's own, before our first line: there a traceback is out of our reach, but not the death by it."""
    chance = random.Random(3)  # noqa: S311
    tracebacks = 0
    for n in range(600):
        command = COMMANDS[n % len(COMMANDS)]
        with subprocess.Popen(
            [sys.executable, "-m", "miniflow", "-o", str(hello.output_dir), *command.split()],
            cwd=hello.path,
            env=hello.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            until = time.perf_counter() + chance.random() * (0.35 if command == "run hello" else 0.15)
            while time.perf_counter() < until:
                os.sched_yield()
            process.send_signal(signal.SIGINT)
            _, shown = process.communicate()
        if is_of_pythons_start(shown):
            tracebacks += 1
            continue
        assert process.returncode in (-signal.SIGINT, 2 if "nothing" in command else 0)
        assert "Traceback" not in shown, shown
        assert [name for name in temporary_files(hello) if not name.startswith(".latest")] == []
    print(f"\n{tracebacks} of 600 in Python's own start")  # noqa: T201
