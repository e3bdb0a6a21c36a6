"""`miniflow diff`: what differs between two runs, in what was to run, how it ended, and how long it took."""

# ruff: noqa: E501  what happens in a case stands on one line

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from miniflow.comparing import compare
from miniflow.difftext import as_text
from tests.conftest import Space
from tests.golden_text import GoldenTexts
from tests.test_timeline import begin, end, event, finish, start

GOLDEN = GoldenTexts("diff.txt")
OLD, NEW = "20260102T030405.000Z-aaaaaa", "20260103T030405.000Z-bbbbbb"


def task(task_id: str, *upstream: str, **own: Any) -> dict[str, Any]:
    """Return a task as `plan.json` has it."""
    return {
        "id": task_id, "argv": ["bash", f"/t/{task_id}.sh"], "script_sha256": "1" * 64, "env": {}, "cwd": "/w", "upstream": list(upstream),
        "trigger_rule": "all_success", "timeout_s": None, "retry_delays_s": [], "retry_on": [], **own,
    }  # fmt: skip


def plan(*tasks: dict[str, Any], **own: Any) -> dict[str, Any]:
    """Return what a `plan.json` holds."""
    head = {
        "schema": 1,
        "flow": "f",
        "version": "",
        "tasks_dir": "/t",
        "work_dir": "/w",
        "keep_going": False,
        "grace_s": 5.0,
        "timeout_s": None,
    }
    return {**head, "params": {}, "tasks": list(tasks), **own}


def write(
    path: Path, run_id: str, document: Mapping[str, Any] | None, events: Sequence[Mapping[str, Any]], flow: str = "f"
) -> None:
    run = path / "out" / flow / run_id
    run.mkdir(parents=True)
    run.joinpath("events.jsonl").write_text("".join(json.dumps({**each, "flow": flow}) + "\n" for each in events))
    if document is not None:
        run.joinpath("plan.json").write_text(json.dumps(document))


def ran(*ids: str, **durations: float) -> list[dict[str, Any]]:
    """Return the events of a run in which these tasks succeeded."""
    events = [begin()]
    for number, task_id in enumerate(ids):
        events += [start(number, task_id), end(number + 1, task_id, duration_s=durations.get(task_id, 1.0))]
    return [*events, finish(len(ids))]


def failed(at_s: float, task_id: str, **own: Any) -> dict[str, Any]:
    return end(at_s, task_id, 3) | own


AB = plan(task("a"), task("b", "a"))
RAN = ran("a", "b")

# The plan and the events of the run before, and of the one after.
CASES: dict[str, tuple[dict[str, Any] | None, list[dict[str, Any]], dict[str, Any] | None, list[dict[str, Any]]]] = {
    "nothing": (AB, RAN, AB, RAN),
    "the run as a whole": (
        AB, RAN,
        plan(*AB["tasks"], version="2", keep_going=True, timeout_s=60.0, selection={"only": ["a", "b"]}), [begin(parallel=8), *RAN[1:]],
    ),
    "parameters": (plan(*AB["tasks"], params={"date": "2023-01-01", "n": 1, "gone": None}), RAN, plan(*AB["tasks"], params={"date": "2023-06-01", "n": True, "new": [1]}), RAN),
    "tasks that are new and gone": (AB, RAN, plan(task("a"), task("c", "a"), task("d", "c")), ran("a", "c", "d")),
    "what is planned for a task": (
        plan(task("a", argv=["python3", "/t/a.py", "it's"], env={"MODE": "fast", "OLD": "1"}), task("b", "a")), RAN,
        plan(
            task("a", argv=["python3", "/t/a.py", "--with", "many", "more", "arguments", "than", "before"], env={"MODE": "slow", "NEW": ""}, cwd="/elsewhere", script_sha256="2" * 64),
            task("b", trigger_rule="all_done", timeout_s=90.0, retry_delays_s=[1.0, 2.0], retry_on=[75], secret_env=["TOKEN"]),
        ), RAN,
    ),
    "a script that was changed when its task had been planned": (AB, RAN, AB, [begin(), start(0, "a", script_sha256="3" * 64), *RAN[2:]]),
    "ends": (
        plan(task("a"), task("b", "a"), task("c"), task("d")), [begin(), start(0, "a"), end(1, "a"), start(1, "b"), end(2, "b"), start(2, "c"), end(3, "c"), failed(3, "d", reason="signal", signal="SIGKILL", exit_status=137), finish(3, "failed", 1)],
        plan(task("a"), task("b", "a"), task("c"), task("d")), [begin(), start(0, "a"), failed(1, "a"), event(1, "task.skipped", "b", reason="upstream_failed"), start(2, "c"), end(3, "c"), event(3, "task.cancelled", "d", reason="stopped"), finish(3, "cancelled", 130)],
    ),
    "attempts": (
        plan(task("a")), [begin(), start(0, "a"), end(1, "a"), finish(1)],
        plan(task("a")), [begin(), start(0, "a"), event(1, "task.retrying", "a", attempt=1, delay_s=0, exit_status=3, reason="exit"), start(1, "a", 2), end(2, "a", attempts=2), finish(2)],
    ),
    "a run that was interrupted": (AB, RAN, AB, RAN[:4]),
    "taken over": (AB, RAN, AB, [begin(resumed_from=OLD), event(0, "task.reused", "a", reason="unchanged", reused_from=OLD), start(0, "b"), end(1, "b"), finish(1)]),
    "durations": (
        plan(*(task(name) for name in ("a", "longer_name", "c", "d", "e"))), ran("a", "longer_name", "c", "d", "e", a=1.0, longer_name=100.0, c=10.0, d=0.01, e=3.0),
        plan(*(task(name) for name in ("a", "longer_name", "c", "d", "e"))), ran("a", "longer_name", "c", "d", "e", a=1.5, longer_name=60.0, c=11.9, d=0.1, e=2.0),
    ),
    "a run of which there is the journal alone": (None, [begin(parallel=1), *RAN[1:]], AB, RAN),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_difference_is_told(tmp_path: Path, name: str) -> None:
    old, old_events, new, new_events = CASES[name]
    write(tmp_path, OLD, old, old_events)
    write(tmp_path, NEW, new, new_events)

    found = compare(tmp_path / "out", OLD, NEW)

    GOLDEN.check(name, as_text(found))
    assert found.has_any is (name not in ("nothing", "durations"))


def test_a_run_compared_with_itself_has_no_difference(tmp_path: Path) -> None:
    for number, (document, events, _, _) in enumerate(CASES.values()):
        write(tmp_path, f"20260102T030405.{number:03d}Z-aaaaaa", document, events)
        run_id = f"20260102T030405.{number:03d}Z-aaaaaa"
        found = compare(tmp_path / "out", run_id, run_id)
        assert not found.has_any
        assert not found.durations


@pytest.mark.parametrize("ids", [(OLD, NEW), (NEW, OLD)])
def test_what_a_journal_alone_does_not_tell_is_no_difference(tmp_path: Path, ids: tuple[str, str]) -> None:
    write(tmp_path, OLD, None, [begin(), start(0, "a"), end(1, "a")])
    write(tmp_path, NEW, {**AB, "params": {"date": "2023-01-01"}}, RAN)

    found = compare(tmp_path / "out", *ids)

    assert (found.run, found.added, found.removed, found.tasks) == ((), (), (), {})


def test_what_a_journal_that_has_an_end_does_not_tell_of_was_not_there(tmp_path: Path) -> None:
    write(tmp_path, OLD, None, ran("a"))
    write(tmp_path, NEW, AB, RAN)

    assert compare(tmp_path / "out", OLD, NEW).added == ("b",)


def test_colours_tell_old_from_new(tmp_path: Path) -> None:
    write(tmp_path, OLD, AB, RAN)
    write(tmp_path, NEW, plan(task("a"), task("c", "a")), ran("a", "c"))

    text = as_text(compare(tmp_path / "out", None, None), has_colors=True)

    assert "\x1b[31m  - task b\x1b[0m\n\x1b[32m  + task c\x1b[0m" in text
    assert re.sub(r"\x1b\[\d+m", "", text) == as_text(compare(tmp_path / "out", None, None))


# --- the command


@pytest.fixture
def two_runs(space: Space) -> Space:
    """Two runs of a flow, the second with another parameter, which has a task fail."""
    space.script("a.py", "import sys; sys.exit(int(sys.argv[1]))")
    space.flow(
        {"name": "f", "params": {"status": 0}, "tasks": [{"id": "a", "script": "a.py", "args": ["{{ params.status }}"]}]}
    )
    assert space.miniflow("run", "f").returncode == 0
    assert space.miniflow("run", "f", "-p", '{"status": 3}').returncode == 1
    return space


def runs(space: Space, flow: str = "f") -> list[str]:
    return sorted(path.name for path in (space.output_dir / flow).glob("2*"))


def test_without_a_second_run_the_one_before_is_meant(two_runs: Space) -> None:
    old, new = runs(two_runs)

    text = two_runs.miniflow("diff", old, new).stdout

    assert text.startswith(f"--- {old} of f: succeeded in ")
    assert "\n  params.status: 0 → 3\n" in text
    assert "\nEnds\n  a: succeeded → failed with exit status 3\n" in text
    for words in ([], ["f"], [new]):
        result = two_runs.miniflow("diff", *words)
        assert (result.stdout, result.stderr, result.returncode) == (text, "", 0)


def test_the_exit_status_tells_of_differences_if_it_is_asked_to(two_runs: Space) -> None:
    _, new = runs(two_runs)

    assert two_runs.miniflow("diff", "--exit-code").returncode == 1
    assert two_runs.miniflow("diff", "--exit-code", new, new).returncode == 0
    assert two_runs.miniflow("diff", "--exit-code", "--json").returncode == 1


def test_json_has_all_that_differs(two_runs: Space) -> None:
    old, new = runs(two_runs)

    document = json.loads(two_runs.miniflow("diff", "--json").stdout)

    assert (document["before"]["run_id"], document["after"]["run_id"], document["differs"]) == (old, new, True)
    assert (document["before"]["exit_status"], document["after"]["exit_status"]) == (0, 1)
    assert document["run"] == [{"what": "params.status", "before": 0, "after": 3}]
    (command,) = document["tasks_changed"]["a"]
    assert (command["what"], command["before"][-1], command["after"][-1]) == ("command", "0", "3")
    assert (document["ends"]["a"]["before"]["state"], document["ends"]["a"]["after"]["exit_status"]) == ("succeeded", 3)
    assert document["tasks_added"] == document["tasks_removed"] == document["durations"] == []


def test_a_run_of_the_bash_script_is_compared_by_what_it_records(two_runs: Space) -> None:
    script = two_runs.path / two_runs.miniflow("run", "f", "--dry-run").stdout.strip()
    assert two_runs.bash(script).returncode == 0
    first, _, by_script = runs(two_runs)

    result = two_runs.miniflow("diff", "--exit-code", first, by_script)  # durations differ on a busy machine

    assert result.returncode == 0
    assert result.stdout.splitlines()[-2:] == [
        "",
        f"Run {by_script} has no plan.json: of its plan only what its journal and script tell is compared.",
    ]


def test_what_the_bash_script_says_of_its_tasks_is_compared(two_runs: Space) -> None:
    for changed in (
        {},
        {"env": {"MODE": "fast"}, "cwd": "records", "timeout": 60, "retries": {"max": 1, "on_exit_codes": [75]}},
    ):
        two_runs.flow({"name": "g", "tasks": [{"id": "a", "script": "a.py", "args": [0], **changed}]})
        script = two_runs.path / two_runs.miniflow("run", "g", "--dry-run").stdout.strip()
        assert two_runs.bash(script).returncode == 0
    assert two_runs.miniflow("run", "g").returncode == 0

    changes = json.loads(two_runs.miniflow("diff", *runs(two_runs, "g")[:2], "--json").stdout)["tasks_changed"]["a"]
    assert {change["what"]: change["after"] for change in changes} == {
        "cwd": str(two_runs.records_dir),
        "timeout_s": 60,
        "retry_delays_s": [0],
        "retry_on": [75],
        "env.MODE": "fast",
    }
    assert two_runs.miniflow("diff", "--exit-code", *runs(two_runs, "g")[1:]).returncode == 0


def test_where_a_script_has_run_is_part_of_its_commands(two_runs: Space) -> None:
    script = two_runs.path / two_runs.miniflow("run", "f", "--dry-run").stdout.strip()
    elsewhere = two_runs.path / "elsewhere"
    shutil.copytree(two_runs.tasks_dir, elsewhere)
    assert two_runs.bash(script, env={"MINIFLOW_TASKS_DIR": str(elsewhere)}).returncode == 0
    first, _, by_script = runs(two_runs)

    document = json.loads(two_runs.miniflow("diff", first, by_script, "--json").stdout)

    (command,) = document["tasks_changed"]["a"]
    assert (command["what"], command["after"][-2]) == ("command", str(elsewhere / "a.py"))


def test_the_first_run_has_none_before_it(two_runs: Space) -> None:
    first, _ = runs(two_runs)

    result = two_runs.miniflow("diff", first)

    expected = f'error: run {first} is the first of flow "f": there is none before it to compare with; name two runs\n'
    assert (result.stdout, result.stderr, result.returncode) == ("", expected, 2)
