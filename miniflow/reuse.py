"""What a resumed run takes over from the run before it, and why the rest runs again.

A task is taken over if it succeeded and nothing that decides what it does has changed, before it included: its command, env,
working directory, the parameters, the content of its script, and all its upstream. What no trigger rule lets run is taken over
too, as what depends on it sees no difference.

What was decided is in the new run's `plan.json` before that run begins: so it holds, wherever that run is broken off, for the
one that resumes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from miniflow.documents import document_parts
from miniflow.events import SCHEMA
from miniflow.model import Json
from miniflow.plan import Plan, PlannedTask
from miniflow.results import Reason, RerunReason
from miniflow.values import dataclass, field


@dataclass(frozen=True, slots=True)
class OldTask:
    """A task of the run before: what it was, and how it ended."""

    argv: Sequence[str] = field(repr=False)
    env: Mapping[str, str] = field(repr=False)
    cwd: str
    upstream: frozenset[str]
    script_sha256: str | None
    """Of the content that was run; None if that is not known."""
    end: RerunReason | None
    """Why it has to run again whatever it is now; None: it succeeded."""
    skipped: Reason | None
    """Why it was skipped, if it was."""
    ran_in: str
    """The run in which it succeeded."""


@dataclass(frozen=True, slots=True)
class OldRun:
    """The run before."""

    run_id: str
    params: Mapping[str, Json] = field(repr=False)
    given_params: Mapping[str, Json] = field(repr=False)
    tasks: Mapping[str, OldTask]


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What is taken over, by the tasks' indices in the new plan."""

    run_id: str
    """The run before."""
    reused: Mapping[int, str]
    """Tasks that do not run again, and the run in which each did."""
    skipped: Mapping[int, Reason]
    """Tasks that are skipped again, and why."""
    reasons: Mapping[int, RerunReason]
    """Why each of the others runs, if it does."""


def old_run(
    run_id: str,
    plan: Any,
    tasks: Mapping[str, Mapping[str, Any]],
    changed_scripts: Mapping[str, str | None],
) -> OldRun:
    """Return a run from its records.

    Args:
        run_id: Its name.
        plan: What its `plan.json` holds.
        tasks: How its tasks ended, as in `run.json`.
        changed_scripts: The scripts that were not as planned when their task ran, by the tasks.

    Raises:
        LookupError, TypeError, ValueError: `plan.json` is none.
    """
    if plan["schema"] != SCHEMA:
        raise ValueError(f"its schema is {plan['schema']!r}, not {SCHEMA}")
    return OldRun(
        run_id,
        dict(plan["params"]),
        dict(plan["given_params"]),
        {
            task["id"]: _old_task(run_id, task, tasks.get(task["id"], {}), changed_scripts)
            for task in plan["tasks"]
        },
    )  # fmt: skip


def _old_task(
    run_id: str, planned: Mapping[str, Any], record: Mapping[str, Any], changed_scripts: Mapping[str, str | None]
) -> OldTask:
    # What that run itself had taken over was decided before it began, and may not be recorded yet.
    end = planned.get("taken_over", record)
    state, origin = end.get("state"), end.get("reused_from")
    ends: Mapping[Any, RerunReason | None] = {
        None: "not_started",
        "succeeded": None,
        "failed": "failed",
        "cancelled": "cancelled",
        "skipped": "skipped",
    }
    return OldTask(
        argv=list(planned["argv"]),
        env=dict(planned["env"]),
        cwd=planned["cwd"],
        upstream=frozenset(planned["upstream"]),
        script_sha256=changed_scripts.get(planned["id"], planned["script_sha256"]),
        end=ends.get(state, "interrupted"),
        skipped=end.get("reason") if state == "skipped" else None,
        ran_in=origin if isinstance(origin, str) else run_id,
    )


def take_over(plan: Plan, script_sha256: Mapping[str, str | None], old: OldRun) -> TakenOver:
    """Decide what a run of the plan takes over from an old run.

    Args:
        plan: Of the new run.
        script_sha256: What its scripts hold now.
        old: The run that it resumes.
    """
    reused: dict[int, str] = {}
    skipped: dict[int, Reason] = {}
    reasons: dict[int, RerunReason] = {}
    has_params = _canonical(plan.params) == _canonical(old.params)
    for index in plan.order():
        task = plan.tasks[index]
        before = old.tasks.get(task.id)
        is_settled = not any(other in reasons for other in task.upstream)
        why_skipped = _reason_to_skip(task, skipped) if is_settled else None
        if before is None:
            reasons[index] = "new"
        elif why_skipped is not None and before.skipped == why_skipped:
            skipped[index] = why_skipped
        elif why_skipped is not None:
            reasons[index] = before.end or "upstream"  # it is skipped, and was not: what depends on it sees a difference
        elif reason := _reason_to_run(plan, task, before, script_sha256[task.script], has_params):
            reasons[index] = reason
        elif not is_settled:
            reasons[index] = "upstream"
        else:
            reused[index] = before.ran_in
    return TakenOver(old.run_id, reused, skipped, reasons)


def _reason_to_skip(task: PlannedTask, skipped: Mapping[int, Reason]) -> Reason | None:
    """Return why a task is skipped again all of whose upstream has succeeded or been skipped."""
    match task.trigger_rule:
        case "all_success":
            return "upstream_skipped" if any(other in skipped for other in task.upstream) else None
        case "one_failed":
            return "no_failure"
        case "all_done":
            return None


def _reason_to_run(
    plan: Plan, task: PlannedTask, before: OldTask, script_sha256: str | None, has_params: bool
) -> RerunReason | None:
    """Return why a task runs again whatever its upstream does."""
    if before.end is not None:
        return before.end
    if plan.argv(task) != before.argv:
        return "command_changed"
    if task.env != before.env:
        return "env_changed"
    if plan.cwd(task) != before.cwd:
        return "cwd_changed"
    if not has_params:
        return "params_changed"
    if script_sha256 is None or script_sha256 != before.script_sha256:
        return "script_changed"
    if not {plan.tasks[other].id for other in task.upstream} <= before.upstream:
        return "depends_on_changed"
    return None


def plan_document(plan: Plan, script_sha256: Mapping[str, str | None], taken_over: TakenOver | None = None) -> Iterator[bytes]:
    """Yield the content of `plan.json`, in parts.

    Args:
        plan: What is to run.
        script_sha256: What the content of each script comes to.
        taken_over: Of the run that it resumes.
    """
    head = plan.head_to_json()
    if taken_over is not None:
        head["resumed_from"] = taken_over.run_id
    return document_parts(head, _planned_tasks(plan, script_sha256, taken_over))


def _planned_tasks(
    plan: Plan, script_sha256: Mapping[str, str | None], taken_over: TakenOver | None
) -> Iterator[dict[str, Any]]:
    for index, task in enumerate(plan.tasks):
        document = plan.task_to_json(task, script_sha256)
        if taken_over is not None and index in taken_over.reused:
            document["taken_over"] = {"state": "succeeded", "reused_from": taken_over.reused[index]}
        elif taken_over is not None and index in taken_over.skipped:
            document["taken_over"] = {"state": "skipped", "reason": taken_over.skipped[index]}
        yield document


def _canonical(params: Mapping[str, Json]) -> str:
    return json.dumps(params, sort_keys=True)
