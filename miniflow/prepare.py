"""What comes before a run: find and check a flow, plan it, write its script."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from miniflow import catalog
from miniflow.bash import script_parts
from miniflow.collector import paused
from miniflow.dump import flow_to_mapping
from miniflow.durations import parse_duration
from miniflow.errors import FlowError, OutputError, UsageError
from miniflow.files import write_atomically
from miniflow.model import Flow
from miniflow.options import PathLike, PlanOptions, TaskIds
from miniflow.parse import flow_from_mapping
from miniflow.plan import DEFAULT_GRACE_S, Place, Plan, make_plan
from miniflow.selection import Selection
from miniflow.variables import missing_secrets

FlowLike: TypeAlias = str | os.PathLike[str] | Flow | Mapping[str, Any]
"""A flow's name in the flows directory, a flow file's path, a `Flow`, or a mapping that has the form of a flow file."""

DEFAULT_FLOWS_DIR = "./flows"
DEFAULT_TASKS_DIR = "./tasks"
DEFAULT_OUTPUT_DIR = "./miniflow_output"


def load_flow(flow: FlowLike, *, flows_dir: PathLike = DEFAULT_FLOWS_DIR, tasks_dir: PathLike = DEFAULT_TASKS_DIR) -> Flow:
    """Return a flow, checked, its scripts included.

    Raises:
        FlowError: With every problem found.
    """
    if not isinstance(flow, str | os.PathLike | Flow | Mapping):
        raise UsageError(f"a flow is a name, a path, a Flow or a mapping, not {flow!r}")
    with paused():
        return _load_flow(flow, flows_dir, tasks_dir)


def _load_flow(flow: FlowLike, flows_dir: PathLike, tasks_dir: PathLike) -> Flow:
    scripts = Path(tasks_dir)
    problem = catalog.tasks_dir_problem(scripts)
    check = catalog.script_check(scripts) if problem is None else None
    if isinstance(flow, Flow | Mapping):
        loaded = flow_from_mapping(flow_to_mapping(flow) if isinstance(flow, Flow) else flow, check)
    elif isinstance(flow, str):
        loaded = catalog.load_named_flow(flow, flows_dir, check)
    else:
        loaded = catalog.load_flow_file(flow, check)
    if problem is not None:  # said once, not for each script
        raise FlowError([problem])
    return loaded


def plan_flow(
    flow: FlowLike,
    *,
    params: Mapping[str, Any] | None = None,
    keep_going: bool = False,
    only: TaskIds | None = None,
    from_: TaskIds | None = None,
    until: TaskIds | None = None,
    python: str | None = None,
    grace: float = DEFAULT_GRACE_S,
    timeout: float | None = None,
    flows_dir: PathLike = DEFAULT_FLOWS_DIR,
    tasks_dir: PathLike = DEFAULT_TASKS_DIR,
    output_dir: PathLike = DEFAULT_OUTPUT_DIR,
) -> Plan:
    """Return what a run of the flow would do.

    Raises:
        FlowError: The flow is wrong.
        ParamsError: The parameters do not fit it.
        UsageError: An option makes no sense.
    """
    loaded = load_flow(flow, flows_dir=flows_dir, tasks_dir=tasks_dir)
    return plan_loaded(
        loaded,
        {
            "params": params,
            "keep_going": keep_going,
            "only": only,
            "from_": from_,
            "until": until,
            "python": python,
            "grace": grace,
            "timeout": timeout,
            "tasks_dir": tasks_dir,
            "output_dir": output_dir,
        },
    )


def plan_loaded(flow: Flow, options: PlanOptions) -> Plan:
    """Return what a run of a flow that was loaded would do; see `plan_flow`."""
    timeout = options.get("timeout")
    grace_s = _seconds("grace", options.get("grace", DEFAULT_GRACE_S), 0)
    timeout_s = _seconds("timeout", timeout, 0.001) if timeout is not None else None
    ids = _ids("only", options.get("only")), _ids("from_", options.get("from_")), _ids("until", options.get("until"))
    place = Place(
        tasks_dir=_absolute(options.get("tasks_dir", DEFAULT_TASKS_DIR), "the tasks directory"),
        output_dir=output_directory(options),
        work_dir=_absolute(".", "the current directory"),
        python=_checked(options.get("python") or default_python(os.environ), "the interpreter"),
    )
    with paused():
        return make_plan(
            flow,
            options.get("params"),
            place,
            keep_going=options.get("keep_going", False),
            environ=os.environ,
            grace_s=grace_s,
            timeout_s=timeout_s,
            selection=Selection(*ids) if any(ids) else None,
        )


def output_directory(options: PlanOptions) -> str:
    """Return the absolute path of the output directory.

    Raises:
        UsageError: Its name is none.
    """
    return _absolute(options.get("output_dir", DEFAULT_OUTPUT_DIR), "the output directory")


def require_secrets(plan: Plan, environ: Mapping[str, str]) -> None:
    """Check that the secrets of a plan are there.

    Raises:
        UsageError: One is not set, or empty; every such one is named.
    """
    if problem := missing_secrets(plan.secrets(), environ):
        raise UsageError(problem)


def write_script(plan: Plan) -> Path:
    """Write the canonical bash script of a plan to `<output-dir>/<flow>.sh`, for the user alone; return its path.

    Raises:
        OutputError: It cannot be written.
    """
    output_dir = Path(plan.place.output_dir)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the output directory {output_dir}: {error.strerror}") from None
    path = output_dir / f"{plan.flow}.sh"
    # It holds the values of variables and parameters, some of which may be secrets.
    write_atomically(path, script_parts(plan), mode=0o700)
    return path


def default_python(environ: Mapping[str, str]) -> str:
    """Return the interpreter of tasks that name none: `MINIFLOW_PYTHON`, an activated environment's, or our own."""
    if named := environ.get("MINIFLOW_PYTHON"):
        return os.path.abspath(named) if "/" in named else named
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if prefix := environ.get(variable):
            candidate = os.path.join(os.path.abspath(prefix), "bin", "python3")
            if os.access(candidate, os.X_OK):
                return candidate
    return sys.executable or "python3"


def _absolute(path: PathLike, what: str) -> str:
    if not os.fspath(path):
        raise UsageError(f"the name of {what} is empty")
    try:
        return _checked(os.path.abspath(path), what)
    except FileNotFoundError:
        raise UsageError("the current directory is not there any more") from None


def _checked(path: str, what: str) -> str:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{what} has a name that is not UTF-8: {path!a}") from None
    if "\0" in path:
        raise UsageError(f"{what} has a name with a NUL character")
    return path


def _seconds(name: str, value: object, least: float) -> float:
    seconds = parse_duration(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if seconds is None or seconds < least:
        raise UsageError(f"{name} must be a number of seconds from {least:g} to a year, not {value!r}")
    return seconds


def _ids(name: str, value: object) -> tuple[str, ...]:
    """Return the ids of tasks that an argument names, each once."""
    if value is None:
        return ()
    ids = (value,) if isinstance(value, str) else value
    if not isinstance(ids, Sequence) or not all(isinstance(task_id, str) for task_id in ids):
        raise UsageError(f"{name} must be the id of a task, or a sequence of ids, not {value!r}")
    if not ids:  # to run nothing, or everything? neither was meant
        raise UsageError(f"{name} names no task")
    return tuple(dict.fromkeys(ids))


def check_parallel(parallel: object) -> int:
    """Return the worker limit.

    Raises:
        UsageError: It is no whole number from 1.
    """
    if not isinstance(parallel, int) or isinstance(parallel, bool) or parallel < 1:
        raise UsageError(f"parallel must be a whole number from 1, not {parallel!r}")
    return parallel
