"""What is written about a run for those who wait for it elsewhere: JUnit XML, the summary of a step of GitHub Actions."""

from __future__ import annotations

import os
from pathlib import Path

from miniflow.errors import OutputError, UsageError
from miniflow.files import check_is_file, write_all, write_atomically, writing
from miniflow.junit import junit_parts
from miniflow.rundir import RunDir
from miniflow.step_summary import MOST_BYTES, step_summary
from miniflow.suggest import quoted
from miniflow.tails import Tail, TailLine, read_tail
from miniflow.timeline import TaskTimeline, read_timeline


def check_junit(path: Path) -> None:
    """See that a JUnit file can be written when a run is over; make the directory that it is in.

    Raises:
        UsageError: It cannot.
    """
    try:
        check_is_file(path, "--junit")
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(3).hex()}")
        try:
            probe.touch(exist_ok=False)
        finally:
            probe.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--junit {quoted(str(path))} cannot be written: {why}") from None


def write_junit(run_dir: RunDir, path: Path) -> None:
    """Write the JUnit file of a run that is over, whole or not at all.

    Raises:
        MiniFlowError: The record cannot be read, or the file not written.
    """

    def tail(task: TaskTimeline) -> Tail | None:
        failed = task.state != "succeeded"
        return _tail(run_dir, task.id, most_lines=200 if failed else 50, most_chars=20_000 if failed else 5_000)

    write_atomically(path, junit_parts(read_timeline(run_dir), tail))


def append_step_summary(run_dir: RunDir, path: Path) -> None:
    """Append what is to be known of a run to the summary of a step.

    Raises:
        MiniFlowError: The record cannot be read, or the file not written.
    """

    def last_lines(task: TaskTimeline) -> list[str]:
        tail = _tail(run_dir, task.id, most_lines=20, most_chars=4_000)
        return [line.text for line in tail.lines] if tail is not None else []

    run = read_timeline(run_dir)
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        try:
            room = MOST_BYTES - os.fstat(descriptor).st_size
            summary = step_summary(run, last_lines, room).encode()
            if len(summary) > room:
                raise OutputError(f"there is no room left in the step summary {path}")
            write_all(descriptor, summary)
        finally:
            os.close(descriptor)


def _tail(run_dir: RunDir, task_id: str, *, most_lines: int, most_chars: int) -> Tail | None:
    try:
        return read_tail(run_dir, task_id, most_lines=most_lines, most_chars=most_chars)
    except OSError as error:  # no reason to say nothing of all the others
        return Tail(run_dir.log(task_id), 0, (TailLine(f"[the log cannot be read: {error.strerror}]"),), True)
