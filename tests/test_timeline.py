"""A run is read back with its times: what waited for what, how much time there was to spare, and what made it so long."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniflow import read_run
from miniflow.bash import quote, unquote
from miniflow.critical import critical_path, slack_s
from miniflow.errors import MiniFlowError, UsageError
from miniflow.planfile import read_plan
from miniflow.rundir import RunDir
from miniflow.runs import all_runs, find_any_run
from miniflow.timeline import RunReader, TaskTimeline, Timeline, read_timeline
from tests.conftest import Space

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUN_ID = "20260102T030405.000Z-aaaaaa"


def event(at_s: float, name: str, task_id: str | None = None, **own: Any) -> dict[str, Any]:
    timestamp = (START + timedelta(seconds=at_s)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    about = {"task_id": task_id} if task_id else {}
    return {"timestamp": timestamp, "event": name, "flow": "f", "run_id": RUN_ID, **about, **own}


def begin(parallel: int = 2, **own: Any) -> dict[str, Any]:
    return event(0, "run.started", schema=1, parallel=parallel, keep_going=False, params=[], **own)


def start(at_s: float, task_id: str, attempt: int = 1, **own: Any) -> dict[str, Any]:
    return event(at_s, "task.started", task_id, attempt=attempt, pid=7, argv=["bash", f"/t/{task_id}.sh"], **own)


def end(at_s: float, task_id: str, status: int = 0, duration_s: float = 1.0, attempts: int = 1) -> dict[str, Any]:
    state = "failed" if status else "succeeded"
    own = {"state": state, "exit_status": status, "reason": "exit", "duration_s": duration_s, "attempts": attempts}
    return event(at_s, "task.finished", task_id, attempt=attempts, **own)


def finish(at_s: float, state: str = "succeeded", status: int = 0) -> dict[str, Any]:
    return event(at_s, "run.finished", state=state, exit_status=status, duration_s=at_s, counts={})


def record(path: Path, tasks: Mapping[str, list[str]] | None, *events: dict[str, Any], run_id: str = RUN_ID) -> RunDir:
    """Write a run directory by hand; without `tasks` it has no plan."""
    run_dir = RunDir(path / "out" / "f" / run_id)
    run_dir.path.mkdir(parents=True)
    run_dir.journal.write_text("".join(json.dumps(each) + "\n" for each in events))
    if tasks is not None:
        planned = [
            {"id": task_id, "argv": ["bash", f"/t/{task_id}.sh"], "upstream": upstream, "trigger_rule": "all_success"}
            for task_id, upstream in tasks.items()
        ]
        run_dir.plan.write_text(json.dumps({"tasks_dir": "/t", "params": {"date": "today"}, "tasks": planned}))
    return run_dir


def by_id(timeline: Timeline) -> dict[str, TaskTimeline]:
    return {task.id: task for task in timeline.tasks}


DIAMOND = {"load": [], "fast": ["load"], "slow": ["load"], "join": ["fast", "slow"]}
DIAMOND_RUN = (
    begin(),
    start(0.5, "load"),
    end(1.5, "load"),
    start(1.5, "fast"),
    start(2, "slow"),
    end(2.5, "fast"),
    end(6, "slow", duration_s=4.0),
    start(6.25, "join"),
    end(7.25, "join"),
    finish(7.5),
)


def test_a_run_has_its_plan_and_its_times(tmp_path: Path) -> None:
    timeline = read_timeline(record(tmp_path, DIAMOND, *DIAMOND_RUN))

    assert (timeline.flow, timeline.run_id, timeline.state, timeline.exit_status) == ("f", RUN_ID, "succeeded", 0)
    assert (timeline.started_at, timeline.finished_at) == ("2026-01-02T03:04:05.000000Z", "2026-01-02T03:04:12.500000Z")
    assert (timeline.duration_s, timeline.parallel, timeline.keep_going) == (7.5, 2, False)
    assert timeline.params == {"date": "today"}
    assert timeline.counts == {"succeeded": 4}
    assert [task.id for task in timeline.tasks] == list(DIAMOND)
    slow = by_id(timeline)["slow"]
    assert (slow.script, slow.depends_on, slow.trigger_rule) == ("slow.sh", ("load",), "all_success")
    assert (slow.ready_s, slow.started_s, slow.ended_s, slow.waited_s, slow.duration_s) == (1.5, 2, 6, 0.5, 4.0)


def test_slack_is_what_a_task_could_have_ended_later(tmp_path: Path) -> None:
    timeline = read_timeline(record(tmp_path, DIAMOND, *DIAMOND_RUN))

    assert {task.id: task.slack_s for task in timeline.tasks} == {"load": 0.75, "fast": 3.75, "slow": 0.25, "join": 0.0}


def test_the_critical_path_goes_back_by_what_ended_last(tmp_path: Path) -> None:
    timeline = read_timeline(record(tmp_path, DIAMOND, *DIAMOND_RUN))

    assert timeline.critical_path == ("load", "slow", "join")
    assert [task.id for task in timeline.tasks if task.is_critical] == ["load", "slow", "join"]


def test_the_critical_path_goes_through_the_slot_that_a_task_waited_for(tmp_path: Path) -> None:
    run = record(tmp_path, {"a": [], "b": []}, begin(1), start(0, "a"), end(3, "a"), start(3, "b"), end(4, "b"), finish(4))

    assert read_timeline(run).critical_path == ("a", "b")


def test_a_task_that_ends_while_slots_are_free_keeps_nobody_waiting(tmp_path: Path) -> None:
    run = record(tmp_path, {"a": [], "b": []}, begin(2), start(0, "a"), end(3, "a"), start(3, "b"), end(4, "b"), finish(4))

    assert read_timeline(run).critical_path == ("b",)


def test_the_critical_path_goes_through_the_failure_that_cancelled_what_a_task_waited_for(tmp_path: Path) -> None:
    tasks = {"convert": [], "slow": [], "report": ["convert"], "clean_up": ["report"]}
    cancelled = event(3, "task.cancelled", "report", reason="fail_fast")
    run = record(
        tmp_path, tasks, begin(1), start(0, "convert"), end(1, "convert"), start(1, "slow"), end(3, "slow", 1), cancelled,
        start(3, "clean_up"), end(4, "clean_up"), finish(4, "failed", 1),
    )  # fmt: skip

    assert read_timeline(run).critical_path == ("convert", "slow", "clean_up")


def test_each_attempt_has_its_times_and_its_end(tmp_path: Path) -> None:
    retrying = event(1, "task.retrying", "a", attempt=1, delay_s=2, exit_status=137, reason="signal", signal="SIGKILL")
    run = record(tmp_path, {"a": []}, begin(), start(0, "a"), retrying, start(3, "a", 2), end(4, "a", attempts=2), finish(4))

    (task,) = read_timeline(run).tasks
    first, second = task.attempts
    assert (first.number, first.started_s, first.ended_s) == (1, 0, 1)
    assert (first.exit_status, first.reason, first.signal, first.pid) == (137, "signal", "SIGKILL", 7)
    assert (second.number, second.started_s, second.ended_s, second.exit_status) == (2, 3, 4, 0)
    assert second.argv == ("bash", "/t/a.sh")
    assert (task.started_s, task.ended_s) == (0, 4)


def test_a_task_that_could_not_be_started_has_an_attempt_without_a_process(tmp_path: Path) -> None:
    broken = event(
        1, "task.finished", "a", attempt=1, state="failed", exit_status=127, reason="spawn", attempts=1, duration_s=0
    )
    run = record(tmp_path, {"a": []}, begin(), {**broken, "error": "No such file"}, finish(1, "failed", 1))

    (task,) = read_timeline(run).tasks
    assert [(each.pid, each.argv, each.exit_status) for each in task.attempts] == [(None, (), 127)]
    assert task.error == "No such file"


def test_a_live_run_is_told_so_far(tmp_path: Path) -> None:
    run = record(tmp_path, DIAMOND, *DIAMOND_RUN[:4])

    with run.journal.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        timeline = read_timeline(run)

    assert (timeline.state, timeline.exit_status, timeline.critical_path) == ("running", None, ())
    assert timeline.counts == {"succeeded": 1, "running": 1, "pending": 2}
    tasks = by_id(timeline)
    assert tasks["fast"].duration_s is not None
    assert tasks["fast"].duration_s > 1000  # it started in the past
    assert timeline.duration_s is not None
    assert timeline.duration_s > 1000
    assert (tasks["slow"].state, tasks["slow"].ready_s, tasks["slow"].waited_s) == ("pending", 1.5, None)
    assert tasks["join"].ready_s is None
    assert {task.slack_s for task in timeline.tasks} == {None}


def test_a_run_whose_runner_died_is_told_until_its_last_event(tmp_path: Path) -> None:
    timeline = read_timeline(record(tmp_path, DIAMOND, *DIAMOND_RUN[:4]))

    assert (timeline.state, timeline.duration_s, timeline.finished_at) == ("interrupted", 1.5, None)
    assert timeline.counts == {"succeeded": 1, "interrupted": 1, "pending": 2}
    fast = by_id(timeline)["fast"]
    assert (fast.state, fast.ended_s, fast.duration_s) == ("interrupted", None, None)


def test_what_is_added_to_a_journal_is_read_when_it_is_complete(tmp_path: Path) -> None:
    run = record(tmp_path, DIAMOND, *DIAMOND_RUN[:2])
    line = json.dumps(DIAMOND_RUN[2])
    with RunReader(run) as reader, run.journal.open("a") as writer:
        assert len(list(reader.new_events())) == 2
        writer.write(line[:20])
        writer.flush()
        assert list(reader.new_events()) == []
        writer.write(line[20:] + "\n")
        writer.flush()

        assert list(reader.new_events()) == [DIAMOND_RUN[2]]
        assert by_id(reader.timeline())["load"].state == "succeeded"


def test_a_journal_that_has_no_line_yet_is_that_of_a_run_that_begins(tmp_path: Path) -> None:
    run = record(tmp_path, DIAMOND)

    with run.journal.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        timeline = read_timeline(run)

    assert (timeline.flow, timeline.state, timeline.started_at, timeline.duration_s) == ("f", "running", None, 0.0)


def test_a_journal_cut_at_any_byte_can_be_read_and_says_what_the_record_says(tmp_path: Path) -> None:
    run = record(tmp_path, DIAMOND, *DIAMOND_RUN)
    journal = run.journal.read_bytes()

    for length in range(len(journal)):
        run.journal.write_bytes(journal[:length])
        timeline = read_timeline(run)
        result = read_run(run.path)
        assert timeline.state == result.state
        assert {task.id: task.state for task in timeline.tasks if task.state != "pending"} == {
            task_id: task.state for task_id, task in result.tasks.items()
        }


@pytest.mark.parametrize(
    "senseless",
    [
        {"task_id": "a", "event": "task.started", "attempt": "x", "argv": 7, "pid": {}},
        {"task_id": "a", "event": "task.finished", "timestamp": 5},
        {"task_id": 3, "event": "task.started"},
        {"event": "run.finished", "state": "purple"},
    ],
)
def test_an_event_that_says_nothing_sensible_does_no_harm(tmp_path: Path, senseless: dict[str, Any]) -> None:
    timeline = read_timeline(record(tmp_path, {"b": []}, begin(), senseless, start(1, "b"), end(2, "b"), finish(2)))

    assert by_id(timeline)["b"].state == "succeeded"


def test_a_run_without_a_plan_has_the_tasks_of_its_journal(tmp_path: Path) -> None:
    timeline = read_timeline(record(tmp_path, None, begin(), start(0, "b"), end(1, "b"), start(1, "a"), end(2, "a"), finish(2)))

    assert [(task.id, task.script, task.depends_on) for task in timeline.tasks] == [("b", "", ()), ("a", "", ())]
    # Whether they waited, or could have ended later, depends on what they depend on.
    assert {(task.is_planned, task.ready_s, task.waited_s, task.slack_s) for task in timeline.tasks} == {
        (False, None, None, None)
    }


def test_a_plan_that_is_damaged_is_an_error_that_names_it(tmp_path: Path) -> None:
    run = record(tmp_path, {}, begin())
    run.plan.write_text('{"tasks": ')

    with pytest.raises(MiniFlowError, match=r"plan\.json is damaged"):
        read_timeline(run)


HOSTILE = '"${MINIFLOW_TASKS_DIR:-x}"/no.sh'
FLOW = {
    "name": "f",
    "params": {"text": "it's\u2028\ttwo\nlines"},
    "tasks": [
        {"id": "b", "script": "it's here.sh", "env": {"A": HOSTILE, "B": "x"}, "args": [HOSTILE, "\ntask x all_done\n"]},
        {"id": "a", "script": "ok.sh", "depends_on": ["b"], "description": "x\n  task c all_done\n}"},
        {"id": "bad", "script": "bad.sh", "depends_on": ["a"], "retries": 1, "cwd": ".", "timeout": 60},
        {"id": "never", "script": "ok.sh", "depends_on": ["bad", "a"]},
        {"id": "last", "script": "ok.py", "depends_on": ["never"], "trigger_rule": "all_done"},
    ],
}


@pytest.fixture
def project(space: Space) -> Space:
    space.script("it's here.sh")
    space.script("ok.sh")
    space.script("ok.py")
    space.script("bad.sh", "exit 3")
    space.flow(FLOW)
    return space


def outline(timeline: Timeline) -> list[tuple[object, ...]]:
    """What does not depend on the time, nor on who ran it."""
    told = [(timeline.state, timeline.exit_status, timeline.counts, timeline.params, timeline.parallel)]
    tasks = [
        (
            task.id,
            task.script,
            task.depends_on,
            task.trigger_rule,
            task.state,
            task.exit_status,
            task.reason,
            len(task.attempts),
        )
        for task in timeline.tasks
    ]
    return [*told, *tasks]


def test_a_run_of_the_script_reads_like_one_of_the_scheduler(project: Space) -> None:
    assert project.miniflow("run", "f").returncode == 1
    by_scheduler = read_timeline(RunDir(project.latest("f")))
    assert project.miniflow("run", "f", "--dry-run").returncode == 0
    assert project.bash(project.output_dir / "f.sh").returncode == 1
    by_script = read_timeline(RunDir(project.latest("f")))

    assert by_script.run_id != by_scheduler.run_id
    assert outline(by_script) == outline(by_scheduler)
    assert by_script.critical_path == by_scheduler.critical_path == ("b", "a", "bad", "last")
    assert [task.script for task in by_script.tasks] == ["it's here.sh", "ok.sh", "bad.sh", "ok.sh", "ok.py"]


def test_a_script_from_standard_input_leaves_no_plan_and_is_read_by_its_journal(project: Space) -> None:
    project.miniflow("run", "f", "--dry-run")
    script = (project.output_dir / "f.sh").read_text()
    subprocess.run(
        ["bash", "-s"], input=script.encode(), cwd=project.path, env=project.environ(), capture_output=True, check=False
    )

    run = RunDir(project.latest("f"))
    assert read_plan(run) is None
    assert [task.id for task in read_timeline(run).tasks] == ["b", "a", "bad", "never", "last"]


def test_a_script_that_was_edited_until_nothing_can_be_known_leaves_what_the_journal_says(tmp_path: Path) -> None:
    run = record(tmp_path, None, begin(), start(0, "a"), end(1, "a"), finish(1))
    run.script.write_bytes(b"flow() {\n  \xff\n}\n")

    assert [task.id for task in read_timeline(run).tasks] == ["a"]


def test_a_resumed_run_says_what_was_taken_over_and_why_the_rest_ran(project: Space) -> None:
    project.miniflow("run", "f")
    before = project.latest("f").name
    project.miniflow("run", "f", "--resume")

    timeline = read_timeline(RunDir(project.latest("f")))
    assert timeline.resumed_from == before
    tasks = by_id(timeline)
    assert (tasks["b"].state, tasks["b"].reason, tasks["b"].reused_from) == ("succeeded", "reused", before)
    assert (tasks["b"].started_s, tasks["b"].duration_s, tasks["b"].slack_s) == (None, None, None)
    assert tasks["bad"].started_because == "failed"
    assert timeline.critical_path == ("bad", "last")


def test_after_a_failure_what_was_not_started_is_cancelled(space: Space) -> None:
    space.script("bad.sh", "exit 3")
    space.script("ok.sh")
    space.flow({"name": "g", "tasks": [{"id": "bad", "script": "bad.sh"}, {"id": "next", "script": "ok.sh"}]})
    space.miniflow("run", "g")

    timeline = read_timeline(RunDir(space.latest("g")))
    tasks = by_id(timeline)
    assert (tasks["next"].state, tasks["next"].reason, tasks["next"].attempts) == ("cancelled", "fail_fast", ())
    assert timeline.counts == {"failed": 1, "cancelled": 1}


def test_a_run_is_found_by_id_prefix_flow_and_path(tmp_path: Path) -> None:
    older = record(tmp_path, {}, begin(), run_id="20260101T000000.000Z-aaaaaa")
    newer = record(tmp_path, {}, begin(), run_id="20260102T000000.000Z-bbbbbb")
    out = tmp_path / "out"

    assert find_any_run(out).path == newer.path
    assert find_any_run(out, "latest").path == newer.path
    assert find_any_run(out, "f").path == newer.path
    assert find_any_run(out, None, "f").path == newer.path
    assert find_any_run(out, older.run_id).path == older.path
    assert find_any_run(out, "20260101").path == older.path
    assert find_any_run(out, str(older.path)).path == older.path
    assert [run.run_id for run in all_runs(out)] == [newer.run_id, older.run_id]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("202601", "more than one run begins with"),
        ("ff", 'did you mean "f"'),
        ("2027", "there are 20260102T000000.000Z-bbbbbb (f), 20260101"),
        ("no/where", "there is no run directory"),
        ("", "no run or flow"),
    ],
)
def test_a_run_that_is_not_found_is_an_error_that_names_those_that_are(tmp_path: Path, name: str, message: str) -> None:
    record(tmp_path, {}, begin(), run_id="20260101T000000.000Z-aaaaaa")
    record(tmp_path, {}, begin(), run_id="20260102T000000.000Z-bbbbbb")

    with pytest.raises(UsageError) as raised:
        find_any_run(tmp_path / "out", name)
    assert message in str(raised.value)


def test_without_any_run_the_output_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing has been run yet"):
        find_any_run(tmp_path / "out")


def test_a_run_that_has_not_begun_yet_is_not_the_latest(tmp_path: Path) -> None:
    begun = record(tmp_path, {}, begin())
    begun.path.with_name("20270102T030405.000Z-bbbbbb").mkdir()

    assert find_any_run(tmp_path / "out").path == begun.path


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_cannot_be_read_hides_no_other_run(tmp_path: Path) -> None:
    run = record(tmp_path, {}, begin())
    (tmp_path / "out" / "locked").mkdir(mode=0)
    problems: list[MiniFlowError] = []

    assert find_any_run(tmp_path / "out").path == run.path
    assert [each.run_id for each in all_runs(tmp_path / "out", problems=problems)] == [run.run_id]
    assert "locked" in str(problems[0])


@given(st.text())
def test_a_word_of_the_script_is_read_as_it_was(word: str) -> None:
    word = word.replace("\0", "").encode(errors="replace").decode()

    assert unquote(quote(word)) == word


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[list[int]], list[float], list[float], int]:
    """Tasks on so many slots, each begun as soon as its upstream had ended and a slot was free."""
    count = draw(st.integers(1, 12))
    parallel = draw(st.integers(1, 4))
    upstream = [sorted(draw(st.sets(st.integers(0, task - 1), max_size=3))) if task else [] for task in range(count)]
    took = [float(draw(st.integers(1, 9))) for _ in range(count)]
    slots = [0.0] * parallel
    started, ended = [0.0] * count, [0.0] * count
    for task in range(count):
        slot = min(range(parallel), key=slots.__getitem__)
        started[task] = max([slots[slot], *(ended[other] for other in upstream[task])])
        ended[task] = slots[slot] = started[task] + took[task]
    return upstream, started, ended, parallel


@given(schedules())
def test_the_critical_path_ends_last_and_has_no_gap(schedule: tuple[list[list[int]], list[float], list[float], int]) -> None:
    upstream, started, ended, parallel = schedule
    attempts = [(begin_s, end_s, task) for task, (begin_s, end_s) in enumerate(zip(started, ended, strict=True))]

    path = critical_path(upstream, started, ended, attempts, parallel)

    assert ended[path[-1]] == max(ended)
    for before, after in pairwise(path):
        assert ended[before] <= started[after]


@given(schedules())
def test_a_task_that_ends_later_by_its_slack_makes_no_run_longer(
    schedule: tuple[list[list[int]], list[float], list[float], int],
) -> None:
    upstream, started, ended, _ = schedule
    took = [end_s - begin_s for begin_s, end_s in zip(started, ended, strict=True)]

    slack = slack_s(upstream, took, ended)

    for late in range(len(upstream)):
        shifted = list(ended)
        shifted[late] += slack[late]
        for task in range(late + 1, len(upstream)):
            shifted[task] = max([shifted[task], *(shifted[other] + took[task] for other in upstream[task])])
        assert max(shifted) <= max(ended) + 1e-6
        assert 0 <= slack[late] <= max(ended) - ended[late] + 1e-6
