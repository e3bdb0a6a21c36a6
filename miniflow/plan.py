"""Flow + parameters + directories → plan: what will run, resolved completely.

The bash script and the scheduler are both made from a plan and from nothing else; that is what keeps them equal.
"""

from __future__ import annotations

import json
import os.path
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from miniflow.errors import FlowError, ParamsError
from miniflow.expand import MAX_ARGUMENT_BYTES, Expander, resolve_params
from miniflow.graph import topological_order
from miniflow.jsontext import Path, located
from miniflow.model import Flow, Json, Retries, TriggerRule
from miniflow.selection import Selection, selected, upstream_within
from miniflow.values import dataclass, field, replace
from miniflow.variables import secret_texts

DEFAULT_GRACE_S = 5.0
"""Between asking a process to end and killing it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a plan is to run: absolute paths, and the interpreter of tasks that name none."""

    tasks_dir: str
    output_dir: str
    work_dir: str
    """Where MiniFlow was called: tasks run here, or in their `cwd` below it."""
    python: str


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One task with nothing left to resolve but the directories of its plan."""

    id: str
    description: str
    script: str
    """Relative to the plan's tasks directory."""
    python: str | None
    """The interpreter of its own (relative paths: to the work directory); None: the plan's."""
    args: tuple[str, ...] = field(repr=False)
    env: Mapping[str, str] = field(repr=False)
    cwd: str | None
    """Relative to the plan's work directory."""
    upstream: tuple[int, ...]
    """Indices into the plan's tasks."""
    trigger_rule: TriggerRule
    timeout_s: float | None
    retry_delays_s: tuple[float, ...]
    """How long to wait before each retry; as many as there are retries."""
    retry_on: tuple[int, ...]
    """Exit statuses worth a retry; empty: all but 0."""
    secret_env: tuple[str, ...] = ()
    """The variables of its caller's that it needs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what a run will do."""

    flow: str
    description: str
    version: str
    place: Place
    params: Mapping[str, Json] = field(repr=False)
    tasks: Sequence[PlannedTask]
    keep_going: bool = False
    secret_env: tuple[str, ...] = ()
    """The variables whose values are masked in what the tasks print: all secrets of the flow."""
    grace_s: float = DEFAULT_GRACE_S
    timeout_s: float | None = None
    """For the whole run, from its first event."""
    selection: Selection | None = None
    """The part of the flow that the tasks are; None: all of it."""
    given_params: Mapping[str, Json] = field(default_factory=dict, repr=False)
    """Those of the parameters that were given, and not the flow's defaults."""

    @property
    def params_json(self) -> str:
        """The parameters as tasks get them in `MINIFLOW_PARAMS`."""
        return json.dumps(self.params, ensure_ascii=False, separators=(",", ":"))

    def secrets(self) -> dict[str, str]:
        """Return which tasks need each secret, in words; none of those here needs one that has no words."""
        wanted = {}
        for name in self.secret_env:
            needing = [task.id for task in self.tasks if name in task.secret_env]
            more = f" and {len(needing) - 3} more" if len(needing) > 3 else ""
            if len(needing) == len(self.tasks):
                wanted[name] = "for every task"
            else:
                wanted[name] = f"for {', '.join(needing[:3])}{more}" if needing else ""
        return wanted

    def order(self) -> list[int]:
        """Return the tasks' indices in the script's order: the earlier in the file first, each after its upstream."""
        return topological_order([task.upstream for task in self.tasks])

    def argv(self, task: PlannedTask) -> list[str]:
        """Return the command of a task."""
        return [*_program(self.place.tasks_dir, self.place.work_dir, task.script, task.python or self.place.python), *task.args]

    def python(self, task: PlannedTask) -> str:
        """Return the interpreter of a task: a path, or a name to be looked up on the PATH."""
        return _python(self.place.work_dir, task.python or self.place.python)

    def cwd(self, task: PlannedTask) -> str:
        """Return the working directory of a task."""
        return os.path.join(self.place.work_dir, task.cwd) if task.cwd else self.place.work_dir

    def to_json(self, script_sha256: Mapping[str, str | None] | None = None) -> dict[str, Any]:
        """Return the plan as `plan.json` holds it.

        Args:
            script_sha256: What the content of each script comes to, if that is known.
        """
        return {**self.head_to_json(), "tasks": [self.task_to_json(task, script_sha256) for task in self.tasks]}

    def head_to_json(self) -> dict[str, Any]:
        """Return what `to_json` does, without the tasks."""
        return {
            "schema": 1,
            "flow": self.flow,
            "description": self.description,
            "version": self.version,
            "tasks_dir": self.place.tasks_dir,
            "output_dir": self.place.output_dir,
            "work_dir": self.place.work_dir,
            "keep_going": self.keep_going,
            "grace_s": self.grace_s,
            "timeout_s": self.timeout_s,
            "params": self.params,
            "given_params": self.given_params,
            **({"secret_env": self.secret_env} if self.secret_env else {}),
            **({"selection": dict(self.selection.named())} if self.selection else {}),
        }

    def task_to_json(self, task: PlannedTask, script_sha256: Mapping[str, str | None] | None = None) -> dict[str, Any]:
        """Return one task as `to_json` does."""
        return {
            "id": task.id,
            "argv": self.argv(task),
            **({"script_sha256": script_sha256[task.script]} if script_sha256 is not None else {}),
            "env": task.env,
            "cwd": self.cwd(task),
            "upstream": [self.tasks[index].id for index in task.upstream],
            "trigger_rule": task.trigger_rule,
            "timeout_s": task.timeout_s,
            "retry_delays_s": task.retry_delays_s,
            "retry_on": task.retry_on,
            **({"secret_env": task.secret_env} if task.secret_env else {}),
        }


@lru_cache(maxsize=256)  # many tasks run one script, and their commands are asked for again and again
def _program(tasks_dir: str, work_dir: str, script: str, python: str) -> tuple[str, ...]:
    """Return a command but for its arguments."""
    path = os.path.join(tasks_dir, script)
    if script.endswith(".py"):
        return _python(work_dir, python), path
    return ("bash", path) if script.endswith(".sh") else (path,)


def _python(work_dir: str, python: str) -> str:
    return os.path.join(work_dir, python) if "/" in python else python


def make_plan(
    flow: Flow,
    params: Mapping[str, Any] | None,
    place: Place,
    *,
    keep_going: bool = False,
    environ: Mapping[str, str] | None = None,
    grace_s: float = DEFAULT_GRACE_S,
    timeout_s: float | None = None,
    selection: Selection | None = None,
) -> Plan:
    """Resolve a flow that `parse` has checked.

    Args:
        environ: Where the values of the flow's secrets are, if they are known: none of them may stand in the plan.
        selection: The part of the flow to plan; what is wrong elsewhere in it is an error all the same.

    Raises:
        ParamsError: The parameters do not fit what the flow declares, or hold a secret.
        FlowError: A placeholder names nothing, an argument or variable is larger than the kernel takes, or a secret stands
            in the flow.
        UsageError: The selection names a task that is not there, or selects none.
    """
    secret_env = tuple(dict.fromkeys([*flow.secret_env, *(name for task in flow.tasks for name in task.secret_env)]))
    secrets = secret_texts(secret_env, environ or {})
    values = resolve_params(flow, params, secrets)
    expander = Expander(flow, values, secrets)
    if secrets:
        for path, text in _texts(flow):
            expander.check_text(text, path)
    index_of = {task.id: index for index, task in enumerate(flow.tasks)}
    delays = cache(retry_delays)
    script_path = cache(os.path.normpath)
    tasks = []
    for index, task in enumerate(flow.tasks):
        tasks.append(
            PlannedTask(  # by place: by name it takes twice as long
                task.id,
                task.description,
                script_path(task.script),
                (task.python or flow.python) if task.script.endswith(".py") else None,
                expander.args(task, ("tasks", index)) if task.args else (),
                expander.env(task, ("tasks", index)),
                expander.cwd(task.cwd, task.id, ("tasks", index, "cwd")) if task.cwd is not None else None,
                tuple([index_of[needed] for needed in task.depends_on]) if task.depends_on else (),
                task.trigger_rule,
                task.timeout,
                delays(task.retries) if task.retries.max else (),
                task.retries.on_exit_codes,
                tuple(dict.fromkeys([*flow.secret_env, *task.secret_env])) if secret_env else (),
            )
        )
    if expander.problems:
        source = flow.source
        raise FlowError(located(expander.problems, source.text if source else None, source.file if source else None))
    if selection is not None:
        tasks = _part(flow.name, tasks, selection)
    plan = Plan(
        flow=flow.name,
        description=flow.description,
        version=flow.version,
        place=place,
        params=values,
        tasks=tuple(tasks),
        keep_going=keep_going,
        secret_env=secret_env,
        grace_s=grace_s,
        timeout_s=timeout_s,
        selection=selection,
        given_params={name: value for name, value in values.items() if name in (params or {})},
    )
    size = len(f"MINIFLOW_PARAMS={plan.params_json}".encode()) + 1
    if size > MAX_ARGUMENT_BYTES:
        raise ParamsError(f"params: {size} bytes as JSON; the kernel takes less than {MAX_ARGUMENT_BYTES} in one variable")
    return plan


def _part(flow: str, tasks: Sequence[PlannedTask], selection: Selection) -> list[PlannedTask]:
    """Return the selected tasks, as if what they depend on besides had been done: it counts for no trigger rule."""
    upstream = [task.upstream for task in tasks]
    chosen = selected(selection, flow, [task.id for task in tasks], upstream)
    place_of = {index: place for place, index in enumerate(chosen)}
    part = []
    for index, needed in zip(chosen, upstream_within(chosen, upstream), strict=True):
        task = tasks[index]
        # Without a failure that it could wait for, it would be skipped, though somebody wants it to run.
        rule = "all_done" if task.trigger_rule == "one_failed" and task.upstream and not needed else task.trigger_rule
        part.append(replace(task, upstream=tuple([place_of[other] for other in needed]), trigger_rule=rule))
    return part


def _texts(flow: Flow) -> Iterator[tuple[Path, str]]:
    """Yield what comes into the plan as it stands in the flow, and where it stands."""
    for field_name in ("name", "description", "version", "python"):
        yield (field_name,), getattr(flow, field_name) or ""
    for index, task in enumerate(flow.tasks):
        for field_name in ("id", "description", "script", "python"):
            yield ("tasks", index, field_name), getattr(task, field_name) or ""


def retry_delays(policy: Retries) -> tuple[float, ...]:
    """Return the seconds to wait before each retry, to the millisecond."""
    limit = policy.max_delay if policy.max_delay is not None else _LONGEST_DELAY_S
    delays = []
    delay = float(policy.delay)
    for _ in range(policy.max):
        delays.append(round(min(delay, limit), 3))
        delay = min(delay * policy.backoff, _LONGEST_DELAY_S)
    return tuple(delays)


# Backoff without a max_delay grows beyond all use within a few dozen retries: a day is where it stops.
_LONGEST_DELAY_S = 86400.0
