"""Plan → the content of `plan.json`, in parts: of a large flow the whole would take more memory than the plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice

import msgspec

from miniflow.plan import Plan
from miniflow.reuse import TakenOver

_TASKS_IN_A_PART = 500


def plan_document(plan: Plan, script_sha256: Mapping[str, str | None], taken_over: TakenOver | None = None) -> Iterator[bytes]:
    """Yield the JSON text of a plan, in which each task has a line of its own.

    Args:
        plan: What is to run.
        script_sha256: What the content of each script comes to.
        taken_over: Of the run that it resumes.
    """
    head = plan.head_to_json()
    if taken_over is not None:
        head["resumed_from"] = taken_over.run_id
    yield json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}").encode() + b',\n "tasks": ['
    tasks = _tasks(plan, script_sha256, taken_over)
    separator = b"\n  "
    while part := list(islice(tasks, _TASKS_IN_A_PART)):
        yield separator + b",\n  ".join(part)
        separator = b",\n  "
    yield b"\n ]\n}\n"


def _tasks(plan: Plan, script_sha256: Mapping[str, str | None], taken_over: TakenOver | None) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    for index, task in enumerate(plan.tasks):
        document = plan.task_to_json(task, script_sha256)
        if taken_over is not None and index in taken_over.reused:
            document["taken_over"] = {"state": "succeeded", "reused_from": taken_over.reused[index]}
        elif taken_over is not None and index in taken_over.skipped:
            document["taken_over"] = {"state": "skipped", "reason": taken_over.skipped[index]}
        yield encode(document)
