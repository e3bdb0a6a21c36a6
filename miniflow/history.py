"""How long tasks took in earlier runs: a hint to whoever decides what starts first, and never a reason to fail.

What is looked at is bounded, so that neither thousands of runs nor a damaged or foreign file keep a run from beginning: the
newest runs alone, until each task is known, and as many bytes as are read in a moment.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from miniflow.errors import MiniFlowError
from miniflow.files import open_file
from miniflow.resume import run_ids
from miniflow.rundir import RunDir

MOST_RUNS = 20
"""How many runs are looked at, from the newest on."""
MOST_BYTES = 32 * 1024 * 1024
"""How much is read of them in all: three summaries of 100,000 tasks."""

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What comes of decoding what is torn, damaged or somebody else's; of bytes in a string that are not UTF-8 the second."""


class _End(msgspec.Struct):
    """How a task has ended, in a summary."""

    state: str | None = None
    reason: str | None = None
    duration_s: float | None = None

    def took_s(self) -> float | None:
        """Return how long the task has run, if it has run to its own end."""
        has_run = self.state in ("succeeded", "failed") and self.reason not in ("reused", "spawn")
        return self.duration_s if has_run and self.duration_s is not None and 0 <= self.duration_s < math.inf else None


class _Summary(msgspec.Struct):
    tasks: dict[str, _End]


class _Event(_End):
    """An event of a journal; that of a task's end has all of this."""

    event: str | None = None
    task_id: str | None = None


def earlier_durations(output_dir: Path, flow: str, task_ids: Iterable[str]) -> dict[str, float]:
    """Return for each task that has run to its own end in one of the newest runs how many seconds that took the last time.

    A task that was cancelled or taken over, or could not be started, has not.
    """
    found: dict[str, float] = {}
    missing = set(task_ids)
    bytes_left = MOST_BYTES
    try:
        newest = run_ids(output_dir, flow)[-MOST_RUNS:]
    except MiniFlowError:
        return found
    for run_id in reversed(newest):
        size, ends = _ends(RunDir(output_dir / flow / run_id), bytes_left)
        bytes_left -= size
        for task_id, end in ends.items():
            took_s = end.took_s() if task_id in missing else None
            if took_s is not None:
                missing.remove(task_id)
                found[task_id] = took_s
        if not missing:
            break
    return found


def durations_before(output_dir: Path, flow: str, task_id: str, run_id: str) -> list[float]:
    """Return how long a task took in the newest of the runs before one, wherever it ran to its own end; the newest first."""
    found = []
    bytes_left = MOST_BYTES
    earlier = [name for name in run_ids(output_dir, flow) if name < run_id]
    for name in reversed(earlier[-MOST_RUNS:]):
        size, ends = _ends(RunDir(output_dir / flow / name), bytes_left)
        bytes_left -= size
        took_s = ends[task_id].took_s() if task_id in ends else None
        if took_s is not None:
            found.append(took_s)
    return found


def _ends(run_dir: RunDir, most: int) -> tuple[int, Mapping[str, _End]]:
    """Return how many bytes were read, and how tasks have ended: by the summary or, for want of one, the journal."""
    size = 0
    for path, parse in ((run_dir.summary, _of_summary), (run_dir.journal, _of_journal)):
        try:
            data = _read(path, most - size)
            size += len(data)
            return size, parse(data)
        except (OSError, *_UNREADABLE):  # or not there
            continue
    return size, {}


def _read(path: Path, most: int) -> bytes:
    """Return the content of a file, or nothing if it is longer than that."""
    with open_file(path) as file:
        return file.read(most) if os.fstat(file.fileno()).st_size <= most else b""


def _of_summary(data: bytes) -> Mapping[str, _End]:
    return msgspec.json.decode(data, type=_Summary).tasks


def _of_journal(data: bytes) -> Mapping[str, _End]:
    decode = msgspec.json.Decoder(_Event).decode
    ends: dict[str, _End] = {}
    for line in data.split(b"\n"):
        try:
            event = decode(line)
        except _UNREADABLE:
            continue
        if event.event == "task.finished" and event.task_id is not None:
            ends[event.task_id] = event
    return ends
