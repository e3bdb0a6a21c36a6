"""What is damaged, foreign or no file in a run directory: every command that reads runs says so, or leaves it out, and ends."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import click
import pytest

from miniflow.cli import cli
from miniflow.completion import recorded_task_ids
from tests.conftest import Space

FLOW = {
    "name": "x",
    "params": {"day": "today"},
    "env": {"MODE": "fast"},
    "tasks": [
        {"id": "a", "script": "a.sh"},
        {"id": "again", "script": "again.sh", "retries": 1, "timeout": 60},
        {"id": "bad", "script": "bad.sh", "depends_on": ["a", "again"]},
        {"id": "never", "script": "a.sh", "depends_on": ["bad"]},
        {"id": "last", "script": "a.sh", "depends_on": ["bad"], "trigger_rule": "all_done"},
    ],
}
TASKS = ("a", "again", "bad", "never", "last")
VALUES: list[Any] = [
    None, True, 0, -1, 1, 1e308, 10**30, "", "a", "x" * 300, "\u202e\x1b[31m", "../../../etc/passwd", "a\0b", [], ["a"], [[]],
    {}, {"a": 1}, "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+14:00", "2026-01-01", "failed", "timeout", "spawn",
]  # fmt: skip
NO_FILES = {"fifo": os.mkfifo, "directory": os.mkdir}
READERS = [
    ["runs"],
    ["status"],
    ["status", "--json"],
    ["logs"],
    ["logs", "a"],
    ["explain", "again"],
    ["diff", "x", "x"],
    ["report", "-o", os.devnull],
    ["runs", "prune", "--keep", "0", "--dry-run"],
]


@pytest.fixture
def runs(space: Space) -> Path:
    """An output directory with two runs, by the scheduler and by the bash script."""
    space.script("a.sh", "echo out; echo err >&2")
    space.script("again.sh", "exit $((MINIFLOW_ATTEMPT < 2))")
    space.script("bad.sh", "echo bad; exit 3")
    space.flow(FLOW)
    space.miniflow("run", "x", "--parallel", "2")
    space.bash(space.miniflow("run", "x", "--dry-run").stdout.strip())
    return space.output_dir


def call(output_dir: Path, *args: str) -> int:
    """Run a command here and now; return its exit status. What is no error of the user's own comes out as it is."""
    try:
        return int(cli.main(["-o", str(output_dir), *args], prog_name="miniflow", standalone_mode=False) or 0)
    except click.exceptions.Exit as ended:
        return ended.exit_code


def damaged(document: Any, rnd: random.Random) -> Any:
    """Return a JSON value with another value somewhere, or without one."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            walk(value[key])

    document = deepcopy(document)
    walk(document)
    container, key = rnd.choice(places)
    if rnd.random() < 0.2:
        del container[key]
    else:
        container[key] = deepcopy(rnd.choice(VALUES))
    return document


def damage_journal(run_dir: Path, rnd: random.Random) -> None:
    path = run_dir / "events.jsonl"
    lines = path.read_text().splitlines()
    lines = [json.dumps(damaged(json.loads(line), rnd)) if rnd.random() < 0.3 else line for line in lines]
    if rnd.random() < 0.3:
        lines.insert(
            rnd.randrange(len(lines) + 1),
            rnd.choice(["", "{", "[]", "\0", '{"event":"task.finished","task_id":"a","duration_s":1e999}']),
        )
    path.write_text("\n".join(lines) + "\n")
    (run_dir / "run.json").unlink(missing_ok=True)


def damage_document(name: str) -> Callable[[Path, random.Random], None]:
    def damage(run_dir: Path, rnd: random.Random) -> None:
        path = run_dir / name
        if path.exists():
            path.write_text(json.dumps(damaged(json.loads(path.read_text()), rnd)))

    return damage


def damage_bytes(run_dir: Path, rnd: random.Random) -> None:
    for path in [run_dir / "flow.sh", *(run_dir / "logs").iterdir()]:
        data = bytearray(path.read_bytes())
        for _ in range(min(len(data), 10)):
            data[rnd.randrange(len(data))] = rnd.randrange(256)
        path.write_bytes(data)


def read_damaged_runs(runs: Path, spoilt: Path, rnd: random.Random) -> None:
    shutil.copytree(runs, spoilt, symlinks=True)
    run_ids = sorted(path.name for path in (runs / "x").iterdir() if path.name != "latest")
    ways = [damage_journal, damage_journal, damage_document("plan.json"), damage_document("run.json"), damage_bytes]
    for run_id in run_ids:
        rnd.choice(ways)(spoilt / "x" / run_id, rnd)

    lines = [
        ["runs"],
        ["runs", "--json"],
        ["diff"],
        ["diff", *run_ids, "--json"],
        ["runs", "prune", "--keep", "1", "--dry-run"],
    ]
    for run_id in run_ids:
        lines += [["status", run_id], ["status", run_id, "--json"], ["logs", run_id], ["logs", run_id, "again", "--raw"]]
        lines += [["explain", task_id, run_id, *rnd.choice([[], ["--json"]])] for task_id in TASKS]
    for line in lines:
        assert call(spoilt, *line) in (0, 2), line
    shutil.rmtree(spoilt)


def test_values_that_are_none_do_no_harm(runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for seed in range(40):
        read_damaged_runs(runs, tmp_path / "spoilt", random.Random(seed))  # noqa: S311  the same damage each time
    capfd.readouterr()


@pytest.mark.stress
def test_many_values_that_are_none_do_no_harm(runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for seed in range(2000):
        read_damaged_runs(runs, tmp_path / "spoilt", random.Random(seed))  # noqa: S311  the same damage each time
        capfd.readouterr()


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", ["events.jsonl", "plan.json", "run.json", "logs/a.jsonl"])
def test_what_is_no_file_keeps_nobody_waiting(runs: Path, capfd: pytest.CaptureFixture[str], name: str, kind: str) -> None:
    latest = runs / "x" / "latest"
    shutil.rmtree(latest.resolve())
    run_dir = next(path for path in (runs / "x").iterdir() if not path.is_symlink())
    (run_dir / name).unlink()
    NO_FILES[kind](run_dir / name)

    assert recorded_task_ids(os.fspath(run_dir)) in ([], list(TASKS), sorted(TASKS))
    statuses = {" ".join(line): call(runs, *line) for line in READERS}

    assert set(statuses.values()) <= {0, 2}
    if name in ("events.jsonl", "plan.json"):
        assert statuses["status"] == 2
        assert f"{'it is no file' if kind == 'fifo' else 'Is a directory'}" in capfd.readouterr().err


def test_a_link_to_itself_is_passed_over(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (runs / "loop").symlink_to("loop")

    assert call(runs, "runs") == 0
    assert (runs / "x" / "latest").resolve().name in capfd.readouterr().out


def test_a_name_that_is_too_long_is_that_of_nothing(runs: Path) -> None:
    for name in ("x" * 5000, f"{'x' * 5000}/x"):
        for line in (["status", name], ["logs", name], ["diff", name], ["report", name]):
            assert call(runs, *line) == 2
