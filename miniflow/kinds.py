"""The kinds of JSON values: how they are named to people, and which of them a parameter takes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from miniflow.model import Json, ParamType
from miniflow.suggest import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def describe(value: Any) -> str:
    """Return what a value is, for a message: `the string "x"`, `null`, `an array`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the string {quoted(value)}"
        case int() | float():
            return f"the number {json.dumps(value)[:40]}"
        case list() | tuple():
            return "an array"
        case _:
            return "an object"


def is_number(value: Any) -> bool:
    """Return whether a value is a number; in Python a boolean is one too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def type_of(default: Json) -> ParamType | None:
    """Return the type that a default stands for; a whole number stands for any number."""
    match default:
        case None:
            return None
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case Mapping():
            return "object"
        case _:
            return "array"


def fits(value: Json, kind: ParamType) -> bool:
    """Return whether a value is of the declared type."""
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return is_number(value)
        case "boolean":
            return isinstance(value, bool)
        case "array":
            return isinstance(value, (list, tuple))
        case "object":
            return isinstance(value, Mapping)


def article(kind: ParamType) -> str:
    """Return `an integer`, `a string`."""
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
