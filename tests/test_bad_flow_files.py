"""A table of broken flow files and the whole message that each gets: what is wrong, where, and how to mend it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniflow.catalog import find_flow_file, load_flow_file, script_check
from miniflow.errors import MAX_SHOWN_PROBLEMS, FlowError
from miniflow.jsontext import Found, located
from miniflow.parse import flow_from_mapping, parse_flow
from miniflow.prepare import load_flow
from tests.conftest import Space


def messages(text: bytes | str) -> list[str]:
    """Return the lines of the error that a flow file gets."""
    with pytest.raises(FlowError) as caught:
        parse_flow(text, "x.json")
    return str(caught.value).splitlines()


def message(text: bytes | str) -> str:
    """Return the only line of the error that a flow file gets."""
    [line] = messages(text)
    return line


def task_messages(space: Space, *scripts: str) -> list[str]:
    """Return what is wrong with a flow file that has tasks with these scripts, without the file's name."""
    tasks = [{"id": f"t{number}", "script": script} for number, script in enumerate(scripts)]
    path = space.flow(json.dumps({"name": "x", "tasks": tasks}))
    with pytest.raises(FlowError) as caught:
        load_flow_file(path, script_check(space.tasks_dir))
    return [str(line).replace(str(space.path), "").split(": ", 1)[1] for line in str(caught.value).splitlines()]


# --- fields of the flow: the fragment stands on line 2, between a good name and good tasks ------------------------

ALL_FIELDS = "$schema, name, description, version, params, env, secret_env, python, tasks"

FLOW_FIELDS = [
    ('"description": 1', ["2:16: description: must be a string, not the number 1"]),
    ('"version": 1.0', ["2:12: version: must be a string, not the number 1.0"]),
    ('"$schema": []', ["2:12: $schema: must be a string, not an array"]),
    ('"verison": "1"', ['2:1: verison: unknown field "verison"; did you mean "version"?']),
    (
        '"zzz": 1',
        [f'2:1: zzz: unknown field "zzz"; a flow has {ALL_FIELDS}'],
    ),
    (
        '"__proto__": {}',
        [f'2:1: __proto__: unknown field "__proto__"; a flow has {ALL_FIELDS}'],
    ),
    ('"Name": "x"', ['2:1: Name: unknown field "Name"; did you mean "name"?']),
    ('"": 1', [f'2:1: [""]: unknown field ""; a flow has {ALL_FIELDS}']),
    (
        '"tâche": 1',
        [f'2:1: ["tâche"]: unknown field "tâche"; a flow has {ALL_FIELDS}'],
    ),
    (
        '"a\\nb\\u2028": 1',
        [f'2:1: ["a\\nb\\u2028"]: unknown field "a\\nb\\u2028"; a flow has {ALL_FIELDS}'],
    ),
    ('"name": "y"', ['2:1: name: the key "name" stands twice in one object']),
    ('"python": ""', ['2:11: python: must be the path or the name of an interpreter, not the string ""']),
    ('"python": "-c"', ['2:11: python: must be the path or the name of an interpreter, not the string "-c"']),
    ('"python": null', ["2:11: python: must be the path or the name of an interpreter, not null"]),
    ('"env": []', ["2:8: env: must be an object of variables, not an array"]),
    ('"env": {"A B": 1}', ['2:9: env["A B"]: "A B" is no name of a variable: letters, digits and _ alone, the first no digit']),
    ('"env": {"1A": 1}', ['2:9: env["1A"]: "1A" is no name of a variable: letters, digits and _ alone, the first no digit']),
    ('"env": {"É": 1}', ['2:9: env["É"]: "É" is no name of a variable: letters, digits and _ alone, the first no digit']),
    ('"env": {"": 1}', ['2:9: env[""]: "" is no name of a variable: letters, digits and _ alone, the first no digit']),
    ('"env": {"MINIFLOW_RUN_ID": "x"}', ["2:9: env.MINIFLOW_RUN_ID: MINIFLOW_RUN_ID is set by MiniFlow for every task"]),
    ('"env": {"A": null}', ["2:14: env.A: a variable is a string, a number or a boolean, not null"]),
    ('"env": {"A": [1]}', ["2:14: env.A: a variable is a string, a number or a boolean, not an array"]),
    ('"env": {"A": {}}', ["2:14: env.A: a variable is a string, a number or a boolean, not an object"]),
    (
        '"env": {"A": "{{ params.}}"}',
        ['2:14: env.A: unknown placeholder "params."; there are params.NAME, flow.name and task.id'],
    ),
    ('"params": []', ["2:11: params: must be an object of parameters, not an array"]),
    (
        '"params": {"a b": 1}',
        [('2:12: params["a b"]: "a b" is no name of a parameter: letters, digits, _ and - alone, the first no -')],
    ),
    (
        '"params": {"-a": 1}',
        ['2:12: params["-a"]: "-a" is no name of a parameter: letters, digits, _ and - alone, the first no -'],
    ),
    (
        '"params": {"a.b": 1}',
        [('2:12: params["a.b"]: "a.b" is no name of a parameter: letters, digits, _ and - alone, the first no -')],
    ),
    (
        '"params": {"a": {"type": "int"}}',
        [
            (
                "2:26: params.a.type: must be one of string, integer, number, boolean, array, object, not"
                ' the string "int"; did you mean "integer"?'
            )
        ],
    ),
    (
        '"params": {"a": {"type": []}}',
        ["2:26: params.a.type: must be one of string, integer, number, boolean, array, object, not an array"],
    ),
    (
        '"params": {"a": {"kind": "integer"}}',
        ['2:18: params.a.kind: unknown field "kind"; a parameter has type, default, description, required'],
    ),
    (
        '"params": {"a": {"type": "integer", "default": 1.5}}',
        ["2:48: params.a.default: must be an integer, as the type says, not the number 1.5"],
    ),
    (
        '"params": {"a": {"type": "integer", "default": true}}',
        ["2:48: params.a.default: must be an integer, as the type says, not true"],
    ),
    (
        '"params": {"a": {"type": "boolean", "default": 1}}',
        ["2:48: params.a.default: must be a boolean, as the type says, not the number 1"],
    ),
    (
        '"params": {"a": {"type": "array", "default": "x"}}',
        ['2:46: params.a.default: must be an array, as the type says, not the string "x"'],
    ),
    ('"params": {"a": {"required": "yes"}}', ['2:30: params.a.required: must be true or false, not the string "yes"']),
    (
        '"params": {"a": {"required": true, "default": 1}}',
        ["2:30: params.a.required: a required parameter has no use for a default; take one of them away"],
    ),
    ('"params": {"a": {"description": 1}}', ["2:33: params.a.description: must be a string, not the number 1"]),
]


@pytest.mark.parametrize(("fragment", "expected"), FLOW_FIELDS, ids=[fragment for fragment, _ in FLOW_FIELDS])
def test_a_bad_field_of_the_flow(fragment: str, expected: list[str]) -> None:
    text = '{"name": "x",\n' + fragment + ',\n"tasks": [{"id": "a", "script": "a.py"}]}'
    assert messages(text) == [f"x.json:{line}" for line in expected]


# --- fields of a task: the fragment stands on line 2, after `{"id": "a", "script": "a.py", ` ----------------------

TASK_FIELDS = [
    ('"id": "b"', ['2:31: tasks[0].id: the key "id" stands twice in one object']),
    ('"descripton": ""', ['2:31: tasks[0].descripton: unknown field "descripton"; did you mean "description"?']),
    ('"description": null', ["2:46: tasks[0].description: must be a string, not null"]),
    ('"depends_on": null', ["2:45: tasks[0].depends_on: must be an array of task ids, not null"]),
    ('"depends_on": 1', ["2:45: tasks[0].depends_on: must be an array of task ids, not the number 1"]),
    (
        '"depends_on": [1, "b"]',
        ["2:46: tasks[0].depends_on[0]: must be a task id, not the number 1", '2:49: tasks[0].depends_on[1]: no task "b"'],
    ),
    ('"depends_on": "b"', ['2:45: tasks[0].depends_on: no task "b"']),
    ('"depends_on": ["a"]', ["2:45: tasks[0].depends_on: cycle: a → a (each task depends on the next)"]),
    (
        '"depends_on": ["b", "b", "c"]',
        [
            '2:46: tasks[0].depends_on[0]: no task "b"',
            '2:51: tasks[0].depends_on[1]: no task "b"',
            '2:56: tasks[0].depends_on[2]: no task "c"',
        ],
    ),
    ('"args": "x"', ['2:39: tasks[0].args: must be an array or an object, not the string "x"']),
    ('"args": null', ["2:39: tasks[0].args: must be an array or an object, not null"]),
    ('"args": [null]', ["2:40: tasks[0].args[0]: an argument is a string, a number or a boolean, not null"]),
    ('"args": [[]]', ["2:40: tasks[0].args[0]: an argument is a string, a number or a boolean, not an array"]),
    ('"args": ["x", {}]', ["2:45: tasks[0].args[1]: an argument is a string, a number or a boolean, not an object"]),
    ('"args": {"": 1}', ['2:40: tasks[0].args[""]: "" is no option name; an option needs a name']),
    ('"args": {"--limit": 1}', ['2:40: tasks[0].args["--limit"]: "--limit" is no option name; write it without the dashes']),
    ('"args": {"a": {}}', ["2:45: tasks[0].args.a: an option's value is a string, a number, a boolean or null, not an object"]),
    (
        '"args": {"a": [[]]}',
        ["2:46: tasks[0].args.a[0]: an option's value is a string, a number, a boolean or null, not an array"],
    ),
    (
        '"args": {"a": [{}]}',
        [("2:46: tasks[0].args.a[0]: an option's value is a string, a number, a boolean or null, not an object")],
    ),
    ('"args": {"{{ params.a }}": 1}', ['2:40: tasks[0].args["{{ params.a }}"]: {{ }} is replaced in values, not in names']),
    (
        '"args": ["{{ parms.a }}"]',
        [('2:40: tasks[0].args[0]: unknown placeholder "parms.a"; there are params.NAME, flow.name and task.id')],
    ),
    ('"args": ["{{ params.a"]', ['2:40: tasks[0].args[0]: "{{" without "}}"; write "\\\\{{" for the characters themselves']),
    ('"args": ["{{ }}"]', ['2:40: tasks[0].args[0]: unknown placeholder ""; there are params.NAME, flow.name and task.id']),
    ('"args": ["{{ task.name }}"]', ['2:40: tasks[0].args[0]: unknown placeholder "task.name"; did you mean "task.id"?']),
    (
        '"args": ["{{ params.a b }}"]',
        [('2:40: tasks[0].args[0]: unknown placeholder "params.a b"; there are params.NAME, flow.name and task.id')],
    ),
    (
        '"args": ["{{ nothing.like.it }}"]',
        [('2:40: tasks[0].args[0]: unknown placeholder "nothing.like.it"; there are params.NAME, flow.name and task.id')],
    ),
    (
        '"args": {"a": ["{{ x }}"]}',
        ['2:46: tasks[0].args.a[0]: unknown placeholder "x"; there are params.NAME, flow.name and task.id'],
    ),
    ('"env": {"A": "{{ flow.nam }}"}', ['2:44: tasks[0].env.A: unknown placeholder "flow.nam"; did you mean "flow.name"?']),
    ('"env": "A=1"', ['2:38: tasks[0].env: must be an object of variables, not the string "A=1"']),
    ('"cwd": ""', ['2:38: tasks[0].cwd: must be the path of a directory, not the string ""']),
    ('"cwd": 1', ["2:38: tasks[0].cwd: must be the path of a directory, not the number 1"]),
    ('"cwd": "{{ x"', ['2:38: tasks[0].cwd: "{{" without "}}"; write "\\\\{{" for the characters themselves']),
    ('"python": 3', ["2:41: tasks[0].python: must be the path or the name of an interpreter, not the number 3"]),
    ('"retries": "3"', ['2:42: tasks[0].retries: must be a whole number from 0 to 1000, not the string "3"']),
    ('"retries": -1', ["2:42: tasks[0].retries: must be a whole number from 0 to 1000, not the number -1"]),
    ('"retries": 1.5', ["2:42: tasks[0].retries: must be a whole number from 0 to 1000, not the number 1.5"]),
    ('"retries": true', ["2:42: tasks[0].retries: must be a whole number from 0 to 1000, not true"]),
    ('"retries": 1001', ["2:42: tasks[0].retries: must be a whole number from 0 to 1000, not the number 1001"]),
    ('"retries": null', ["2:42: tasks[0].retries: must be a whole number from 0 to 1000, not null"]),
    ('"retries": []', ["2:42: tasks[0].retries: must be a whole number from 0 to 1000, not an array"]),
    ('"retries": {}', ['2:42: tasks[0].retries: the number of retries, "max", is missing']),
    ('"retries": {"max": 1, "dely": 1}', ['2:53: tasks[0].retries.dely: unknown field "dely"; did you mean "delay"?']),
    (
        '"retries": {"max": 1, "delay": "soon"}',
        [('2:62: tasks[0].retries.delay: must be seconds or a text like "1m30s", at most a year, not the string "soon"')],
    ),
    (
        '"retries": {"max": 1, "delay": -1}',
        [('2:62: tasks[0].retries.delay: must be seconds or a text like "1m30s", at most a year, not the number -1')],
    ),
    (
        '"retries": {"max": 1, "delay": null}',
        ['2:62: tasks[0].retries.delay: must be seconds or a text like "1m30s", at most a year, not null'],
    ),
    (
        '"retries": {"max": 1, "backoff": 0.5}',
        ["2:64: tasks[0].retries.backoff: must be a number from 1 to 1000, not the number 0.5"],
    ),
    ('"retries": {"max": 1, "backoff": true}', ["2:64: tasks[0].retries.backoff: must be a number from 1 to 1000, not true"]),
    (
        '"retries": {"max": 1, "backoff": 1001}',
        ["2:64: tasks[0].retries.backoff: must be a number from 1 to 1000, not the number 1001"],
    ),
    (
        '"retries": {"max": 1, "max_delay": []}',
        [('2:66: tasks[0].retries.max_delay: must be seconds or a text like "1m30s", at most a year, not an array')],
    ),
    (
        '"retries": {"max": 1, "on_exit_codes": []}',
        [("2:70: tasks[0].retries.on_exit_codes: names no exit status; without it, every failure is tried again")],
    ),
    (
        '"retries": {"max": 1, "on_exit_codes": 75}',
        ["2:70: tasks[0].retries.on_exit_codes: must be an array of exit statuses, not the number 75"],
    ),
    (
        '"retries": {"max": 1, "on_exit_codes": [0, 256, "1", true]}',
        [
            "2:71: tasks[0].retries.on_exit_codes[0]: must be an exit status from 1 to 255, not the number 0",
            "2:74: tasks[0].retries.on_exit_codes[1]: must be an exit status from 1 to 255, not the number 256",
            '2:79: tasks[0].retries.on_exit_codes[2]: must be an exit status from 1 to 255, not the string "1"',
            "2:84: tasks[0].retries.on_exit_codes[3]: must be an exit status from 1 to 255, not true",
        ],
    ),
    ('"timeout": null', ['2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not null']),
    ('"timeout": []', ['2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not an array']),
    ('"timeout": {}', ['2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not an object']),
    ('"timeout": true', ['2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not true']),
    ('"timeout": false', ['2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not false']),
    ('"timeout": 0', ["2:42: tasks[0].timeout: must be longer than 0"]),
    ('"timeout": 0.0001', ["2:42: tasks[0].timeout: must be longer than 0"]),
    ('"timeout": -1', ['2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not the number -1']),
    (
        '"timeout": "90"',
        [('2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not the string "90"')],
    ),
    ('"timeout": ""', ['2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not the string ""']),
    (
        '"timeout": "1h 30m"',
        [('2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not the string "1h 30m"')],
    ),
    (
        '"timeout": "1m1h"',
        [('2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not the string "1m1h"')],
    ),
    (
        '"timeout": 1e9',
        [('2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not the number 1000000000.0')],
    ),
    (
        '"timeout": "367d"',
        [('2:42: tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not the string "367d"')],
    ),
    ('"timeout": "0s"', ["2:42: tasks[0].timeout: must be longer than 0"]),
    (
        '"trigger_rule": "all_succes"',
        [
            (
                "2:47: tasks[0].trigger_rule: must be one of all_success, all_done, one_failed, not the"
                ' string "all_succes"; did you mean "all_success"?'
            )
        ],
    ),
    ('"trigger_rule": null', ["2:47: tasks[0].trigger_rule: must be one of all_success, all_done, one_failed, not null"]),
    (
        '"trigger_rule": ["all_done"]',
        ["2:47: tasks[0].trigger_rule: must be one of all_success, all_done, one_failed, not an array"],
    ),
    ('"args": [NaN]', ["2:40: tasks[0].args[0]: NaN is no number that JSON can hold"]),
    (
        '"args": [Infinity, -Infinity, 1e999, -1e999]',
        [
            "2:40: tasks[0].args[0]: Infinity is no number that JSON can hold",
            "2:50: tasks[0].args[1]: -Infinity is no number that JSON can hold",
            "2:61: tasks[0].args[2]: 1e999 is no number that JSON can hold",
            "2:68: tasks[0].args[3]: -1e999 is no number that JSON can hold",
        ],
    ),
    ('"timeout": NaN', ["2:42: tasks[0].timeout: NaN is no number that JSON can hold"]),
    ('"args": ["\\u0000"]', ["2:40: tasks[0].args[0]: a NUL character; no argument, variable or file name can hold one"]),
    (
        '"args": ["\\ud800", "\\udc00\\ud800"]',
        [
            "2:40: tasks[0].args[0]: half of a surrogate pair (\\ud800 to \\udfff), which is no character",
            "2:50: tasks[0].args[1]: half of a surrogate pair (\\ud800 to \\udfff), which is no character",
        ],
    ),
    (
        '"args": {"\\u0000": 1}',
        ['2:40: tasks[0].args["\\u0000"]: a NUL character; no argument, variable or file name can hold one'],
    ),
    ('"env": {"A": "\\udfff"}', ["2:44: tasks[0].env.A: half of a surrogate pair (\\ud800 to \\udfff), which is no character"]),
    ('"args": {"a": 1, "a": 2}', ['2:48: tasks[0].args.a: the key "a" stands twice in one object']),
]


@pytest.mark.parametrize(("fragment", "expected"), TASK_FIELDS, ids=[fragment for fragment, _ in TASK_FIELDS])
def test_a_bad_field_of_a_task(fragment: str, expected: list[str]) -> None:
    text = '{"name": "x", "tasks": [\n{"id": "a", "script": "a.py", ' + fragment + "}]}"
    assert messages(text) == [f"x.json:{line}" for line in expected]


# --- whole texts --------------------------------------------------------------------------------------------------

TEXTS = [
    ("", ["1:1: no JSON: there is nothing in it"]),
    ("  \n", ["1:1: no JSON: there is nothing in it"]),
    ("null", ["1:1: a flow is a JSON object, not null"]),
    ("[]", ["1:1: a flow is a JSON object, not an array"]),
    ('"x"', ['1:1: a flow is a JSON object, not the string "x"']),
    ("1", ["1:1: a flow is a JSON object, not the number 1"]),
    ("NaN", ["1:1: NaN is no number that JSON can hold"]),
    ("{}", ['1:1: the flow has no "name"', '1:1: the flow has no "tasks"']),
    ('{"name": "x"}', ['1:1: the flow has no "tasks"']),
    ('{"tasks": []}', ['1:1: the flow has no "name"', "1:11: tasks: a flow needs at least one task"]),
    ('{"name": "x", "tasks": {}}', ["1:24: tasks: must be an array of tasks, not an object"]),
    ('{"name": "x", "tasks": null}', ["1:24: tasks: must be an array of tasks, not null"]),
    (
        '{"name": "x", "tasks": [1, null, []]}',
        [
            "1:25: tasks[0]: a task is an object, not the number 1",
            "1:28: tasks[1]: a task is an object, not null",
            "1:34: tasks[2]: a task is an object, not an array",
        ],
    ),
    ('{"name": "x", "tasks": [{}]}', ['1:25: tasks[0]: the task has no "id"', '1:25: tasks[0]: the task has no "script"']),
    (
        '{"name": 1, "tasks": [{"id": true, "script": 1}]}',
        [
            "1:10: name: must be a string, not the number 1",
            "1:30: tasks[0].id: must be a string, not true",
            "1:46: tasks[0].script: must be the path of a file inside the tasks directory, not the number 1",
        ],
    ),
    (
        '{"name": "", "tasks": [{"id": "", "script": ""}]}',
        [
            '1:10: name: "" is no flow name: letters, digits and _ . - alone, the first a letter, digit or _',
            ('1:31: tasks[0].id: "" is no task id: letters, digits and _ . - alone, the first a letter, digit or _'),
            '1:45: tasks[0].script: must be the path of a file inside the tasks directory, not the string ""',
        ],
    ),
    (
        '{"name": "a/b", "tasks": [{"id": "..", "script": "a.py"}]}',
        [
            '1:10: name: "a/b" is no flow name: letters, digits and _ . - alone, the first a letter, digit or _',
            ('1:34: tasks[0].id: ".." is no task id: letters, digits and _ . - alone, the first a letter, digit or _'),
        ],
    ),
    (
        '{"name": ".x", "tasks": [{"id": "-a", "script": "a.py"}]}',
        [
            '1:10: name: ".x" is no flow name: letters, digits and _ . - alone, the first a letter, digit or _',
            ('1:33: tasks[0].id: "-a" is no task id: letters, digits and _ . - alone, the first a letter, digit or _'),
        ],
    ),
    (
        '{"name": "x.SH", "tasks": [{"id": "ü", "script": "a.py"}]}',
        [
            '1:10: name: "x.SH" ends with ".sh", like the script that is written beside its runs',
            ('1:35: tasks[0].id: "ü" is no task id: letters, digits and _ . - alone, the first a letter, digit or _'),
        ],
    ),
    (
        '{"name": "x\\n", "tasks": [{"id": "a b", "script": "a.py"}]}',
        [
            ('1:10: name: "x\\n" is no flow name: letters, digits and _ . - alone, the first a letter, digit or _'),
            ('1:34: tasks[0].id: "a b" is no task id: letters, digits and _ . - alone, the first a letter, digit or _'),
        ],
    ),
    ('{"name": "x"', ["1:13: no JSON: it ends before its last bracket is closed"]),
    ('{"name": "x",}', ["1:13: no JSON: a comma before the closing bracket; take it away"]),
    ('{"name": "x", "tasks": [1,]}', ["1:26: no JSON: a comma before the closing bracket; take it away"]),
    ('{"name": "x", // comment\n"tasks": []}', ["1:15: no JSON: JSON has no comments"]),
    ("{'name': 'x'}", ["1:2: no JSON: strings stand in double quotes"]),
    ('{name: "x"}', ["1:2: no JSON: expecting property name enclosed in double quotes"]),
    ('{"name" "x"}', ["1:9: no JSON: expecting ':' delimiter"]),
    ('{"name": "x" "tasks": []}', ["1:14: no JSON: expecting ',' delimiter"]),
    ('{"name": "x}', ["1:10: no JSON: a string without its closing quote"]),
    (
        '{"name": "a\nb"}',
        [("1:12: no JSON: a line break or another control character in a string; write it as \\n, \\t, \\u001b")],
    ),
    ('{"name": "\\x"}', ["1:11: no JSON: invalid \\escape"]),
    ('{"name": "\\u12"}', ["1:12: no JSON: invalid \\uXXXX escape"]),
    ('{"name": True}', ["1:10: no JSON: JSON writes true, false and null"]),
    ('{"name": undefined}', ["1:10: no JSON: expecting value"]),
    ('{"name": 01}', ["1:11: no JSON: expecting ',' delimiter"]),
    ("{} {}", ["1:4: no JSON: extra data"]),
    ('{"name": "x"}}', ["1:14: no JSON: extra data"]),
    ("[1 2]", ["1:4: no JSON: expecting ',' delimiter"]),
    ("{\x00", ["1:2: no JSON: a NUL character; save the file as UTF-8, not as UTF-16"]),
    (
        (
            '{"name": "x", "tasks": [{"id": "a", "script": "/etc/passwd"}, {"id": "b", "script":'
            ' "../a.py"}, {"id": "c", "script": "s/../../a.py"}, {"id": "d", "script": ".."}]}'
        ),
        [
            (
                '1:47: tasks[0].script: "/etc/passwd" leads outside the tasks directory; a script is named'
                ' relative to it, without ".."'
            ),
            (
                '1:85: tasks[1].script: "../a.py" leads outside the tasks directory; a script is named'
                ' relative to it, without ".."'
            ),
            (
                '1:119: tasks[2].script: "s/../../a.py" leads outside the tasks directory; a script is'
                ' named relative to it, without ".."'
            ),
            ('1:158: tasks[3].script: ".." leads outside the tasks directory; a script is named relative to it, without ".."'),
        ],
    ),
    (
        '{"name": "x", "tasks": [{"id": "a", "script": "a.sh", "python": "python3"}]}',
        ['1:65: tasks[0].python: has no meaning for "a.sh": only a .py script is run by an interpreter'],
    ),
    (
        (
            '{"name": "x", "tasks": [\n'
            '{"id": "a", "script": "a.py"},\n'
            '{"id": "a", "script": "a.py"},\n{"id": "A", "script": "a.py"}]}'
        ),
        [
            '3:8: tasks[1].id: the id "a" is taken by tasks[0]; ids are unique',
            (
                '4:8: tasks[2].id: the id "A" differs from "a" of tasks[0] in case alone; they would share'
                " file names on some file systems"
            ),
        ],
    ),
    (
        ('{"name": "x", "tasks": [\n{"id": "a b", "script": "a.py"},\n{"id": "c", "script": "a.py", "depends_on": "a b"}]}'),
        [('2:8: tasks[0].id: "a b" is no task id: letters, digits and _ . - alone, the first a letter, digit or _')],
    ),
    (
        (
            '{"name": "x", "tasks": [\n'
            '{"id": "fetch_data", "script": "a.py"},\n'
            '{"id": "b", "script": "a.py", "depends_on": ["fetch_dta"]},\n'
            '{"id": "c", "script": "a.py", "depends_on": "FETCH_DATA"}]}'
        ),
        [
            '3:46: tasks[1].depends_on[0]: no task "fetch_dta"; did you mean "fetch_data"?',
            '4:45: tasks[2].depends_on: no task "FETCH_DATA"; did you mean "fetch_data"?',
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=[text for text, _ in TEXTS])
def test_a_bad_text(text: str, expected: list[str]) -> None:
    assert messages(text) == [f"x.json:{line}" for line in expected]


# --- bytes --------------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_counts_for_nothing() -> None:
    assert message(b'\xef\xbb\xbf{"name": "x", "tasks": []}') == "x.json:1:24: tasks: a flow needs at least one task"


def test_a_flow_file_with_a_byte_order_mark_is_read() -> None:
    assert parse_flow(b'\xef\xbb\xbf{"name": "x", "tasks": [{"id": "a", "script": "a.py"}]}').name == "x"


def test_windows_line_ends_count_as_one_line_each() -> None:
    assert message(b'{\r\n"name": "x",\r\n"tasks": []\r\n}') == "x.json:3:10: tasks: a flow needs at least one task"


def test_utf_16_with_a_byte_order_mark() -> None:
    assert message('{"name": "x"}'.encode("utf-16")) == "x.json:1:1: byte 0xff is not UTF-8; save the file as UTF-8"


def test_utf_16_without_a_byte_order_mark() -> None:
    expected = "x.json:1:2: no JSON: a NUL character; save the file as UTF-8, not as UTF-16"
    assert message('{"name": "x"}'.encode("utf-16-le")) == expected


def test_a_byte_that_is_not_utf_8_is_found_by_its_line_and_its_column_in_characters() -> None:
    assert message('{\n"näme": "'.encode() + b'\xfc"}') == "x.json:2:10: byte 0xfc is not UTF-8; save the file as UTF-8"


def test_a_surrogate_encoded_as_utf_8_is_not_utf_8() -> None:
    assert message(b'{"name": "\xed\xa0\x80"}') == "x.json:1:11: byte 0xed is not UTF-8; save the file as UTF-8"


def test_half_a_surrogate_pair_that_stands_in_a_text_as_it_is() -> None:
    assert messages('{"name": "\ud800", "tasks": [{"id": "a", "script": "a.py"}]}') == [
        "x.json:1:10: name: half of a surrogate pair (\\ud800 to \\udfff), which is no character"
    ]


# --- size and depth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [400, 4_000, 5_000, 100_000])
def test_an_integer_beyond_all_range_is_reported_with_all_else(digits: int) -> None:
    text = '{"name": "x", "tasks": [\n{"id": "a", "script": "a.py", "args": [' + "9" * digits + '], "retries": -1}]}'
    first, second = messages(text)
    assert first == f"x.json:2:40: tasks[0].args[0]: {'9' * 20}... is no number that JSON can hold"
    assert second.endswith("tasks[0].retries: must be a whole number from 0 to 1000, not the number -1")


def test_a_syntax_error_after_a_huge_integer_has_its_place() -> None:
    assert message("[" + "9" * 5000 + ', "\\x"]') == "x.json:1:5005: no JSON: invalid \\escape"


def test_ten_thousand_nested_arrays() -> None:
    expected = "x.json:1:65: [0][0][0][0][0][0][0][0]: nested deeper than 64 levels"
    assert message("[" * 10_000 + "]" * 10_000) == expected


def test_ten_thousand_brackets_that_are_never_closed() -> None:
    # How deep Python itself can read, and so which of the two it finds first, differs from version to version.
    assert message("[" * 10_000) in (
        "x.json:1:65: [0][0][0][0][0][0][0][0]: nested deeper than 64 levels",
        "x.json:1:10001: no JSON: it ends before its last bracket is closed",
    )


def test_ten_thousand_nested_objects_in_a_field() -> None:
    deep = '{"a":' * 10_000 + "1" + "}" * 10_000
    expected = "x.json:2:326: params.a.a.a.a.a.a.a: nested deeper than 64 levels"
    assert message('{"name": "x",\n"params": ' + deep + "}") == expected


@pytest.mark.parametrize("depth", [63, 500])
def test_a_parameter_that_is_nested_too_deep_for_us_but_not_for_json(depth: int) -> None:
    text = '{"name": "x", "tasks": [{"id": "a", "script": "a.py"}],\n"params": {"p": ' + "[" * depth + "]" * depth + "}}"
    assert message(text) == "x.json:2:79: params.p[0][0][0][0][0][0]: nested deeper than 64 levels"


def test_a_parameter_that_is_nested_as_deep_as_is_allowed() -> None:
    text = '{"name": "x", "tasks": [{"id": "a", "script": "a.py"}],\n"params": {"p": ' + "[" * 62 + "]" * 62 + "}}"
    assert parse_flow(text).params["p"].type == "array"


def test_an_id_of_more_than_200_characters() -> None:
    text = '{"name": "x", "tasks": [{"id": "' + "a" * 201 + '", "script": "a.py"}]}'
    assert message(text) == "x.json:1:32: tasks[0].id: longer than 200 characters"


def test_what_is_very_long_is_shown_shortened() -> None:
    text = '{"name": "x", "tasks": [{"id": "a", "script": "a.py", "' + "b" * 1_000_000 + '": 1}]}'
    assert len(message(text)) < 500


@pytest.mark.parametrize("character", ["\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\n", "\ufeff"])
def test_characters_that_act_on_a_terminal_are_shown_escaped(character: str) -> None:
    text = json.dumps({"name": "x", "tasks": [{"id": f"a{character}b", "script": "a.py", character: 1}]})
    with pytest.raises(FlowError) as caught:
        parse_flow(text)
    assert all(line.isprintable() for line in str(caught.value).split("\n"))


# --- all problems together ----------------------------------------------------------------------------------------


def test_all_problems_of_a_file_are_reported_together_in_the_order_of_the_file() -> None:
    text = """{
  "nme": "x",
  "name": "a b",
  "tasks": [
    {"id": "a", "id": "b", "script": "../x.py", "timeout": NaN},
    5,
    {"id": "c", "script": "a.py", "depends_on": ["d"], "args": {"--x": "{{ flow }}"}},
    {"id": "d", "script": "a.py", "depends_on": ["c", "f"], "env": {"X": "\\u0000"}},
    {"id": "C", "script": "a.py"}
  ],
  "params": {"p": {"type": "strin"}}
}"""
    assert messages(text) == [
        'x.json:2:3: nme: unknown field "nme"; did you mean "name"?',
        'x.json:3:11: name: "a b" is no flow name: letters, digits and _ . - alone, the first a letter, digit or _',
        'x.json:5:17: tasks[0].id: the key "id" stands twice in one object',
        'x.json:5:38: tasks[0].script: "../x.py" leads outside the tasks directory; a script is named relative to it,'
        ' without ".."',
        "x.json:5:60: tasks[0].timeout: NaN is no number that JSON can hold",
        "x.json:6:5: tasks[1]: a task is an object, not the number 5",
        "x.json:7:49: tasks[2].depends_on: cycle: c → d → c (each task depends on the next)",
        'x.json:7:65: tasks[2].args["--x"]: "--x" is no option name; write it without the dashes',
        'x.json:7:72: tasks[2].args["--x"]: unknown placeholder "flow"; did you mean "flow.name"?',
        'x.json:8:55: tasks[3].depends_on[1]: no task "f"',
        "x.json:8:74: tasks[3].env.X: a NUL character; no argument, variable or file name can hold one",
        'x.json:9:12: tasks[4].id: the id "C" differs from "c" of tasks[2] in case alone; they would share file names on'
        " some file systems",
        "x.json:11:28: params.p.type: must be one of string, integer, number, boolean, array, object,"
        ' not the string "strin"; did you mean "string"?',
    ]


def test_of_a_thousand_problems_the_first_hundred_are_shown() -> None:
    tasks = [{"id": f"t{number}", "script": "a.py", "retries": -1} for number in range(1000)]
    lines = messages(json.dumps({"name": "x", "tasks": tasks}))
    assert len(lines) == 101
    assert lines[99].endswith("tasks[99].retries: must be a whole number from 0 to 1000, not the number -1")
    assert lines[100] == "... and 900 more problems"


def test_the_error_holds_every_problem_as_a_value() -> None:
    tasks = [{"id": f"t{number}", "script": "a.py", "retries": -1} for number in range(1000)]
    with pytest.raises(FlowError) as caught:
        parse_flow(json.dumps({"name": "x", "tasks": tasks}), "x.json")
    last = caught.value.problems[-1]
    assert len(caught.value.problems) == 1000
    assert (last.file, last.line, last.path) == ("x.json", 1, "tasks[999].retries")


def test_a_hundred_thousand_problems_are_reported_without_comparing_all_with_all() -> None:
    tasks = [{"id": f"t{n}", "script": "a.py", "depends_on": [f"u{n}"], "dependson": 1} for n in range(30_000)]
    lines = messages(json.dumps({"name": "x", "tasks": tasks}))
    assert lines[-1] == "... and 59900 more problems"


# --- positions ----------------------------------------------------------------------------------------------------


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the path of every value within a value, and the value."""
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths_of(item, (*path, key))


SCALARS = st.none() | st.booleans() | st.integers() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


@given(VALUES, st.sampled_from([None, 0, 2, "\t"]), st.booleans())
def test_every_value_is_found_at_its_line_and_column(value: Any, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    lines = text.split("\n")
    for path, item in paths_of(value):
        [problem] = located([Found(path, "wrong")], text, "x.json")
        assert problem.line is not None
        assert problem.column is not None
        here = "\n".join([lines[problem.line - 1][problem.column - 1 :], *lines[problem.line :]])
        assert json.JSONDecoder().raw_decode(here)[0] == item


@given(VALUES, st.sampled_from([None, 2]))
def test_every_key_is_found_at_its_line_and_column(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    lines = text.split("\n")
    for path, _ in paths_of(value):
        if path and isinstance(path[-1], str):
            [problem] = located([Found(path, "wrong", at_key=True)], text, "x.json")
            assert problem.line is not None
            assert problem.column is not None
            assert lines[problem.line - 1][problem.column - 1 :].startswith(json.dumps(path[-1]) + ": ")


# --- the graph ----------------------------------------------------------------------------------------------------


def test_a_cycle_is_printed_as_its_path() -> None:
    upstream = {"load": "train", "clean": "load", "train": "clean", "report": "train"}
    tasks = [{"id": task, "script": "a.py", "depends_on": [needed]} for task, needed in upstream.items()]
    assert message(json.dumps({"name": "x", "tasks": tasks})) == (
        "x.json:1:72: tasks[0].depends_on: cycle: load → train → clean → load (each task depends on the next)"
    )


def test_two_cycles_are_two_problems() -> None:
    upstream = {"a": "b", "b": "a", "c": "c"}
    tasks = [{"id": task, "script": "a.py", "depends_on": [needed]} for task, needed in upstream.items()]
    assert [line.split(": ", 2)[2] for line in messages(json.dumps({"name": "x", "tasks": tasks}))] == [
        "cycle: a → b → a (each task depends on the next)",
        "cycle: c → c (each task depends on the next)",
    ]


def test_a_long_cycle_is_shortened_in_its_middle() -> None:
    tasks = [{"id": f"t{n}", "script": "a.py", "depends_on": [f"t{(n + 1) % 1000}"]} for n in range(1000)]
    line = message(json.dumps({"name": "x", "tasks": tasks}))
    assert "cycle: t0 → t1 → t2 → " in line
    assert " → t9 → ... 981 more ... → t991 → " in line
    assert line.endswith(" → t998 → t999 → t0 (each task depends on the next)")


def test_no_task_is_proposed_as_its_own_upstream() -> None:
    text = '{"name": "x", "tasks": [{"id": "fetch", "script": "a.py", "depends_on": "fetsh"}]}'
    assert message(text) == 'x.json:1:73: tasks[0].depends_on: no task "fetsh"'


# --- scripts ------------------------------------------------------------------------------------------------------


def test_a_missing_script_comes_with_the_nearest_that_is_there(space: Space) -> None:
    space.script("load/fetch_data.py")
    assert task_messages(space, "load/fetch_dta.py") == [
        'tasks[0].script: no script "load/fetch_dta.py" in /tasks; did you mean "load/fetch_data.py"?'
    ]


def test_each_of_those_that_are_shown_has_its_hint(space: Space) -> None:
    space.script("fetch_data.py")
    lines = task_messages(space, *(f"fetch_data{number}.py" for number in range(MAX_SHOWN_PROBLEMS)))
    assert [line for line in lines if not line.endswith('did you mean "fetch_data.py"?')] == []


def test_every_task_with_a_missing_script_is_reported(space: Space) -> None:
    assert task_messages(space, "nowhere", "nowhere", "x/y.py") == [
        'tasks[0].script: no script "nowhere" in /tasks',
        'tasks[1].script: no script "nowhere" in /tasks',
        'tasks[2].script: no script "x/y.py" in /tasks',
    ]


@pytest.mark.parametrize("script", ["a.py/", "a.py/b.py", "s" * 300, "s/" * 3000 + "a.py", "a\ud800.py", "a\0.py"])
def test_a_script_that_no_file_system_can_hold_is_missing(space: Space, script: str) -> None:
    space.script("a.py", mode=0o755)
    [line] = task_messages(space, script)
    assert line.startswith(("tasks[0].script: no script ", "tasks[0].script: a NUL", "tasks[0].script: half of"))


def test_a_script_that_leads_outside_by_a_link(space: Space) -> None:
    (space.path / "secret.py").touch()
    (space.tasks_dir / "link.py").symlink_to("../secret.py")
    (space.tasks_dir / "folder").symlink_to("..")
    assert task_messages(space, "link.py", "folder/secret.py") == [
        'tasks[0].script: "link.py" is a link to outside the tasks directory',
        'tasks[1].script: "folder/secret.py" is a link to outside the tasks directory',
    ]


def test_a_link_that_stays_inside_and_a_tasks_directory_that_is_a_link_are_fine(space: Space) -> None:
    space.script("sub/a.py")
    (space.tasks_dir / "link.py").symlink_to("sub/a.py")
    (space.path / "other").symlink_to(space.tasks_dir)
    path = space.flow({"name": "x", "tasks": [{"id": "a", "script": "link.py"}, {"id": "b", "script": "./sub/a.py"}]})
    assert len(load_flow_file(path, script_check(space.path / "other")).tasks) == 2


def test_a_link_that_leads_nowhere_and_a_link_to_itself(space: Space) -> None:
    (space.tasks_dir / "dangling.py").symlink_to("x.py")
    (space.tasks_dir / "loop.py").symlink_to("loop.py")
    first, second = task_messages(space, "dangling.py", "loop.py")
    assert first.startswith('tasks[0].script: no script "dangling.py" in /tasks')
    assert second.startswith('tasks[1].script: no script "loop.py" in /tasks')


def test_a_directory_a_pipe_and_a_socket_as_a_script(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    (space.tasks_dir / "folder.py").mkdir()
    os.mkfifo(space.tasks_dir / "pipe.py")
    monkeypatch.chdir(space.tasks_dir)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.py")
    assert task_messages(space, "folder.py", "pipe.py", "socket.py", ".") == [
        'tasks[0].script: "folder.py" is no file',
        'tasks[1].script: "pipe.py" is no file',
        'tasks[2].script: "socket.py" is no file',
        'tasks[3].script: "." is no file',
    ]


def test_a_program_that_is_not_executable(space: Space) -> None:
    space.script("measure", "#!/bin/sh\n")
    assert task_messages(space, "measure") == [
        'tasks[0].script: "measure" is neither .py nor .sh, and not executable; chmod +x it'
    ]


def test_a_tasks_directory_that_is_not_there_is_told_once_and_after_other_problems(space: Space) -> None:
    space.tasks_dir.rmdir()
    tasks = [{"id": "a", "script": "a.py"}, {"id": "b", "script": "b.py", "depends_on": "a"}]
    with pytest.raises(FlowError) as missing:
        load_flow(space.flow({"name": "x", "tasks": tasks}), tasks_dir=space.tasks_dir)
    with pytest.raises(FlowError) as other:
        load_flow({"name": "x", "tasks": [*tasks, 1]}, tasks_dir=space.tasks_dir)
    assert str(missing.value) == f"{space.tasks_dir}: no such directory; set it with --tasks-dir"
    assert str(other.value) == "tasks[2]: a task is an object, not the number 1"


# --- files --------------------------------------------------------------------------------------------------------


def file_message(path: Path, space: Space) -> str:
    """Return the error that reading a flow file gets."""
    with pytest.raises(FlowError) as caught:
        load_flow_file(path, script_check(space.tasks_dir))
    return str(caught.value).replace(str(space.path), "")


def test_a_directory_as_a_flow_file(space: Space) -> None:
    assert file_message(space.flows_dir, space) == "/flows: is no file"


def test_a_pipe_as_a_flow_file(space: Space) -> None:
    os.mkfifo(space.flows_dir / "x.json")
    assert file_message(space.flows_dir / "x.json", space) == "/flows/x.json: is no file"


def test_a_device_as_a_flow_file(space: Space) -> None:
    assert file_message(Path("/dev/zero"), space) == "/dev/zero: is no file"


def test_a_flow_file_that_is_not_there(space: Space) -> None:
    assert file_message(space.flows_dir / "x.json", space) == "/flows/x.json: cannot be read: No such file or directory"


def test_a_flow_file_with_a_name_no_file_can_have(space: Space) -> None:
    assert (
        file_message(Path("a\0b"), space)
        == '"a\\u0000b": cannot be read: a NUL character, or half of a surrogate pair, in its name'
    )


def test_a_line_break_in_a_files_name_does_not_break_the_line(space: Space) -> None:
    path = space.flow("[]", "a\nb")
    assert file_message(path, space) == '"/flows/a\\nb.json":1:1: a flow is a JSON object, not an array'


@pytest.mark.parametrize("name", ["no/such.json", "no.json", "a\0.json", "a.json/b", "x/" + "s" * 300])
def test_a_path_that_leads_to_no_flow_file(space: Space, name: str) -> None:
    with pytest.raises(FlowError) as caught:
        load_flow_file(find_flow_file(name, space.flows_dir), script_check(space.tasks_dir))
    assert "no such file" in str(caught.value) or "File name too long" in str(caught.value)


# --- mappings -----------------------------------------------------------------------------------------------------

MAPPINGS: list[tuple[dict[Any, Any], str]] = [
    ({"args": [float("nan")]}, "tasks[0].args[0]: NaN is no number that JSON can hold"),
    ({"args": [float("-inf")]}, "tasks[0].args[0]: -Infinity is no number that JSON can hold"),
    ({"args": ["\ud800"]}, "tasks[0].args[0]: half of a surrogate pair (\\ud800 to \\udfff), which is no character"),
    ({"args": ["a\0"]}, "tasks[0].args[0]: a NUL character; no argument, variable or file name can hold one"),
    ({"args": [b"x"]}, "the flow is nothing that JSON can hold: a value of type bytes"),
    ({"args": [object()]}, "the flow is nothing that JSON can hold: a value of type object"),
    ({"depends_on": {"b", "c"}}, "the flow is nothing that JSON can hold: a value of type set"),
    ({"env": {"1": 1, 1: 2}}, 'tasks[0].env["1"]: the key "1" stands twice in one object'),
    ({"timeout": None}, 'tasks[0].timeout: must be seconds or a text like "1m30s", at most a year, not null'),
    ({"depends_on": "b"}, 'tasks[0].depends_on: no task "b"'),
]


@pytest.mark.parametrize(("fields", "expected"), MAPPINGS, ids=[expected for _, expected in MAPPINGS])
def test_a_bad_mapping_gets_the_same_messages_without_lines(fields: dict[Any, Any], expected: str) -> None:
    with pytest.raises(FlowError) as caught:
        flow_from_mapping({"name": "x", "tasks": [{"id": "a", "script": "a.py", **fields}]})
    assert expected in str(caught.value).splitlines()


def test_the_problems_of_a_mapping_come_in_its_order() -> None:
    tasks = [{"id": "a", "script": "a.py", "depends_on": ["b"]}, {"id": "c d", "script": "a.py"}]
    with pytest.raises(FlowError) as caught:
        flow_from_mapping({"name": "x y", "tasks": tasks})
    assert [problem.path for problem in caught.value.problems] == ["name", "tasks[0].depends_on[0]", "tasks[1].id"]


def test_a_mapping_that_holds_itself() -> None:
    tasks: list[Any] = []
    tasks.append(tasks)
    with pytest.raises(FlowError, match="Circular reference"):
        flow_from_mapping({"name": "x", "tasks": tasks})


@pytest.mark.parametrize("depth", [100, 100_000])
def test_a_mapping_that_is_nested_too_deep(depth: int) -> None:
    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    with pytest.raises(FlowError, match=r"nested deeper than 64 levels|recursion"):
        flow_from_mapping({"name": "x", "params": {"p": deep}, "tasks": [{"id": "a", "script": "a.py"}]})
