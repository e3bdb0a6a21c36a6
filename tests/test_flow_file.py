"""What a flow file can say: every field, every form of it, and what holds where it says nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from miniflow.catalog import find_flow_file, flow_files, load_flow_file, script_check
from miniflow.errors import FlowError
from miniflow.model import Flow, Param, Retries, Task
from miniflow.parse import parse_flow
from miniflow.plan import Place, Plan, PlannedTask, make_plan
from tests.conftest import Space

PLACE = Place(tasks_dir="/tasks", output_dir="/out", work_dir="/srv", python="/bin/python3")


def flow_of(fields: str = "", task: str = "") -> Flow:
    """Return the flow of a file with one task, given more fields of the flow and of the task as JSON text."""
    comma, task_comma = ", " if fields else "", ", " if task else ""
    return parse_flow('{"name": "x"' + comma + fields + ', "tasks": [{"id": "a", "script": "a.py"' + task_comma + task + "}]}")


def task_of(task: str) -> Task:
    return flow_of(task=task).tasks[0]


def planned(task: str = "", fields: str = "") -> PlannedTask:
    return make_plan(flow_of(fields, task), None, PLACE).tasks[0]


def plan_of(task: str) -> Plan:
    return make_plan(parse_flow('{"name": "x", "tasks": [{"id": "a", ' + task + "}]}"), None, PLACE)


# --- defaults -----------------------------------------------------------------------------------------------------


def test_the_smallest_flow() -> None:
    assert parse_flow('{"name": "x", "tasks": [{"id": "a", "script": "a.py"}]}') == Flow(
        name="x", tasks=(Task(id="a", script="a.py"),)
    )


def test_what_a_flow_is_that_says_nothing_else() -> None:
    flow = flow_of()
    assert (flow.description, flow.version, flow.params, flow.env, flow.python) == ("", "", {}, {}, None)


def test_what_a_task_is_that_says_nothing_else() -> None:
    task = task_of("")
    assert (task.description, task.depends_on, task.args, task.env, task.cwd, task.python) == ("", (), (), {}, None, None)
    assert (task.retries, task.timeout, task.trigger_rule) == (Retries(0, 0, 1, None, ()), None, "all_success")


def test_what_is_planned_for_a_task_that_says_nothing_else() -> None:
    assert planned() == PlannedTask(
        id="a",
        description="",
        script="a.py",
        python=None,
        args=(),
        env={},
        cwd=None,
        upstream=(),
        trigger_rule="all_success",
        timeout_s=None,
        retry_delays_s=(),
        retry_on=(),
    )


# --- the flow's fields --------------------------------------------------------------------------------------------


def test_every_field_of_a_flow() -> None:
    text = """{
      "$schema": "https://example.org/flow.json", "name": "sample_flow", "description": "All of it", "version": "1.0",
      "params": {"date": "2023-01-01", "limit": {"type": "integer", "default": 10, "description": "rows", "required": false}},
      "env": {"TZ": "UTC"}, "python": ".venv/bin/python", "tasks": [{"id": "a", "script": "a.py"}]
    }"""
    assert parse_flow(text) == Flow(
        name="sample_flow",
        description="All of it",
        version="1.0",
        params={"date": Param("string", "2023-01-01"), "limit": Param("integer", 10, "rows")},
        env={"TZ": "UTC"},
        python=".venv/bin/python",
        tasks=(Task(id="a", script="a.py"),),
    )


@pytest.mark.parametrize("name", ["a", "0", "_", "a-b.c_d", "9.json", "sh", "x.sh.x", "a" * 200])
def test_a_name_of_letters_digits_and_some_signs(name: str) -> None:
    text = json.dumps({"name": name if not name.endswith(".sh") else "x", "tasks": [{"id": name, "script": "a.py"}]})
    assert parse_flow(text).tasks[0].id == name


def test_a_task_may_be_named_like_a_script() -> None:
    assert parse_flow('{"name": "x", "tasks": [{"id": "a.sh", "script": "a.sh"}]}').tasks[0].id == "a.sh"


def test_the_order_of_fields_counts_for_nothing() -> None:
    text = '{"tasks": [{"script": "a.py", "args": ["{{ params.p }}"], "id": "a"}], "params": {"p": 1}, "name": "x"}'
    assert make_plan(parse_flow(text), None, PLACE).tasks[0].args == ("1",)


def test_tasks_keep_the_order_of_the_file() -> None:
    text = json.dumps({"name": "x", "tasks": [{"id": task, "script": "a.py"} for task in "zay"]})
    assert [task.id for task in parse_flow(text).tasks] == ["z", "a", "y"]


# --- the task's fields --------------------------------------------------------------------------------------------


def test_every_field_of_a_task() -> None:
    text = """{"name": "x", "tasks": [
      {"id": "fetch_data", "script": "a.py"},
      {"id": "process_data", "script": "sub/process_data.py", "description": "Clean it", "depends_on": ["fetch_data"],
       "args": {"input-file": "data.csv"}, "env": {"MODE": "fast"}, "cwd": "sub/dir", "python": ".venv/bin/python",
       "retries": {"max": 3, "delay": 1, "backoff": 2, "max_delay": 60, "on_exit_codes": [75]}, "timeout": 90,
       "trigger_rule": "all_done"}
    ]}"""
    assert parse_flow(text).tasks[1] == Task(
        id="process_data",
        script="sub/process_data.py",
        description="Clean it",
        depends_on=("fetch_data",),
        args={"input-file": "data.csv"},
        env={"MODE": "fast"},
        cwd="sub/dir",
        python=".venv/bin/python",
        retries=Retries(max=3, delay=1, backoff=2, max_delay=60, on_exit_codes=(75,)),
        timeout=90,
        trigger_rule="all_done",
    )


@pytest.mark.parametrize("rule", ["all_success", "all_done", "one_failed"])
def test_trigger_rules(rule: str) -> None:
    assert planned(f'"trigger_rule": "{rule}"').trigger_rule == rule


@pytest.mark.parametrize(
    ("depends_on", "expected"),
    [('"b"', ("b",)), ("[]", ()), ('["c", "b"]', ("c", "b")), ('["b", "c", "b"]', ("b", "c"))],
)
def test_depends_on_is_one_id_or_many_each_counted_once(depends_on: str, expected: tuple[str, ...]) -> None:
    text = '{"name": "x", "tasks": [{"id": "a", "script": "a.py", "depends_on": ' + depends_on
    others = ', {"id": "b", "script": "a.py"}, {"id": "c", "script": "a.py"}]}'
    assert parse_flow(text + "}" + others).tasks[0].depends_on == expected


def test_a_task_may_depend_on_one_that_stands_after_it() -> None:
    text = '{"name": "x", "tasks": [{"id": "a", "script": "a.py", "depends_on": "b"}, {"id": "b", "script": "a.py"}]}'
    plan = make_plan(parse_flow(text), None, PLACE)
    assert (plan.tasks[0].upstream, plan.order()) == ((1,), [1, 0])


# --- args ---------------------------------------------------------------------------------------------------------

ARGUMENTS = [
    ("[]", ()),
    ('["x", "", "a b", "-v", "--", "*", "$(x)", "é\\n\\u001b"]', ("x", "", "a b", "-v", "--", "*", "$(x)", "é\n\x1b")),
    ("[10, -1, 0, 1.5, -0.5]", ("10", "-1", "0", "1.5", "-0.5")),
    ("[-0, -0.0, 1.0, 1e3, 1e22, 1e-7]", ("0", "-0.0", "1.0", "1000.0", "1e+22", "1e-07")),
    ("[123456789012345678901234567890]", ("123456789012345678901234567890",)),
    ("[true, false]", ("true", "false")),
    ('["😀", "\\ud83d\\ude00"]', ("😀", "😀")),
    ("{}", ()),
    ('{"key": "v"}', ("--key", "v")),
    ('{"k": "v"}', ("-k", "v")),
    ('{"é": "v"}', ("-é", "v")),
    ('{"verbose": true, "v": true}', ("--verbose", "-v")),
    ('{"quiet": false, "q": null, "none": null}', ()),
    ('{"tag": ["a", "b"], "t": ["c"]}', ("--tag", "a", "--tag", "b", "-t", "c")),
    ('{"tag": []}', ()),
    ('{"tag": ["a", null, false, true, 1]}', ("--tag", "a", "--tag", "--tag", "1")),
    ('{"offset": "-v", "n": "-v", "o": "-"}', ("--offset=-v", "-n-v", "-o-")),
    ('{"offset": -5, "many": [-1, "-2"]}', ("--offset=-5", "--many=-1", "--many=-2")),
    ('{"limit": 10, "rate": 0.5, "zero": 0}', ("--limit", "10", "--rate", "0.5", "--zero", "0")),
    ('{"empty": "", "spaces": " "}', ("--empty", "", "--spaces", " ")),
    ('{"z": 1, "a": 2, "m": 3}', ("-z", "1", "-a", "2", "-m", "3")),
    ('{"__proto__": "x", "under_score": 1, "dot.ted": 2}', ("--__proto__", "x", "--under_score", "1", "--dot.ted", "2")),
    ('{"a b": "c"}', ("--a b", "c")),
]


@pytest.mark.parametrize(("args", "expected"), ARGUMENTS, ids=[args for args, _ in ARGUMENTS])
def test_args(args: str, expected: tuple[str, ...]) -> None:
    assert planned(f'"args": {args}').args == expected


# --- env, cwd -----------------------------------------------------------------------------------------------------


def test_a_variable_is_a_string_a_number_or_a_boolean() -> None:
    task = planned('"env": {"S": "a b", "I": 1, "F": -0.5, "T": true, "N": false, "EMPTY": "", "_": "x"}')
    assert task.env == {"S": "a b", "I": "1", "F": "-0.5", "T": "true", "N": "false", "EMPTY": "", "_": "x"}


def test_the_flows_variables_hold_for_every_task_and_the_tasks_own_win() -> None:
    task = planned('"env": {"B": "task", "C": "task"}', '"env": {"A": "flow", "B": "flow"}')
    assert task.env == {"A": "flow", "B": "task", "C": "task"}


@pytest.mark.parametrize(("cwd", "expected"), [(None, "/srv"), ("sub/dir", "/srv/sub/dir"), ("/abs", "/abs")])
def test_cwd_is_relative_to_where_miniflow_was_called(cwd: str | None, expected: str) -> None:
    plan = make_plan(flow_of(task=f'"cwd": "{cwd}"' if cwd else ""), None, PLACE)
    assert plan.cwd(plan.tasks[0]) == expected


# --- how a script runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "argv"),
    [
        ('"script": "a.py", "args": ["x"]', ["/bin/python3", "/tasks/a.py", "x"]),
        ('"script": "sub/a.sh", "args": ["x"]', ["bash", "/tasks/sub/a.sh", "x"]),
        ('"script": "sub/measure", "args": ["x"]', ["/tasks/sub/measure", "x"]),
        ('"script": "./sub//a.py"', ["/bin/python3", "/tasks/sub/a.py"]),
        ('"script": "a.py", "python": "python3.11"', ["python3.11", "/tasks/a.py"]),
        ('"script": "a.py", "python": "/opt/python"', ["/opt/python", "/tasks/a.py"]),
        ('"script": "a.py", "python": ".venv/bin/python"', ["/srv/.venv/bin/python", "/tasks/a.py"]),
    ],
)
def test_how_a_script_is_run(task: str, argv: list[str]) -> None:
    plan = plan_of(task)
    assert plan.argv(plan.tasks[0]) == argv


def test_the_tasks_interpreter_goes_before_the_flows() -> None:
    text = (
        '{"name": "x", "python": "flows", "tasks": ['
        '{"id": "a", "script": "a.py", "python": "own"}, {"id": "b", "script": "a.py"}, {"id": "c", "script": "c.sh"}]}'
    )
    plan = make_plan(parse_flow(text), None, PLACE)
    assert [plan.argv(task)[0] for task in plan.tasks] == ["own", "flows", "bash"]


# --- timeout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        ("90", 90),
        ("0.25", 0.25),
        ("0.001", 0.001),
        ("1.00049", 1),
        ('"90s"', 90),
        ('"1.5s"', 1.5),
        ('"500ms"', 0.5),
        ('"2m"', 120),
        ('"1m30s"', 90),
        ('"1h"', 3600),
        ('"1h1m1s1ms"', 3661.001),
        ('"2d"', 172800),
        ('"1d1h"', 90000),
        ('" 90s "', 90),
        ('"366d"', 366 * 86400),
        ("31622400", 366 * 86400),
    ],
)
def test_a_timeout_is_seconds_or_a_text(timeout: str, seconds: float) -> None:
    assert planned(f'"timeout": {timeout}').timeout_s == seconds


# --- retries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retries", "delays"),
    [
        ("0", ()),
        ("3", (0, 0, 0)),
        ('{"max": 2}', (0, 0)),
        ('{"max": 0, "delay": 5}', ()),
        ('{"max": 3, "delay": 1}', (1, 1, 1)),
        ('{"max": 2, "delay": "1m30s"}', (90, 90)),
        ('{"max": 2, "delay": 0.0014}', (0.001, 0.001)),
        ('{"max": 4, "delay": 1, "backoff": 2}', (1, 2, 4, 8)),
        ('{"max": 3, "delay": 1, "backoff": 1.5}', (1, 1.5, 2.25)),
        ('{"max": 4, "delay": 1, "backoff": 3, "max_delay": 5}', (1, 3, 5, 5)),
        ('{"max": 2, "delay": 10, "max_delay": "5s"}', (5, 5)),
        ('{"max": 2, "delay": 10, "max_delay": 0}', (0, 0)),
        ('{"max": 2, "delay": "2d"}', (86400, 86400)),
    ],
)
def test_retries_are_a_number_or_a_policy(retries: str, delays: tuple[float, ...]) -> None:
    assert planned(f'"retries": {retries}').retry_delays_s == delays


def test_delays_that_grow_without_end_stop_at_a_day() -> None:
    delays = planned('"retries": {"max": 1000, "delay": 1, "backoff": 1000}').retry_delays_s
    assert (len(delays), delays[0], delays[1], delays[2], delays[-1]) == (1000, 1, 1000, 86400, 86400)


def test_exit_statuses_that_are_worth_a_retry() -> None:
    assert planned('"retries": {"max": 1, "on_exit_codes": [75, 1, 255]}').retry_on == (75, 1, 255)


def test_without_exit_statuses_every_failure_is_worth_a_retry() -> None:
    assert planned('"retries": 1').retry_on == ()


# --- declared parameters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        ('"2023-01-01"', Param("string", "2023-01-01")),
        ("1", Param("number", 1)),
        ("1.5", Param("number", 1.5)),
        ("true", Param("boolean", True)),
        ("null", Param(None, None)),
        ("[1, [2]]", Param("array", [1, [2]])),
        ("{}", Param(None, None, "", required=True)),
        ('{"type": "string"}', Param("string", None, "", required=True)),
        ('{"type": "string", "required": false}', Param("string", None)),
        ('{"required": true, "description": "rows"}', Param(None, None, "rows", required=True)),
        ('{"default": 1}', Param("number", 1)),
        ('{"default": null, "type": "object"}', Param("object", None)),
        ('{"default": {"a": [1]}}', Param("object", {"a": [1]})),
        ('{"type": "integer", "default": 10}', Param("integer", 10)),
        ('{"type": "number", "default": 10}', Param("number", 10)),
        ('{"type": "boolean", "default": false}', Param("boolean", False)),
        ('{"type": "array", "default": []}', Param("array", [])),
    ],
)
def test_a_parameter_is_declared_by_its_default_or_by_an_object(param: str, expected: Param) -> None:
    assert flow_of(f'"params": {{"p": {param}}}').params == {"p": expected}


# --- finding flow files -------------------------------------------------------------------------------------------


def small(name: str) -> dict[str, Any]:
    return {"name": name, "tasks": [{"id": "a", "script": "a.py"}]}


def test_a_flow_is_found_by_its_name_by_its_files_name_and_by_a_path(space: Space) -> None:
    path = space.flow(small("inner"), "outer")
    found = [find_flow_file(name, space.flows_dir) for name in ("inner", "outer", "outer.json", str(path))]
    assert found == [str(path)] * 4


def test_a_flow_of_that_name_goes_before_a_file_of_that_name(space: Space) -> None:
    space.flow(small("other"), "x")
    path = space.flow(small("x"), "y")
    assert find_flow_file("x", space.flows_dir) == str(path)


def test_two_files_with_a_flow_of_one_name(space: Space) -> None:
    first, second = space.flow(small("x"), "a"), space.flow(small("x"), "b")
    with pytest.raises(FlowError) as caught:
        find_flow_file("x", space.flows_dir)
    assert str(caught.value) == f'two files hold a flow named "x": {first} and {second}; say which by its path'


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sampleflow", 'no flow "sampleflow" in FLOWS; did you mean "sample_flow"?'),
        ("zzz", 'no flow "zzz" in FLOWS; there are sample_flow'),
        ("", 'no flow "" in FLOWS; there are sample_flow'),
        ("x.json", "x.json: no such file"),
        ("x/y", "x/y: no such file"),
    ],
)
def test_a_flow_that_does_not_exist(space: Space, name: str, message: str) -> None:
    space.flow(small("sample_flow"))
    with pytest.raises(FlowError) as caught:
        find_flow_file(name, space.flows_dir)
    assert str(caught.value).replace(str(space.flows_dir), "FLOWS") == message


def test_a_flows_directory_that_is_empty(space: Space) -> None:
    with pytest.raises(FlowError, match="the directory holds no flow"):
        find_flow_file("x", space.flows_dir)


def test_a_flows_directory_that_is_not_there() -> None:
    with pytest.raises(FlowError) as caught:
        flow_files(Path("/no/such"))
    assert str(caught.value) == "/no/such: no such directory; set it with --flows-dir"


def test_a_broken_file_beside_it_does_not_hide_a_flow(space: Space) -> None:
    space.flow("{", "broken")
    (space.flows_dir / "folder.json").mkdir()
    path = space.flow(small("x"), "good")
    assert find_flow_file("x", space.flows_dir) == str(path)


def test_flow_files_are_the_visible_json_files_by_name(space: Space) -> None:
    for name in ("b.json", "a.json", ".c.json", "d.txt"):
        (space.flows_dir / name).touch()
    assert [os.path.basename(path) for path in flow_files(space.flows_dir)] == ["a.json", "b.json"]


def test_a_flow_file_whose_scripts_are_there_is_loaded(space: Space) -> None:
    for script in ("a.py", "sub/b.sh"):
        space.script(script)
    space.script("measure", "#!/bin/sh\n", 0o755)
    tasks = [{"id": f"t{n}", "script": script} for n, script in enumerate(["a.py", "sub/b.sh", "measure"])]
    path = space.flow({"name": "x", "tasks": tasks})
    assert [task.script for task in load_flow_file(path, script_check(space.tasks_dir)).tasks] == [
        "a.py",
        "sub/b.sh",
        "measure",
    ]
