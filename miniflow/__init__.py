"""MiniFlow runs flows: Python scripts with dependencies, described in one JSON file.

    from miniflow import run_flow
    result = await run_flow("sample_flow", parallel=4, params={"date": "2023-01-01"})

What is exported here is the public API; it is loaded when it is first used, so that `import miniflow` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it; `typing` takes longer to load than all the rest here
if TYPE_CHECKING:
    from typing import Any

    from miniflow.api import MiniFlow
    from miniflow.bash import render_script
    from miniflow.errors import (
        FlowError,
        HostError,
        InternalError,
        MiniFlowError,
        OutputError,
        ParamsError,
        Problem,
        RunFailed,
        UnknownFlowError,
        UsageError,
    )
    from miniflow.events import (
        Event,
        RunFinished,
        RunStarted,
        TaskCancelled,
        TaskFinished,
        TaskOutput,
        TaskRetrying,
        TaskReused,
        TaskSkipped,
        TaskStarted,
    )
    from miniflow.model import Flow, Param, Retries, Task
    from miniflow.plan import Plan, PlannedTask
    from miniflow.prepare import load_flow, plan_flow, write_script
    from miniflow.results import RunResult, TaskResult
    from miniflow.rundir import read_run
    from miniflow.running import Run, open_run, run_flow

__version__ = "0.1.0"

_HOME = {
    "miniflow.api": ("MiniFlow",),
    "miniflow.bash": ("render_script",),
    "miniflow.errors": (
        "FlowError", "HostError", "InternalError", "MiniFlowError", "OutputError", "ParamsError", "Problem", "RunFailed",
        "UnknownFlowError", "UsageError",
    ),
    "miniflow.events": (
        "Event", "RunFinished", "RunStarted", "TaskCancelled", "TaskFinished", "TaskOutput",
        "TaskRetrying", "TaskReused", "TaskSkipped", "TaskStarted",
    ),
    "miniflow.model": ("Flow", "Param", "Retries", "Task"),
    "miniflow.plan": ("Plan", "PlannedTask"),
    "miniflow.prepare": ("load_flow", "plan_flow", "write_script"),
    "miniflow.results": ("RunResult", "TaskResult"),
    "miniflow.rundir": ("read_run",),
    "miniflow.running": ("Run", "open_run", "run_flow"),
}  # fmt: skip

__all__ = [
    "Event",
    "Flow",
    "FlowError",
    "HostError",
    "InternalError",
    "MiniFlow",
    "MiniFlowError",
    "OutputError",
    "Param",
    "ParamsError",
    "Plan",
    "PlannedTask",
    "Problem",
    "Retries",
    "Run",
    "RunFailed",
    "RunFinished",
    "RunResult",
    "RunStarted",
    "Task",
    "TaskCancelled",
    "TaskFinished",
    "TaskOutput",
    "TaskResult",
    "TaskRetrying",
    "TaskReused",
    "TaskSkipped",
    "TaskStarted",
    "UnknownFlowError",
    "UsageError",
    "load_flow",
    "open_run",
    "plan_flow",
    "read_run",
    "render_script",
    "run_flow",
    "write_script",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _HOME.items():
        if name in names:
            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
