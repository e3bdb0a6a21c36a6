"""Parameters and placeholders: what a flow's args, env and cwd become for one run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, TypeGuard, cast

from miniflow import jsontext
from miniflow.errors import MAX_SHOWN_PROBLEMS, FlowError, ParamsError, Problem
from miniflow.jsontext import Found, Path
from miniflow.kinds import article, describe, fits
from miniflow.model import Flow, Json, Scalar, Task
from miniflow.placeholders import PlaceholderError, expand, is_text, scalar_text
from miniflow.suggest import did_you_mean, quoted
from miniflow.variables import SecretTexts, exposure

MAX_ARGUMENT_BYTES = 128 * 1024
"""One argument or `NAME=value` of this size or more, its final NUL included, is refused by Linux (MAX_ARG_STRLEN)."""


_SURELY_SHORT = MAX_ARGUMENT_BYTES // 4
"""Texts of fewer characters take fewer bytes than that, whatever they are."""


def parse_params(text: bytes | str, origin: str) -> dict[str, Any]:
    """Return the parameters of a JSON text.

    Args:
        text: A JSON object.
        origin: Where it is from, for messages: `--params`, a file's name.

    Raises:
        ParamsError: It is no JSON object.
    """
    try:
        text, value, found = jsontext.decode(text, origin)
        jsontext.check_depth(text, value, origin)
        if found:
            raise FlowError(jsontext.located(found, text, origin))
    except FlowError as error:
        raise ParamsError(str(error)) from None
    if not isinstance(value, dict):
        raise ParamsError(f'{origin}: parameters are a JSON object like {{"date": "2023-01-01"}}, not {describe(value)}')
    return value


def _as_json(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters given in Python in the form they have as JSON: lists for tuples, texts for the names."""
    try:
        text = json.dumps(dict(given))
        _, value, found = jsontext.decode(text)
        jsontext.check_depth(text, value, None)
        if found:
            raise FlowError(jsontext.located(found, None, None))
    except FlowError as error:
        raise ParamsError("\n".join(f"params: {Problem(p.message, p.path)}" for p in error.problems)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ParamsError(f"params: nothing that JSON can hold: {error}") from None
    return cast("dict[str, Any]", value)


def resolve_params(flow: Flow, given: Mapping[str, Any] | None, secrets: SecretTexts = ()) -> dict[str, Json]:
    """Return the parameters of a run: the flow's defaults, overridden by what is given, in the flow's order.

    Raises:
        ParamsError: An undeclared, missing or wrongly typed one (each is named), nothing that JSON can hold, or a secret.
    """
    values = _as_json(given or {})
    if secrets:
        _refuse_secrets({**{name: param.default for name, param in flow.params.items()}, **values}, secrets)
    if not flow.params:
        return values
    problems: list[str] = []
    for name in values:
        if name not in flow.params:
            hint = did_you_mean(name, flow.params) if len(problems) < MAX_SHOWN_PROBLEMS else ""
            hint = hint or f"; it declares {', '.join([*islice(flow.params, 20)])}"
            problems.append(f'params: flow "{flow.name}" declares no parameter {quoted(name)}{hint}')
    for name, param in flow.params.items():
        if name not in values:
            if param.required:
                what = f" ({param.description})" if param.description else ""
                problems.append(f"params: {quoted(name)} is required{what}")
            continue
        value = values[name]
        optional_null = value is None and param.default is None and not param.required
        if param.type and not optional_null and not fits(value, param.type):
            problems.append(f"params: {quoted(name)} must be {article(param.type)}, not {describe(value)}")
    if problems:
        more = len(problems) - MAX_SHOWN_PROBLEMS
        shown = [*problems[:MAX_SHOWN_PROBLEMS], *([f"... and {more} more problems"] if more > 0 else [])]
        raise ParamsError("\n".join(shown))
    return {name: values.get(name, param.default) for name, param in flow.params.items()}


def _refuse_secrets(params: Mapping[str, Json], secrets: SecretTexts) -> None:
    problems = []
    for name, value in params.items():
        if problem := exposure(name, secrets):
            problems.append(f"params: the name of one {problem}")
        elif problem := next(filter(None, (exposure(text, secrets) for text in _texts(value))), None):
            problems.append(f"params: {quoted(name)} {problem}")
    if problems:
        raise ParamsError("\n".join(problems))


def _texts(value: Json) -> Iterator[str]:
    if is_text(value):
        yield scalar_text(value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


class Expander:
    """Expands the strings of a flow's tasks; collects what is wrong with them in `problems`.

    Args:
        secrets: What none of them may hold.
    """

    def __init__(self, flow: Flow, params: Mapping[str, Json], secrets: SecretTexts = ()) -> None:
        self.problems: list[Found] = []
        self._secrets = secrets
        self._flow = flow
        self._params = params
        self._plain_flow_env: dict[str, str] | None = None
        if not any(isinstance(value, str) and "{{" in value for value in flow.env.values()):
            self._plain_flow_env = {name: self._variable(name, value, ("env", name), "") for name, value in flow.env.items()}

    def args(self, task: Task, task_at: Path) -> tuple[str, ...]:
        """Return the arguments of a task's script."""
        if isinstance(task.args, tuple) and self._are_plain(task.args):
            return task.args
        at = (*task_at, "args")
        result = []
        if isinstance(task.args, Mapping):
            for path, argument in self._options(task, at):
                self._check(argument, path)
                result.append(argument)
            return tuple(result)
        for index, item in enumerate(task.args):
            text = self._argument(item, (*at, index), task.id)
            if text is not None:
                result.append(text)
        return tuple(result)

    def env(self, task: Task, task_at: Path) -> dict[str, str]:
        """Return what a task's environment has beyond its caller's: the flow's variables, then the task's own."""
        shared = self._plain_flow_env
        if shared is None:
            shared = {name: self._variable(name, value, ("env", name), task.id) for name, value in self._flow.env.items()}
        if not task.env:
            return shared
        own = {name: self._variable(name, value, (*task_at, "env", name), task.id) for name, value in task.env.items()}
        return {**shared, **own}

    def cwd(self, cwd: str, task_id: str, at: Path) -> str | None:
        """Return a task's working directory, as the flow names it."""
        if "{{" not in cwd:
            self.check_text(cwd, at)
            return cwd
        before = len(self.problems)
        value = self._value(cwd, at, task_id)
        if len(self.problems) > before:
            return None
        if is_text(value) and value != "":
            self.check_text(scalar_text(value), at)
            return scalar_text(value)
        self.problems.append(Found(at, f"must become the path of a directory, not {describe(value)}"))
        return None

    def _are_plain(self, values: tuple[Scalar, ...]) -> TypeGuard[tuple[str, ...]]:
        """Return whether values are texts that nothing can be wrong with."""
        for value in values:
            if not isinstance(value, str) or "{{" in value or len(value) >= _SURELY_SHORT:
                return False
        return not self._secrets

    def _argument(self, item: Json, at: Path, task_id: str) -> str | None:
        value = self._value(item, at, task_id)
        if not is_text(value):
            self.problems.append(Found(at, f"an argument is a string, a number or a boolean, not {describe(value)}"))
            return None
        text = scalar_text(value)
        self._check(text, at)
        return text

    def _options(self, task: Task, at: Path) -> Iterator[tuple[Path, str]]:
        assert isinstance(task.args, Mapping)
        for name, item in task.args.items():
            path: Path = (*at, name)
            option = f"-{name}" if len(name) == 1 else f"--{name}"
            if isinstance(item, (list, tuple)):
                values: list[tuple[Path, Json]] = []
                for index, element in enumerate(item):
                    values.append(((*path, index), self._value(element, (*path, index), task.id)))
            else:
                value = self._value(item, path, task.id)
                # A placeholder alone may stand for an array: then the option is repeated.
                values = [(path, v) for v in value] if isinstance(value, (list, tuple)) else [(path, value)]
            for where, value in values:
                if value is None or value is False:
                    continue
                if value is True:
                    yield where, option
                elif not is_text(value):
                    message = f"an option's value is a string, a number, a boolean or null, not {describe(value)}"
                    self.problems.append(Found(where, message))
                else:
                    text = scalar_text(value)
                    if not text.startswith("-"):
                        yield where, option
                        yield where, text
                    else:
                        # getopt, argparse and click all take a value that is glued to a one-letter option.
                        yield where, f"{option}{text}" if len(name) == 1 else f"{option}={text}"

    def _variable(self, name: str, value: Scalar, at: Path, task_id: str) -> str:
        expanded = self._value(value, at, task_id)
        if not is_text(expanded):
            self.problems.append(Found(at, f"a variable is a string, a number or a boolean, not {describe(expanded)}"))
            return ""
        text = scalar_text(expanded)
        self._check(f"{name}={text}", at)
        return text

    def _value(self, value: Json, at: Path, task_id: str) -> Json:
        if not isinstance(value, str) or "{{" not in value:
            return value
        try:
            suggest = len(self.problems) < MAX_SHOWN_PROBLEMS
            return expand(value, self._params, self._flow.name, task_id, suggest)
        except PlaceholderError as error:
            self.problems.append(Found(at, str(error)))
            return ""

    def check_text(self, text: str, at: Path) -> None:
        """Note if the text holds a secret."""
        if self._secrets and (problem := exposure(text, self._secrets)):
            while any(isinstance(part, str) and exposure(part, self._secrets) for part in at):
                at = at[:-1]  # or the message would show it
            self.problems.append(Found(at, problem))

    def _check(self, text: str, at: Path) -> None:
        self.check_text(text, at)
        if len(text) * 4 >= MAX_ARGUMENT_BYTES and len(text.encode()) + 1 > MAX_ARGUMENT_BYTES:
            self.problems.append(
                Found(
                    at,
                    f"{len(text.encode())} bytes; the kernel takes less than {MAX_ARGUMENT_BYTES}; pass a file instead",
                )
            )
