"""Flows as values of Python: built by hand, given as mappings, written down and read back."""

from __future__ import annotations

import dataclasses
import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import miniflow
from miniflow.dump import flow_to_mapping
from miniflow.errors import FlowError
from miniflow.fields import TASK_VARIABLES
from miniflow.kinds import type_of
from miniflow.model import ID_PATTERN, TRIGGER_RULES, Flow, Param, Retries, Task
from miniflow.parse import flow_from_mapping, parse_flow
from tests.conftest import Space

# --- any flow -----------------------------------------------------------------------------------------------------

IDS = st.from_regex(ID_PATTERN, fullmatch=True).filter(lambda name: len(name) <= 200 and name.isascii())
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)
PLAIN_TEXTS = TEXTS.filter(lambda text: "{{" not in text)
VALUE_TEXTS = PLAIN_TEXTS | st.sampled_from(
    ["{{ params.p }}", "a{{ flow.name }}", "{{task.id}}", r"\{{", "-x", "$(x)", "'\"\n"]
)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)
ARGUMENTS = VALUE_TEXTS | NUMBERS | st.booleans()
OPTIONS = st.dictionaries(
    PLAIN_TEXTS.filter(lambda name: bool(name) and not name.startswith("-")),
    ARGUMENTS | st.none() | st.lists(ARGUMENTS | st.none(), max_size=3).map(tuple),
    max_size=3,
)
ENVS = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True).filter(
        lambda name: name not in (*TASK_VARIABLES, "API_TOKEN", "_s", "K2")
    ),
    ARGUMENTS,
    max_size=2,
)
SECRETS = st.lists(st.sampled_from(["API_TOKEN", "_s", "K2"]), max_size=2, unique=True).map(tuple)
SECONDS = st.integers(0, 366 * 86400) | st.integers(0, 10**6).map(lambda ms: ms / 1000)
PYTHONS = st.none() | TEXTS.filter(lambda text: bool(text) and not text.startswith("-"))
RETRIES = st.builds(
    Retries,
    max=st.integers(0, 1000),
    delay=SECONDS,
    backoff=st.integers(1, 1000) | st.floats(1, 1000),
    max_delay=st.none() | SECONDS,
    on_exit_codes=st.lists(st.integers(1, 255), max_size=3).map(tuple),
)


@st.composite
def params(draw: st.DrawFn) -> Param:
    description = draw(TEXTS)
    if draw(st.booleans()):
        kind = draw(st.sampled_from([None, "string", "integer", "number", "boolean", "array", "object"]))
        return Param(kind, None, description, required=draw(st.booleans()))
    default = draw(JSON)
    return Param(type_of(default), default, description)


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    ids = draw(st.lists(IDS, min_size=1, max_size=4, unique_by=str.lower))
    tasks = []
    for number, task_id in enumerate(ids):
        script = draw(st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5})?(\.py|\.sh|)", fullmatch=True))
        tasks.append(
            Task(
                id=task_id,
                script=script,
                description=draw(TEXTS),
                depends_on=tuple(draw(st.lists(st.sampled_from(ids[:number]), unique=True))) if number else (),
                args=draw(st.lists(ARGUMENTS, max_size=3).map(tuple) | OPTIONS.map(lambda options: options or ())),
                env=draw(ENVS),
                secret_env=draw(SECRETS),
                cwd=draw(st.none() | VALUE_TEXTS.filter(bool)),
                python=draw(PYTHONS) if script.endswith(".py") else None,
                retries=draw(RETRIES),
                timeout=draw(st.none() | SECONDS.filter(bool)),
                trigger_rule=draw(st.sampled_from(TRIGGER_RULES)),
            )
        )
    declared = draw(st.just({}) | st.dictionaries(st.sampled_from(["q", "r-s", "_"]), params(), max_size=3))
    return Flow(
        name=draw(IDS.filter(lambda name: not name.lower().endswith(".sh"))),
        tasks=tuple(draw(st.permutations(tasks))),
        description=draw(TEXTS),
        version=draw(TEXTS),
        params={"p": Param("string", "x"), **declared} if declared else {},
        env=draw(ENVS),
        secret_env=draw(SECRETS),
        python=draw(PYTHONS),
    )


@given(flows())
def test_a_flow_that_is_written_down_and_read_back_is_the_same(flow: Flow) -> None:
    assert flow_from_mapping(flow_to_mapping(flow)) == flow


@given(flows(), st.sampled_from([None, 2]), st.booleans())
def test_a_flow_that_is_written_to_a_file_and_read_back_is_the_same(flow: Flow, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(flow_to_mapping(flow), indent=indent, ensure_ascii=ascii_only)
    assert parse_flow(text.encode()) == flow


@given(st.lists(ARGUMENTS, min_size=1).map(tuple) | OPTIONS.filter(bool))
def test_arguments_keep_their_types(args: Any) -> None:
    flow = Flow(name="x", tasks=(Task(id="a", script="a.py", args=args),))
    assert repr(flow_from_mapping(flow_to_mapping(flow)).tasks[0].args) == repr(args)  # 1, 1.0 and True are equal


# --- flows built in Python ----------------------------------------------------------------------------------------


def test_a_flow_object_is_checked_by_the_rules_of_a_flow_file(space: Space) -> None:
    flow = Flow(name="a b", tasks=(Task(id="a", script="../a.py", depends_on=["c"]), Task(id="b", script="b.py", cwd="")))
    with pytest.raises(FlowError) as caught:
        miniflow.load_flow(flow, tasks_dir=space.tasks_dir)
    assert str(caught.value).replace(str(space.tasks_dir), "TASKS").splitlines() == [
        'name: "a b" is no flow name: letters, digits and _ . - alone, the first a letter, digit or _',
        'tasks[0].script: "../a.py" leads outside the tasks directory; a script is named relative to it, without ".."',
        'tasks[0].depends_on[0]: no task "c"',
        'tasks[1].script: no script "b.py" in TASKS',
        'tasks[1].cwd: must be the path of a directory, not the string ""',
    ]


def test_a_flow_object_that_is_right_is_loaded_as_it_is(space: Space) -> None:
    space.script("a.py")
    flow = Flow(name="x", tasks=(Task(id="a", script="a.py", args=("-v",)),))
    assert miniflow.load_flow(flow, tasks_dir=space.tasks_dir) == flow


def test_lists_tuples_and_read_only_mappings_mean_the_same() -> None:
    task = {"id": "b", "script": "a.py", "depends_on": ("a",), "args": ("x", 1), "env": MappingProxyType({"A": "1"})}
    flow = flow_from_mapping(MappingProxyType({"name": "x", "tasks": ({"id": "a", "script": "a.py"}, MappingProxyType(task))}))
    plain = {"id": "b", "script": "a.py", "depends_on": ["a"], "args": ["x", 1], "env": {"A": "1"}}
    assert flow == flow_from_mapping({"name": "x", "tasks": [{"id": "a", "script": "a.py"}, plain]})


def test_the_short_forms_of_a_flow_file_do_in_python_too() -> None:
    task: Any = Task(id="b", script="a.py", depends_on="a", retries=3, timeout="1m30s")  # type: ignore[arg-type]
    flow: Any = Flow(name="x", tasks=[{"id": "a", "script": "a.py"}, task], params={"date": "2023-01-01"})  # type: ignore
    read = flow_from_mapping(flow_to_mapping(flow))
    assert (read.tasks[1].depends_on, read.tasks[1].retries, read.tasks[1].timeout) == (("a",), Retries(3), 90)
    assert read.params == {"date": Param("string", "2023-01-01")}


@pytest.mark.parametrize("tasks", [None, 5, "a", [5], [None], {"a": 1}, ()])
def test_a_flow_object_with_nonsense_for_tasks(tasks: Any) -> None:
    with pytest.raises(FlowError):
        flow_from_mapping(flow_to_mapping(Flow(name="x", tasks=tasks)))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Task)])
@pytest.mark.parametrize("value", [object(), b"x", {1, 2}, -1, [[]], {"": []}])
def test_nonsense_in_a_task_object_is_a_flow_error(field: str, value: Any) -> None:
    task = dataclasses.replace(Task(id="a", script="a.py"), **{field: value})
    with pytest.raises(FlowError):
        flow_from_mapping(flow_to_mapping(Flow(name="x", tasks=(task,))))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Flow) if field.name != "source"])
@pytest.mark.parametrize("value", [object(), b"x", {1, 2}, -1, [[]], {"": []}])
def test_nonsense_in_a_flow_object_is_a_flow_error(field: str, value: Any) -> None:
    flow = dataclasses.replace(Flow(name="x", tasks=(Task(id="a", script="a.py"),)), **{field: value})
    with pytest.raises(FlowError):
        flow_from_mapping(flow_to_mapping(flow))


def test_a_param_object_cannot_be_required_and_have_a_default() -> None:
    flow = Flow(name="x", tasks=(Task(id="a", script="a.py"),), params={"p": Param("integer", 1, required=True)})
    with pytest.raises(FlowError, match="a required parameter has no use for a default"):
        flow_from_mapping(flow_to_mapping(flow))


# --- what values are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [Flow(name="x", tasks=()), Task(id="a", script="a.py"), Retries(), Param()], ids=lambda value: type(value).__name__
)
def test_values_are_frozen(value: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, "other")


def test_equal_flows_are_equal_wherever_they_come_from() -> None:
    text = '{"name": "x", "tasks": [{"id": "a", "script": "a.py"}]}'
    assert parse_flow(text, "one.json") == parse_flow(" " + text, "other.json") == flow_from_mapping(json.loads(text))


def test_repr_hides_env() -> None:
    task = {"id": "a", "script": "a.py", "env": {"TOKEN": "hunter2-of-task"}}
    flow = flow_from_mapping({"name": "x", "env": {"TOKEN": "hunter2-of-flow"}, "tasks": [task]})
    assert "hunter2" not in repr(flow)


def test_repr_hides_the_text_that_a_flow_was_read_from() -> None:
    text = '{"name": "x", "env": {"TOKEN": "hunter2"}, "tasks": [{"id": "a", "script": "a.py"}]}'
    flow = parse_flow(text, "x.json")
    assert "hunter2" not in repr(flow)
    assert "hunter2" not in repr(flow.source)
