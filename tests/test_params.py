"""Parameters: declared, given, checked; and the placeholders that they replace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from miniflow.cli import cli
from miniflow.errors import FlowError, ParamsError
from miniflow.expand import MAX_ARGUMENT_BYTES, resolve_params
from miniflow.model import Flow
from miniflow.parse import flow_from_mapping, parse_flow
from miniflow.plan import Place, Plan, PlannedTask, make_plan
from tests.conftest import Space

PLACE = Place(tasks_dir="/tasks", output_dir="/out", work_dir="/srv", python="/bin/python3")

TYPES = ["string", "integer", "number", "boolean", "array", "object"]


def flow_with(params: Mapping[str, Any] | None = None, **task: Any) -> Flow:
    """Return a flow with one task."""
    declared = {} if params is None else {"params": params}
    return flow_from_mapping({"name": "x", **declared, "tasks": [{"id": "a", "script": "a.py", **task}]})


def plan_with(params: Mapping[str, Any], **task: Any) -> PlannedTask:
    """Return the planned task of a flow that declares no parameters and is given these."""
    return make_plan(flow_with(**task), params, PLACE).tasks[0]


def refused(flow: Flow, params: Any) -> str:
    """Return the message that parameters get."""
    with pytest.raises(ParamsError) as caught:
        resolve_params(flow, params)
    return str(caught.value)


def located(text: str, params: Mapping[str, Any] | None = None) -> str:
    """Return the message that planning a flow file gets."""
    with pytest.raises(FlowError) as caught:
        make_plan(parse_flow(text, "x.json"), params, PLACE)
    return str(caught.value)


# --- what a flow declares -----------------------------------------------------------------------------------------


def test_a_flow_that_declares_none_takes_any() -> None:
    assert resolve_params(flow_with(), {"z": 1, "any thing": [None], "a": {}}) == {"z": 1, "any thing": [None], "a": {}}


@pytest.mark.parametrize("params", [None, {}])
def test_without_any_there_are_none(params: Mapping[str, Any] | None) -> None:
    assert resolve_params(flow_with(), params) == {}


def test_defaults_hold_where_nothing_is_given_in_the_flows_order() -> None:
    flow = flow_with({"z": 1, "m": {"type": "string", "required": False}, "a": "x"})
    assert list(resolve_params(flow, {"a": "y"}).items()) == [("z", 1), ("m", None), ("a", "y")]


def test_an_undeclared_parameter_with_a_near_miss() -> None:
    expected = 'params: flow "x" declares no parameter "dat"; did you mean "date"?'
    assert refused(flow_with({"date": "2023-01-01", "limit": 1}), {"dat": "x"}) == expected


def test_an_undeclared_parameter_with_nothing_near() -> None:
    expected = 'params: flow "x" declares no parameter "zzz"; it declares date, limit'
    assert refused(flow_with({"date": "2023-01-01", "limit": 1}), {"zzz": "x"}) == expected


def test_a_required_parameter_that_is_not_given() -> None:
    expected = 'params: "date" is required (the day to report on)'
    assert refused(flow_with({"date": {"type": "string", "description": "the day to report on"}}), {}) == expected


def test_all_problems_of_parameters_are_reported_together() -> None:
    flow = flow_with({"date": {"type": "string"}, "limit": {"type": "integer"}, "n": 1})
    assert refused(flow, {"limt": 1, "n": "1"}).splitlines() == [
        'params: flow "x" declares no parameter "limt"; did you mean "limit"?',
        'params: "date" is required',
        'params: "limit" is required',
        'params: "n" must be a number, not the string "1"',
    ]


def test_of_a_thousand_problems_the_first_hundred_are_shown() -> None:
    flow = flow_with({f"p{n}": 1 for n in range(1000)})
    lines = refused(flow, {f"q{n}": 1 for n in range(1000)}).splitlines()
    assert (len(lines), lines[-1]) == (101, "... and 900 more problems")


FITTING = {
    "string": ["", "x"],
    "integer": [0, -1, 10**30],
    "number": [0, 1.5, -1e300],
    "boolean": [True, False],
    "array": [[], [1]],
    "object": [{}, {"a": 1}],
}


@pytest.mark.parametrize("kind", TYPES)
def test_values_of_the_declared_type_are_taken(kind: str) -> None:
    flow = flow_with({"p": {"type": kind}})
    assert [resolve_params(flow, {"p": value})["p"] for value in FITTING[kind]] == FITTING[kind]


@pytest.mark.parametrize("kind", TYPES)
def test_values_of_another_type_are_refused(kind: str) -> None:
    flow = flow_with({"p": {"type": kind}})
    fits_as_well = {"number": "integer"}.get(kind)
    for other in TYPES:
        if other in (kind, fits_as_well) or (kind, other) == ("integer", "number"):
            continue
        for value in FITTING[other]:
            assert refused(flow, {"p": value}).startswith(f'params: "p" must be a{"n" * (kind[0] in "aio")} {kind}, not ')


def test_a_fraction_is_no_integer() -> None:
    expected = 'params: "p" must be an integer, not the number 1.5'
    assert refused(flow_with({"p": {"type": "integer"}}), {"p": 1.5}) == expected


def test_a_default_says_the_type() -> None:
    assert refused(flow_with({"p": "x"}), {"p": 1}) == 'params: "p" must be a string, not the number 1'


def test_null_is_taken_where_it_is_the_default_and_nowhere_else() -> None:
    flow = flow_with({"free": {"type": "integer", "required": False}, "p": {"type": "integer", "default": 1}})
    assert resolve_params(flow, {"free": None}) == {"free": None, "p": 1}
    assert refused(flow, {"p": None}) == 'params: "p" must be an integer, not null'


def test_a_parameter_without_a_type_takes_anything() -> None:
    flow = flow_with({"p": {"required": True}})
    assert [resolve_params(flow, {"p": value})["p"] for value in (None, [], "x", 1.5)] == [None, [], "x", 1.5]


# --- what Python code gives ---------------------------------------------------------------------------------------


def test_tuples_and_read_only_mappings_are_taken() -> None:
    assert resolve_params(flow_with(), MappingProxyType({"p": (1, (2,))})) == {"p": [1, [2]]}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"p": float("nan")}, "params: p: NaN is no number that JSON can hold"),
        ({"p": ["\ud800"]}, "params: p[0]: half of a surrogate pair (\\ud800 to \\udfff), which is no character"),
        ({"p": "a\0"}, "params: p: a NUL character; no argument, variable or file name can hold one"),
        ({1: "a", "1": "b"}, 'params: ["1"]: the key "1" stands twice in one object'),
        ({"p": object()}, "params: nothing that JSON can hold: Object of type object is not JSON serializable"),
    ],
)
def test_what_json_cannot_hold_is_refused(params: Any, message: str) -> None:
    assert refused(flow_with(), params) == message


@pytest.mark.parametrize("depth", [65, 100_000])
def test_parameters_that_are_nested_too_deep(depth: int) -> None:
    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    message = refused(flow_with(), {"p": deep})
    assert "nested deeper than 64 levels" in message or "recursion" in message


@pytest.mark.parametrize("params", ["x", 5, [1]])
def test_what_is_no_mapping_is_refused(params: Any) -> None:
    assert refused(flow_with(), params).startswith("params: nothing that JSON can hold: ")


# --- the command line ---------------------------------------------------------------------------------------------


def given_to_a_task(space: Space, params: str, stdin: str | None = None) -> Any:
    """Return the parameters that a task got in a run with `--params`."""
    space.recorder("a.py")
    space.flow({"name": "x", "tasks": [{"id": "a", "script": "a.py"}]})
    run = space.miniflow("run", "x", "--params", params, stdin=stdin)
    assert run.returncode == 0, run.stderr
    return json.loads(space.records()["a.1"]["env"]["MINIFLOW_PARAMS"])


def test_params_as_json_text(space: Space) -> None:
    assert given_to_a_task(space, ' {"date": "2023-01-01", "é": [1, null]}') == {"date": "2023-01-01", "é": [1, None]}


def test_params_as_a_file(space: Space) -> None:
    (space.path / "params.json").write_bytes(b'\xef\xbb\xbf{"date": "2023-01-01"}')
    assert given_to_a_task(space, "params.json") == {"date": "2023-01-01"}


def test_params_from_standard_input(space: Space) -> None:
    assert given_to_a_task(space, "-", '{"date": "2023-01-01"}') == {"date": "2023-01-01"}


BAD_PARAMS = [
    ("", None, "error: --params:1:1: no JSON: there is nothing in it"),
    ("{", None, "error: --params:1:2: no JSON: it ends before its last bracket is closed"),
    ('{"a": 1,}', None, "error: --params:1:8: no JSON: a comma before the closing bracket; take it away"),
    ("{'a': 1}", None, "error: --params:1:2: no JSON: strings stand in double quotes"),
    ("[1]", None, 'error: --params: parameters are a JSON object like {"date": "2023-01-01"}, not an array'),
    ('"x"', None, 'error: --params: parameters are a JSON object like {"date": "2023-01-01"}, not the string "x"'),
    ('{"a": NaN}', None, "error: --params:1:7: a: NaN is no number that JSON can hold"),
    ('{"a": 1, "a": 2}', None, 'error: --params:1:10: a: the key "a" stands twice in one object'),
    ('{"a": ' + "[" * 64 + "]" * 64 + "}", None, "error: --params:1:70: a[0][0][0][0][0][0][0]: nested deeper than 64 levels"),
    ('{"a": "\udcff"}', None, "error: --params:1:8: byte 0xff is not UTF-8; save the file as UTF-8"),
    (
        "date=2023",
        None,
        'error: --params "date=2023" is neither a JSON object like \'{"date": "2023-01-01"}\' nor a file:'
        " No such file or directory",
    ),
    (
        "flows",
        None,
        'error: --params "flows" is neither a JSON object like \'{"date": "2023-01-01"}\' nor a file: Is a directory',
    ),
    ("-", "", "error: standard input:1:1: no JSON: there is nothing in it"),
    ("-", "null", 'error: standard input: parameters are a JSON object like {"date": "2023-01-01"}, not null'),
    ("bad.json", None, "error: bad.json:2:1: no JSON: expecting value"),
    ('{"limit": 1}', None, 'error: params: flow "x" declares no parameter "limit"; it declares date'),
]


@pytest.mark.parametrize(("params", "stdin", "message"), BAD_PARAMS, ids=[f"{p[:20]!a} {s}" for p, s, _ in BAD_PARAMS])
def test_bad_params_on_the_command_line(
    space: Space, monkeypatch: pytest.MonkeyPatch, params: str, stdin: str | None, message: str
) -> None:
    monkeypatch.chdir(space.path)
    space.script("a.py")
    (space.path / "bad.json").write_text("\n?")
    space.flow({"name": "x", "params": {"date": "2023-01-01"}, "tasks": [{"id": "a", "script": "a.py"}]})
    result = CliRunner().invoke(cli, ["run", "x", "--dry-run", "-p", params], input=stdin, catch_exceptions=False)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", message + "\n")


# --- placeholders: where ------------------------------------------------------------------------------------------


def test_placeholders_are_replaced_in_args_env_and_cwd() -> None:
    task = plan_with(
        {"date": "2023-01-01"},
        args=["data/{{ params.date }}.csv", "{{flow.name}}", "{{\ttask.id\n}}"],
        env={"WHEN": "{{ params.date }}/{{ params.date }}"},
        cwd="{{ flow.name }}/{{ task.id }}",
    )
    assert task.args == ("data/2023-01-01.csv", "x", "a")
    assert task.env == {"WHEN": "2023-01-01/2023-01-01"}
    assert task.cwd == "x/a"


def test_placeholders_are_replaced_in_the_values_of_options() -> None:
    assert plan_with({"p": "v"}, args={"one": "a{{ params.p }}", "many": ["{{ params.p }}", "x"]}).args == (
        "--one", "av", "--many", "v", "--many", "x",
    )  # fmt: skip


def test_in_the_flows_variables_the_task_is_the_one_that_gets_them() -> None:
    tasks = [{"id": "a", "script": "a.py"}, {"id": "b", "script": "a.py"}]
    flow = flow_from_mapping({"name": "x", "env": {"ME": "{{ task.id }}", "P": "{{ params.p }}"}, "tasks": tasks})
    assert [task.env for task in make_plan(flow, {"p": 1}, PLACE).tasks] == [{"ME": "a", "P": "1"}, {"ME": "b", "P": "1"}]


def test_elsewhere_braces_are_only_braces() -> None:
    task = plan_with({}, description="{{ params.p }}", python="{{ x }}", script="{{ y }}.py")
    assert (task.description, task.python, task.script) == ("{{ params.p }}", "{{ x }}", "{{ y }}.py")


def test_a_value_is_never_taken_for_a_placeholder() -> None:
    task = plan_with({"p": "{{ params.q }}", "q": "no"}, args=["{{ params.p }}", "-{{ params.p }}"])
    assert task.args == ("{{ params.q }}", "-{{ params.q }}")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
def test_no_value_breaks_out_of_its_argument(value: str) -> None:
    task = plan_with({"p": value}, args=["{{ params.p }}", "<{{ params.p }}>"], env={"A": "{{ params.p }}"})
    assert (task.args, task.env) == ((value, f"<{value}>"), {"A": value})


# --- placeholders: braces -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\{{", "{{"),
        (r"\{{ params.p }}", "{{ params.p }}"),
        (r"\{{{{ params.p }}", "{{v"),
        (r"{{ params.p }}\{{", "v{{"),
        (r"\\{{ params.p }}", r"\{{ params.p }}"),
        (r"\{ \n", r"\{ \n"),
        ("}}", "}}"),
        ("{ params.p }", "{ params.p }"),
        ("{{ params.p }}}}", "v}}"),
        ("{{ params.p }} }}", "v }}"),
        ("{{ params.p }}}", "v}"),
        ("{{ params.p }}{{ params.p }}", "vv"),
        ("{{params.p}}", "v"),
        ("é{{ params.p }}😀", "év😀"),
    ],
)
def test_braces(text: str, expected: str) -> None:
    assert plan_with({"p": "v"}, args=[text]).args == (expected,)


@given(st.lists(st.sampled_from(["{{", "}}", "\\{{", "{", "}", "\\", " ", "params.p", "flow.name", "x"]), max_size=8))
def test_any_braces_are_either_replaced_or_refused_when_the_flow_is_read(parts: list[str]) -> None:
    try:
        flow = flow_with(args=["".join(parts)])
    except FlowError:
        return
    make_plan(flow, {"p": "v"}, PLACE)  # all that reading lets pass can be planned


# --- placeholders: types ------------------------------------------------------------------------------------------

ALONE = [
    ("text", ("--key", "text")),
    ("-v", ("--key=-v",)),
    ("", ("--key", "")),
    (10, ("--key", "10")),
    (-1.5, ("--key=-1.5",)),
    (True, ("--key",)),
    (False, ()),
    (None, ()),
    ([], ()),
    (["a", 1, True, False, None, "-b"], ("--key", "a", "--key", "1", "--key", "--key=-b")),
]


@pytest.mark.parametrize(("value", "expected"), ALONE)
def test_a_placeholder_alone_is_an_option_as_the_value_itself_would_be(value: Any, expected: tuple[str, ...]) -> None:
    assert plan_with({"p": value}, args={"key": "{{ params.p }}"}).args == expected


@pytest.mark.parametrize(("value", "expected"), [("x", "x"), (10, "10"), (1.5, "1.5"), (True, "true"), (False, "false")])
def test_a_placeholder_alone_is_one_argument_of_an_array(value: Any, expected: str) -> None:
    assert plan_with({"p": value}, args=["{{ params.p }}"]).args == (expected,)


@pytest.mark.parametrize(("value", "expected"), [("x", "x"), (10, "10"), (1.5, "1.5"), (True, "true"), (False, "false")])
def test_within_a_text_a_value_is_written_as_json_writes_it(value: Any, expected: str) -> None:
    assert plan_with({"p": value}, args=["<{{ params.p }}>"], env={"A": "{{ params.p }}"}).args == (f"<{expected}>",)


def test_a_number_as_a_directory_is_its_digits() -> None:
    assert plan_with({"year": 2023}, cwd="{{ params.year }}").cwd == "2023"


@pytest.mark.parametrize(
    ("task", "value", "message"),
    [
        ('"args": ["{{ params.p }}"]', None, "args[0]: an argument is a string, a number or a boolean, not null"),
        ('"args": ["{{ params.p }}"]', [], "args[0]: an argument is a string, a number or a boolean, not an array"),
        ('"args": ["{{ params.p }}"]', {}, "args[0]: an argument is a string, a number or a boolean, not an object"),
        (
            '"args": {"k": "{{ params.p }}"}',
            {},
            "args.k: an option's value is a string, a number, a boolean or null, not an object",
        ),
        (
            '"args": {"k": "{{ params.p }}"}',
            ["a", []],
            "args.k: an option's value is a string, a number, a boolean or null, not an array",
        ),
        (
            '"args": {"k": ["{{ params.p }}"]}',
            ["a"],
            "args.k[0]: an option's value is a string, a number, a boolean or null, not an array",
        ),
        (
            '"args": ["x{{ params.p }}"]',
            None,
            "args[0]: {{ params.p }} is null, which can stand alone but not within a text",
        ),
        (
            '"args": ["x{{ params.p }}"]',
            [1],
            "args[0]: {{ params.p }} is an array, which can stand alone but not within a text",
        ),
        (
            '"args": ["x{{ params.p }}"]',
            {"a": 1},
            "args[0]: {{ params.p }} is an object, which can stand alone but not within a text",
        ),
        ('"env": {"A": "{{ params.p }}"}', None, "env.A: a variable is a string, a number or a boolean, not null"),
        ('"cwd": "{{ params.p }}"', None, "cwd: must become the path of a directory, not null"),
        ('"cwd": "{{ params.p }}"', "", 'cwd: must become the path of a directory, not the string ""'),
        ('"cwd": "{{ params.q }}"', 1, 'cwd: no parameter "q" is given'),
    ],
)
def test_a_value_that_does_not_fit_its_place(task: str, value: Any, message: str) -> None:
    text = '{"name": "x", "tasks": [{"id": "a", "script": "a.py",\n' + task + "}]}"
    line, problem = located(text, {"p": value}).split(": tasks[0].")
    assert line.startswith("x.json:2:")
    assert problem == message


# --- placeholders: names ------------------------------------------------------------------------------------------


def test_a_placeholder_of_an_undeclared_parameter_is_found_when_the_flow_is_read() -> None:
    text = '{"name": "x", "params": {"date": 1}, "tasks": [\n{"id": "a", "script": "a.py", "args": ["{{ params.dat }}"]}]}'
    expected = 'x.json:2:40: tasks[0].args[0]: the flow declares no parameter "dat"; did you mean "date"?'
    assert located(text, {"date": 1}) == expected


def test_a_parameter_that_nobody_gives_is_found_when_planning_where_none_is_declared() -> None:
    text = '{"name": "x", "env": {"A": "{{ params.p }}"},\n"tasks": [{"id": "a", "script": "a.py", "cwd": "{{ params.q }}"}]}'
    assert located(text).splitlines() == [
        'x.json:1:28: env.A: no parameter "p" is given',
        'x.json:2:48: tasks[0].cwd: no parameter "q" is given',
    ]


def test_a_problem_of_the_flows_variables_is_reported_once_for_all_tasks() -> None:
    tasks = [{"id": f"t{n}", "script": "a.py"} for n in range(1000)]
    text = json.dumps({"name": "x", "env": {"A": "{{ params.p }}"}, "tasks": tasks})
    assert located(text) == 'x.json:1:28: env.A: no parameter "p" is given'


# --- 128 KiB ------------------------------------------------------------------------------------------------------

LARGEST = MAX_ARGUMENT_BYTES - 1
"""Bytes of the largest argument that Linux takes, without its final NUL."""


def test_the_largest_argument_that_the_kernel_takes() -> None:
    assert len(plan_with({}, args=["x" * LARGEST]).args[0]) == LARGEST


@pytest.mark.parametrize(
    ("task", "params", "path", "size"),
    [
        ({"args": ["x" * (LARGEST + 1)]}, {}, "args[0]", LARGEST + 1),
        ({"args": ["é" * 65536]}, {}, "args[0]", 131072),
        ({"args": ["😀" * 32768]}, {}, "args[0]", 131072),
        ({"args": {"key": "x" * (LARGEST + 1)}}, {}, "args.key", LARGEST + 1),
        ({"args": {"key": "-" * (LARGEST - 5)}}, {}, "args.key", LARGEST + 1),
        ({"args": ["{{ params.p }}{{ params.p }}"]}, {"p": "x" * 65536}, "args[0]", 131072),
        ({"env": {"A": "x" * (LARGEST - 1)}}, {}, "env.A", LARGEST + 1),
    ],
)
def test_an_argument_or_a_variable_that_the_kernel_refuses(
    task: dict[str, Any], params: dict[str, Any], path: str, size: int
) -> None:
    with pytest.raises(FlowError) as caught:
        plan_with(params, **task)
    assert str(caught.value) == f"tasks[0].{path}: {size} bytes; the kernel takes less than 131072; pass a file instead"


def plan_with_params_of(size: int) -> Plan:
    """Return a plan whose MINIFLOW_PARAMS is a variable of so many bytes, its name included."""
    return make_plan(flow_with(), {"p": "x" * (size - len('MINIFLOW_PARAMS={"p":""}'))}, PLACE)


def test_the_largest_parameters_that_the_kernel_takes() -> None:
    assert len("MINIFLOW_PARAMS=" + plan_with_params_of(LARGEST).params_json) == LARGEST


def test_parameters_that_the_kernel_refuses() -> None:
    with pytest.raises(ParamsError) as caught:
        plan_with_params_of(LARGEST + 1)
    assert str(caught.value).startswith("params: ")
    assert str(caught.value).endswith(" bytes as JSON; the kernel takes less than 131072 in one variable")
