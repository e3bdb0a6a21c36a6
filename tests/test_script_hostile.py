"""Nothing that a flow holds is ever interpreted by the shell, and shellcheck and bash find nothing wrong with any script."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from miniflow import plan_flow, read_run, write_script
from miniflow.bash import quote, render_script
from miniflow.plan import Place, Plan, PlannedTask
from tests.conftest import Space
from tests.hostile import FRAGMENTS, file_names, texts, variable_names

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
PROJECT = Path(__file__).parent.parent

few = settings(max_examples=12)
many = settings(max_examples=1000, derandomize=False)

# shellcheck takes half a second: what it finds is reported as it was found, not made smaller for minutes.
AS_FOUND = [Phase.explicit, Phase.reuse, Phase.generate]

arguments = st.lists(texts, max_size=4)
variables = st.dictionaries(variable_names, texts, max_size=3)

planned_tasks = st.lists(
    st.builds(
        PlannedTask,
        id=st.sampled_from(["a", "a.b-c", "if", "0", "_", "done.sh", "x--"]),
        description=texts,
        script=file_names.flatmap(lambda name: st.sampled_from([f"{name}.py", f"{name}.sh", name, f"sub/{name}.py"])),
        python=st.one_of(st.none(), st.sampled_from(["python3", "bin/python", "/a b/python", "a=b/c", "$x/y", "A=b"])),
        args=arguments.map(tuple),
        env=variables,
        cwd=st.one_of(st.none(), file_names),
        upstream=st.just(()),
        trigger_rule=st.sampled_from(["all_success", "all_done", "one_failed"]),
        timeout_s=st.sampled_from([None, 0.001, 90.0]),
        retry_delays_s=st.sampled_from([(), (0.0,), (0.5, 86400.0)]),
        retry_on=st.sampled_from([(), (1, 255)]),
    ),
    min_size=4,
    max_size=6,
    unique_by=lambda task: task.id,
).map(lambda tasks: tuple([task if task.script.endswith(".py") else replace(task, python=None) for task in tasks]))  # fmt: skip

folders = file_names.map(lambda name: f"/{name}")

plans = st.builds(
    Plan,
    flow=st.sampled_from(["x", "a.b-c", "done"]),
    description=texts,
    version=texts,
    place=st.builds(
        Place,
        tasks_dir=folders,
        output_dir=folders,
        work_dir=folders,
        python=st.one_of(st.just("python3"), folders),
    ),
    params=st.dictionaries(texts, st.one_of(texts, st.none(), st.integers(), st.lists(texts, max_size=2)), max_size=2),
    tasks=planned_tasks,
    keep_going=st.booleans(),
)


def findings(text: str | bytes) -> str:
    """Return what shellcheck and bash have to say about a script."""
    data = text.encode() if isinstance(text, str) else text
    checked = subprocess.run([SHELLCHECK, "--norc", "-"], input=data, capture_output=True, check=False)
    parsed = subprocess.run(["bash", "-n"], input=data, capture_output=True, check=False)
    return (checked.stdout + checked.stderr + parsed.stderr).decode()


@pytest.mark.parametrize("name", sorted(path.stem for path in (PROJECT / "flows").glob("*.json")))
def test_nothing_is_found_in_the_script_of_a_sample(name: str, tmp_path: Path) -> None:
    options = {"flows_dir": PROJECT / "flows", "tasks_dir": PROJECT / "tasks", "output_dir": tmp_path}
    assert findings(render_script(plan_flow(name, **options))) == ""


def test_nothing_is_found_in_a_script_with_every_feature(space: Space) -> None:
    from tests.test_script import every_feature

    assert findings(every_feature(space).read_text()) == ""


def check_findings(plan: Plan) -> None:
    assert findings(render_script(plan)) == ""


@pytest.mark.long
@settings(max_examples=6, phases=AS_FOUND)
@given(plans)
def test_nothing_is_found_in_a_script_of_hostile_text(plan: Plan) -> None:
    check_findings(plan)


@pytest.mark.stress
@pytest.mark.timeout(0)
@settings(many, phases=AS_FOUND)
@given(plans)
def test_nothing_is_found_in_many_scripts_of_hostile_text(plan: Plan) -> None:
    check_findings(plan)


# --- words


def words_that_bash_reads(words: list[str], **env: str) -> list[str]:
    # As a file on standard input: a word may be longer than an argument.
    script = "printf '%s\\0' " + " ".join(map(quote, words)) + "\n"
    done = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True, env={**os.environ, **env})
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=30)
@given(st.lists(texts, min_size=5, max_size=30))
def test_a_quoted_word_is_read_as_it_was(words: list[str]) -> None:
    assert words_that_bash_reads(words) == words


def test_every_character_and_every_fragment_is_read_as_it_was() -> None:
    characters = [chr(code) for code in range(1, 0x500)]
    pairs = ["".join(pair) for pair in itertools.product(FRAGMENTS, repeat=2)]
    words = [*characters, *(f"a{character}1" for character in characters), *FRAGMENTS, *pairs]
    assert words_that_bash_reads(words) == words


def test_a_quoted_word_is_one_line() -> None:
    for first, second in itertools.product(FRAGMENTS, repeat=2):
        assert len(quote(f"{first}\n{second}").splitlines()) == 1


@pytest.mark.parametrize("word", ["a", "a/b.c-d", "--limit=1", "2023-01-01", "user@host:1", "100%"])
def test_a_plain_word_needs_no_quotes(word: str) -> None:
    assert quote(word) == word


@pytest.mark.parametrize("word", ["", "if", "time", "~", "a b", "A=b", "*", "{a,b}", "#", "!", "é"])
def test_a_word_that_means_something_is_quoted(word: str) -> None:
    assert quote(word) == f"'{word}'" or word == "A=b"


# --- whole runs


def journal(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "events.jsonl").read_bytes().split(b"\n")[:-1]]


def run_hostile(space: Space, flow: dict[str, Any], place: str) -> Path:
    """Run the script of a flow in directories of such a name; return the run directory."""
    root = space.path / f"{len(list(space.path.iterdir()))}{place}"
    tasks_dir, output_dir, work_dir = root / f"{place}t", root / f"{place}o", root / f"{place}w"
    for folder in (tasks_dir, work_dir):
        folder.mkdir(parents=True)
    for task in flow["tasks"]:
        if "cwd" in task:
            (work_dir / task["cwd"]).mkdir(exist_ok=True)
    space.tasks_dir = tasks_dir
    space.recorder()
    with contextlib.chdir(work_dir):
        plan = plan_flow(flow, tasks_dir=tasks_dir, output_dir=output_dir, python=sys.executable)
        script = write_script(plan)
    for record in space.records_dir.iterdir():
        record.unlink()
    done = space.bash(script, cwd=space.path)
    assert done.returncode == 0, done.stderr
    for folder in (space.path, work_dir, tasks_dir):
        assert not (folder / "canary").exists()
    return output_dir / flow["name"] / "latest"


hostile_flows = st.builds(
    lambda description, args, flow_env, env, params, cwd: {
        "name": "demo",
        "description": description,
        "env": flow_env,
        "params": {"p": params},
        "tasks": [
            {"id": "a", "script": "record.py", "description": description, "args": args, "env": env},
            {"id": "b", "script": "record.py", "args": {"o": args, "option": args}, "cwd": cwd},
        ],
    },
    texts,
    arguments,
    variables,
    variables,
    st.one_of(texts, st.lists(texts, max_size=2)),
    file_names,
)


def check_reaches(space: Space, flow: dict[str, Any], place: str) -> None:
    run_dir = run_hostile(space, flow, place)
    records = space.records()
    first, second = flow["tasks"]
    assert records["a.1"]["argv"] == first["args"]
    for name, value in {**flow["env"], **first["env"]}.items():
        assert records["a.1"]["env"][name] == value
    assert json.loads(records["b.1"]["env"]["MINIFLOW_PARAMS"]) == {"p": flow["params"]["p"]}
    work_dir = run_dir.parent.parent.parent / f"{place}w"
    assert records["a.1"]["cwd"] == str(work_dir)
    assert records["b.1"]["cwd"] == str(work_dir / second["cwd"])
    started = [event for event in journal(run_dir) if event["event"] == "task.started"]
    assert started[0]["argv"][2:] == first["args"]
    assert started[1]["argv"][2:] == records["b.1"]["argv"]
    assert read_run(run_dir).state == "succeeded"


@few
@given(hostile_flows, file_names)
def test_every_string_reaches_the_task_byte_for_byte(space: Space, flow: dict[str, Any], place: str) -> None:
    check_reaches(space, flow, place)


@pytest.mark.stress
@pytest.mark.timeout(0)
@many
@given(hostile_flows, file_names)
def test_every_string_of_many_reaches_the_task_byte_for_byte(space: Space, flow: dict[str, Any], place: str) -> None:
    check_reaches(space, flow, place)


def test_every_control_character_is_itself_in_the_journal(space: Space) -> None:
    args = ["".join(map(chr, range(1, 0xA1))), '\\"/\\u0041', "x" * 100_000 + "é\n"]
    flow = {"name": "demo", "tasks": [{"id": "a", "script": "record.py", "args": args}]}
    run_dir = run_hostile(space, flow, "d")
    assert space.records()["a.1"]["argv"] == args
    assert journal(run_dir)[1]["argv"][2:] == args


def test_the_longest_argument_and_variable_are_passed(space: Space) -> None:
    longest = "ü'" * 40_000
    flow = {"name": "demo", "tasks": [{"id": "a", "script": "record.py", "args": [longest], "env": {"V": longest}}]}
    run_hostile(space, flow, "d")
    record = space.records()["a.1"]
    assert (record["argv"], record["env"]["V"]) == ([longest], longest)


def test_thousands_of_arguments_are_passed(space: Space) -> None:
    args = [f"{n} *" for n in range(10_000)]
    flow = {"name": "demo", "tasks": [{"id": "a", "script": "record.py", "args": args, "env": {"V": "1"}}]}
    run_hostile(space, flow, "d")
    assert space.records()["a.1"]["argv"] == args
