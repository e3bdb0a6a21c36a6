"""Flow → the mapping that a flow file holds."""

from __future__ import annotations

from typing import Any

from miniflow.model import Flow, Param, Retries, Task


def flow_to_mapping(flow: Flow) -> dict[str, Any]:
    """Return the flow in the form of a flow file; what `flow_from_mapping` makes of it equals the flow."""
    result: dict[str, Any] = {"name": flow.name}
    for field in ("description", "version", "python"):
        if value := getattr(flow, field):
            result[field] = value
    if flow.params:
        result["params"] = {name: _param_to_mapping(param) for name, param in flow.params.items()}
    if flow.env:
        result["env"] = flow.env
    result["tasks"] = [_task_to_mapping(task) for task in flow.tasks]
    return result


def _param_to_mapping(param: Param) -> dict[str, Any]:
    result: dict[str, Any] = {"required": param.required}
    if not param.required:
        result["default"] = param.default
    if param.type:
        result["type"] = param.type
    if param.description:
        result["description"] = param.description
    return result


def _task_to_mapping(task: Task) -> dict[str, Any]:
    result: dict[str, Any] = {"id": task.id, "script": task.script}
    for field in ("description", "depends_on", "args", "env", "cwd", "python", "timeout"):
        value = getattr(task, field)
        if value is not None and (value or not isinstance(value, (str, tuple, dict))):
            result[field] = value
    if task.retries != Retries():
        policy = task.retries
        result["retries"] = {"max": policy.max, "delay": policy.delay, "backoff": policy.backoff}
        if policy.max_delay is not None:
            result["retries"]["max_delay"] = policy.max_delay
        if policy.on_exit_codes:
            result["retries"]["on_exit_codes"] = policy.on_exit_codes
    if task.trigger_rule != "all_success":
        result["trigger_rule"] = task.trigger_rule
    return result
