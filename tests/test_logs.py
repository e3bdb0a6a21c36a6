"""`miniflow logs`: what the tasks of a run have printed, of a run that is over, goes on, or was interrupted, whoever ran it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniflow.events import OutputChunk, TaskOutput
from miniflow.journal import lock_journal
from miniflow.lines import MAX_LINE_BYTES, LineSplitter
from miniflow.logforms import Raw
from miniflow.logs import Printed as PrintedLines
from miniflow.logs import PrintedLine, RunLogs, has_plain_logs
from miniflow.rundir import RunDir
from miniflow.sinks.json_lines import JsonRenderer
from tests.conftest import Space, survivors

RUN_ID = "20260102T030405.678Z-abcdef"
START = "2026-01-02T03:04:05"


class Recorded:
    """A run that never was: its record, made by hand, with times of our own. Microseconds since its start are its clock."""

    def __init__(self, space: Space, flow: str = "f", run_id: str = RUN_ID, tasks: Sequence[str] = ("a", "b")) -> None:
        self.path = space.output_dir / flow / run_id
        self.flow = flow
        self.path.joinpath("logs").mkdir(parents=True)
        self.path.joinpath("plan.json").write_text(
            json.dumps({
                "tasks_dir": "/t", "params": {},
                "tasks": [{"id": task, "argv": ["/t/x"], "upstream": [], "trigger_rule": "all_success"} for task in tasks],
            })
        )  # fmt: skip
        self.journal(0, "run.started", parallel=4)

    def journal(self, at: int, event: str, task_id: str | None = None, **more: Any) -> None:
        with self.path.joinpath("events.jsonl").open("a") as file:
            file.write(json.dumps(self.event(at, event, task_id, **more)) + "\n")

    def event(self, at: int, event: str, task_id: str | None = None, **more: Any) -> dict[str, Any]:
        named = {} if task_id is None else {"task_id": task_id}
        head = {"timestamp": f"{START}.{at:06d}Z", "level": "info", "event": event, "message": event}
        return {**head, "flow": self.flow, "run_id": self.path.name, **named, **more}

    def output(self, at: int, task_id: str, line: str, stream: str = "stdout", attempt: int = 1, **more: Any) -> None:
        event = self.event(at, "task.output", task_id, attempt=attempt, stream=stream, **more) | {"message": line}
        with self.path.joinpath("logs", f"{task_id}.jsonl").open("a") as file:
            file.write(json.dumps(event) + "\n")

    def end(self) -> None:
        self.journal(999_999, "run.finished", state="succeeded", exit_status=0)


@pytest.fixture
def recorded(space: Space) -> Recorded:
    """Two tasks that ran at once, of which one printed on both streams and in two attempts."""
    run = Recorded(space)
    run.journal(1, "task.started", "a", attempt=1)
    run.journal(2, "task.started", "b", attempt=1)
    run.output(10, "a", "a1")
    run.output(20, "b", "b1", "stderr")
    run.output(20, "b", "b2")
    run.output(30, "a", "a2 \x1b[2J")
    run.output(40, "b", "again", attempt=2)
    run.end()
    return run


# --- which lines, in which order


def test_all_lines_come_in_the_order_in_which_they_were_recorded_each_after_its_task(space: Space, recorded: Recorded) -> None:
    result = space.miniflow("logs")

    assert result.stdout.splitlines() == ["a │ a1", "b │ b1", "b │ b2", "a │ a2 \\x1b[2J", "b │ again"]
    assert (result.stderr, result.returncode) == ("", 0)


def test_the_lines_of_one_task_stand_alone(space: Space, recorded: Recorded) -> None:
    assert space.miniflow("logs", "f", "b").stdout == "b1\nb2\nagain\n"


def test_standard_error_and_one_attempt_can_be_had_alone(space: Space, recorded: Recorded) -> None:
    assert space.miniflow("logs", "b", "--stderr").stdout == "b1\n"
    assert space.miniflow("logs", "b", "--attempt", "2").stdout == "again\n"
    assert space.miniflow("logs", "--attempt", "1", "--stderr").stdout == "b │ b1\n"
    assert space.miniflow("logs", "b", "--attempt", "3").stdout == ""


def test_json_is_the_recorded_events_of_output_byte_for_byte(space: Space, recorded: Recorded) -> None:
    log = recorded.path.joinpath("logs/b.jsonl")
    assert space.miniflow("logs", "b", "--json").stdout == log.read_text()

    first, _, third = log.read_text().splitlines(keepends=True)
    assert space.miniflow("logs", "b", "--json", "--attempt", "2").stdout == third
    assert space.miniflow("logs", "b", "--json", "--stderr").stdout == first


def test_a_task_without_output_says_nothing(space: Space) -> None:
    run = Recorded(space)
    run.journal(1, "task.started", "a", attempt=1)
    run.journal(2, "task.finished", "a", attempt=1, state="succeeded")
    run.end()

    for task in ("a", "b"):  # one that was silent, and one that never ran
        result = space.miniflow("logs", task)
        assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


def test_what_is_torn_or_damaged_is_left_out(space: Space, recorded: Recorded) -> None:
    with recorded.path.joinpath("logs/b.jsonl").open("ab") as log:
        log.write(b'no event\n\xff\n[1]\n{"event":"task.output","message":"whole"}\n{"event":"task.output","message":"to')

    assert space.miniflow("logs", "b").stdout == "b1\nb2\nagain\nwhole\n"


@given(
    st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=8).map(sorted), min_size=1, max_size=6),
)
def test_any_logs_are_merged_by_time_and_keep_their_own_order(
    tmp_path_factory: pytest.TempPathFactory, times: list[list[int]]
) -> None:
    run = Recorded(Space(tmp_path_factory.mktemp("space")))
    for number, own in enumerate(times):
        run.journal(own[0], "task.started", f"t{number}", attempt=1)
        for place, at in enumerate(own):
            run.output(at, f"t{number}", str(place))
    run.end()

    with RunLogs(RunDir(run.path)) as logs:
        found = [(line.timestamp, printed.task_id, int(line.message)) for printed in logs.read() for line in printed.lines]

    assert [at for at, _, _ in found] == sorted(at for at, _, _ in found)
    for number, own in enumerate(times):
        assert [place for _, task, place in found if task == f"t{number}"] == list(range(len(own)))


def test_thousands_of_tasks_take_few_descriptors(space: Space) -> None:
    tasks = [f"t{number}" for number in range(2000)]
    run = Recorded(space, tasks=tasks)
    for number, task in enumerate(tasks):
        run.journal(number, "task.started", task, attempt=1)
        run.output(number, task, "first")
        run.output(10_000 - number, task, "last")  # all of them run at once
    run.end()

    command = f"ulimit -n 16; exec {sys.executable} -m miniflow -o {space.output_dir} logs"
    result = subprocess.run(["bash", "-c", command], env=space.environ(), capture_output=True, text=True, check=False)

    assert (result.stderr, result.returncode) == ("", 0)
    expected = [f"{task} │ first" for task in tasks] + [f"{task} │ last" for task in reversed(tasks)]
    assert result.stdout.splitlines() == expected


# --- raw


def test_raw_is_what_was_printed_without_names_and_escapes(space: Space, recorded: Recorded) -> None:
    assert space.miniflow("logs", "--raw").stdout == "a1\nb1\nb2\na2 \x1b[2J\nagain\n"


LONG = MAX_LINE_BYTES


@pytest.mark.parametrize(
    "text",
    [
        "short\n",
        "x" * LONG + "\n" + "y\n",
        "x" * (LONG + 1) + "\n" + "y\n",
        "x" * (3 * LONG + 5) + "\n" + "y" * (2 * LONG + 5) + "\n" + "z\n",
        "x" * 2 * LONG + "\n" + "y\n",
        "x" * 2 * LONG + "\n",
        "é" * LONG + "\n" + "€" * LONG + "\nend\n",
        "\n" * 3 + "x" * (LONG + 5) + "\n\n",
    ],
    ids=["short", "longest", "cut", "two", "full", "full and last", "characters", "empty"],
)
@pytest.mark.parametrize("size", [7_000, 65_536, 1_000_000])
def test_raw_joins_the_parts_of_long_lines(text: str, size: int) -> None:
    assert raw_again(text.encode(), size) == text


def test_raw_joins_the_parts_of_what_is_not_utf_8() -> None:
    data = b"\xff" * (2 * LONG + 9) + b"\nend\n"

    assert raw_again(data, 65_536) == data.decode(errors="backslashreplace")


def raw_again(data: bytes, size: int) -> str:
    """Return what `--raw` makes of the record of what a task printed, and we read in pieces of that size."""
    splitter, renderer, raw = LineSplitter(), JsonRenderer(), Raw()
    groups = [group for start in range(0, len(data), size) for group in splitter.feed(data[start : start + size])]
    written = b""
    for text, partial in [*groups, *splitter.end()]:
        chunk = OutputChunk(TaskOutput(0, "f", "r", "a", 1, "stdout", "", partial=partial), text)
        recorded = bytes(renderer.render_item(chunk).lines).splitlines()
        events = [json.loads(line) for line in recorded]
        lines = [PrintedLine(message=event["message"], partial=event.get("partial", False)) for event in events]
        written += raw(PrintedLines("a", lines, recorded))
    return (written + raw.end()).decode()


# --- which run, which task


def test_one_word_is_a_run_or_else_a_task_of_the_latest_run(space: Space, recorded: Recorded) -> None:
    older = Recorded(space, "g", "20250102T030405.678Z-abcdef", tasks=["old"])
    older.journal(1, "task.started", "old", attempt=1)
    older.output(2, "old", "of g")
    older.end()

    for run in ("g", "2025", older.path.name, str(older.path)):
        assert space.miniflow("logs", run).stdout == "old │ of g\n"
    assert space.miniflow("logs", "b", "--stderr").stdout == "b1\n"
    assert space.miniflow("logs", "latest", "b", "--stderr").stdout == "b1\n"
    assert space.miniflow("logs", "g", "old").stdout == "of g\n"


def test_a_run_that_is_named_needs_no_other(space: Space, tmp_path: Path) -> None:
    run = Recorded(space)
    run.journal(1, "task.started", "a", attempt=1)
    run.output(2, "a", "a1")
    run.end()
    assert space.miniflow("-o", str(tmp_path / "none"), "logs", f"{run.path}").stdout == "a │ a1\n"

    Recorded(space, run_id="20270102T030405.678Z-abcdef").path.joinpath("plan.json").write_text("{")
    assert space.miniflow("logs", RUN_ID).stdout == "a │ a1\n"


def test_a_word_that_is_both_is_an_error_that_tells_how_to_say_which(space: Space) -> None:
    run = Recorded(space, "both", tasks=["both"])
    run.end()

    result = space.miniflow("logs", "both")

    assert result.stderr == (
        f'error: "both" is a run, {RUN_ID} of flow "both", and also a task of the latest run, {RUN_ID}; write {RUN_ID} for the'
        " one, or latest both for the other\n"
    )
    assert (result.stdout, result.returncode) == ("", 2)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["f", "aa"], f'error: run {RUN_ID} of flow "f" has no task "aa"; did you mean "a"?\n'),
        (["f", "nothing"], f'error: run {RUN_ID} of flow "f" has no task "nothing"; there are a, b\n'),
    ],
)
def test_an_unknown_task_is_an_error_with_a_suggestion(
    space: Space, recorded: Recorded, words: Sequence[str], error: str
) -> None:
    result = space.miniflow("logs", *words)

    assert (result.stdout, result.stderr, result.returncode) == ("", error, 2)


def test_a_word_that_is_neither_says_both(space: Space, recorded: Recorded) -> None:
    result = space.miniflow("logs", "neither")

    assert 'no run or flow that has been run is called "neither"' in result.stderr
    assert f"nor has the latest run, {RUN_ID}, a task of that name" in result.stderr
    assert result.returncode == 2


def test_before_any_run_there_is_nothing_to_show(space: Space) -> None:
    result = space.miniflow("logs")

    assert (result.stdout, result.returncode) == ("", 2)
    assert "nothing has been run yet" in result.stderr


# --- on a terminal, in a pipe


def on_a_terminal(space: Space, *args: str, env: dict[str, str] | None = None) -> str:
    """Return what the command writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "miniflow", "-o", str(space.output_dir), *args]
    with subprocess.Popen(command, stdout=theirs, env=space.environ({"TERM": "xterm", **(env or {})})) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            written += data
        assert process.wait() == 0
    os.close(ours)
    return written.decode().replace("\r\n", "\n")


def test_a_terminal_sees_which_lines_are_of_standard_error(space: Space, recorded: Recorded) -> None:
    colored = on_a_terminal(space, "logs")
    plain = on_a_terminal(space, "logs", env={"NO_COLOR": "1"})

    assert colored.splitlines()[:3] == ["a │ a1", "\x1b[31mb ┃ b1\x1b[0m", "b │ b2"]
    assert plain.splitlines() == ["a │ a1", "b ┃ b1", "b │ b2", "a │ a2 \\x1b[2J", "b │ again"]


def test_colours_can_be_forced_in_a_pipe_and_raw_has_none(space: Space, recorded: Recorded) -> None:
    assert space.miniflow("logs", "b", env={"FORCE_COLOR": "1"}).stdout == "\x1b[31mb1\x1b[0m\nb2\nagain\n"
    assert space.miniflow("logs", "b", "--raw", env={"FORCE_COLOR": "1"}).stdout == "b1\nb2\nagain\n"


def test_a_reader_who_has_seen_enough_is_no_error(space: Space) -> None:
    run = Recorded(space)
    run.journal(1, "task.started", "a", attempt=1)
    for number in range(20_000):
        run.output(2, "a", f"line {number}")
    run.end()

    command = f"set -o pipefail; {sys.executable} -m miniflow -o {space.output_dir} logs | head -n 1"
    result = subprocess.run(["bash", "-c", command], env=space.environ(), capture_output=True, text=True, check=False)

    assert (result.stdout, result.stderr, result.returncode) == ("a │ line 0\n", "", 0)


def test_raw_and_json_do_not_go_together(space: Space, recorded: Recorded) -> None:
    result = space.miniflow("logs", "--raw", "--json")

    assert (result.stderr, result.returncode) == ("error: --raw and --json do not go together\n", 2)


# --- following


@pytest.fixture
def live(space: Space, marker: str) -> Iterator[tuple[Space, subprocess.Popen[str]]]:
    """A run whose first task has printed a line, and goes on when it is told to; then another one comes."""
    os.mkfifo(space.path / "go")
    space.script("first.py", "import pathlib; print('one'); pathlib.Path('go').read_text(); print('two')")
    space.script("second.py", "print('three')")
    space.flow(
        {"name": "f", "tasks": [{"id": "a", "script": "first.py"}, {"id": "b", "script": "second.py", "depends_on": "a"}]}
    )
    with run_in_background(space, "run", "f") as process:
        assert process.stdout is not None
        while '"message":"one"' not in process.stdout.readline():
            pass
        yield space, process
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        while survivors(marker):  # what a runner that was killed has left is ended by its guardian
            time.sleep(0.02)


def run_in_background(space: Space, *args: str) -> subprocess.Popen[str]:
    directories = ["-f", str(space.flows_dir), "-t", str(space.tasks_dir), "-o", str(space.output_dir)]
    return subprocess.Popen(
        [sys.executable, "-m", "miniflow", *directories, *args],
        cwd=space.path,
        env=space.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go_on(space: Space) -> None:
    (space.path / "go").write_text("")


def test_following_goes_on_to_the_end_of_the_run_with_tasks_that_begin_later(
    live: tuple[Space, subprocess.Popen[str]],
) -> None:
    space, _ = live
    with run_in_background(space, "logs", "--follow") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == "a │ one\n"
        go_on(space)
        rest, errors = logs.communicate()

    assert (rest, errors, logs.returncode) == ("a │ two\nb │ three\n", "", 0)


def test_following_a_task_ends_with_the_task(live: tuple[Space, subprocess.Popen[str]]) -> None:
    space, _ = live
    with run_in_background(space, "logs", "--follow", "latest", "a") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == "one\n"
        go_on(space)
        rest, errors = logs.communicate()

    assert (rest, errors, logs.returncode) == ("two\n", "", 0)


def test_without_follow_only_what_is_there_is_shown(live: tuple[Space, subprocess.Popen[str]]) -> None:
    space, _ = live

    assert space.miniflow("logs").stdout == "a │ one\n"
    go_on(space)


def test_following_a_run_whose_runner_is_killed_ends_and_says_so(live: tuple[Space, subprocess.Popen[str]]) -> None:
    space, process = live
    with run_in_background(space, "logs", "--follow") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == "a │ one\n"
        process.kill()
        rest, errors = logs.communicate()

    run_id = space.latest("f").name
    assert (rest, logs.returncode) == ("", 0)
    assert errors == f"run {run_id} was interrupted: its runner is gone, and it has no end\n"


def test_following_ends_when_nobody_reads_any_more(live: tuple[Space, subprocess.Popen[str]]) -> None:
    space, _ = live
    with run_in_background(space, "logs", "--follow") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == "a │ one\n"
        logs.stdout.close()
        assert logs.wait() == 0
    go_on(space)


def test_ctrl_c_ends_following_like_any_command(live: tuple[Space, subprocess.Popen[str]]) -> None:
    space, _ = live
    with run_in_background(space, "logs", "--follow") as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == "a │ one\n"
        logs.send_signal(signal.SIGINT)
        _, errors = logs.communicate()
    go_on(space)

    assert (errors, logs.returncode) == ("", -signal.SIGINT)


def test_following_a_run_that_is_over_shows_all_of_it(space: Space, recorded: Recorded) -> None:
    assert space.miniflow("logs", "--follow", "b").stdout == "b1\nb2\nagain\n"


def test_what_was_printed_is_shown_once_however_often_it_is_looked_for(space: Space) -> None:
    run = Recorded(space)
    with RunLogs(RunDir(run.path)) as logs, run.path.joinpath("events.jsonl").open("a") as journal:
        lock_journal(journal.fileno())  # as long as it goes on

        def seen() -> list[str]:
            return [line.message for printed in logs.read() for line in printed.lines]

        assert seen() == []
        run.journal(1, "task.started", "a", attempt=1)
        assert seen() == []  # the task has a log when there is something to say
        run.output(2, "a", "1")
        with run.path.joinpath("logs/a.jsonl").open("a") as log:
            log.write('{"event":"task.output","mess')
        assert seen() == ["1"]
        with run.path.joinpath("logs/a.jsonl").open("a") as log:
            log.write('age":"2"}\n')
        run.output(3, "a", "3")
        assert seen() == ["2", "3"]


def test_a_run_that_is_only_just_beginning_is_followed_like_any_other(space: Space) -> None:
    run = Recorded(space)
    plan = run.path / "plan.json"
    document, head = plan.read_text(), run.path.joinpath("events.jsonl").read_text()
    plan.unlink()
    with RunLogs(RunDir(run.path)) as logs, run.path.joinpath("events.jsonl").open("w") as journal:
        lock_journal(journal.fileno())
        assert not has_plain_logs(RunDir(run.path))
        assert [*logs.read()] == []
        plan.write_text(document)
        journal.write(head)
        journal.flush()
        run.journal(1, "task.started", "a", attempt=1)
        run.output(2, "a", "1")
        assert [line.message for printed in logs.read() for line in printed.lines] == ["1"]


# --- the bash script's


@pytest.fixture
def scripted(space: Space) -> Path:
    """A run of the bash script."""
    space.script("p.py", "import os; os.write(1, b'one\\n\\xff\\x1b[2J'); os.write(2, b'err\\nno end')")
    space.script("q.py", "print('q')")
    space.flow({"name": "f", "tasks": [{"id": "a", "script": "p.py"}, {"id": "b", "script": "q.py", "depends_on": "a"}]})
    script = space.path / space.miniflow("run", "f", "--dry-run").stdout.strip()
    assert space.bash(script).returncode == 0
    return space.latest("f")


def test_logs_of_the_bash_script_are_shown_alike(space: Space, scripted: Path) -> None:
    assert space.miniflow("logs").stdout.splitlines() == [
        "a │ one",
        "a │ \\xff\\x1b[2Jerr",
        "a │ no end",
        "b │ q",
    ]
    assert space.miniflow("logs", "b", "--follow").stdout == "q\n"


def test_raw_logs_of_the_bash_script_are_its_bytes(space: Space, scripted: Path) -> None:
    command = [sys.executable, "-m", "miniflow", "-o", str(space.output_dir), "logs", "a", "--raw"]
    result = subprocess.run(command, env=space.environ(), capture_output=True, check=True)

    assert result.stdout == b"one\n\xff\x1b[2Jerr\nno end"


def test_logs_of_the_bash_script_as_json_have_null_for_what_they_do_not_tell(space: Space, scripted: Path) -> None:
    lines = space.miniflow("logs", "--json").stdout.splitlines()

    unknown = {"timestamp": None, "attempt": None, "stream": None}
    told = {"level": "info", "event": "task.output", "flow": "f", "run_id": scripted.name}
    assert [json.loads(line) for line in lines] == [
        {**unknown, **told, "task_id": task_id, "message": message}
        for task_id, message in [("a", "one"), ("a", "\\xff\x1b[2Jerr"), ("a", "no end"), ("b", "q")]
    ]
    by_scheduler = ["timestamp", "level", "event", "message", "flow", "run_id", "task_id", "attempt", "stream"]
    assert list(json.loads(lines[0])) == by_scheduler


def test_a_long_line_in_a_log_of_the_bash_script_has_its_parts_marked_in_json(space: Space, scripted: Path) -> None:
    scripted.joinpath("logs", "b.log").write_bytes(b"x" * 70_000 + b"\n")

    events = [json.loads(line) for line in space.miniflow("logs", "b", "--json").stdout.splitlines()]

    assert [(len(event["message"]), event["partial"]) for event in events] == [(65_536, True), (4_464, True)]


@pytest.mark.parametrize("option", ["--stderr", "--attempt=1"])
def test_logs_of_the_bash_script_cannot_tell_more(space: Space, scripted: Path, option: str) -> None:
    result = space.miniflow("logs", option)

    assert (result.stdout, result.returncode) == ("", 2)
    assert re.fullmatch(
        rf"error: run {scripted.name} is one of the bash script, whose logs hold what the tasks printed and nothing else:"
        rf" there is no {option.partition('=')[0]} of it; leave the option away\n",
        result.stderr,
    )


def test_of_a_task_that_was_taken_over_it_is_said_where_its_output_is(space: Space) -> None:
    space.script("talk.py", "print('words')")
    space.script("fail.py", "raise SystemExit(1)")
    tasks = [{"id": "talk", "script": "talk.py"}, {"id": "fail", "script": "fail.py", "depends_on": "talk"}]
    space.flow({"name": "f", "tasks": tasks})
    space.miniflow("run", "f")
    first = space.latest("f").name
    space.miniflow("run", "f", "--resume")

    result = space.miniflow("logs", "--raw", "latest", "talk")

    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == f"talk did not run in {space.latest('f').name}; what it has printed: miniflow logs {first} talk\n"
    assert space.miniflow("logs", "--raw", first, "talk").stdout == "words\n"
    assert space.miniflow("logs", "latest", "fail").stderr == ""
