"""Flow → the mapping that a flow file holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from miniflow.model import Flow, Param, Retries, Task


def flow_to_mapping(flow: Flow) -> dict[str, Any]:
    """Return the flow in the form of a flow file; what `flow_from_mapping` makes of it equals the flow.

    What has another type than it should is passed on as it is, for `flow_from_mapping` to judge.
    """
    result = _fields(flow, ("name", "description", "version", "python"), _NO_FLOW)
    if flow.params:
        result["params"] = _each(flow.params, _param_to_mapping)
    if flow.env:
        result["env"] = flow.env
    if flow.secret_env != ():
        result["secret_env"] = flow.secret_env
    result["tasks"] = flow.tasks
    if isinstance(flow.tasks, Iterable) and not isinstance(flow.tasks, (str, Mapping)):
        result["tasks"] = [_task_to_mapping(task) if isinstance(task, Task) else task for task in flow.tasks]
    return result


_NO_FLOW = Flow(name="", tasks=())
_NO_TASK = Task(id="", script="")


def _fields(value: Flow | Task, names: Iterable[str], defaults: Flow | Task) -> dict[str, Any]:
    """Return the fields that have another value than their default, and those that have no default."""
    pairs = ((name, getattr(value, name)) for name in names)
    return {name: item for name, item in pairs if name in ("name", "id", "script") or item != getattr(defaults, name)}


def _each(params: Any, convert: Any) -> Any:
    if not isinstance(params, Mapping):
        return params
    return {name: convert(param) if isinstance(param, Param) else param for name, param in params.items()}


def _param_to_mapping(param: Param) -> dict[str, Any]:
    result: dict[str, Any] = {"required": param.required}
    if not param.required or param.default is not None:
        result["default"] = param.default
    if param.type is not None:
        result["type"] = param.type
    if param.description != "":
        result["description"] = param.description
    return result


def _task_to_mapping(task: Task) -> dict[str, Any]:
    names = (
        "id", "script", "description", "depends_on", "args", "env", "secret_env", "cwd", "python", "timeout", "trigger_rule",
    )  # fmt: skip
    result = _fields(task, names, _NO_TASK)
    policy = task.retries
    if isinstance(policy, Retries):
        if policy != Retries():
            result["retries"] = {"max": policy.max, "delay": policy.delay, "backoff": policy.backoff}
            if policy.max_delay is not None:
                result["retries"]["max_delay"] = policy.max_delay
            if policy.on_exit_codes:
                result["retries"]["on_exit_codes"] = policy.on_exit_codes
    else:
        result["retries"] = policy
    return result
