"""JSON text → Flow. Pure, but for the question whether a script is there, which the caller answers.

All problems of a flow are collected and reported together. A flow given as a mapping or built in Python goes through its JSON
text as well: one set of rules, whatever the way in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Set

from miniflow import jsontext
from miniflow.check import graph_problems
from miniflow.errors import MAX_SHOWN_PROBLEMS, FlowError, Problem
from miniflow.fields import Fields
from miniflow.jsontext import Found, Path
from miniflow.kinds import article, describe, fits, type_of
from miniflow.model import (
    ID_PATTERN,
    PARAM_TYPES,
    TRIGGER_RULES,
    Flow,
    Param,
    Retries,
    Scalar,
    Source,
    Task,
)
from miniflow.suggest import did_you_mean, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ScriptCheck = Callable[[str], str | None]
"""Says what is wrong with a script (`"no such file ..."`), or None."""

_NO_RETRIES = Retries()

FLOW_FIELDS = ("$schema", "name", "description", "version", "params", "env", "secret_env", "python", "tasks")
_SHARED_FIELDS = ("params", "env", "secret_env")
"""Those of them that decide what may stand in a task."""
_MOST_TASKS_FIELDS = frozenset({"id", "script", "depends_on", "args"})
"""A task that has no others needs to be asked for none."""
TASK_FIELDS = dict.fromkeys((
    "id", "script", "description", "depends_on", "args", "env", "secret_env", "cwd", "python", "retries", "timeout",
    "trigger_rule",
))  # fmt: skip
PARAM_FIELDS = ("type", "default", "description", "required")


def parse_flow(data: bytes | str, file: str | None = None, check_script: ScriptCheck | None = None) -> Flow:
    """Return the flow of a JSON text.

    Args:
        data: The content of a flow file.
        file: Its name, for messages.
        check_script: Asked for each different script, and again where something turns out to be wrong: it has to say the same.

    Raises:
        FlowError: With every problem found, each with its line and column.
    """
    return FlowText(data, file, check_script).flow()


class FlowText:
    """A flow file's content, decoded, whose flow may turn out not to be wanted. For arguments see `parse_flow`.

    Raises:
        FlowError: It is no JSON.
    """

    def __init__(self, data: bytes | str, file: str | None = None, check_script: ScriptCheck | None = None) -> None:
        self._file = file
        self._check_script = check_script
        self._text, self._value, self._found = jsontext.decode(data, file, _Reader(check_script).read_early)
        # Tasks were read with what the flow says for all of them, as far as that stands before them.
        members = [*self._value] if isinstance(self._value, dict) else []
        after = members[members.index("tasks") :] if "tasks" in members else ()
        if any(name in after for name in _SHARED_FIELDS):
            self._text, self._value, self._found = jsontext.decode(self._text, file)

    @property
    def name(self) -> str | None:
        """The name it gives its flow, whatever else may be wrong with it."""
        name = self._value.get("name") if isinstance(self._value, dict) else None
        return name if isinstance(name, str) else None

    def flow(self) -> Flow:
        """Return the flow; see `parse_flow`. To be called once."""
        text, value = self._text, self._value
        flow, problems = _read(value, self._found, Source(self._file or "<flow>", text), self._check_script)
        if problems or flow is None or flow.params:  # else nothing of it was nested deep
            jsontext.check_depth(text, value, self._file)
        if problems or flow is None:
            raise FlowError(jsontext.located(problems, text, self._file))
        return flow


def flow_from_mapping(mapping: Mapping[str, Any], check_script: ScriptCheck | None = None) -> Flow:
    """Return the flow of a mapping that has the form of a flow file.

    Raises:
        FlowError: With every problem found; they have paths, but no lines.
    """
    try:
        text = json.dumps(mapping, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise FlowError([Problem(f"the flow is nothing that JSON can hold: {error}")]) from None
    try:
        _, value, found = jsontext.decode(text)
        flow, problems = _read(value, found, None, check_script)
        jsontext.check_depth(text, value, None)
        located = jsontext.located(problems, text, None)
    except FlowError as error:
        flow, located = None, list(error.problems)
    if located or flow is None:
        raise FlowError(Problem(problem.message, problem.path) for problem in located)
    return flow


def _read(
    value: Any, found: list[Found], source: Source | None, check_script: ScriptCheck | None
) -> tuple[Flow | None, list[Found]]:
    reader = _Reader(check_script)
    flow = reader.flow(value, source)
    # Of a value that is no JSON, nothing else needs to be said.
    spoilt = {problem.path for problem in found if not problem.at_key}
    return flow, [*found, *(problem for problem in reader.problems if problem.path not in spoilt)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    # Not a set: it has no order, and the script of a flow is always the same.
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray, Set)):
        return list(value)
    raise TypeError(f"a value of type {type(value).__name__}")


class _Reader(Fields):
    """Turns decoded JSON into a Flow and collects what is wrong with it."""

    def __init__(self, check_script: ScriptCheck | None) -> None:
        super().__init__()
        self._check_script = check_script
        self._scripts: dict[str, tuple[str, str | None]] = {}
        """Each script that was named, as one text for all its tasks, and what is wrong with it."""
        self._flow_env: Collection[str] = ()
        self._flow_secrets: Collection[str] = ()
        self._texts: dict[str, str] = {}
        """The ids that were read, each as one text for all tasks that name it."""
        self._no_variables: dict[str, Scalar] = {}
        self._repeating: set[str | int] = set()
        """The indices of tasks that name another one twice: where each stands can then not be told from the `Task`."""

    def read_early(self, name: str, members: Mapping[str, Any]) -> Callable[[int, Any], Any] | None:
        """See `jsontext.ReadElements`: turn tasks into `Task` at once, up to the first that something is wrong with."""
        if name != "tasks":
            return None
        self._shared_fields(members)

        def read(index: int, item: Any) -> Any:
            """Return the task, or the item as it stands where that is still needed, to report what is wrong with it."""
            if self.problems or not isinstance(item, dict):
                return item
            task = self._task(item, ("tasks", index))
            return item if self.problems or index in self._repeating else task

        return read

    # --- the flow ---------------------------------------------------------------------------------------------

    def flow(self, data: Any, source: Source | None) -> Flow | None:
        if not isinstance(data, dict):
            self._problem((), f"a flow is a JSON object, not {describe(data)}")
            return None
        self._check_fields(data, FLOW_FIELDS, (), "flow")
        self._text(data, "$schema", ())
        name = self._name(data, "name", (), "flow")
        if name.lower().endswith(".sh"):
            self._problem(("name",), f'{quoted(name)} ends with ".sh", like the script that is written beside its runs')
        params, env, secret_env = self._shared_fields(data)
        tasks = self._tasks(data)
        return Flow(
            name=name,
            tasks=tasks,
            description=self._text(data, "description", ()),
            version=self._text(data, "version", ()),
            params=params,
            env=env,
            secret_env=secret_env,
            python=self._python(data, ()),
            source=source,
        )

    def _shared_fields(self, data: Mapping[str, Any]) -> tuple[dict[str, Param], dict[str, Scalar], tuple[str, ...]]:
        """Return the _SHARED_FIELDS, and keep what of them is needed to read a task."""
        params = self._params(data.get("params", {}))
        env = self._flow_env = self._env(data.get("env", {}), ("env",))
        secret_env: tuple[str, ...] = ()
        if "secret_env" in data:
            secret_env = self._flow_secrets = self._secret_env(data["secret_env"], (), {"the flow": env})
        return params, env, secret_env

    def _tasks(self, data: dict[str, Any]) -> tuple[Task, ...]:
        items = data.get("tasks")
        if "tasks" not in data:
            self._problem((), 'the flow has no "tasks"')
            return ()
        if not isinstance(items, list):
            self._problem(("tasks",), f"must be an array of tasks, not {describe(items)}")
            return ()
        if not items:
            self._problem(("tasks",), "a flow needs at least one task")
            return ()
        tasks = []
        for index, item in enumerate(items):
            if isinstance(item, Task):
                tasks.append(item)
            elif isinstance(item, dict):
                before = len(self.problems)
                tasks.append(task := self._task(item, ("tasks", index)))
                if len(self.problems) == before and index not in self._repeating:
                    items[index] = task  # of a large flow, the items take more memory
            else:
                self._problem(("tasks", index), f"a task is an object, not {describe(item)}")
                tasks.append(Task(id="", script=""))
        self.problems += graph_problems(tasks, items, hints=MAX_SHOWN_PROBLEMS - len(self.problems))
        return tuple(tasks)

    # --- a task -----------------------------------------------------------------------------------------------

    def _task(self, data: dict[str, Any], at: Path) -> Task:
        task_id = self._name(data, "id", at, "task")
        task_id = self._texts.setdefault(task_id, task_id)
        script = self._script(data, at)
        depends_on = self._depends_on(data["depends_on"], at) if "depends_on" in data else ()
        args = self._args(data["args"], at) if "args" in data else ()
        if data.keys() <= _MOST_TASKS_FIELDS:
            return Task(task_id, script, "", depends_on, args, self._no_variables)
        self._check_fields(data, TASK_FIELDS, at, "task")
        python = self._python(data, at) if "python" in data else None
        if python is not None and script and not script.endswith(".py"):
            self._problem((*at, "python"), f"has no meaning for {quoted(script)}: only a .py script is run by an interpreter")
        env = self._env(data["env"], (*at, "env")) if "env" in data else self._no_variables
        for name in self._flow_secrets:
            if name in env:
                self._problem((*at, "env", name), f"{name} is a secret of the flow, which this would override", at_key=True)
        rule = data.get("trigger_rule", "all_success")
        if rule not in TRIGGER_RULES:
            hint = did_you_mean(rule, TRIGGER_RULES) if isinstance(rule, str) else ""
            self._problem((*at, "trigger_rule"), f"must be one of {', '.join(TRIGGER_RULES)}, not {describe(rule)}{hint}")
            rule = "all_success"
        return Task(
            id=task_id,
            script=script,
            description=self._text(data, "description", at) if "description" in data else "",
            depends_on=depends_on,
            args=args,
            env=env,
            secret_env=(
                self._secret_env(data["secret_env"], at, {"the flow": self._flow_env, "the task": env})
                if "secret_env" in data
                else ()
            ),
            cwd=self._cwd(data["cwd"], (*at, "cwd")) if "cwd" in data else None,
            python=python,
            retries=self._retries(data["retries"], (*at, "retries")) if "retries" in data else _NO_RETRIES,
            timeout=self._timeout(data["timeout"], (*at, "timeout")) if "timeout" in data else None,
            trigger_rule=rule,
        )

    def _depends_on(self, value: Any, at: Path) -> tuple[str, ...]:
        if isinstance(value, str):
            return (self._texts.setdefault(value, value),)
        if not isinstance(value, list):
            self._problem((*at, "depends_on"), f"must be an array of task ids, not {describe(value)}")
            return ()
        shared = self._texts.setdefault
        ids = [shared(item, item) for item in value if isinstance(item, str)]
        if len(ids) < len(value):
            for position, item in enumerate(value):
                if not isinstance(item, str):
                    self._problem((*at, "depends_on", position), f"must be a task id, not {describe(item)}")
        if len(set(ids)) < len(ids):
            self._repeating.add(at[-1])
            ids = list(dict.fromkeys(ids))
        return tuple(ids)

    def _script(self, data: dict[str, Any], at: Path) -> str:
        script = data.get("script")
        if not isinstance(script, str) or not script:
            if "script" in data:
                message = f"must be the path of a file inside the tasks directory, not {describe(script)}"
                self._problem((*at, "script"), message)
            else:
                self._problem(at, 'the task has no "script"')
            return ""
        if script not in self._scripts:
            self._scripts[script] = script, self._script_problem(script)
        shared, problem = self._scripts[script]
        if problem:
            self._problem((*at, "script"), problem)
        return shared

    def _script_problem(self, script: str) -> str | None:
        if script.startswith("/") or ".." in script.split("/"):
            return f'{quoted(script)} leads outside the tasks directory; a script is named relative to it, without ".."'
        return self._check_script(script) if self._check_script else None

    # --- parameters -------------------------------------------------------------------------------------------

    def _params(self, value: Any) -> dict[str, Param]:
        if not isinstance(value, dict):
            self._problem(("params",), f"must be an object of parameters, not {describe(value)}")
            return {}
        if value:
            self._declared = value.keys()
        result = {}
        for name, item in value.items():
            path: Path = ("params", name)
            if not ID_PATTERN.fullmatch(name) or "." in name:
                self._problem(
                    path,
                    f"{quoted(name)} is no name of a parameter: letters, digits, _ and - alone, the first no -",
                    at_key=True,
                )
            result[name] = self._param(item, path)
        return result

    def _param(self, value: Any, at: Path) -> Param:
        if not isinstance(value, dict):
            return Param(type=type_of(value), default=value)
        self._check_fields(value, PARAM_FIELDS, at, "parameter")
        default = value.get("default")
        kind = value.get("type", type_of(default))
        if "type" in value and kind not in PARAM_TYPES:
            hint = did_you_mean(kind, PARAM_TYPES) if isinstance(kind, str) else ""
            self._problem((*at, "type"), f"must be one of {', '.join(PARAM_TYPES)}, not {describe(kind)}{hint}")
            kind = None
        if default is not None and kind and not fits(default, kind):
            self._problem((*at, "default"), f"must be {article(kind)}, as the type says, not {describe(default)}")
        required = value.get("required", "default" not in value)
        if not isinstance(required, bool):
            self._problem((*at, "required"), f"must be true or false, not {describe(required)}")
            required = False
        elif required and "default" in value:
            self._problem((*at, "required"), "a required parameter has no use for a default; take one of them away")
        return Param(kind, default, self._text(value, "description", at), required)
