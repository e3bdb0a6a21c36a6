"""`miniflow schema`: the JSON Schema of flow files, held against the parser that decides."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniflow import fields, parse
from miniflow.dump import flow_to_mapping
from miniflow.errors import FlowError
from miniflow.model import Flow
from miniflow.parse import parse_flow
from miniflow.schema import flow_schema
from tests.conftest import Space
from tests.test_bad_flow_files import FLOW_FIELDS, TASK_FIELDS, TEXTS
from tests.test_flow_values import JSON, flows

ROOT = Path(__file__).parent.parent
SCHEMA = flow_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def accepts(value: Any) -> bool:
    """Return whether the schema takes a value for a flow."""
    return bool(VALIDATOR.is_valid(value))


# --- what is printed ------------------------------------------------------------------------------------------------


def test_it_is_printed_as_one_document(space: Space) -> None:
    result = space.miniflow("schema")
    assert (json.loads(result.stdout), result.stderr, result.returncode) == (SCHEMA, "", 0)


def test_it_is_a_schema_of_the_draft_it_names() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_schema_and_parser_know_the_same_fields() -> None:
    parts = SCHEMA["$defs"]
    assert list(SCHEMA["properties"]) == list(parse.FLOW_FIELDS)
    assert list(parts["task"]["properties"]) == list(parse.TASK_FIELDS)
    assert list(parts["parameter"]["properties"]) == list(parse.PARAM_FIELDS)
    assert list(parts["retries"]["properties"]) == list(fields.RETRIES_FIELDS)


def parts_of(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in the schema."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from parts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from parts_of(item)


def objects_with_fields() -> list[dict[str, Any]]:
    found = (part for part in parts_of(SCHEMA) if part.get("type") == "object")
    return [part for part in found if isinstance(part.get("properties"), dict)]


def test_every_field_is_described_and_no_other_is_allowed() -> None:
    assert len(objects_with_fields()) == 4
    for part in objects_with_fields():
        assert part["additionalProperties"] is False
        for name, field in part["properties"].items():
            assert field["description"], name


def test_every_default_and_example_is_a_value_of_its_field() -> None:
    checked = 0
    for part in parts_of(SCHEMA):
        if isinstance(part.get("type", ""), (str, list)):  # else it holds fields, one of which is the type of a parameter
            for value in [*part.get("examples", []), *([part["default"]] if "default" in part else [])]:
                VALIDATOR.evolve(schema={**part, "$defs": SCHEMA["$defs"]}).validate(value)
                checked += 1
    assert checked > 20


PATTERNS = [part["pattern"] for part in parts_of(SCHEMA) if isinstance(part.get("pattern"), str)]


def test_every_pattern_is_one_for_python() -> None:
    assert len(PATTERNS) > 8
    for pattern in PATTERNS:
        re.compile(pattern)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_every_pattern_is_one_for_javascript() -> None:
    program = "for (const flags of ['', 'u']) for (const pattern of JSON.parse(process.argv[1])) new RegExp(pattern, flags)"
    subprocess.run(["node", "-e", program, json.dumps(PATTERNS)], check=True)


# --- good flows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "flows").glob("*.json")), ids=lambda path: path.stem)
def test_the_samples_are_valid(path: Path) -> None:
    VALIDATOR.validate(json.loads(path.read_text()))


def test_the_flow_of_the_readme_is_valid() -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    VALIDATOR.validate(json.loads(example))


@settings(max_examples=50)
@given(flows())
def test_any_flow_that_can_be_built_is_valid(flow: Flow) -> None:
    VALIDATOR.validate(json.loads(json.dumps(flow_to_mapping(flow))))


# --- bad flows ------------------------------------------------------------------------------------------------------

BAD = {
    **{part: '{"name": "x",\n' + part + ',\n"tasks": [{"id": "a", "script": "a.py"}]}' for part, _ in FLOW_FIELDS},
    **{part: '{"name": "x", "tasks": [\n{"id": "a", "script": "a.py", ' + part + "}]}" for part, _ in TASK_FIELDS},
    **{text: text for text, _ in TEXTS},
}
"""The table of bad files."""

OUT_OF_REACH = {
    '"name": "y"': "a key that stands twice is lost when the file is read",
    '"id": "b"': "the same",
    '"args": {"a": 1, "a": 2}': "the same",
    '"depends_on": "b"': "whether there is such a task",
    '"depends_on": ["a"]': "a cycle",
    '"depends_on": ["b", "b", "c"]': "whether there is such a task",
    '"timeout": "367d"': "what a text adds up to",
    '"args": ["\\ud800", "\\udc00\\ud800"]': "half a surrogate pair is a character to a pattern, or half of every emoji is",
    '"env": {"A": "\\udfff"}': "the same",
    **{
        text: "other tasks and their ids"
        for text, found in TEXTS
        if "ids are unique" in str(found) or "fetch_dta" in str(found)
    },
}
"""Those of them that a schema cannot refuse, with the reason."""

BEYOND = {
    r'no task "': "whether another task is there",
    r"cycle: ": "where dependencies lead",
    r'the id ".*" (is taken by|differs from)': "whether another task has the id",
    r'the flow declares no parameter "': "which parameters there are",
    r"half of a surrogate pair": "see above",
    r"a NUL character": "where it is no argument or variable",
    r"[A-Za-z0-9_]+ is set by \"env\" of": "whether another field holds the name",
    r"[A-Za-z0-9_]+ is a secret of the flow": "whether the flow's own field holds the name",
    r'must be seconds or a text like "1m30s", at most a year, not the string "': "what a text adds up to",
    r"must be longer than 0": "what a text adds up to",
    r"must be .*, not the number -?[0-9e+]+\.0$": "whether a whole number is written with a point",
    r"must be an integer, .*, not the number .*e\+": "the same",
    r"nested deeper than 64 levels": "how deep a value is nested",
}
"""What a schema cannot know, by what the parser says then."""


def problems(text: str) -> list[str]:
    """Return what the parser says of a text, without the places; nothing if it is a flow."""
    try:
        parse_flow(text)
    except FlowError as error:
        return [problem.message for problem in error.problems]
    return []


def is_beyond(message: str) -> bool:
    return any(re.match(pattern, message) for pattern in BEYOND)


def no_json(literal: str) -> Any:
    raise ValueError(literal)


def decoded(text: str) -> Any:
    """Return the value of a text.

    Raises:
        ValueError: It is no JSON; then nobody asks the schema.
    """
    return json.loads(text, parse_constant=no_json)


@pytest.mark.parametrize("case", BAD)
def test_a_bad_flow_file_is_refused_unless_that_is_out_of_reach(case: str) -> None:
    try:
        value = decoded(BAD[case])
    except ValueError:
        assert case not in OUT_OF_REACH
        return
    assert accepts(value) == (case in OUT_OF_REACH)


def test_what_is_out_of_reach_is_in_the_table() -> None:
    assert OUT_OF_REACH.keys() <= BAD.keys()


EXTREMES: list[dict[str, Any]] = [
    {"timeout": 0.0005},
    {"timeout": 366 * 86400},
    {"timeout": " 1d2h3m4.5s6ms\n"},
    {"timeout": "1ms"},
    {"timeout": "0s1ms"},
    {"timeout": "00m1s"},
    {"retries": {"max": 0, "delay": 0, "backoff": 1000, "max_delay": "0s"}},
    {"retries": 1000},
    {"args": {"x": [], "=": "", "a b": None}},
    {"args": ["{{{{".replace("{{{{", r"\{{\{{"), "{", "}}", r"\\{{", "{{params.a-1}}}", "{ {{ task.id }}", "\n", ""]},
    {"env": {"_": "{{\tparams.p\n}}"}},
    {"secret_env": []},
    {"depends_on": []},
    {"cwd": " "},
    {"script": "a..b/...py", "id": "_" * 200},
    {"script": "a/.", "id": "0.-"},
    {"script": "x\n.py", "python": " "},
    {"params": {"p": {"type": "integer", "default": None}, "0-_": None, "q": {}, "r": [[]]}},
    {"params": {"p": {"required": False, "default": 1}, "q": {"required": True, "type": "array"}}},
    {"params": {}, "name": "sh"},
    {"name": ".sh".replace(".", "_")},
]


@pytest.mark.parametrize("changes", EXTREMES, ids=str)
def test_what_is_just_right_is_valid(changes: dict[str, Any]) -> None:
    task = {"id": "a", "script": "a.py"} | {key: value for key, value in changes.items() if key not in ("params", "name")}
    flow = {"name": "x", "tasks": [task]} | {key: value for key, value in changes.items() if key in ("params", "name")}
    assert problems(json.dumps(flow)) == []
    VALIDATOR.validate(flow)


WRONG_TEXTS = [
    "{{{ params.p }}",
    "{{",
    r"\{{{{ x }}",
    "{{ params. p }}",
    "{{ params.p.q }}",
    "{{ task.id",
    "{{}}",
    "{{ {{ }} }}",
]


@pytest.mark.parametrize("text", [*WRONG_TEXTS, "\0", "a\n{{ x }}\nb"])
def test_a_bad_placeholder_is_refused(text: str) -> None:
    for task in ({"args": [text]}, {"args": {"a": [text]}}, {"env": {"A": text}}, {"cwd": text}):
        flow = {"name": "x", "tasks": [{"id": "a", "script": "a.py", **task}]}
        assert problems(json.dumps(flow))
        assert not accepts(flow)


def test_a_text_with_thousands_of_braces_is_judged_at_once() -> None:
    text = r"\{{ params.a }}" * 5000
    flow = {"name": "x", "tasks": [{"id": "a", "script": "a.py", "args": [text, text + "{{"]}]}
    assert not accepts(flow)


# --- both, on flows broken at random --------------------------------------------------------------------------------

PLACES = st.integers(0, 10**6)
TEXTS_OF_FILES = st.sampled_from([
    "", "-", "a", "1s", "0s", "1m30s", "367d", "x.sh", "..", "a/../b", "/a", "{{ params.p }}", "{{", "{{ x }}", "A",
    "MINIFLOW_X", "MINIFLOW_TASK_ID", "all_done", "integer", " ", "a.py", "é", "1.5", "\n",
])  # fmt: skip
NUMBERS_OF_FILES = st.sampled_from([0, 1, -1, 0.5, 1.5, 1000, 1001, 255, 256, 0.0001, 1e12])
VALUES = JSON | TEXTS_OF_FILES | NUMBERS_OF_FILES | st.lists(TEXTS_OF_FILES | NUMBERS_OF_FILES, max_size=2)
NAMES = st.sampled_from([*parse.FLOW_FIELDS, *parse.TASK_FIELDS, *parse.PARAM_FIELDS, *fields.RETRIES_FIELDS]) | TEXTS_OF_FILES


def broken(value: Any, data: st.DataObject) -> Any:
    """Return a flow with one thing in it changed, taken away or added."""
    containers = [part for part in (value, *_inner(value)) if part]
    chosen = containers[data.draw(PLACES) % len(containers)]
    keys = list(chosen) if isinstance(chosen, dict) else list(range(len(chosen)))
    key = keys[data.draw(PLACES) % len(keys)]
    match data.draw(st.sampled_from(["change", "take away", "add"])):
        case "change":
            chosen[key] = data.draw(VALUES)
        case "take away":
            del chosen[key]
        case _ if isinstance(chosen, dict):
            chosen[data.draw(NAMES)] = data.draw(VALUES)
        case _:
            chosen.append(data.draw(VALUES))
    return value


def _inner(value: Any) -> Iterator[Any]:
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, (dict, list)):
            yield item
            yield from _inner(item)


def agree_on(flow: Flow, data: st.DataObject) -> None:
    value = broken(json.loads(json.dumps(flow_to_mapping(flow))), data)
    text = json.dumps(value)
    # `$` of JavaScript is the very end, that of Python may be before a last line break.
    if re.search(r'\\n"', text):
        return
    found = problems(text)
    if accepts(value):
        assert [message for message in found if not is_beyond(message)] == []
    else:
        assert found, list(VALIDATOR.iter_errors(value))


@settings(max_examples=50)
@given(flows(), st.data())
def test_a_flow_broken_at_random_is_judged_alike(flow: Flow, data: st.DataObject) -> None:
    agree_on(flow, data)


@pytest.mark.stress
@pytest.mark.timeout(0)
@settings(max_examples=5000, derandomize=False)
@given(flows(), st.data())
def test_thousands_of_flows_broken_at_random_are_judged_alike(flow: Flow, data: st.DataObject) -> None:
    agree_on(flow, data)
