r"""`{{ params.NAME }}`, `{{ flow.name }}`, `{{ task.id }}` in a string; `\{{` is a literal `{{`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping

from miniflow.model import PARAM_NAME, Json
from miniflow.suggest import did_you_mean, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

# Compiled when they are used: a flow without placeholders needs neither.
_PART = r"(?s)\\\{\{|\{\{(?P<inside>(?:(?!\{\{|\}\}).)*)\}\}|\{\{"
_PARAM = rf"params\.({PARAM_NAME})"


class PlaceholderError(ValueError):
    """A placeholder that cannot be replaced; the message says which and why."""


def placeholder_problems(text: str, declared: Collection[str] | None, suggest: bool = True) -> Iterator[str]:
    """Yield what is wrong with the placeholders of a text, as far as it shows before parameters are given.

    Args:
        text: As it stands in the flow.
        declared: The names of the flow's parameters; None if it declares none and takes any.
        suggest: Look for names that may have been meant, which takes a while where there are many.
    """
    for match in re.finditer(_PART, text):
        if match[0] == r"\{{":
            continue
        inside = match["inside"]
        if inside is None:
            yield '"{{" without "}}"; write "\\\\{{" for the characters themselves'
            continue
        name = inside.strip()
        param = re.fullmatch(_PARAM, name)
        if not param and name not in ("flow.name", "task.id"):
            known = ["flow.name", "task.id", *(f"params.{other}" for other in declared or ())] if suggest else []
            hint = did_you_mean(name, known) or "; there are params.NAME, flow.name and task.id"
            yield f"unknown placeholder {quoted(name)}{hint}"
        elif param and declared is not None and param[1] not in declared:
            yield f"the flow declares no parameter {quoted(param[1])}{did_you_mean(param[1], declared if suggest else ())}"


def params_named(text: str) -> Iterator[str]:
    """Yield the names of the parameters that stand in a text."""
    for match in re.finditer(_PART, text):
        if match["inside"] is not None and (param := re.fullmatch(_PARAM, match["inside"].strip())):
            yield param[1]


def expand(text: str, params: Mapping[str, Json], flow_name: str, task_id: str, suggest: bool = True) -> Json:
    """Return the text with its placeholders replaced; the parameter's own JSON value if the text is one placeholder alone.

    Raises:
        PlaceholderError: An unknown parameter, or an array, an object or null in the midst of a text.
    """

    def value_of(name: str) -> Json:
        if name == "flow.name":
            return flow_name
        if name == "task.id":
            return task_id
        param = name.removeprefix("params.")
        if param not in params:
            raise PlaceholderError(
                f"no parameter {quoted(param)} is given{did_you_mean(param, params.keys() if suggest else ())}"
            )
        return params[param]

    def replacement(match: re.Match[str]) -> str:
        if match[0] == r"\{{":
            return "{{"
        value = value_of(match["inside"].strip())
        if not is_text(value):
            raise PlaceholderError(f"{match[0]} is {_kind(value)}, which can stand alone but not within a text")
        return scalar_text(value)

    whole = re.fullmatch(_PART, text)
    if whole and whole["inside"] is not None:
        return value_of(whole["inside"].strip())
    return re.sub(_PART, replacement, text)


def is_text(value: Json) -> TypeGuard[str | int | float]:
    """Return whether a value is a string, a number or a boolean: what an argument or a variable can be."""
    return isinstance(value, (str, int, float))


def scalar_text(value: str | int | float) -> str:
    """Return a string as it is, a number as JSON writes it, a boolean as `true` or `false`."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else json.dumps(value)


def _kind(value: Json) -> str:
    return "null" if value is None else "an object" if isinstance(value, Mapping) else "an array"
