"""What is wrong with flow files: all that a run would look at before it starts, but for what only its caller can give."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from miniflow import catalog
from miniflow.errors import FlowError, ParamsError, Problem
from miniflow.jsontext import Found, decode_utf8, located
from miniflow.model import Flow, Json, ParamType
from miniflow.options import PathLike, PlanOptions
from miniflow.parse import ScriptCheck, parse_flow
from miniflow.placeholders import params_named
from miniflow.prepare import plan_loaded
from miniflow.suggest import quoted
from miniflow.values import dataclass, replace

# With one of these in its place, a parameter is wrong only where every value of its type would be.
_STAND_INS: Mapping[ParamType | None, Json] = {
    "string": "x",
    "integer": 1,
    "number": 1,
    "boolean": True,
    "array": [],
    "object": {},
    None: "x",
}


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A flow file, and all that is wrong with it."""

    path: str
    file: str
    """The path as messages show it."""
    flow: str | None = None
    """The flow's name; None where something is wrong with the form of the file."""
    problems: tuple[Problem, ...] = ()
    text: str | None = None
    """What is in it, as far as messages may show it."""


def check_flows(flows: Sequence[str], *, flows_dir: PathLike, tasks_dir: PathLike, output_dir: PathLike) -> list[CheckedFile]:
    """Check flows, each a name or a path; all of the flows directory if none is given.

    A required parameter is no problem, nor a secret that is not set: they are for who runs the flow.

    Raises:
        FlowError: There is no such flow, or one of the directories is not there.
    """
    if flows:
        paths = list(dict.fromkeys(catalog.find_flow_file(flow, flows_dir) for flow in flows))
    else:
        paths = catalog.flow_files(flows_dir)
    problem = catalog.tasks_dir_problem(tasks_dir)
    if problem is not None:
        raise FlowError([problem])
    check_script = catalog.script_check(tasks_dir)
    options: PlanOptions = {"tasks_dir": tasks_dir, "output_dir": output_dir}
    checked = [_check_file(path, check_script, options) for path in paths]
    return checked if flows else _with_ambiguous_names(paths, checked)


def _check_file(path: str, check_script: ScriptCheck, options: PlanOptions) -> CheckedFile:
    file = catalog.shown(path)
    try:
        data = catalog.read_flow_file(path)
    except FlowError as error:
        return CheckedFile(path, file, None, tuple(error.problems))
    try:
        flow = parse_flow(data, file, check_script)
    except FlowError as error:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
        return CheckedFile(path, file, None, tuple(error.problems), text)
    assert flow.source is not None
    text = flow.source.text
    try:
        plan_loaded(flow, {**options, "params": _stand_ins(flow)})
    except FlowError as error:
        problems = tuple(error.problems)
    except ParamsError as error:
        found = [Found(("params",), line.removeprefix("params: ")) for line in str(error).splitlines()]
        problems = tuple(located(found, text, file))
    else:
        return CheckedFile(path, file, flow.name)
    # The flow may hold the value of a secret; that is told without showing it.
    secrets = {*flow.secret_env, *(name for task in flow.tasks for name in task.secret_env)}
    return CheckedFile(path, file, flow.name, problems, None if secrets & os.environ.keys() else text)


def _stand_ins(flow: Flow) -> dict[str, Json]:
    """Return values for the parameters that a run has to be given."""
    if flow.params:
        return {name: _STAND_INS[param.type] for name, param in flow.params.items() if param.required}
    return {name: "x" for text in _expanded(flow) if "{{" in text for name in params_named(text)}


def _expanded(flow: Flow) -> Iterator[str]:
    """Yield the texts of a flow in which placeholders are replaced."""
    for value in flow.env.values():
        yield from _texts(value)
    for task in flow.tasks:
        for part in (task.args, task.env, task.cwd):
            yield from _texts(part)


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)


def _with_ambiguous_names(paths: Sequence[str], checked: Sequence[CheckedFile]) -> list[CheckedFile]:
    """Return the files, with a problem for each name that `run` could not tell whose it is."""
    by_name: dict[str, list[int]] = {}
    for index, each in enumerate(checked):
        if each.flow is not None:
            by_name.setdefault(each.flow, []).append(index)
    result = list(checked)
    for name, (first, *others) in by_name.items():
        if others and not any(catalog.stem(paths[index]) == name for index in (first, *others)):
            message = f"the flow in {checked[first].file} is named {quoted(name)} as well; a run could not tell which is meant"
            for index in others:
                file, text = checked[index].file, decode_utf8(catalog.read_flow_file(paths[index]), None)
                problems = located([Found(("name",), message)], text, file)
                result[index] = replace(result[index], problems=(*problems, *result[index].problems), text=text)
    return result
