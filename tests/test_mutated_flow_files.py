"""Flow files broken at random, through the code path of `miniflow run --dry-run`: a script or problems, never a traceback."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from miniflow import jsontext
from miniflow.cli import cli
from miniflow.errors import FlowError
from miniflow.model import Flow, Task
from miniflow.parse import parse_flow
from tests.conftest import Space

FLOW: dict[str, Any] = {
    "$schema": "https://example.org/flow.json",
    "name": "x",
    "description": "Über alles",
    "version": "1.0",
    "params": {"date": "2023-01-01", "limit": {"type": "integer", "default": 10, "description": "rows", "required": False}},
    "env": {"TZ": "UTC", "WHEN": "{{ params.date }}"},
    "python": "python3",
    "tasks": [
        {"id": "fetch", "script": "a.py", "args": ["--limit", 10, 1.5, True, "{{ params.limit }}", "\\{{ x"], "retries": 3},
        {
            "id": "process",
            "script": "sub/b.py",
            "description": "two\nlines",
            "depends_on": ["fetch"],
            "args": {"input-file": "data/{{ params.date }}.csv", "v": True, "n": None, "many": [1, "-2", False]},
            "env": {"MODE": "fast", "ID": "{{ task.id }}"},
            "cwd": "{{ flow.name }}/data",
            "python": ".venv/bin/python",
            "retries": {"max": 3, "delay": 1, "backoff": 2, "max_delay": "1m", "on_exit_codes": [75]},
            "timeout": "1m30s",
        },
        {"id": "report", "script": "c.sh", "depends_on": "process", "timeout": 90, "trigger_rule": "all_done"},
    ],
}
TOKENS = re.compile(r'[ \n]+|[{}\[\],:]|"(?:[^"\\]|\\.)*"|[^ \n{}\[\],:"]+')
HOSTILE_TOKENS = (
    "{", "}", "[", "]", ",", ":", '"', "\\", "'", "//", "NaN", "-Infinity", "1e999", "-0", "-0.0", "1e-400", "true", "null",
    "[]", "{}", '""', '"\\ud800"', '"\\u0000"', '"\\u2028\\u001b[2J"', '"{{"', '"{{ params.date }} }}"', '"{{ params.limit"',
    '"..“"', '"/etc/passwd"', '"../a.py"', '"."', '"-"', '"-x"', '"$(reboot)`\'\\""', '"__proto__"', '"a b"', '"a/"', "9" * 400,
    "9" * 5000, "[" * 100, "[" * 2000, '{"a":' * 70, "\ufeff", "\x00", "\u2028", "\r", "\t",
)  # fmt: skip
HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -0.0, -1, 1.5, 1e300, 10**400, 2**63, "", " ", "\n", "\u2028", "\ud800", "a\0", "{{", "{{}}", "}}",
    "{{ params }}", "{{ params.limit }}", "{{ params.nothing }}", "{{ flow.name }}{{ task.id }}", "x" * 200_000, "..",
    "fetch", "FETCH", "a.py", "sub", "name", "all_done", "1h", "integer", "constructor", [], [[]], [None], ["fetch", "fetch"],
    {}, {"": 0}, {"type": "array"}, {"max": 1}, {"{{ x }}": 1}, {"A=B": "x"}, {"required": True},
)  # fmt: skip


def flip_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def delete_a_slice(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice([1, 2, 10, 100, len(data)]) :]


def repeat_a_slice(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    end = start + rng.choice([1, 10, 100])
    return data[:end] + data[start:]


def swap_tokens(data: bytes, rng: random.Random) -> bytes:
    tokens = TOKENS.findall(data.decode())
    one, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
    tokens[one], tokens[other] = tokens[other], tokens[one]
    return "".join(tokens).encode()


def replace_tokens(data: bytes, rng: random.Random) -> bytes:
    tokens = TOKENS.findall(data.decode())
    for _ in range(rng.randint(1, 3)):
        tokens[rng.randrange(len(tokens))] = rng.choice(HOSTILE_TOKENS)
    return "".join(tokens).encode()


def containers(value: Any) -> list[Any]:
    """Return all arrays and objects of a JSON value that are not empty."""
    if not isinstance(value, (dict, list)) or not value:
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(container for item in inner for container in containers(item))]


def swap_types(data: bytes, rng: random.Random) -> bytes:
    flow = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        container = rng.choice(containers(flow) or [flow])
        if not container:
            continue
        key = rng.choice(list(container) if isinstance(container, dict) else range(len(container)))
        container[key] = copy.deepcopy(rng.choice(HOSTILE_VALUES))
    return json.dumps(flow).encode()


def rename_keys(data: bytes, rng: random.Random) -> bytes:
    flow = json.loads(data)
    container = rng.choice([container for container in containers(flow) if isinstance(container, dict)])
    names = ["", "é", "__proto__", "a b", "-v", "{{ params.date }}", "id", "name", "args", "a\nb", "x" * 10_000, "\ud800", "1"]
    container[rng.choice(names)] = container.pop(rng.choice(list(container)))
    return json.dumps(flow).encode()


def change_encoding(data: bytes, rng: random.Random) -> bytes:
    return data.decode().encode(rng.choice(["utf-16", "utf-16-be", "utf-8-sig", "latin-1", "utf-32", "utf-7"]))


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bytes, delete_a_slice, repeat_a_slice, swap_tokens, replace_tokens, swap_types, rename_keys, change_encoding,
)  # fmt: skip


@pytest.fixture
def project(space: Space, monkeypatch: pytest.MonkeyPatch) -> Space:
    for script in ("a.py", "sub/b.py", "c.sh"):
        space.script(script)
    monkeypatch.chdir(space.path)
    return space


def dry_run(project: Space, data: bytes) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error; whatever is raised and not meant to be is raised here."""
    project.flow(data)
    directories = ["-f", str(project.flows_dir), "-t", str(project.tasks_dir), "-o", str(project.output_dir)]
    arguments = [*directories, "run", str(project.flows_dir / "x.json"), "--dry-run"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def outcome(data: bytes) -> Flow | list[str]:
    """Return a flow file's flow, or what is wrong with it."""
    try:
        return parse_flow(data, "x.json")
    except FlowError as error:
        return [str(problem) for problem in error.problems]


def outcome_as_a_whole(data: bytes) -> Flow | list[str]:
    """Return the same of a file that is decoded before anything in it is looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsontext, "_decode_in_parts", lambda *_: None)
        return outcome(data)


def check(project: Space, seed: int) -> int:
    """Break the flow file as the seed says and check what comes of it; return the exit status."""
    rng = random.Random(seed)  # noqa: S311  nothing secret
    data = rng.choice(MUTATIONS)(json.dumps(FLOW, indent=rng.choice([None, 2]), ensure_ascii=rng.random() < 0.5).encode(), rng)
    assert outcome(data) == outcome_as_a_whole(data), f"seed {seed}"
    status, output, errors = dry_run(project, data)
    if status == 0:
        assert output.endswith(".sh\n"), f"seed {seed}"
        assert errors == "", f"seed {seed}"
    else:
        assert status == 2, f"seed {seed}"
        assert output == "", f"seed {seed}"
        lines = errors.removesuffix("\n").split("\n")
        assert all(line.startswith((str(project.flows_dir / "x.json"), "error: params: ", "... and ")) for line in lines), lines
        assert all(line.isprintable() for line in lines), f"seed {seed}"
    return status


def test_the_flow_file_is_good_before_it_is_broken(project: Space) -> None:
    status, output, errors = dry_run(project, json.dumps(FLOW).encode())
    assert (status, output, errors) == (0, "out/x.sh\n", "")


def test_tasks_are_decoded_one_by_one_unless_what_they_are_checked_by_stands_after_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_by_one = []
    decode = jsontext.decode

    def watched(*args: Any) -> Any:
        decoded = decode(*args)
        one_by_one.append(all(isinstance(task, Task) for task in decoded[1]["tasks"]))
        return decoded

    monkeypatch.setattr(jsontext, "decode", watched)
    members = list(FLOW.items())

    for order, is_early in ((members, True), (members[::-1], False)):
        flow = parse_flow(json.dumps(dict(order)))
        assert one_by_one[-1] == is_early
        assert flow == outcome_as_a_whole(json.dumps(FLOW).encode())


def test_what_is_no_key_is_not_read_as_one() -> None:
    data = b'{"name": "x", ' + b"[" * 5000
    problem = "x.json:1:15: no JSON: expecting property name enclosed in double quotes"
    assert outcome(data) == outcome_as_a_whole(data) == [problem]


def test_300_broken_flow_files_give_a_script_or_problems_one_a_line(project: Space) -> None:
    statuses = [check(project, seed) for seed in range(300)]
    assert set(statuses) == {0, 2}


@pytest.mark.stress
@pytest.mark.timeout(1800)
def test_10_000_broken_flow_files_give_a_script_or_problems_one_a_line(project: Space) -> None:
    for seed in range(1000, 11_000):
        check(project, seed)
