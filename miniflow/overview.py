"""A run in a line: what a list of many runs says of each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from miniflow.durations import format_elapsed
from miniflow.errors import MiniFlowError
from miniflow.files import read_file
from miniflow.journal import JournalReader
from miniflow.results import RunState
from miniflow.rundir import Record, RunDir
from miniflow.values import dataclass


@dataclass(frozen=True, slots=True)
class Overview:
    """A run without its tasks."""

    run_id: str
    flow: str
    state: RunState
    exit_status: int | None
    started_at: str | None
    finished_at: str | None
    duration_s: float | None
    """None unless it has come to its end."""
    counts: Mapping[str, int]
    """How many tasks are in each state, of those that there are."""
    resumed_from: str | None
    error: str | None
    path: Path

    def to_json(self) -> dict[str, Any]:
        """Return it as `miniflow runs --json` does."""
        return {
            "run_id": self.run_id,
            "flow": self.flow,
            "state": self.state,
            "exit_status": self.exit_status,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "duration_s": self.duration_s,
            "counts": dict(self.counts),
            "resumed_from": self.resumed_from,
            "error": self.error,
            "path": os.fspath(self.path),
        }


class _Summary(msgspec.Struct):
    """What is read of a `run.json`: not its tasks."""

    flow: str
    state: str
    exit_status: int
    started_at: str
    finished_at: str
    duration_s: float
    counts: dict[str, int]
    resumed_from: str | None = None
    error: str | None = None


def read_overview(run_dir: RunDir) -> Overview:
    """Return a run by its summary or, for want of one, by its journal.

    Raises:
        MiniFlowError: It has neither.
    """
    try:
        found = msgspec.json.decode(read_file(run_dir.summary), type=_Summary)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return _by_journal(run_dir)  # which is the truth, and says what is wrong with it
    return Overview(
        run_dir.path.name,
        found.flow,
        cast("RunState", found.state),
        found.exit_status,
        found.started_at,
        found.finished_at,
        found.duration_s,
        {state: count for state, count in found.counts.items() if count},
        found.resumed_from,
        found.error,
        run_dir.path,
    )


def _by_journal(run_dir: RunDir) -> Overview:
    record = Record()
    head: dict[str, Any] = {}
    with JournalReader(run_dir.journal) as journal:
        has_writer = journal.has_writer()
        for event in journal.read():
            head = head or event
            record.apply(event)
    flow = str(head.get("flow", run_dir.path.parent.name))
    result, summary = record.result(flow, run_dir, has_writer=has_writer), record.summary(flow, run_dir.run_id)
    counts: dict[str, int] = {}
    for task in result.tasks.values():
        counts[task.state] = counts.get(task.state, 0) + 1
    planned = head.get("tasks")
    if isinstance(planned, int) and planned > len(result.tasks):
        counts["pending"] = planned - len(result.tasks)
    return Overview(
        run_dir.path.name,
        flow,
        result.state,
        result.exit_status,
        summary["started_at"],
        summary["finished_at"],
        result.duration,
        counts,
        result.resumed_from,
        result.error,
        run_dir.path,
    )


def read_overviews(runs: Sequence[RunDir], problems: list[MiniFlowError]) -> list[Overview]:
    """Return the runs that can be read; `problems` gets what is wrong with the others."""
    found = []
    for run_dir in runs:
        try:
            found.append(read_overview(run_dir))
        except MiniFlowError as error:
            problems.append(error)
    return found


HEADINGS = ("RUN", "FLOW", "STATE", "EXIT", "STARTED", "DURATION", "TASKS")


def for_people(run: Overview) -> tuple[str, ...]:
    """Return what stands under the headings; the start by the clock of the reader."""
    duration = format_elapsed(run.duration_s) if run.duration_s is not None else "-"
    exit_status = "-" if run.exit_status is None else str(run.exit_status)
    return run.run_id, run.flow, run.state, exit_status, local_time(run.started_at), duration, counted(run.counts)


def local_time(timestamp: str | None) -> str:
    """Return an RFC 3339 text as people read it where they are: `2026-11-23 09:36:12`; `-` if there is none."""
    try:
        return datetime.fromisoformat(timestamp or "").astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "-"


def counted(counts: Mapping[str, int]) -> str:
    """Return how many tasks there are in each state, in words."""
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "-"
