"""The form of a flow file as a JSON Schema (draft 2020-12), for editors: what `parse` takes, as far as a schema can say it.

It is never stricter than `parse`. What it cannot say is how values fit together: that ids are unique, that dependencies
exist and make no cycle, that parameters are declared, that scripts are there. `miniflow validate` looks at that.

Patterns are those of JavaScript, as the standard has it, and read the same by Python.
"""

from __future__ import annotations

import re

from miniflow.durations import MAX_S, MAX_TEXT_LENGTH, TEXT
from miniflow.fields import MAX_RETRIES, TASK_VARIABLES
from miniflow.model import ID_PATTERN, MAX_ID_LENGTH, PARAM_NAME, PARAM_TYPES, TRIGGER_RULES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Schema: TypeAlias = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_VARIABLE = "[A-Za-z_][A-Za-z0-9_]*"
# `\{{`, a placeholder, or a character that begins neither.
_EXPANDED = (
    r"^(?:\\\{\{|\{\{\s*(?:params\." + PARAM_NAME + r"|flow\.name|task\.id)\s*\}\}|(?!\\?\{\{)[^\u0000])*$"
)  # fmt: skip
_DURATION = r"\s*(?=[0-9])" + re.sub(r"\?P<[a-z]+>", "?:", TEXT) + r"\s*$"


def flow_schema() -> Schema:
    """Return the schema of a flow file."""
    return {
        "$schema": DIALECT,
        "title": "A flow of MiniFlow",
        "description": "Tasks, which are scripts, and what they depend on. The dependencies make no cycle.",
        **_object(_flow_fields(), required=("name", "tasks")),
        "examples": [{"name": "hello", "tasks": [{"id": "greet", "script": "hello.py", "args": ["world"]}]}],
        "$defs": {
            "task": _task(),
            "parameter": _parameter(),
            "retries": _retries(),
            "expanded": {
                "description": "A text in which {{ params.NAME }}, {{ flow.name }} and {{ task.id }} are replaced; \\{{ stands"
                " for {{ itself.",
                "type": "string",
                "pattern": _EXPANDED,
            },
            "duration": _duration("^", 0),
            "env": _env(),
            "secret_env": _secret_env(),
            "python": {"type": "string", "pattern": "^[^-]", "examples": ["python3", ".venv/bin/python"]},
            "id": _id(),
        },
    }


def _object(properties: Schema, required: tuple[str, ...] = ()) -> Schema:
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


def _ref(name: str, description: str, **more: object) -> Schema:
    return {"description": description, "$ref": f"#/$defs/{name}", **more}


def _one_or_many(item: Schema, **more: object) -> list[Schema]:
    return [{"type": "array", "items": item, **more}, item]


def _id() -> Schema:
    return {"type": "string", "pattern": f"^{ID_PATTERN.pattern}$", "maxLength": MAX_ID_LENGTH}


def _flow_fields() -> Schema:
    return {
        "$schema": {"description": "The path of this schema, for editors.", "type": "string"},
        "name": {
            "description": "The flow's name: letters, digits, _ . and -, not ending in .sh. Usually that of the file,"
            " without .json.",
            **_id(),
            "not": {"pattern": r"\.[sS][hH]$"},
            "examples": ["sample_flow"],
        },
        "description": {"description": "What the flow is for; `miniflow list` shows it.", "type": "string"},
        "version": {"description": "For people.", "type": "string", "examples": ["1.0"]},
        "params": {
            "description": "The parameters that a run may be given by --params, by their names: letters, digits, _ and -. Where"
            " any are declared, no others are accepted.",
            "type": "object",
            "propertyNames": {"pattern": f"^{PARAM_NAME}$"},
            "additionalProperties": {
                "anyOf": [
                    {"$ref": "#/$defs/parameter"},
                    {"description": "The default.", "type": ["string", "number", "boolean", "array", "null"]},
                ]
            },
            "default": {},
            "examples": [{"date": "2023-01-01", "limit": {"type": "integer", "default": 10, "description": "rows to read"}}],
        },
        "env": _ref("env", "Variables for the environment of every task; a task's own win."),
        "secret_env": _ref("secret_env", "Secrets of every task: variables that the caller has to set, recorded nowhere."),
        "python": _ref("python", "The interpreter of .py scripts: a path, or a name on the PATH."),
        "tasks": {
            "description": "What runs. Among tasks that may start, the earlier in the file comes first.",
            "type": "array",
            "minItems": 1,
            "items": {"$ref": "#/$defs/task"},
        },
    }


def _task() -> Schema:
    fields = {
        "id": _ref("id", "Its name: letters, digits, _ . and -; unique in the flow, also without regard to case."),
        "script": {
            "description": "A file inside the tasks directory. .py is run by Python, .sh by bash, anything else must be"
            " executable.",
            "type": "string",
            "minLength": 1,
            "pattern": r"^(?!/)(?!(?:[\s\S]*/)?\.\.(?:/|$))",
            "examples": ["fetch_data.py", "load/into_database.sh"],
        },
        "description": {"description": "What it does.", "type": "string"},
        "depends_on": {
            "description": "The ids of the tasks it waits for. They are in the flow, and make no cycle.",
            "anyOf": _one_or_many({"$ref": "#/$defs/id"}),
            "default": [],
        },
        "args": _args(),
        "env": _ref("env", "Variables for its environment."),
        "secret_env": _ref("secret_env", "Its secrets: variables that the caller has to set, recorded nowhere."),
        "cwd": _ref("expanded", "Where it runs. Default: where miniflow is called, to which it is relative.", minLength=1),
        "python": _ref("python", "Its interpreter, of a .py script: a path, or a name on the PATH."),
        "retries": {
            "description": "How often to try again after a failure: a number, or an object.",
            "anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_RETRIES}, {"$ref": "#/$defs/retries"}],
            "default": 0,
        },
        "timeout": {
            "description": 'For each attempt: seconds, or a text like "1m30s" or "500ms", at most a year.',
            # Rounded to milliseconds it is more than nothing.
            **_duration("^(?=[^1-9]*[1-9])", 0.0005),
            "examples": [90, "1m30s"],
        },
        "trigger_rule": {
            "description": "When it runs, judged when all it depends on has ended. all_success: if all have succeeded."
            " all_done: always. one_failed: if one has failed, or was skipped because of a failure.",
            "enum": [*TRIGGER_RULES],
            "default": TRIGGER_RULES[0],
        },
    }
    return {
        "description": "A script to run, and when.",
        **_object(fields, required=("id", "script")),
        "if": {"properties": {"script": {"type": "string", "not": {"pattern": r"\.py$"}}}, "required": ["script"]},
        "then": {"properties": {"python": False}},
        "examples": [{"id": "report", "script": "report.py", "depends_on": ["load"], "retries": 2, "timeout": "5m"}],
    }


def _args() -> Schema:
    texts = {"$ref": "#/$defs/expanded"}
    argument: Schema = {"anyOf": [texts, {"type": ["number", "boolean"]}]}
    value: Schema = {"anyOf": [texts, {"type": ["number", "boolean", "null"]}]}
    return {
        "description": "What the script is called with.",
        "anyOf": [
            {"description": "Each element is one argument.", "type": "array", "items": argument},
            {
                "description": 'Options. "key": "v" becomes --key v; "k": "v" becomes -k v; true the option alone; false and'
                " null nothing; an array repeats it.",
                "type": "object",
                "propertyNames": {"pattern": r"^(?!-)(?![\s\S]*\{\{)[^\u0000]+$"},
                "additionalProperties": {"anyOf": [value, {"type": "array", "items": value}]},
            },
        ],
        "default": [],
        "examples": [["--limit", 10], {"input-file": "data/{{ params.date }}.csv", "verbose": True}],
    }


def _env() -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^{_VARIABLE}$", "not": {"enum": [*TASK_VARIABLES]}},
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/expanded"}, {"type": ["number", "boolean"]}]},
        "default": {},
        "examples": [{"TZ": "UTC"}],
    }


def _secret_env() -> Schema:
    name = {"type": "string", "pattern": f"^(?!MINIFLOW_){_VARIABLE}$"}
    return {"anyOf": _one_or_many(name, uniqueItems=True), "default": [], "examples": [["API_TOKEN"]]}


def _parameter() -> Schema:
    fields = {
        "type": {"description": "What its values are.", "enum": [*PARAM_TYPES]},
        "default": {"description": "Its value where none is given, of the type."},
        "description": {"description": "What it is for.", "type": "string"},
        "required": {
            "description": "Whether a run has to give it. Default: true unless there is a default. One that is neither required"
            " nor given is null.",
            "type": "boolean",
        },
    }
    of_type = [
        {
            "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
            "then": {"properties": {"default": {"type": [kind, "null"]}}},
        }
        for kind in PARAM_TYPES
    ]
    needless = {
        "if": {"properties": {"required": {"const": True}}, "required": ["required"]},
        "then": {"properties": {"default": False}},
    }
    return {"description": "A declared parameter.", **_object(fields), "allOf": [*of_type, needless]}


def _retries() -> Schema:
    fields = {
        "max": {
            "description": "How many times after the first attempt.",
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_RETRIES,
        },
        "delay": _ref("duration", 'Before the first retry: seconds, or a text like "1m30s".', default=0),
        "backoff": {
            "description": "Each further delay is the one before, times this.",
            "type": "number",
            "minimum": 1,
            "maximum": 1000,
            "default": 1,
        },
        "max_delay": _ref("duration", "No delay is longer: seconds, or a text.", default="1d"),
        "on_exit_codes": {
            "description": "Retry after these exit statuses alone. Default: after every failure.",
            "type": "array",
            "minItems": 1,
            "items": {"type": "integer", "minimum": 1, "maximum": 255},
            "examples": [[75]],
        },
    }
    return {
        "description": "When a failed task is tried again.",
        **_object(fields, required=("max",)),
        "examples": [{"max": 3, "delay": "1s", "backoff": 2, "max_delay": "1m"}],
    }


def _duration(beginning: str, minimum: float) -> Schema:
    number = {"type": "number", "minimum": minimum, "maximum": MAX_S}
    return {"anyOf": [number, {"type": "string", "maxLength": MAX_TEXT_LENGTH, "pattern": beginning + _DURATION}]}
