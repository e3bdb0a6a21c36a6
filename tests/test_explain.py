"""`miniflow explain`: why a task ran, was skipped, cancelled or tried again, what it waited for, and how to run it by hand."""

# ruff: noqa: E501  what happens in a case stands on one line

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from miniflow.explain import Known, explain
from miniflow.explaining import explained
from miniflow.journal import lock_journal
from miniflow.rundir import RunDir
from miniflow.timeline import read_timeline
from tests.conftest import Space
from tests.golden_text import GoldenTexts
from tests.test_timeline import begin, end, event, finish, record, start

GOLDEN = GoldenTexts("explain.txt")

TASKS: dict[str, list[str]] = {"a": [], "b": [], "c": ["a", "b"], "d": ["c"]}


def failed(at_s: float, task_id: str, **own: Any) -> dict[str, Any]:
    return end(at_s, task_id, 3) | own


def skipped(at_s: float, task_id: str, reason: str = "upstream_failed") -> dict[str, Any]:
    return event(at_s, "task.skipped", task_id, reason=reason)


def cancelled(at_s: float, task_id: str, reason: str) -> dict[str, Any]:
    return event(at_s, "task.cancelled", task_id, reason=reason)


def retrying(at_s: float, task_id: str, attempt: int = 1, **own: Any) -> dict[str, Any]:
    how = {"delay_s": 1.0, "exit_status": 75, "reason": "exit", **own}
    return event(at_s, "task.retrying", task_id, attempt=attempt, **how)


STOPPED = finish(5, "cancelled", 143)
SUCCEEDS = [start(0, "a"), end(2, "a")]
BOTH = [start(0, "a"), start(0, "b"), end(1, "b"), end(2, "a", duration_s=2.0)]
RETRIES = {"retry_delays_s": [1.0, 2.0], "retry_on": [], "timeout_s": None}

# What is asked about, what has happened, and what else is known.
CASES: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any]]] = {
    "depends on nothing": ("a", [begin(), *SUCCEEDS, finish(2)], {}),
    "depends on one": ("d", [begin(), *BOTH, start(2, "c"), end(3, "c"), start(3, "d"), end(4, "d"), finish(4)], {}),
    "depends on two, and on the critical path": (
        "c",
        [begin(), *BOTH, start(2, "c"), end(3, "c"), start(3, "d"), end(4, "d"), finish(4)],
        {},
    ),
    "had time to spare": ("b", [begin(), *BOTH, start(2, "c"), end(3, "c"), finish(3)], {}),
    "took as long as ever": ("a", [begin(), start(0, "a"), end(2, "a", duration_s=2.0), finish(2)], {"earlier": [1.9, 2.1, 2.2]}),
    "took longer than the run before": ("a", [begin(), start(0, "a"), end(9, "a", duration_s=9.0), finish(9)], {"earlier": [2.0]}),
    "took less than ever": (
        "a",
        [begin(), start(0, "a"), end(61, "a", duration_s=61.0), finish(61)],
        {"earlier": [3600.0, 3000.0, 7200.0]},
    ),
    "waited for a slot": (
        "d",
        [begin(2), start(0, "a"), start(0, "b"), start(4, "c"), end(4, "b"), end(6, "a"), start(6, "d"), end(8, "d"), finish(8)],
        {"tasks": {"a": [], "b": [], "c": [], "d": []}},
    ),
    "waited for the only slot, in which a retry waited": (
        "b",
        [begin(1), start(0, "a"), retrying(1, "a"), start(3, "a", 2), end(4, "a", attempts=2), start(4, "b"), end(5, "b"), finish(5)],
        {},
    ),
    "all_done after a failure": (
        "c",
        [begin(), start(0, "a"), start(0, "b"), failed(1, "a"), end(2, "b"), start(2, "c"), end(3, "c"), finish(3, "failed", 1)],
        {"rule": "all_done"},
    ),
    "one_failed after a failure": (
        "c",
        [begin(), start(0, "a"), start(0, "b"), failed(1, "a"), end(2, "b"), start(2, "c"), end(3, "c"), finish(3, "failed", 1)],
        {"rule": "one_failed"},
    ),
    "one_failed without a failure": ("c", [begin(), *BOTH, skipped(2, "c", "no_failure"), finish(2)], {"rule": "one_failed"}),
    "skipped after a failure": (
        "c",
        [begin(), start(0, "a"), start(0, "b"), failed(1, "a"), end(2, "b"), skipped(2, "c"), finish(2, "failed", 1)],
        {},
    ),
    "skipped after what was skipped after a failure": (
        "d",
        [begin(), start(0, "a"), start(0, "b"), failed(1, "a"), end(2, "b"), skipped(2, "c"), skipped(2, "d"), finish(2, "failed", 1)],
        {},
    ),
    "skipped after what needs no failure": (
        "d",
        [begin(), *BOTH, skipped(2, "c", "no_failure"), skipped(2, "d", "upstream_skipped"), finish(2)],
        {},
    ),
    "skipped as one was cancelled": (
        "c",
        [begin(), start(0, "a"), failed(1, "a"), cancelled(1, "b", "fail_fast"), skipped(1, "c"), finish(1, "failed", 1)],
        {},
    ),
    "cancelled by fail-fast": (
        "b",
        [begin(1), start(0, "a"), failed(1, "a"), cancelled(1, "b", "fail_fast"), finish(1, "failed", 1)],
        {},
    ),
    "cancelled before it ran, as the run was stopped": ("c", [begin(), *BOTH[:2], cancelled(1, "c", "stopped"), STOPPED], {}),
    "cancelled before it ran, out of time": (
        "c",
        [begin(), *BOTH[:2], cancelled(1, "c", "timeout"), finish(1, "failed", 124)],
        {},
    ),
    "stopped while it ran": (
        "a",
        [begin(), start(0, "a"), failed(4, "a", state="cancelled", exit_status=143, reason="signal", signal="SIGTERM"), STOPPED],
        {},
    ),
    "out of the run's time while it ran": (
        "a",
        [begin(), start(0, "a"), failed(4, "a", state="cancelled", exit_status=124, reason="timeout"), finish(4, "failed", 124)],
        {},
    ),
    "succeeded at the third attempt": (
        "a",
        [
            begin(),
            start(0, "a"),
            retrying(1, "a"),
            start(2, "a", 2),
            retrying(4, "a", 2, exit_status=137, reason="signal", signal="SIGKILL"),
            start(6.25, "a", 3),
            end(7, "a", attempts=3, duration_s=7.0),
            finish(7),
        ],
        {"planned": RETRIES},
    ),
    "failed with all retries used up": (
        "a",
        [begin(), start(0, "a"), retrying(1, "a"), start(2, "a", 2), failed(3, "a", attempt=2, attempts=2), finish(3, "failed", 1)],
        {"planned": {**RETRIES, "retry_delays_s": [1.0]}},
    ),
    "failed without retries": ("a", [begin(), start(0, "a"), failed(1, "a"), finish(1, "failed", 1)], {"planned": {"retry_delays_s": []}}),
    "failed in a way that is not worth a retry": (
        "a",
        [begin(), start(0, "a"), failed(1, "a"), finish(1, "failed", 1)],
        {"planned": {**RETRIES, "retry_on": [75, 76]}},
    ),
    "could not be started": (
        "a",
        [
            begin(),
            failed(1, "a", exit_status=127, reason="spawn", error="No such file or directory: /bin/nothing"),
            finish(1, "failed", 1),
        ],
        {"planned": RETRIES},
    ),
    "ran into its timeout": (
        "a",
        [begin(), start(0, "a"), failed(90, "a", exit_status=124, reason="timeout"), finish(90, "failed", 1)],
        {"planned": {"retry_delays_s": [], "timeout_s": 90}},
    ),
    "taken over by a resumed run": (
        "a",
        [begin(resumed_from="OLD"), event(0, "task.reused", "a", reason="unchanged", reused_from="OLDER"), finish(0)],
        {},
    ),
    "runs again in a resumed run": (
        "a",
        [begin(resumed_from="OLD"), start(0, "a", reason="script_changed"), end(2, "a"), finish(2)],
        {},
    ),
    "depends on what was taken over": (
        "d",
        [begin(resumed_from="OLD"), event(0, "task.reused", "c", reason="unchanged", reused_from="OLD"), start(0, "d"), end(1, "d"), finish(1)],
        {},
    ),
    "live: waits for upstream": ("c", [begin(), *BOTH[:3], retrying(1, "a")], {"live": True}),
    "live: waits for the one it depends on": ("d", [begin(), *BOTH], {"live": True}),
    "interrupted while it ran": ("a", [begin(), start(0, "a"), start(1, "b")], {}),
    "interrupted before it ran": ("c", [begin(), start(0, "a"), start(1, "b"), end(2, "b")], {}),
    "between two attempts when the runner died": ("a", [begin(), start(0, "a"), retrying(1, "a")], {"planned": RETRIES}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_case_is_told_in_sentences(tmp_path: Path, name: str) -> None:
    asked, events, more = CASES[name]
    run_dir = record(tmp_path, more.get("tasks", TASKS), *events)
    if "rule" in more:
        plan = json.loads(run_dir.plan.read_text())
        plan["tasks"][2]["trigger_rule"] = more["rule"]
        run_dir.plan.write_text(json.dumps(plan))

    GOLDEN.check(
        name, sentences(run_dir, asked, Known(more.get("planned", {}), more.get("earlier", ())), more.get("live", False))
    )


def sentences(run_dir: RunDir, asked: str, known: Known = Known(), live: bool = False) -> str:  # noqa: B008  frozen
    with run_dir.journal.open("a") as journal:
        if live:
            lock_journal(journal.fileno())
        run = read_timeline(run_dir)
        (task,) = [task for task in run.tasks if task.id == asked]
        return "\n".join(explain(run, task, known))


def test_what_a_task_depends_on_is_not_guessed_where_it_is_not_recorded(tmp_path: Path) -> None:
    failed_first = [start(0, "a"), failed(2, "a"), skipped(2, "b"), start(2, "c"), end(3, "c")]
    run = record(tmp_path, None, begin(1), *failed_first, skipped(3, "d", "no_failure"), finish(3, "failed", 1))
    unknown = "what it depends on is recorded nowhere, as the run has neither plan.json nor flow.sh."

    ran = [sentences(run, task_id).splitlines() for task_id in "ac"]

    assert [lines[0] for lines in ran] == [f"It ran; {unknown}"] * 2
    assert not [line for lines in ran for line in lines if "waited" in line or "could have ended" in line]
    assert sentences(run, "b") == f"It was skipped (upstream_failed); {unknown}"
    assert sentences(run, "d") == f"It was skipped (no_failure); {unknown}"


def test_a_retry_that_waits_has_the_only_slot(tmp_path: Path) -> None:
    retrying = event(1, "task.retrying", "a", attempt=1, exit_status=75, reason="exit", delay_s=20.0)
    text = sentences(record(tmp_path, TASKS, begin(1), start(0, "a"), retrying), "b", live=True)

    assert text.startswith("Nothing that it depends on is missing, but the only slot is taken, by a (")


def test_a_retry_tells_how_long_it_waited_for_a_slot(tmp_path: Path) -> None:
    retrying = event(1, "task.retrying", "a", attempt=1, exit_status=75, reason="exit", delay_s=2.0)
    run = record(tmp_path, TASKS, begin(2), start(0, "a"), retrying, start(9, "a", 2), end(9.5, "a", attempts=2), finish(10))

    text = sentences(run, "a", Known({"retry_delays_s": [2.0]}))

    assert "the next one came 8.00 s later (delay 2.00 s; retry 1 of 1), of which it waited 6.00 s for a slot." in text


def test_a_task_for_which_a_slot_is_free_is_about_to_start(tmp_path: Path) -> None:
    text = sentences(record(tmp_path, TASKS, begin(2), start(0, "a")), "b", live=True)

    assert text == "Nothing that it depends on is missing: it is about to start."


def test_a_task_that_could_start_names_those_that_have_the_slots(tmp_path: Path) -> None:
    text = sentences(record(tmp_path, TASKS, begin(1), start(0, "a")), "b", live=True)

    assert text.startswith("Nothing that it depends on is missing, but the only slot is taken, by a (")


def test_a_task_that_runs_says_for_how_long(tmp_path: Path) -> None:
    text = sentences(record(tmp_path, TASKS, begin(1), start(0, "a")), "a", live=True)

    assert text.startswith("It ran because it depends on no task.\nIt has been running for ")


# --- the command


@pytest.fixture
def project(space: Space) -> Space:
    space.recorder()
    env = {"BEHAVIOUR": "[3, 0]", "TEXT": "it's"}
    tasks = [
        {"id": "a", "script": "record.py", "args": ["x y"], "env": env, "retries": 1, "cwd": "records"},
        {"id": "b", "script": "record.py", "depends_on": "a", "env": {"BEHAVIOUR": "[4]"}},
        {"id": "c", "script": "record.py", "depends_on": "b"},
    ]
    space.flow({"name": "f", "params": {"p": 1}, "tasks": tasks})
    return space


def test_the_command_tells_of_a_task_of_the_latest_run_and_how_to_run_it_again(project: Space) -> None:
    project.miniflow("run", "f")

    result = project.miniflow("explain", "a")

    run_id = project.latest("f").name
    lines = result.stdout.splitlines()
    assert lines[:3] == [f"a succeeded in run {run_id} of f", "", "It ran because it depends on no task."]
    assert lines[3].startswith("Attempt 1 failed with exit status 3 after 0.")
    assert lines[-2] == "To run it again by hand:"
    assert (result.stderr, result.returncode) == ("", 0)

    before = project.records()["a.1"]
    again = subprocess.run(
        ["bash", "-c", lines[-1].strip()],
        env=project.environ({"MINIFLOW_ATTEMPT": "7", "MINIFLOW_TASK_ID": "again"}),
        check=False,
    )
    assert again.returncode == 0  # what it does from the second attempt on
    after = project.records()["again.7"]
    assert (after["argv"], after["cwd"], after["env"]["TEXT"]) == (before["argv"], before["cwd"], "it's")


def test_a_run_may_be_named_and_the_earlier_ones_are_compared_with(project: Space) -> None:
    for _ in range(3):
        project.miniflow("run", "f")
    first, _, last = sorted(path.name for path in (project.output_dir / "f").glob("2*"))

    assert "there is no earlier run to compare with" in project.miniflow("explain", "a", first).stdout
    assert "in earlier runs (" in project.miniflow("explain", "a", last).stdout
    assert "at the median of 2, " in project.miniflow("explain", "a", "f").stdout


def test_json_has_the_sentences_and_what_they_are_made_of(project: Space) -> None:
    project.miniflow("run", "f")

    document = json.loads(project.miniflow("explain", "b", "--json").stdout)

    assert (document["task_id"], document["state"], document["exit_status"], document["reason"]) == ("b", "failed", 4, "exit")
    assert document["sentences"][0].startswith("It ran because what it depends on had succeeded (all_success); a was the last")
    assert document["command"].endswith("/record.py")
    assert [attempt["exit_status"] for attempt in document["attempts"]] == [4]
    assert document["depends_on"] == ["a"]
    assert json.loads(project.miniflow("explain", "c", "--json").stdout)["sentences"] == [
        "It was skipped: it runs if all that it depends on succeed (all_success), but b failed with exit status 4."
    ]


def test_a_run_of_the_bash_script_is_explained_alike(project: Space) -> None:
    project.miniflow("run", "f")
    by_scheduler = {task_id: json.loads(project.miniflow("explain", task_id, "--json").stdout) for task_id in "abc"}
    script = project.path / project.miniflow("run", "f", "--dry-run").stdout.strip()
    project.bash(script)

    for task_id, expected in by_scheduler.items():
        by_script = json.loads(project.miniflow("explain", task_id, "--json").stdout)

        assert by_script["run_id"] == project.latest("f").name != expected["run_id"]
        assert by_script["command"] == expected["command"]
        assert timeless(by_script["sentences"]) == timeless(expected["sentences"])


def timeless(sentences: list[str]) -> list[str]:
    """Return sentences without what differs from run to run: times, and what is told of long ones alone."""
    return [re.sub(r"\d+\.\d+ s", "…", line) for line in sentences if not line.startswith(("It took ", "It waited "))]


def test_a_secret_stands_in_the_command_by_its_name_alone(space: Space) -> None:
    space.script("a.py")
    space.flow({"name": "f", "secret_env": "API_TOKEN", "tasks": [{"id": "a", "script": "a.py"}]})
    space.miniflow("run", "f", env={"API_TOKEN": "hidden-value"})

    text = space.miniflow("explain", "a").stdout

    assert 'API_TOKEN="${API_TOKEN:?}"' in text
    assert "hidden-value" not in text


def test_on_a_terminal_words_stay_whole_and_the_command_stays_on_one_line(project: Space) -> None:
    project.miniflow("run", "f")
    run_dir = RunDir(project.latest("f"))

    narrow = explained(run_dir, "c", as_json=False, width=40)
    wide = explained(run_dir, "c", as_json=False)

    assert (
        "\nIt was skipped: it runs if all that it\ndepends on succeed (all_success), but b\nfailed with exit status 4.\n"
        in narrow
    )
    assert narrow.splitlines()[-1] == wide.splitlines()[-1]
    assert narrow.split() == wide.split()


def test_an_unknown_task_is_an_error_with_a_suggestion(project: Space) -> None:
    project.miniflow("run", "f")

    result = project.miniflow("explain", "aa")

    run_id = project.latest("f").name
    assert result.stderr == f'error: run {run_id} of flow "f" has no task "aa"; did you mean "a"?\n'
    assert (result.stdout, result.returncode) == ("", 2)
