"""What is said at the end of a run: a table, and for each task that failed how to go on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from miniflow.parse import flow_from_mapping
from miniflow.plan import Place, make_plan
from miniflow.results import RunResult, TaskResult
from miniflow.summary import Summary
from tests.conftest import Space
from tests.terminals import COMMANDS, Terminal

FAILS = """
import sys
for n in range(15):
    print("line", n, file=sys.stderr)
print("\\x1b[2J", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture
def failing(space: Space) -> Space:
    space.script("ok.py")
    space.script("fails.py", FAILS)
    tasks = [
        {"id": "fetch", "script": "ok.py"},
        {
            "id": "convert_all",
            "script": "fails.py",
            "args": ["a b"],
            "env": {"MODE": "x y"},
            "depends_on": "fetch",
            "retries": 1,
        },
        {"id": "report", "script": "ok.py", "depends_on": "convert_all"},
    ]
    space.flow({"name": "f", "tasks": tasks})
    return space


def console(space: Space, *args: str, **env: str) -> list[str]:
    """Run the flow; return what is said on standard error, without what differs from run to run."""
    done = space.miniflow(*args, "run", "f", "--keep-going", "--log-format", "console", env=env)
    return [re.sub(r"\b\d+\.\d+ ?s\b|\d{8}T\S*-[0-9a-f]{6}", "*", line) for line in done.stderr.splitlines()]


def test_the_end_tells_of_each_task_and_of_each_that_failed_how_to_go_on(failing: Space) -> None:
    said = console(failing)

    end = said[said.index("") :]
    again = next(line for line in end if "again:" in line)
    assert end == [
        "",
        "TASK           STATE      EXIT  ATTEMPTS  DURATION  SLACK",
        "fetch        ✓ succeeded     0         1      *   *",
        "convert_all  ✗ failed        3         2      *   *",
        "report       – skipped       -         -         -      -  upstream_failed",
        "",
        "✗ convert_all failed with exit status 3, attempt 2",
        "  │ …",
        *(f"  ┃ line {n}" for n in range(6, 15)),
        "  ┃ \\x1b[2J",
        again,
        "  log:   out/f/*/logs/convert_all.jsonl",
        "",
        "recorded in out/f/*",
    ]


def test_the_command_can_be_pasted(failing: Space) -> None:
    (again,) = [line.partition("again: ")[2] for line in console(failing) if "again:" in line]

    done = subprocess.run(["bash", "-c", again], cwd="/", capture_output=True, text=True, check=False)

    assert "MODE='x y'" in again
    assert done.returncode == 3
    assert "line 14" in done.stderr


def test_at_a_higher_level_only_failures_are_told_of(failing: Space) -> None:
    said = console(failing, "-l", "ERROR")

    assert not any(line.startswith("TASK") for line in said)
    assert "✗ convert_all failed with exit status 3, attempt 2" in said


def test_colors_come_into_a_pipe_only_if_they_are_forced_and_add_nothing_else(failing: Space) -> None:
    plain = console(failing)
    forced = console(failing, FORCE_COLOR="1")
    both = console(failing, FORCE_COLOR="1", NO_COLOR="1")

    assert plain == both
    assert any("\x1b[31m" in line for line in forced)
    assert not any("\x1b" in line for line in plain)
    shape = [re.sub(r"[\d.*]+s?", "*", COMMANDS.sub("", line)) for line in forced]
    assert shape == [re.sub(r"[\d.*]+s?", "*", line) for line in plain]


def test_output_in_a_pipe_has_colors_if_they_are_forced(space: Space) -> None:
    space.script("both.py", "import sys\nprint('out', flush=True)\nprint('err', file=sys.stderr)")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "both.py"}]})

    done = space.miniflow("run", "f", "--log-format", "console", env={"FORCE_COLOR": "1"})

    assert sorted(done.stdout.splitlines()) == sorted(["\x1b[36mt\x1b[m │ out", "\x1b[36mt\x1b[m \x1b[31m│\x1b[m err"])


def test_nothing_is_said_where_events_are_json(failing: Space) -> None:
    done = failing.miniflow("run", "f", "--keep-going")

    assert done.returncode == 1
    assert done.stderr == ""


def test_neither_what_draws_nor_what_reads_back_is_loaded_for_a_program(space: Space) -> None:
    space.script("ok.py")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "ok.py"}]})

    done = space.miniflow("run", "f", env={"PYTHONPROFILEIMPORTTIME": "1"})

    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "miniflow.runner" in loaded
    assert not loaded & {"rich.segment", "miniflow.live", "miniflow.region", "miniflow.summary", "miniflow.timeline"}


def summary_of(tmp_path: Path, states: dict[str, Any], columns: int | None = None) -> list[str]:
    """Return the summary of a run of so many tasks, whose record is gone."""
    ids = [f"t{n:03}" for n in range(sum(states.values()))]
    flow = flow_from_mapping({"name": "f", "tasks": [{"id": task_id, "script": "a.py"} for task_id in ids]}, None)
    plan = make_plan(flow, None, Place("/t", "/o", "/w", "python3"))
    ends = [state for state, count in states.items() for _ in range(count)]
    tasks = {
        task_id: TaskResult(task_id, state, 0 if state == "succeeded" else 1, "exit", attempts=1, duration=float(n))
        for n, (task_id, state) in enumerate(zip(ids, ends, strict=True))
    }
    result = RunResult("f", "r", tmp_path / "gone", "failed", 1, 1.0, tasks)
    return Summary(plan, result, has_colors=False, columns=columns).render(only_failures=False).splitlines()


def test_of_a_large_run_what_matters_is_told(tmp_path: Path) -> None:
    lines = summary_of(tmp_path, {"failed": 12, "succeeded": 400, "cancelled": 88})

    table = lines[2 : lines.index("", 1)]
    failed, slowest = [f"t00{n}" for n in range(10)], [f"t{n}" for n in range(499, 494, -1)]
    assert [line.split()[0] for line in table] == [*failed, *slowest, "…"]
    assert table[-1] == "… and 485 more: 400 succeeded, 2 failed, 83 cancelled"
    assert sum("again:" in line for line in lines) == 10
    assert "… and 2 more failed" in lines


def test_where_a_row_has_no_room_a_task_has_two(failing: Space) -> None:
    terminal = Terminal(failing, "run", "f", "--keep-going", columns=40, rows=60)
    terminal.end()

    said = [re.sub(r"\d+\.\d+s", "*.*s", line) for line in terminal.scrolled.splitlines()]
    table = said[said.index("TASK           STATE") :]
    assert table[: table.index("")] == [
        "TASK           STATE",
        "  EXIT  ATTEMPTS  DURATION  SLACK",
        "fetch        ✓ succeeded",
        "     0         1      *.*s   *.*s",
        "convert_all  ✗ failed",
        "     3         2      *.*s   *.*s",
        "report       – skipped",
        "  upstream_failed",
    ]


@pytest.mark.parametrize("columns", [40, 49, 50, 80])
def test_no_row_is_wrapped_by_a_terminal_of_forty_columns_or_more(tmp_path: Path, columns: int) -> None:
    lines = summary_of(tmp_path, {"succeeded": 1, "skipped": 1, "cancelled": 1}, columns)

    table = lines[1 : lines.index("", 1)]
    assert all(len(line) <= columns for line in table)
    assert len(table) == (4 if columns >= 50 else 8)


def test_a_name_that_is_too_long_for_the_terminal_leaves_the_others_on_a_line(failing: Space) -> None:
    name = "a_task_with_a_name_of_forty_characters__"
    tasks = [{"id": name, "script": "ok.py"}, {"id": "b", "script": "fails.py"}]
    failing.flow({"name": "f", "tasks": tasks})
    terminal = Terminal(failing, "run", "f", columns=40, rows=60)
    terminal.end()

    said = [line.rstrip() for line in terminal.scrolled.splitlines()]
    table = said[next(number for number, line in enumerate(said) if line.startswith("TASK ")) :]
    assert table[2:4] == [name, "  ✓ succeeded"]
    assert re.fullmatch(r"b +✗ failed", table[5])


def test_a_run_of_one_task_that_succeeded_has_no_table(tmp_path: Path) -> None:
    assert len(summary_of(tmp_path, {"succeeded": 1})) == 1
