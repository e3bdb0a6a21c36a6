"""The words RUN and TASK of a command line: which run is meant, and which of its tasks."""

from __future__ import annotations

from pathlib import Path

from miniflow.errors import MiniFlowError, UsageError
from miniflow.planfile import read_plan
from miniflow.resume import LATEST
from miniflow.rundir import RunDir, read_record
from miniflow.runs import find_any_run
from miniflow.suggest import did_you_mean, quoted

_SHOWN_TASKS = 20


def task_ids(run_dir: RunDir) -> list[str]:
    """Return the tasks of a run, as far as they are recorded.

    Raises:
        MiniFlowError: The run cannot be read.
    """
    plan = read_plan(run_dir)
    return [task.id for task in plan.tasks] if plan is not None else list(read_record(run_dir)[0].tasks)


def check_task(run_dir: RunDir, task_id: str) -> None:
    """See that a run has a task.

    Raises:
        UsageError: It has none of that name.
    """
    known = task_ids(run_dir)
    if task_id in known:
        return
    hint = did_you_mean(task_id, known)
    if not hint:
        more = f" and {len(known) - _SHOWN_TASKS} more" if len(known) > _SHOWN_TASKS else ""
        hint = f"; there are {', '.join(known[:_SHOWN_TASKS])}{more}" if known else "; no task has begun yet"
    raise UsageError(f"run {run_dir.run_id} of flow {quoted(run_dir.path.parent.name)} has no task {quoted(task_id)}{hint}")


def find_run_and_task(output_dir: Path, first: str | None, second: str | None) -> tuple[RunDir, str | None]:
    """Return what `[RUN] [TASK]` means: one word alone is a run or, if there is none of that name, a task of the latest run.

    Raises:
        UsageError: There is no such run or task, or the one word could mean either.
    """
    if first is None or second is not None:
        run_dir = find_any_run(output_dir, first)
        if second is not None:
            check_task(run_dir, second)
        return run_dir, second
    try:
        run_dir = find_any_run(output_dir, first)
    except UsageError as error:
        latest = find_any_run(output_dir)
        known = task_ids(latest)
        if first in known:
            return latest, first
        raise UsageError(
            f"{error}; nor has the latest run, {latest.run_id}, a task of that name{did_you_mean(first, known)}"
        ) from None
    if _is_task_of_latest(output_dir, first):
        latest = find_any_run(output_dir)
        raise UsageError(
            f"{quoted(first)} is a run, {run_dir.run_id} of flow {quoted(run_dir.path.parent.name)}, and also a task of the"
            f" latest run, {latest.run_id}; write {run_dir.run_id} for the one, or {LATEST} {first} for the other"
        )
    return run_dir, None


def _is_task_of_latest(output_dir: Path, word: str) -> bool:
    try:
        return word in task_ids(find_any_run(output_dir))
    except MiniFlowError:  # there is none, or it cannot be read: nobody who names another run wants to know
        return False
