"""Resuming a run: what is taken over, what runs again, and what is said about it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from miniflow import MiniFlow, MiniFlowError, ParamsError, RunResult, UsageError, plan_flow, read_run, run_flow, write_script
from tests.conftest import Space, events, only

SCRIPT = """
echo "$MINIFLOW_TASK_ID" >>"$RECORDS/ran"
[ ! -e "$RECORDS/fail $MINIFLOW_TASK_ID" ]
"""
"""Notes that it ran, and fails if a file says so."""


def task(task_id: str, *upstream: str, **fields: Any) -> dict[str, Any]:
    return {"id": task_id, "script": f"{task_id}.sh", "depends_on": list(upstream), **fields}


class World:
    """A flow that is changed and run again."""

    def __init__(self, space: Space, *tasks: dict[str, Any], **fields: Any) -> None:
        self.space = space
        self.flow: dict[str, Any] = {"name": "x", "tasks": list(tasks), **fields}
        for each in tasks:
            space.script(each["script"], SCRIPT)

    def __getitem__(self, task_id: str) -> dict[str, Any]:
        return next(each for each in self.flow["tasks"] if each["id"] == task_id)

    def fails(self, *task_ids: str) -> None:
        """Say which tasks fail from now on."""
        for path in self.space.records_dir.glob("fail *"):
            path.unlink()
        for task_id in task_ids:
            (self.space.records_dir / f"fail {task_id}").touch()

    def run(self, **options: Any) -> RunResult:
        with recording(self.space), contextlib.chdir(self.space.path):
            return anyio.run(lambda: run_flow(self.flow, **self.space.directories, **options))

    def resume(self, **options: Any) -> RunResult:
        """Resume the latest run; check that what is said of each task is what happened to it."""
        before = self.ran()
        result = self.run(**{"resume": True, **options})
        ran = self.ran()[len(before) :]
        journal = events(result.run_dir)
        first_starts = [event for event in only(journal, "task.started") if event["attempt"] == 1]
        assert sorted(ran) == sorted(event["task_id"] for event in only(journal, "task.started"))
        assert all(event["reason"] for event in first_starts)
        reused = {event["task_id"]: event["reused_from"] for event in only(journal, "task.reused")}
        for task_id, origin in reused.items():
            end = result.tasks[task_id]
            assert (end.state, end.reason, end.exit_status, end.attempts) == ("succeeded", "reused", 0, 0)
            assert end.reused_from == origin
            assert (result.run_dir / "status" / task_id).read_text() == "0\n"
            assert not (result.run_dir / "logs" / f"{task_id}.jsonl").exists()
        assert read_run(result.run_dir) == result
        return result

    def ran(self) -> list[str]:
        path = self.space.records_dir / "ran"
        return path.read_text().split() if path.exists() else []


@contextlib.contextmanager
def recording(space: Space) -> Iterator[None]:
    os.environ["RECORDS"] = str(space.records_dir)
    try:
        yield
    finally:
        del os.environ["RECORDS"]


def reasons(result: RunResult) -> dict[str, str]:
    """Return why each task ran, or that it was reused, was skipped or was cancelled."""
    found = {}
    for event in events(result.run_dir):
        if event["event"] == "task.started" and event["attempt"] == 1:
            found[event["task_id"]] = event["reason"]
        elif event["event"] in ("task.reused", "task.skipped", "task.cancelled"):
            found[event["task_id"]] = event["event"].removeprefix("task.")
    return found


def chain(space: Space, **fields: Any) -> World:
    return World(space, task("a"), task("b", "a"), task("c", "b"), task("d"), **fields)


# --- what runs again, and why


def test_what_failed_runs_again_with_what_depends_on_it_and_the_rest_is_taken_over(space: Space) -> None:
    world = chain(space)
    world.fails("b")
    first = world.run(keep_going=True)
    world.fails()

    result = world.resume()

    assert reasons(result) == {"a": "reused", "b": "failed", "c": "skipped", "d": "reused"}
    assert (result.state, result.resumed_from) == ("succeeded", first.run_id)
    assert result.tasks["a"].reused_from == first.run_id
    assert world.ran() == ["a", "b", "d", "b", "c"]


def test_a_run_that_succeeded_is_taken_over_whole(space: Space) -> None:
    world = chain(space)
    first = world.run()

    result = world.resume(parallel=3)

    assert set(reasons(result).values()) == {"reused"}
    assert result.state == "succeeded"
    assert world.ran() == ["a", "b", "c", "d"]
    (finished,) = only(events(result.run_dir), "run.finished")
    assert (finished["counts"]["succeeded"], finished["reused"]) == (4, 4)
    assert finished["message"].endswith(": 4 succeeded (4 reused)")
    summary = json.loads((result.run_dir / "run.json").read_text())
    assert (summary["reused"], summary["resumed_from"]) == (4, first.run_id)
    assert summary["tasks"]["a"] == {
        "state": "succeeded", "exit_status": 0, "reason": "reused", "attempts": 0, "reused_from": first.run_id
    }  # fmt: skip


def test_a_task_is_said_to_come_from_the_run_in_which_it_ran(space: Space) -> None:
    world = chain(space)
    world.fails("c")
    first = world.run()
    second = world.resume()
    world.fails()

    third = world.resume()

    assert second.tasks["a"].reused_from == third.tasks["a"].reused_from == first.run_id
    assert third.tasks["c"].reused_from is None
    assert (second.resumed_from, third.resumed_from) == (first.run_id, second.run_id)


CHANGES: dict[str, tuple[Callable[[World], object], str]] = {
    "args": (lambda world: world["b"].update(args=["x"]), "command_changed"),
    "env": (lambda world: world["b"].update(env={"V": "1"}), "env_changed"),
    "cwd": (lambda world: world["b"].update(cwd="/"), "cwd_changed"),
    "its script": (lambda world: world.space.script("b.sh", SCRIPT + "# changed"), "script_changed"),
    "the name of its script": (
        lambda world: world["b"].update(script=world.space.script("other.sh", SCRIPT).name),
        "command_changed",
    ),
    "its upstream": (lambda world: world["b"].update(depends_on=["a", "d"]), "depends_on_changed"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_task_that_has_changed_runs_again_with_what_depends_on_it(space: Space, what: str) -> None:
    world = chain(space)
    world.run()
    change, reason = CHANGES[what]
    change(world)

    result = world.resume()

    assert reasons(result) == {"a": "reused", "b": reason, "c": "upstream", "d": "reused"}


def test_a_change_of_the_flows_env_runs_every_task_again(space: Space) -> None:
    world = chain(space)
    world.run()
    world.flow["env"] = {"V": "1"}

    assert set(reasons(world.resume()).values()) == {"env_changed"}


UNIMPORTANT: dict[str, Callable[[World], object]] = {
    "a description": lambda world: world["b"].update(description="new"),
    "retries and a timeout": lambda world: world["b"].update(retries=3, timeout=60),
    "a rule that is as true": lambda world: world["b"].update(trigger_rule="all_done"),
    "the order of the file": lambda world: world.flow["tasks"].reverse(),
    "less to wait for": lambda world: world["c"].update(depends_on=[]),
    "a touch of its script": lambda world: os.utime(world.space.tasks_dir / "b.sh", (1, 1)),
    "a copy of its script in its place": lambda world: (
        world.space.script("copy.sh", SCRIPT).replace(world.space.tasks_dir / "b.sh")
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNIMPORTANT)
def test_what_changes_nothing_about_what_a_task_does_is_no_reason_to_run_it(space: Space, what: str) -> None:
    world = chain(space)
    world.run()
    UNIMPORTANT[what](world)

    assert set(reasons(world.resume()).values()) == {"reused"}


def test_new_tasks_run_and_those_that_are_gone_are_not_missed(space: Space) -> None:
    world = chain(space)
    world.run()
    world.flow["tasks"] = [world["a"], task("new", "a"), task("b", "new")]
    space.script("new.sh", SCRIPT)

    assert reasons(world.resume()) == {"a": "reused", "new": "new", "b": "depends_on_changed"}


def test_fail_fast_leaves_tasks_that_were_cancelled_and_they_run(space: Space) -> None:
    world = chain(space)
    world.fails("a")
    world.run()
    world.fails()

    assert reasons(world.resume()) == {"a": "failed", "b": "skipped", "c": "skipped", "d": "cancelled"}


def test_what_no_rule_lets_run_is_skipped_again_and_what_comes_after_it_is_taken_over(space: Space) -> None:
    world = World(
        space,
        task("a"),
        task("alarm", "a", trigger_rule="one_failed"),
        task("after", "alarm"),
        task("report", "alarm", "after", trigger_rule="all_done"),
        task("bad", "report"),
    )
    world.fails("bad")
    world.run()
    world.fails()

    result = world.resume()

    assert reasons(result) == {"a": "reused", "alarm": "skipped", "after": "skipped", "report": "reused", "bad": "failed"}


def test_a_task_that_ran_for_a_failure_runs_again_when_that_runs_again(space: Space) -> None:
    world = World(space, task("a"), task("clean", "a", trigger_rule="all_done"), task("alarm", "a", trigger_rule="one_failed"))
    world.fails("a")
    world.run()
    world.fails()

    result = world.resume()

    assert reasons(result) == {"a": "failed", "clean": "upstream", "alarm": "skipped"}
    assert result.state == "succeeded"


def test_a_rule_that_is_false_now_skips_a_task_that_succeeded(space: Space) -> None:
    world = World(space, task("a"), task("b", "a"), task("c", "b", trigger_rule="all_done"))
    world.run()
    world["b"]["trigger_rule"] = "one_failed"

    assert reasons(world.resume()) == {"a": "reused", "b": "skipped", "c": "upstream"}


def test_the_message_says_in_words_why_a_task_runs_and_why_it_does_not(space: Space) -> None:
    world = chain(space)
    first = world.run()
    space.script("b.sh", SCRIPT + "#")

    journal = events(world.resume().run_dir)

    assert [event["message"] for event in journal if event["event"] in ("run.started", "task.reused", "task.started")] == [
        f"run {journal[0]['run_id']} of x started, resuming {first.run_id}",
        f"a not run again: it succeeded in {first.run_id}, and nothing about it has changed",
        f"d not run again: it succeeded in {first.run_id}, and nothing about it has changed",
        "b started again: its script has changed",
        "c started again: what it depends on has changed",
    ]


def test_a_later_attempt_has_no_reason_and_neither_has_a_run_that_resumes_nothing(space: Space) -> None:
    world = World(space, task("a", retries=1))
    world.fails("a")
    first = world.run()
    second = world.resume()

    assert all("reason" not in event for event in only(events(first.run_dir), "task.started"))
    assert [event.get("reason") for event in only(events(second.run_dir), "task.started")] == ["failed", None]
    assert "resumed_from" not in events(first.run_dir)[0]


def test_a_task_that_is_taken_over_takes_no_slot_and_does_not_wait(space: Space) -> None:
    world = World(space, task("long"), *[task(f"t{n}", *([f"t{n - 1}"] if n else [])) for n in range(50)])
    world.fails("long")
    world.run(keep_going=True)

    journal = events(world.resume().run_dir)

    assert [event["event"] for event in journal[1:51]] == ["task.reused"] * 50


# --- the script's content


def test_a_script_that_changes_after_planning_is_not_taken_for_the_planned_one(space: Space) -> None:
    world = chain(space)
    space.script("a.sh", f"echo '# another' >{space.tasks_dir}/b.sh\n{SCRIPT}")
    first = world.run()
    assert first.state == "succeeded"
    (started,) = (event for event in only(events(first.run_dir), "task.started") if event["task_id"] == "b")
    planned = json.loads((first.run_dir / "plan.json").read_text())["tasks"][1]
    assert started["script_sha256"] not in (None, planned["script_sha256"])

    same = world.resume()  # what ran is what is there now
    space.script("b.sh", SCRIPT)  # what was planned, but did not run
    other = world.resume()

    assert set(reasons(same).values()) == {"reused"}
    assert reasons(other) == {"a": "reused", "b": "script_changed", "c": "upstream", "d": "reused"}


def test_a_script_that_cannot_be_read_when_its_task_starts_is_never_taken_over(space: Space) -> None:
    world = chain(space)
    gone = space.tasks_dir / "gone.sh"
    space.script("a.sh", f"mv {space.tasks_dir}/b.sh {gone}\n{SCRIPT}")
    first = world.run(keep_going=True)
    (started,) = (event for event in only(events(first.run_dir), "task.started") if event["task_id"] == "b")
    assert started["script_sha256"] is None
    gone.rename(space.tasks_dir / "b.sh")
    lines = (first.run_dir / "events.jsonl").read_text().replace('"state":"failed"', '"state":"succeeded"')
    (first.run_dir / "events.jsonl").write_text(lines)  # as if it had read its script through a descriptor
    assert read_run(first.run_dir).tasks["b"].state == "succeeded"

    assert reasons(world.resume())["b"] == "script_changed"


def test_only_what_is_not_as_planned_is_in_the_events(space: Space) -> None:
    result = chain(space).run()

    assert all("script_sha256" not in event for event in only(events(result.run_dir), "task.started"))


# --- parameters


def test_the_parameters_given_to_the_run_before_are_taken_over(space: Space) -> None:
    world = chain(space, params={"p": 1, "q": 2})
    first = world.run(params={"p": 5})
    world.flow["params"]["q"] = 2

    result = world.resume()

    assert set(reasons(result).values()) == {"reused"}
    plan = json.loads((result.run_dir / "plan.json").read_text())
    assert (plan["params"], plan["given_params"]) == ({"p": 5, "q": 2}, {"p": 5})
    assert first.resumed_from is None


def test_a_default_that_has_changed_is_a_change_of_the_parameters(space: Space) -> None:
    world = chain(space, params={"p": 1, "q": 2})
    world.run(params={"p": 5})
    world.flow["params"]["q"] = 3

    result = world.resume()

    assert set(reasons(result).values()) == {"params_changed"}
    assert json.loads((result.run_dir / "plan.json").read_text())["params"] == {"p": 5, "q": 3}


@pytest.mark.parametrize(("given", "reason"), [({"p": 5}, "reused"), ({"p": 6}, "params_changed"), ({}, "params_changed")])
def test_parameters_that_are_given_count(space: Space, given: dict[str, Any], reason: str) -> None:
    world = chain(space, params={"p": 1})
    world.run(params={"p": 5})

    assert set(reasons(world.resume(params=given)).values()) == {reason}


def test_parameters_of_the_run_before_that_the_flow_does_not_take_any_more_are_said_to_be_that_runs(space: Space) -> None:
    world = chain(space, params={"p": 1, "q": 2})
    first = world.run(params={"q": 5})
    del world.flow["params"]["q"]

    with pytest.raises(ParamsError, match=rf'declares no parameter "q".*\nparams: .* run {first.run_id} was given'):
        world.run(resume=True)

    assert set(reasons(world.resume(params={})).values()) == {"params_changed"}


def test_a_parameter_that_is_equal_for_python_alone_has_changed(space: Space) -> None:
    world = chain(space)
    world.run(params={"p": 1})

    assert set(reasons(world.resume(params={"p": True})).values()) == {"params_changed"}


# --- which run


def test_a_run_is_named_by_its_id_or_a_beginning_of_it(space: Space) -> None:
    world = chain(space)
    first, second = world.run(), world.run()

    shared = next(n for n in range(99) if first.run_id[n] != second.run_id[n])
    unique = second.run_id[: shared + 1]
    assert world.resume(resume=unique).resumed_from == second.run_id
    assert world.resume(resume=first.run_id).resumed_from == first.run_id
    assert world.resume(resume="latest").resumed_from != first.run_id


@pytest.mark.parametrize("latest", ["missing", "dangling", "a file", "elsewhere"])
def test_without_a_latest_it_is_the_newest(space: Space, latest: str) -> None:
    world = chain(space)
    world.run()
    second = world.run()
    link = space.output_dir / "x" / "latest"
    link.unlink()
    if latest == "dangling":
        link.symlink_to("20200101T000000.000Z-000000")
    elif latest == "elsewhere":
        link.symlink_to(space.path)
    elif latest == "a file":
        link.touch()

    assert world.resume().resumed_from == second.run_id


def test_latest_counts_before_the_name(space: Space) -> None:
    world = chain(space)
    first = world.run()
    world.run()
    link = space.output_dir / "x" / "latest"
    link.unlink()
    link.symlink_to(first.run_id)

    assert world.resume().resumed_from == first.run_id


@pytest.mark.parametrize("name", ["2", "", "2019", "../x", "latest2", "20"])
def test_a_name_that_names_no_run_or_many_is_refused_with_those_that_there_are(space: Space, name: str) -> None:
    world = chain(space)
    runs = [world.run(), world.run()]

    with pytest.raises(UsageError) as error:
        world.run(resume=name)

    assert all(run.run_id in str(error.value) for run in runs)
    assert len(list((space.output_dir / "x").iterdir())) == 3


def test_a_flow_that_was_not_run_yet_cannot_be_resumed(space: Space) -> None:
    with pytest.raises(UsageError, match='flow "x" has not been run yet'):
        chain(space).run(resume=True)

    assert not space.output_dir.exists()


@pytest.mark.parametrize(
    ("output_dir", "words"), [("", "output directory is empty"), ("a\0b", "NUL"), ("loop", "runs of flow")]
)
def test_an_output_directory_that_is_none_is_a_usage_error_in_a_resumed_run_too(
    space: Space, output_dir: str, words: str
) -> None:
    (space.path / "loop").mkdir()
    (space.path / "loop" / "x").symlink_to("x")
    world = chain(space)

    with contextlib.chdir(space.path), pytest.raises(UsageError, match=words):
        anyio.run(lambda: run_flow(world.flow, **{**space.directories, "output_dir": output_dir}, resume=True))


@pytest.mark.parametrize("resume", [1, None, b"latest"])
def test_what_names_no_run_at_all_is_refused(space: Space, resume: Any) -> None:
    with pytest.raises(UsageError, match="resume must be"):
        chain(space).run(resume=resume)


def test_a_run_of_the_script_cannot_be_resumed_and_that_is_said(space: Space) -> None:
    world = chain(space)
    with contextlib.chdir(space.path):
        script = write_script(plan_flow(world.flow, **space.directories))
    assert space.bash(script).returncode == 0

    with pytest.raises(UsageError, match=r"it has no plan\.json, like all runs of the bash script"):
        world.run(resume=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: "null",
        lambda text: text.replace('"schema": 1', '"schema": 2'),
        lambda text: text.replace('"argv"', '"argw"'),
        lambda text: text.replace('"given_params": {}', '"given_params": 3'),
        lambda text: '{"schema": 1, "params": {}, "given_params": {}, "tasks": [1]}',
    ],
)
def test_a_plan_that_is_none_is_refused(space: Space, damage: Callable[[str], str]) -> None:
    world = chain(space)
    result = world.run()
    plan = result.run_dir / "plan.json"
    plan.write_text(damage(plan.read_text()))

    with pytest.raises(MiniFlowError, match=rf"run {result.run_id} cannot be resumed: .*plan\.json is damaged"):
        world.run(resume=True)

    assert len(list((space.output_dir / "x").iterdir())) == 2


def test_a_plan_that_never_ends_is_not_read(space: Space) -> None:
    world = chain(space)
    plan = world.run().run_dir / "plan.json"
    plan.unlink()
    os.mkfifo(plan)

    with pytest.raises(UsageError, match=r"cannot be resumed: .*plan\.json is no file"):
        world.run(resume=True)


def test_a_flow_that_is_wrong_now_is_refused_before_anything_happens(space: Space) -> None:
    world = chain(space)
    world.run()
    world["b"]["depends_on"] = ["gone"]

    with pytest.raises(MiniFlowError, match="gone"):
        world.run(resume=True)

    assert len(list((space.output_dir / "x").iterdir())) == 2


# --- the command line


def command_of(world: World, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    world.space.flow(world.flow)
    return world.space.miniflow("run", *args, env=env)


@pytest.mark.parametrize("args", [["x", "--resume"], ["--resume", "x"], ["--resume", "latest", "x"], ["--resume=latest", "x"]])
def test_the_command_line_resumes_the_latest_run(space: Space, args: list[str]) -> None:
    world = chain(space)
    world.fails("c")
    assert command_of(world, "x").returncode == 1
    world.fails()

    done = command_of(world, *args, "--log-format", "console")

    assert done.returncode == 0
    assert "c started again: it failed\n" in done.stderr
    assert "3 reused" in done.stderr or "2 reused" in done.stderr
    assert read_run(space.latest("x")).tasks["a"].reason == "reused"


def test_the_command_line_resumes_a_run_by_its_id(space: Space) -> None:
    world = chain(space)
    command_of(world, "x")
    first = space.latest("x").name
    command_of(world, "x")

    assert command_of(world, "x", "--resume", first).returncode == 0
    assert read_run(space.latest("x")).resumed_from == first


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["x", "--resume", "--dry-run"], "--dry-run and --resume do not go together"),
        (["x", "--resume", "nope"], 'no run of flow "x" is called "nope"; there are'),
        (["x", "--resume="], 'no run of flow "x" is called ""; there are'),
        (["y", "--resume"], 'flow "y" has not been run yet'),
        (["--resume"], "Missing argument 'FLOW'"),
        ([], "Missing argument 'FLOW'"),
    ],
)
def test_what_cannot_be_resumed_is_one_clear_error(space: Space, args: list[str], words: str) -> None:
    world = chain(space)
    command_of(world, "x")
    space.flow({**world.flow, "name": "y"})
    before = sorted(space.output_dir.rglob("*"))

    done = command_of(world, *args)

    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(space.output_dir.rglob("*")) == before


def test_the_synchronous_class_resumes_too(space: Space) -> None:
    world = chain(space)
    first = world.run()
    project = MiniFlow(**space.directories)

    with recording(space), contextlib.chdir(space.path):
        script = project.execute_flow(world.flow, resume=True)
        with pytest.raises(UsageError, match="dry_run and resume do not go together"):
            project.execute_flow(world.flow, resume=True, dry_run=True)

    assert read_run(script.parent).resumed_from == first.run_id
    assert world.ran() == ["a", "b", "c", "d"]


def test_a_part_of_a_flow_is_resumed_with_what_it_depends_on_as_done(space: Space) -> None:
    world = chain(space)
    world.fails("b", "c")
    world.run(keep_going=True)
    world.fails()

    part = world.resume(only=["c", "d"])
    whole = world.resume()

    assert reasons(part) == {"c": "skipped", "d": "reused"}
    assert reasons(whole) == {"a": "new", "b": "new", "c": "depends_on_changed", "d": "reused"}


# --- runs that were broken off


def cut(run_dir: Path, lines: int) -> None:
    """Leave so many lines of a journal, as a runner that died in the midst."""
    journal = run_dir / "events.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]))


def test_a_task_without_a_recorded_end_counts_as_interrupted_and_one_without_a_start_as_not_started(space: Space) -> None:
    world = chain(space)
    cut(world.run().run_dir, 4)  # run.started, a started, a finished, b started

    assert reasons(world.resume()) == {"a": "reused", "b": "interrupted", "c": "not_started", "d": "not_started"}


def test_what_a_resumed_run_was_to_take_over_is_not_lost_if_that_is_broken_off_at_once(space: Space) -> None:
    world = World(
        space,
        task("a"),
        task("alarm", "a", trigger_rule="one_failed"),
        task("report", "alarm", trigger_rule="all_done"),
        task("bad", "report"),
    )
    world.fails("bad")
    first = world.run()
    for lines in (0, 1, 2, 3):
        cut(world.resume().run_dir, lines)

        result = world.resume()

        assert reasons(result) == {
            "a": "reused", "alarm": "skipped", "report": "reused", "bad": "not_started"
        }  # fmt: skip
        assert result.tasks["a"].reused_from == first.run_id


def test_a_task_of_a_resumed_run_that_was_to_run_and_did_not_is_not_taken_over_from_the_run_before(space: Space) -> None:
    world = chain(space)
    world.run()
    original = (space.tasks_dir / "a.sh").read_text()
    space.script("a.sh", SCRIPT + "# changed")
    second = world.resume()
    cut(second.run_dir, 5)  # run.started, d reused, a started, a finished, b started: c has not seen what a came to
    assert [event["event"] for event in events(second.run_dir)][1:] == [
        "task.reused", "task.started", "task.finished", "task.started"
    ]  # fmt: skip

    third = world.resume()

    assert original != (space.tasks_dir / "a.sh").read_text()
    assert reasons(third) == {"d": "reused", "a": "reused", "b": "interrupted", "c": "not_started"}
