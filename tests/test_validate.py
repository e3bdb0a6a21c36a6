"""`miniflow validate`: all that is wrong with flow files, where it stands in them, and in which form that is told."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniflow.excerpt import excerpt
from tests.conftest import Space

GOOD = {"name": "good", "tasks": [{"id": "a", "script": "a.py"}]}


@pytest.fixture
def project(space: Space) -> Space:
    space.script("a.py")
    space.flow(GOOD)
    return space


def flow(name: str = "x", fields: Mapping[str, Any] | None = None, **task: Any) -> dict[str, Any]:
    """Return a flow of one task."""
    return {"name": name, **(fields or {}), "tasks": [{"id": "a", "script": "a.py", **task}]}


def validate(
    project: Space, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command as it is usually called: in the project, whose directories have their usual names."""
    return subprocess.run(
        [sys.executable, "-m", "miniflow", "validate", *args],
        cwd=cwd or project.path,
        env=project.environ(env),
        capture_output=True,
        text=True,
        check=False,
    )


def problems(project: Space, *args: str, env: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return what is wrong with all flows."""
    document = json.loads(validate(project, "--format", "json", *args, env=env).stdout)
    return [problem for each in document["flows"] for problem in each["problems"]]


# --- which flows ----------------------------------------------------------------------------------------------------


def test_all_flows_of_the_directory_are_checked_if_none_is_named(project: Space) -> None:
    project.flow(flow("other"))
    result = validate(project)
    assert (result.stdout, result.stderr, result.returncode) == ("2 flows are valid\n", "", 0)


def test_the_samples_are_valid() -> None:
    root = Path(__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-m", "miniflow", "validate"], cwd=root, capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.returncode) == ("2 flows are valid\n", 0)


def test_a_flow_is_named_as_for_a_run_and_checked_once(project: Space) -> None:
    project.flow(flow("bad", retries=-1))
    project.flow(flow("called"), "differently")
    result = validate(project, "good", "flows/good.json", "called", "./flows/good.json")
    assert (result.stdout, result.returncode) == ("2 flows are valid\n", 0)
    assert validate(project, "good").stdout == "1 flow is valid\n"


@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_a_flow_that_is_not_there_is_an_error_and_nothing_is_checked(project: Space, form: str) -> None:
    result = validate(project, "good", "godo", "--format", form)
    expected = 'error: no flow "godo" in flows; did you mean "good"?\n'
    assert (result.stdout, result.stderr, result.returncode) == ("", expected, 2)


@pytest.mark.parametrize("directory", ["flows", "tasks"])
def test_a_directory_that_is_not_there_is_an_error(project: Space, directory: str) -> None:
    (project.path / directory).rename(project.path / "elsewhere")
    result = validate(project)
    expected = f"{directory}: no such directory; set it with --{directory}-dir\n"
    assert (result.stdout, result.stderr, result.returncode) == ("", expected, 2)


def test_nothing_is_made_and_nothing_runs(project: Space) -> None:
    project.script("a.py", "open('ran', 'w')")
    before = sorted(project.path.rglob("*"))
    assert validate(project).returncode == 0
    assert sorted(project.path.rglob("*")) == before


# --- what is checked ------------------------------------------------------------------------------------------------

WRONG: list[dict[str, Any]] = [
    flow(script="b.py"),
    flow(script="folder"),
    flow(depends_on="b"),
    flow(depends_on="a"),
    flow(retries=-1, timeout="soon"),
    flow(unknown=1),
    flow(args=["{{ params.p }}"], fields={"params": {"q": 1}}),
    flow(args=["x{{ params.p }}"], fields={"params": {"p": [1]}}),
    flow(args=["x{{ params.p }}"], fields={"params": {"p": {"type": "string", "required": False}}}),
    flow(fields={"params": {"p": {"type": "integer", "default": "x"}}}),
    flow(cwd="{{ params.p }}", fields={"params": {"p": ""}}),
    flow(args=["x" * 200_000]),
    flow(env={"A": "{{ params.p }}"}, fields={"params": {"p": {"default": {"a": 1}}}}),
    flow(args=["{{ params.p }}"], fields={"params": {"p": "hush-hush"}, "secret_env": "TOKEN"}),
    flow(args=["hush-hush"], fields={"secret_env": "TOKEN"}),
    flow(fields={"params": {"p": "x" * 200_000}}),
]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_all_that_a_run_complains_of_is_found(project: Space, wrong: dict[str, Any]) -> None:
    (project.tasks_dir / "folder").mkdir()
    project.flow(wrong)
    environment = {"TOKEN": "hush-hush"}
    run = subprocess.run(
        [sys.executable, "-m", "miniflow", "run", "x"],
        cwd=project.path,
        env=project.environ(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    # What it says of parameters it says without a place, and without the flow's file.
    said = [line.removeprefix("error: ").removeprefix("params: ") for line in run.stderr.splitlines()]
    result = validate(project, env=environment)
    assert result.returncode == 2
    for line in said:
        assert line in result.stdout
    assert len(problems(project, env=environment)) == len(said)


@pytest.mark.parametrize(
    "fine",
    [
        flow(args=["{{ params.p }}", "x{{ params.p }}"]),
        flow(cwd="{{ params.p }}/{{ params.q }}", env={"A": "{{ params.r }}"}, args={"b": ["{{ params.s }}"]}),
        flow(fields={"params": {"p": {"required": True}}}, args=["a{{ params.p }}"], cwd="{{ params.p }}"),
        *(
            flow(fields={"params": {"p": {"type": kind}}}, args=["a{{ params.p }}"], env={"A": "{{ params.p }}"})
            for kind in ("string", "integer", "number", "boolean")
        ),
        flow(fields={"params": {"p": {"type": "array"}}}, args={"p": "{{ params.p }}"}),
        flow(fields={"params": {"p": {"type": "object"}}}),
        flow(fields={"secret_env": ["NOT_SET_ANYWHERE"]}),
    ],
    ids=str,
)
def test_what_only_the_caller_can_give_is_not_missed(project: Space, fine: dict[str, Any]) -> None:
    project.flow(fine)
    assert validate(project).stdout == "2 flows are valid\n"


@pytest.mark.parametrize("kind", ["array", "object"])
def test_a_required_parameter_that_fits_nowhere_is_found_whatever_it_will_be(project: Space, kind: str) -> None:
    project.flow(flow(fields={"params": {"p": {"type": kind}}}, args=["{{ params.p }}"], cwd="x{{ params.p }}"))
    assert [problem["path"] for problem in problems(project)] == ["tasks[0].args[0]", "tasks[0].cwd"]


def test_two_files_whose_flows_have_one_name_are_told_apart_by_no_run(project: Space) -> None:
    project.flow(flow("twice"), "one")
    project.flow(flow("twice"), "two")
    assert validate(project).stdout.splitlines() == [
        'flows/two.json:2:11: name: the flow in flows/one.json is named "twice" as well; a run could not tell which is meant',
        '    2 │   "name": "twice",',
        "      │           ^^^^^^^",
        "1 problem in 1 file",
    ]
    (project.flows_dir / "two.json").rename(project.flows_dir / "twice.json")
    assert validate(project).returncode == 0  # by the name of its file


def test_the_value_of_a_secret_is_not_shown_where_it_stands(project: Space) -> None:
    project.flow(flow(args=["hush-hush"], fields={"secret_env": "TOKEN", "params": {"hush-hush": "hush-hush"}}))
    for form in ("text", "json", "github"):
        result = validate(project, "--format", form, env={"TOKEN": "hush-hush"})
        assert result.returncode == 2
        assert "TOKEN" in result.stdout
        assert "hush" not in result.stdout


def test_json_has_the_path_of_a_file_as_it_is(project: Space) -> None:
    name = "a\N{NO-BREAK SPACE}b\x1b[31m" + "x" * 100 + ".json"
    project.flow(flow("good")).rename(project.flows_dir / name)

    (file,) = json.loads(validate(project, "--format", "json").stdout)["flows"]

    assert file["file"] == f"flows/{name}"


# --- text -----------------------------------------------------------------------------------------------------------


def test_each_problem_comes_with_its_line_and_a_mark_below_the_place(project: Space) -> None:
    text = '{\n  "name": "x",\n  "tasks": [\n    {"id": "a", "script": "b.py", "retries": -1}\n  ]\n}\n'
    project.flow(text)
    (project.flows_dir / "y.json").write_text('{"name": "y",')
    assert validate(project).stdout.splitlines() == [
        'flows/x.json:4:27: tasks[0].script: no script "b.py" in tasks; did you mean "a.py"?',
        '    4 │     {"id": "a", "script": "b.py", "retries": -1}',
        "      │                           ^^^^^^",
        "flows/x.json:4:46: tasks[0].retries: must be a whole number from 0 to 1000, not the number -1",
        '    4 │     {"id": "a", "script": "b.py", "retries": -1}',
        "      │                                              ^^",
        "flows/y.json:1:14: no JSON: it ends before its last bracket is closed",
        '    1 │ {"name": "y",',
        "      │              ^",
        "3 problems in 2 files",
    ]


def test_a_file_that_is_not_utf_8_is_shown_as_far_as_it_can_be(project: Space) -> None:
    project.flow(b'\xef\xbb\xbf{"name":\r\n "n\xc3\xa4\xfc"}\r\n')
    assert validate(project, "x").stdout.splitlines() == [
        "flows/x.json:2:5: byte 0xfc is not UTF-8; save the file as UTF-8",
        '    2 │  "nä�"}',
        "      │     ^",
        "1 problem in 1 file",
    ]


def test_a_file_that_is_none_has_no_excerpt(project: Space) -> None:
    (project.flows_dir / "folder.json").mkdir()
    assert validate(project).stdout == "flows/folder.json: is no file\n1 problem in 1 file\n"


def test_of_a_thousand_problems_the_first_hundred_are_shown_and_all_are_counted(project: Space) -> None:
    tasks = [{"id": f"t{number}", "script": "a.py", "retries": -1} for number in range(1000)]
    project.flow({"name": "x", "tasks": tasks})
    lines = validate(project).stdout.splitlines()
    assert len(lines) == 302
    assert lines[-2:] == ["flows/x.json: ... and 900 more problems", "1000 problems in 1 file"]
    assert len(problems(project)) == 1000


def test_colours_are_for_those_who_want_them(project: Space) -> None:
    project.flow(flow(retries=-1))
    plain, coloured = validate(project), validate(project, env={"FORCE_COLOR": "1"})
    assert "\x1b" not in plain.stdout
    assert coloured.stdout.startswith("\x1b[1mflows/x.json:7:18\x1b[0m: tasks[0].retries: ")
    assert "\x1b[31m^^\x1b[0m" in coloured.stdout
    assert validate(project, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout == plain.stdout


def test_a_terminal_is_not_written_beyond_its_width(project: Space) -> None:
    project.flow(json.dumps(flow(args=["x" * 300], description="y" * 300, retries=-1)))
    main, other = pty.openpty()
    command = f"stty cols 50; {sys.executable} -m miniflow validate"
    subprocess.run(
        ["bash", "-c", command], cwd=project.path, env=project.environ({"TERM": "dumb"}), stdin=other, stdout=other, check=False
    )
    os.close(other)
    shown = b""
    with contextlib.suppress(OSError):  # which is how a terminal tells that nobody writes there any more
        while data := os.read(main, 100_000):
            shown += data
    os.close(main)
    lines = shown.decode().splitlines()
    assert len(lines[1]) == 50
    assert lines[1].endswith('"retries": -1}]}')
    assert lines[1][lines[2].index("^") :].startswith("-1")


def test_control_characters_of_a_file_do_not_reach_the_terminal(project: Space) -> None:
    project.flow('{"name": "\x1b[2J\u202e\x9b",\r "tasks": []}')
    result = validate(project)
    assert result.returncode == 2
    assert result.stdout.replace("\n", "").isprintable()


# --- excerpts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "column", "expected"),
    [
        ('"a": 1', 6, ['    7 │ "a": 1', "      │      ^"]),
        ('\t"a": "b c"', 7, ['    7 │     "a": "b c"', "      │          ^^^^^"]),
        ('"日本": "語"', 7, ['    7 │ "日本": "語"', "      │         ^^^^"]),
        ('"e\u0301": true', 7, ['    7 │ "e\u0301": true', "      │      ^^^^"]),
        ('"\x1b": null', 6, ['    7 │ "\\x1b": null', "      │         ^^^^"]),
        ('"a\\"b": 1', 1, ['    7 │ "a\\"b": 1', "      │ ^^^^^^"]),
        ("[1, 2", 6, ["    7 │ [1, 2", "      │      ^"]),
        ("", 1, ["    7 │", "      │ ^"]),
        ('{"a": {"b": 1}}', 7, ['    7 │ {"a": {"b": 1}}', "      │       ^"]),
        ('"abc', 1, ['    7 │ "abc', "      │ ^^^^"]),
        ("x" * 60, 1, ["    7 │ " + "x" * 31 + "…", "      │ " + "^" * 31]),
        ("a" * 60 + ' "b"', 62, ["    7 │ …" + "a" * 27 + ' "b"', "      │ " + " " * 29 + "^^^"]),
        ("日" * 40, 40, ["    7 │ …" + "日" * 15, "      │ " + " " * 29 + "^^"]),
    ],
)
def test_the_mark_stands_below_the_place(line: str, column: int, expected: list[str]) -> None:
    assert list(excerpt(line, 7, column, 40)) == expected


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300), st.data(), st.integers(24, 200))
def test_the_mark_stands_below_the_place_wherever_it_is(line: str, data: st.DataObject, width: int) -> None:
    column = data.draw(st.integers(1, len(line) + 1))
    shown, marks = excerpt(line, 1, column, width)
    assert max(len(shown), len(marks)) <= width + (column > len(line))
    assert shown.ljust(width + 1)[marks.index("^")] == f"{line} "[column - 1]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.data(), st.integers(1, 200))
def test_any_line_can_be_shown(line: str, data: st.DataObject, width: int) -> None:
    shown, marks = excerpt(line, 1, data.draw(st.integers(1, len(line) + 2)), width)
    assert "^" in marks
    assert len(shown) < 600 + 10 * width


def test_of_a_line_of_many_megabytes_only_the_place_is_looked_at(project: Space) -> None:
    project.flow('{"name": "x", "tasks": [{"id": "a", "script": "a.py", "args": ["' + "x" * 20_000_000 + '"], "retries": -1}]}')
    _, shown, marks, _ = validate(project).stdout.splitlines()
    assert len(shown) <= 120
    assert shown[marks.index("^") :].startswith("-1}]}")


# --- JSON and GitHub ------------------------------------------------------------------------------------------------


def test_as_json_it_is_one_document(project: Space) -> None:
    project.flow('{"name": "x", "tasks": []}')
    result = validate(project, "--format", "json")
    problem = {"line": 1, "column": 24, "path": "tasks", "message": "a flow needs at least one task"}
    assert (result.stderr, result.returncode) == ("", 2)
    assert json.loads(result.stdout) == {
        "valid": False,
        "flows": [
            {"file": "flows/good.json", "name": "good", "valid": True, "problems": []},
            {"file": "flows/x.json", "name": None, "valid": False, "problems": [problem]},
        ],
    }
    assert json.loads(validate(project, "good", "--format", "json").stdout)["valid"] is True


def test_for_github_each_problem_is_an_annotation(project: Space) -> None:
    project.flow(flow(fields={"100%,: ": 1}, retries=-1))
    result = validate(project, "--format", "github")
    known = "$schema, name, description, version, params, env, secret_env, python, tasks"
    assert result.stdout.splitlines() == [
        f'::error file=flows/x.json,line=3,col=3,title=["100%25%2C%3A "]::unknown field "100%25,: "; a flow has {known}',
        "::error file=flows/x.json,line=8,col=18,title=tasks[0].retries::"
        "must be a whole number from 0 to 1000, not the number -1",
        "2 problems in 1 file",
    ]
    assert (result.stderr, result.returncode) == ("", 2)


def test_for_github_a_file_is_named_from_the_checkout(project: Space) -> None:
    project.flow(flow(retries=-1))
    result = validate(project, "--format", "github", env={"GITHUB_WORKSPACE": str(project.path.parent)})
    assert result.stdout.startswith(f"::error file={project.path.name}/flows/x.json,line=7,")


def test_for_github_what_a_file_holds_is_no_command(project: Space) -> None:
    project.flow(flow(fields={"a\n::warning::b": 1, "##[error]c": 1}))
    lines = validate(project, "--format", "github").stdout.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::error", "2"]
    assert not any("##[" in line for line in lines)
