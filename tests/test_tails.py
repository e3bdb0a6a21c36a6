"""The last lines of a task's log."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from miniflow.rundir import RunDir
from miniflow.tails import read_tail
from tests.conftest import Space


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    (tmp_path / "logs").mkdir()
    return RunDir(tmp_path)


def output(message: str, stream: str = "stdout", attempt: int = 1) -> str:
    return json.dumps({"event": "task.output", "message": message, "attempt": attempt, "stream": stream}) + "\n"


def texts(run_dir: RunDir, task_id: str = "t", lines: int = 20, chars: int = 10_000) -> list[str]:
    tail = read_tail(run_dir, task_id, most_lines=lines, most_chars=chars)
    assert tail is not None
    return [line.text for line in tail.lines]


def test_a_task_without_a_log_has_no_tail(run_dir: RunDir) -> None:
    assert read_tail(run_dir, "t", most_lines=20, most_chars=1000) is None


def test_events_are_no_lines_of_the_task(run_dir: RunDir) -> None:
    lines = ['{"event": "task.started"}\n', output('{"event": "task.finished"}'), '{"event": "task.finished"}\n']
    run_dir.log("t").write_text("".join(lines))

    assert texts(run_dir) == ['{"event": "task.finished"}']


def test_stream_and_attempt_are_told(run_dir: RunDir) -> None:
    run_dir.log("t").write_text(output("a") + output("b", "stderr", 2))

    tail = read_tail(run_dir, "t", most_lines=20, most_chars=1000)

    assert tail is not None
    assert [(line.stream, line.attempt) for line in tail.lines] == [("stdout", 1), ("stderr", 2)]
    assert tail.is_whole
    assert tail.size == run_dir.log("t").stat().st_size


@pytest.mark.parametrize("count", [19, 20, 21, 5000, 100_000])
def test_the_last_lines_are_found_however_long_the_log_is(run_dir: RunDir, count: int) -> None:
    run_dir.log("t").write_text("".join(output(f"line {number}") for number in range(count)))

    tail = read_tail(run_dir, "t", most_lines=20, most_chars=10_000)

    assert tail is not None
    assert [line.text for line in tail.lines] == [f"line {number}" for number in range(max(0, count - 20), count)]
    assert tail.is_whole == (count <= 20)


def test_lines_that_lie_before_many_events_and_long_lines_are_found(run_dir: RunDir) -> None:
    run_dir.log("t").write_text(output("first") + output("x" * 60_000) + '{"event": "task.retrying"}\n' * 2000)

    assert texts(run_dir, chars=100_000) == ["first", "x" * 60_000]


def test_what_is_too_long_lacks_its_beginning(run_dir: RunDir) -> None:
    run_dir.log("t").write_text(output("lost") + output("x" * 50 + "the end"))

    assert texts(run_dir, chars=7) == ["…the end"]
    assert texts(run_dir, chars=57) == ["x" * 50 + "the end"]
    assert texts(run_dir, chars=0) == []


def test_a_raw_log_may_end_without_an_end_of_line_and_hold_any_bytes(run_dir: RunDir) -> None:
    run_dir.log("t").with_name("t.log").write_bytes(b"one\n\xff\x00\nlast")

    assert texts(run_dir) == ["one", "\\xff\x00", "last"]


def test_a_torn_line_of_the_record_is_left_out(run_dir: RunDir) -> None:
    run_dir.log("t").write_text(output("whole") + output("torn")[:40])

    assert texts(run_dir) == ["whole"]


def test_a_damaged_log_says_what_it_can(run_dir: RunDir) -> None:
    run_dir.log("t").write_text('"task.output"\n{"task.output"\n["task.output"]\n' + output("good"))

    assert texts(run_dir) == ["good"]


def test_nothing_is_read_that_is_no_log(run_dir: RunDir, tmp_path: Path) -> None:
    os.mkfifo(run_dir.log("fifo"))
    (tmp_path / "elsewhere.jsonl").write_text(output("not ours"))

    assert read_tail(run_dir, "fifo", most_lines=20, most_chars=1000) is None
    assert read_tail(run_dir, "../elsewhere", most_lines=20, most_chars=1000) is None


def test_runs_of_scheduler_and_script_have_the_same_tail(space: Space) -> None:
    space.script("t.py", "for number in range(100): print('line', number)")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "t.py"}]})
    expected = [f"line {number}" for number in range(80, 100)]

    space.miniflow("run", "f")
    assert texts(RunDir(space.latest("f"))) == expected
    space.bash(space.miniflow("run", "f", "--dry-run").stdout.strip())
    assert texts(RunDir(space.latest("f"))) == expected
