"""What the tasks of a run have printed, on standard output: once, or as long as the run goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, TypeAlias

from miniflow.errors import UsageError
from miniflow.logforms import AsEvents, Form, ForPeople, Raw, as_recorded
from miniflow.logs import Choice, RunLogs, has_plain_logs
from miniflow.messages import complain
from miniflow.printing import is_unread, write
from miniflow.rundir import RunDir, read_record
from miniflow.terminal import has_colors

Kind: TypeAlias = Literal["people", "raw", "json"]

POLL_MS = 100
"""How often to look for more. Nobody tells us: the run does not know of us, and its file system may be a network's."""
WRITTEN_TOGETHER_BYTES = 64 * 1024


def show_logs(run_dir: RunDir, task_id: str | None, choice: Choice, *, kind: Kind, follow: bool) -> None:
    """Write what was printed, until the run, or the task, has ended, if it is to be followed.

    Raises:
        UsageError: The logs of the run do not tell what is wanted.
        MiniFlowError: They cannot be read.
        OSError: Standard output cannot be written.
    """
    as_json: Form = as_recorded
    if has_plain_logs(run_dir):
        _check_plain(run_dir, choice)
        as_json = AsEvents(read_record(run_dir)[1], run_dir.run_id) if kind == "json" else as_json
    raw = Raw()
    is_terminal = os.isatty(1)
    colors = has_colors(is_terminal, os.environ)
    people = ForPeople(has_names=task_id is None, marks_stderr=is_terminal or colors, has_colors=colors)
    forms: Mapping[Kind, Form] = {"people": people, "raw": raw, "json": as_json}
    form = forms[kind]
    has_shown = False
    with RunLogs(run_dir, task_id, choice) as logs:
        while True:
            waiting: list[bytes] = []
            size = 0
            for printed in logs.read():
                has_shown = True
                waiting.append(form(printed))
                size += len(waiting[-1])
                if size >= WRITTEN_TOGETHER_BYTES:
                    write(b"".join(waiting))
                    waiting, size = [], 0
            write(b"".join(waiting))
            if logs.is_over or not follow or is_unread(POLL_MS):
                break
        write(raw.end())
        if follow and logs.is_interrupted:
            complain(f"run {run_dir.run_id} was interrupted: its runner is gone, and it has no end")
    if task_id is not None and not has_shown:
        _say_where(run_dir, task_id)


def _say_where(run_dir: RunDir, task_id: str) -> None:
    """Say where the output of a task is that has not run, as its success was taken over."""
    ran_in = read_record(run_dir)[0].tasks.get(task_id, {}).get("reused_from")
    if ran_in:
        complain(f"{task_id} did not run in {run_dir.run_id}; what it has printed: miniflow logs {ran_in} {task_id}")


def _check_plain(run_dir: RunDir, choice: Choice) -> None:
    option = "--stderr" if choice.stream else "--attempt" if choice.attempt is not None else ""
    if option:
        raise UsageError(
            f"run {run_dir.run_id} is one of the bash script, whose logs hold what the tasks printed and nothing else: there is"
            f" no {option} of it; leave the option away"
        )
