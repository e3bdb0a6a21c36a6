"""What a whole run may take: its timeout, and the grace of the tasks that are ended for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

import miniflow
from miniflow import (
    Event,
    MiniFlow,
    RunFailed,
    RunFinished,
    RunResult,
    TaskCancelled,
    TaskOutput,
    UsageError,
    open_run,
    plan_flow,
    read_run,
    run_flow,
    write_script,
)
from miniflow.actions import AttemptEnded, Begin, Cancel, End, Finish, NotStarted, Start, Stop, Wait
from miniflow.durations import MAX_S, format_duration, parse_duration, read_duration
from miniflow.results import OUT_OF_TIME, Outcome
from miniflow.scheduler import Scheduler
from tests.conftest import Space, events, insist, only, survivors
from tests.test_equivalence import World, behaving, check_attempts, check_journals
from tests.test_scheduler import T

MACHINERY = Path(miniflow.__file__).with_name("machinery.sh").read_text()

# Prints "up" once it is there. The first ends when it is asked to, the second never does.
WAITS = "echo up; exec sleep 600"
DEAF = "trap '' TERM; echo up; while :; do sleep 600; done"
# Needs a while to end, and says so.
TIDIES_UP = "trap 'sleep 1; echo tidy; exit 0' TERM; echo up; sleep 600 & wait"


@pytest.fixture
def project(space: Space) -> Space:
    for name, text in {"waits": WAITS, "deaf": DEAF, "tidies_up": TIDIES_UP, "nothing": "", "fails": "exit 3"}.items():
        space.script(f"{name}.sh", text)
    return space


def marked(marker: str) -> list[str]:
    """Return the command lines of all processes but our own that have the marker in their environment."""
    found = []
    for pid in survivors(marker):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_text())
    return found


def flow_of(*tasks: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a flow of scripts: the first is task `a`, the second `b`."""
    listed = [{"id": "abcdefgh"[n], **({"script": t} if isinstance(t, str) else t)} for n, t in enumerate(tasks)]
    return {"name": "demo", "tasks": listed}


AFTER_A = {"script": "nothing.sh", "depends_on": ["a"]}
ALWAYS_AFTER_A = {**AFTER_A, "trigger_rule": "all_done"}


def ends(result: RunResult) -> dict[str, tuple[str, str | None, int | None]]:
    return {name: (task.state, task.reason, task.exit_status) for name, task in result.tasks.items()}


OUT = ("cancelled", "timeout", 124)
NOT_BEGUN = ("cancelled", "timeout", None)


@contextlib.contextmanager
def command(project: Space, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Start `miniflow run demo` with these options."""
    directories = ["-f", str(project.flows_dir), "-t", str(project.tasks_dir), "-o", str(project.output_dir)]
    with subprocess.Popen(
        [sys.executable, "-m", "miniflow", *directories, "run", "demo", *args],
        cwd=project.path,
        env=project.environ(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def script_of(project: Space, flow: Mapping[str, Any], **options: Any) -> Path:
    return write_script(plan_flow(flow, **project.directories, **options))


# --- durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("0", 0),
        ("0.25", 0.25),
        ("500ms", 0.5),
        ("1m30s", 90),
        ("1m500ms", 60.5),
        ("1d2h3m4.5s", 93784.5),
        ("366d", MAX_S),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_a_text(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1.5m", "5 s", ".5", "1e3", "5.", "٥", "inf", "nan", "367d", "9" * 50, "5s\n5s"]
)
def test_what_is_no_duration_is_none(text: str) -> None:
    assert read_duration(text) is None


@given(st.integers(0, MAX_S * 1000))
def test_a_duration_reads_back_as_it_was_written(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


def test_a_duration_is_written_as_people_do() -> None:
    assert [format_duration(s) for s in (0, 0.5, 1.5, 90, 60.5, 7200, 93784.25)] == [
        "0s", "500ms", "1.5s", "1m30s", "1m500ms", "2h", "1d2h3m4.25s",
    ]  # fmt: skip


def some_duration_texts(rng: random.Random) -> Iterator[str]:
    for _ in range(300):
        yield "".join(f"{rng.choice((0, 7, 60, 366, 1500))}{unit}" for unit in ("d", "h", "m", "s", "ms") if rng.random() < 0.4)
        yield f"{rng.choice((0, 1, 59.9994, 61.25, 3e7, 4e7)) * rng.random():.{rng.randrange(4)}f}{rng.choice(('', 's', 'm'))}"
        yield "".join(rng.choices("0123456789.dhms -", k=rng.randrange(6)))


def test_the_script_reads_and_writes_durations_as_miniflow_does() -> None:
    texts = [text for text in some_duration_texts(random.Random(1)) if text == text.strip()]  # noqa: S311
    functions = [re.search(rf"^{name}\(\) {{\n.*?^}}$", MACHINERY, re.M | re.S) for name in ("mf_milliseconds", "mf_duration")]
    program = "\n".join(match[0] for match in functions if match) + (
        '\nmf_die() { mf_ms=""; }\nfor text; do mf_milliseconds X "$text"; mf_duration=""\n'
        'if [[ $mf_ms ]]; then mf_duration "$mf_ms"; fi; echo "$mf_ms $mf_duration"; done'
    )
    printed = subprocess.run(["bash", "-c", program, "bash", *texts], capture_output=True, text=True, check=True).stdout
    for text, line in zip(texts, printed.splitlines(), strict=True):
        seconds = read_duration(text)
        assert (text, line) == (text, f"{round(seconds * 1000)} {format_duration(seconds)}" if seconds is not None else " ")
    assert sum(line != " " for line in printed.splitlines()) > 200


# --- how it is given


@pytest.mark.parametrize(
    ("options", "grace_s", "timeout_s"),
    [
        ([], 5, None),
        (["--grace", "0", "--timeout", "500ms"], 0, 0.5),
        (["--grace", "1m", "--timeout", "90"], 60, 90),
        (["--grace=0.25", "--timeout=2h"], 0.25, 7200),
    ],
)
def test_the_plan_holds_both(project: Space, options: list[str], grace_s: float, timeout_s: float | None) -> None:
    project.flow(flow_of("nothing.sh"))
    assert project.miniflow("run", "demo", *options).returncode == 0
    plan = json.loads((project.latest("demo") / "plan.json").read_text())
    assert (plan["grace_s"], plan["timeout_s"]) == (grace_s, timeout_s)


def test_both_may_come_from_the_environment_where_empty_is_as_good_as_not_set(project: Space) -> None:
    project.flow(flow_of("nothing.sh"))
    for grace, timeout, expected in (("1s", "1h", (1, 3600)), ("", "", (5, None))):
        assert project.miniflow("run", "demo", env={"MINIFLOW_GRACE": grace, "MINIFLOW_TIMEOUT": timeout}).returncode == 0
        plan = json.loads((project.latest("demo") / "plan.json").read_text())
        assert (plan["grace_s"], plan["timeout_s"]) == expected


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("option", "value"), [("--grace", ""), ("--grace", "-1"), ("--timeout", "soon"), ("--timeout", "367d")]
)
def test_what_is_no_duration_is_refused_in_one_line(project: Space, option: str, value: str, dry: list[str]) -> None:
    project.flow(flow_of("nothing.sh"))
    done = project.miniflow("run", "demo", f"{option}={value}", *dry)
    above = " above 0" if option == "--timeout" else ""
    assert done.stderr == f'error: {option} must be a duration{above} like 5, 500ms or 1m30s, at most a year, not "{value}"\n'
    assert (done.returncode, done.stdout) == (2, "")
    assert not project.output_dir.exists()


def test_a_timeout_of_nothing_is_refused_and_a_grace_of_nothing_is_not(project: Space) -> None:
    project.flow(flow_of("nothing.sh"))
    assert project.miniflow("run", "demo", "--timeout", "0").returncode == 2
    assert project.miniflow("run", "demo", "--grace", "0").returncode == 0


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["grace", "timeout"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), MAX_S + 1, "5", True])
async def test_seconds_that_are_none_are_a_usage_error_before_anything_is_made(project: Space, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be a number of seconds from .* to a year, not "):
        await run_flow(flow_of("nothing.sh"), **{name: value}, **project.directories)
    assert not project.output_dir.exists()


def test_a_script_has_both_in_its_settings_and_the_same_bytes_each_time(project: Space) -> None:
    first, again = (script_of(project, flow_of("nothing.sh"), grace=0.5, timeout=90).read_bytes() for _ in range(2))
    assert first == again
    assert b"\nmf_grace=500ms\nmf_timeout=1m30s\n" in first
    assert b"\nmf_grace=5s\nmf_timeout=\n" in script_of(project, flow_of("nothing.sh")).read_bytes()


# --- grace


@pytest.mark.parametrize(("grace", "says"), [("200ms", ["up"]), ("1m", ["up", "tidy"])])
def test_a_task_has_the_grace_of_its_run_to_end(project: Space, grace: str, says: list[str]) -> None:
    project.flow(flow_of({"script": "tidies_up.sh", "timeout": 1}))
    done = project.miniflow("run", "demo", "--grace", grace, "--log-format", "console")
    assert done.stdout.splitlines() == [f"a │ {word}" for word in says]


@pytest.mark.parametrize(
    ("planned", "variable", "says"), [(0.2, "", ["up"]), (60, "", ["up", "tidy"]), (0.2, "1m", ["up", "tidy"])]
)
def test_a_task_of_the_script_has_the_grace_planned_or_that_of_the_variable(
    project: Space, planned: float, variable: str, says: list[str]
) -> None:
    script = script_of(project, flow_of({"script": "tidies_up.sh", "timeout": 1}), grace=planned)
    project.bash(script, env={"MINIFLOW_GRACE": variable})
    assert (project.latest("demo") / "logs/a.log").read_text().split() == says


# --- a run that takes too long


@pytest.mark.anyio
async def test_nothing_more_starts_and_what_runs_is_ended(project: Space, marker: str) -> None:
    flow = flow_of("waits.sh", "deaf.sh", AFTER_A, ALWAYS_AFTER_A, "nothing.sh")
    result = await run_flow(flow, parallel=2, timeout=1, grace=0.2, **project.directories)
    assert ends(result) == {"a": OUT, "b": OUT, "c": NOT_BEGUN, "d": NOT_BEGUN, "e": NOT_BEGUN}
    assert (result.state, result.exit_status) == ("failed", 124)
    assert result.error == "it took longer than its timeout of 1s"


@pytest.mark.anyio
async def test_the_record_says_so(project: Space) -> None:
    result = await run_flow(flow_of("waits.sh", AFTER_A), timeout=0.5, **project.directories)
    journal = events(result.run_dir)
    (cancelled,), (finished,) = only(journal, "task.cancelled"), only(journal, "task.finished")
    assert (cancelled["reason"], cancelled["message"]) == ("timeout", f"b cancelled: {OUT_OF_TIME}")
    assert (finished["state"], finished["exit_status"], finished["reason"], finished["error"], finished["message"]) == (
        "cancelled", 124, "timeout", OUT_OF_TIME, f"a was stopped: {OUT_OF_TIME}",
    )  # fmt: skip
    error = "it took longer than its timeout of 500ms"
    assert (journal[-1]["state"], journal[-1]["exit_status"], journal[-1]["error"]) == ("failed", 124, error)
    assert journal[-1]["message"].endswith(f"2 cancelled; {error}")
    assert (result.run_dir / "status/a").read_text() == "124\n"
    assert not (result.run_dir / "status/b").exists()
    summary = json.loads((result.run_dir / "run.json").read_text())
    assert (summary["state"], summary["exit_status"], summary["error"]) == ("failed", 124, error)
    assert read_run(result.run_dir) == result


@pytest.mark.anyio
async def test_what_has_ended_before_keeps_its_end(project: Space) -> None:
    seen: list[Event] = []
    flow = flow_of("nothing.sh", "fails.sh", {**ALWAYS_AFTER_A, "script": "waits.sh", "depends_on": ["b"]})
    result = await run_flow(flow, timeout=2, on_event=seen.append, **project.directories)
    assert ends(result) == {"a": ("succeeded", "exit", 0), "b": ("failed", "exit", 3), "c": OUT}
    assert (result.state, result.exit_status) == ("failed", 124)


@pytest.mark.anyio
async def test_a_task_that_ends_with_0_when_it_is_asked_to_has_not_succeeded(project: Space) -> None:
    project.script("obeys.sh", "trap 'exit 0' TERM; echo up; sleep 600 & wait")
    result = await run_flow(flow_of("obeys.sh"), timeout=0.5, **project.directories)
    assert ends(result) == {"a": OUT}


@pytest.mark.anyio
@pytest.mark.parametrize("parallel", [1, 2])
async def test_a_retry_that_waits_is_out_of_time_too(project: Space, parallel: int) -> None:
    flow = flow_of({"script": "fails.sh", "retries": {"max": 1, "delay": 600}})
    result = await run_flow(flow, timeout=1, parallel=parallel, **project.directories)
    assert ends(result) == {"a": OUT}
    assert result.tasks["a"].attempts == 1


@pytest.mark.anyio
async def test_a_run_that_ends_in_time_has_no_timeout_to_wait_for(project: Space) -> None:
    result = await run_flow(flow_of("nothing.sh", AFTER_A), timeout=MAX_S, **project.directories)
    assert (result.state, result.exit_status, result.error) == ("succeeded", 0, None)


def test_execute_flow_raises_and_says_why(project: Space) -> None:
    flows = MiniFlow(project.flows_dir, project.tasks_dir, project.output_dir)
    with pytest.raises(RunFailed, match=r'^flow "demo" failed: it took longer than its timeout of 1s; see ') as caught:
        flows.execute_flow(flow_of("waits.sh"), timeout=1, grace=1)
    assert caught.value.result.exit_status == 124


def test_the_command_exits_with_124(project: Space) -> None:
    project.flow(flow_of("waits.sh"))
    done = project.miniflow("run", "demo", "--timeout", "500ms", "--log-format", "console")
    assert done.returncode == 124
    assert done.stdout == "a │ up\n"
    assert f"warning: a was stopped: {OUT_OF_TIME}\n" in done.stderr
    assert "1 cancelled; it took longer than its timeout of 500ms\n" in done.stderr


# --- the scheduler's part


def test_a_timeout_after_the_last_task_has_ended_changes_nothing() -> None:
    scheduler = Scheduler([T()], limit=1, order=[0])
    assert scheduler.handle(Begin()) == [Start(0, 1)]
    assert scheduler.handle(Stop("timeout")) == []
    outcome = Outcome(0)
    assert scheduler.handle(AttemptEnded(0, outcome)) == [Finish(0, 1, "succeeded", outcome), End("succeeded")]


def test_a_stop_that_came_first_is_the_reason() -> None:
    scheduler = Scheduler([T(), T(upstream=(0,))], limit=1, order=[0, 1])
    scheduler.handle(Begin())
    assert scheduler.handle(Stop()) == [Cancel(1, "stopped")]
    assert scheduler.handle(Stop("timeout")) == []
    outcome = Outcome(143, "signal", "SIGTERM", stopped=True)
    assert scheduler.handle(AttemptEnded(0, outcome)) == [Finish(0, 1, "cancelled", outcome), End("cancelled")]


def test_a_failure_of_its_own_stays_one_and_a_status_that_is_lost_stays_lost() -> None:
    own, lost = Outcome(3), Outcome(1, "lost", error="somebody else reaped the process", stopped=True)
    scheduler = Scheduler([T(), T()], limit=2, order=[0, 1])
    scheduler.handle(Begin())
    scheduler.handle(Stop("timeout"))
    assert scheduler.handle(AttemptEnded(0, own)) == [Finish(0, 1, "failed", own)]
    assert scheduler.handle(AttemptEnded(1, lost)) == [Finish(1, 1, "cancelled", lost), End("cancelled")]


def test_an_attempt_that_was_not_started_is_out_of_time() -> None:
    scheduler = Scheduler([T(retry_delays_s=(0.0,)), T()], limit=2, order=[0, 1])
    failed = Outcome(1)
    scheduler.handle(Begin())
    assert scheduler.handle(AttemptEnded(0, failed)) == [Wait(0, 1, 0.0, failed)]
    out = Outcome(124, "timeout", error=OUT_OF_TIME, stopped=True)
    assert scheduler.handle(Stop("timeout")) == [Finish(0, 1, "cancelled", out)]
    assert scheduler.handle(NotStarted(1)) == [Cancel(1, "timeout"), End("cancelled")]


# --- stopped or cancelled as well


@pytest.mark.anyio
async def test_the_callers_own_scope_is_not_cancelled_by_it(project: Space) -> None:
    with anyio.CancelScope() as scope:
        result = await run_flow(flow_of("waits.sh"), timeout=0.5, **project.directories)
        await anyio.lowlevel.checkpoint()
    assert (result.exit_status, scope.cancel_called) == (124, False)


@pytest.mark.anyio
async def test_a_cancellation_during_it_goes_on_when_all_is_ended(project: Space, marker: str) -> None:
    with anyio.CancelScope() as scope:

        def cancel(event: Event) -> None:
            if isinstance(event, TaskCancelled):
                scope.cancel()

        await run_flow(flow_of("deaf.sh", AFTER_A), timeout=0.5, grace=0.3, on_event=cancel, **project.directories)
        pytest.fail("the cancellation was swallowed")
    assert scope.cancelled_caught
    result = read_run(project.latest("demo"))
    assert ends(result) == {"a": OUT, "b": NOT_BEGUN}
    assert (result.state, result.exit_status) == ("failed", 124)


@pytest.mark.parametrize("times", [1, 2])
def test_an_asyncio_task_that_is_cancelled_during_it_is_so_when_all_is_ended(project: Space, marker: str, times: int) -> None:
    async def main() -> None:
        def cancel(event: Event) -> None:
            if isinstance(event, TaskCancelled):
                for _ in range(times):
                    task.cancel()

        task = asyncio.create_task(
            run_flow(flow_of("deaf.sh", AFTER_A), timeout=0.5, grace=0.3, on_event=cancel, **project.directories)
        )
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ends(read_run(project.latest("demo"))) == {"a": OUT, "b": NOT_BEGUN}


def test_after_it_an_asyncio_task_is_as_it_was(project: Space) -> None:
    async def main() -> None:
        result = await run_flow(flow_of("waits.sh"), timeout=0.5, **project.directories)
        assert result.exit_status == 124
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.anyio
async def test_a_stream_tells_its_events_to_the_last(project: Space) -> None:
    async with open_run(flow_of("waits.sh", AFTER_A), timeout=0.5, **project.directories) as run:
        assert not run.is_out_of_time
        seen = [event async for event in run]
        assert run.is_out_of_time
    assert isinstance(seen[-1], RunFinished)
    assert run.result.exit_status == 124


@pytest.mark.anyio
async def test_who_is_cancelled_in_time_is_not_out_of_time(project: Space) -> None:
    async with open_run(flow_of("deaf.sh"), timeout=1, grace=1.5, **project.directories) as run:
        async for event in run:
            if isinstance(event, TaskOutput):
                run.cancel(143)
    assert (run.result.state, run.result.exit_status, run.is_out_of_time) == ("cancelled", 143, False)
    assert ends(run.result) == {"a": ("cancelled", "signal", 137)}


def test_a_signal_during_it_kills_at_once_and_the_command_exits_with_124(project: Space) -> None:
    project.flow(flow_of("deaf.sh", AFTER_A))
    with command(project, "--timeout", "500ms", "--grace", "10m") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "task.cancelled":
                process.send_signal(signal.SIGINT)
    assert process.returncode == 124
    assert ends(read_run(project.latest("demo"))) == {"a": OUT, "b": NOT_BEGUN}


def test_a_signal_before_it_is_what_the_command_ends_by(project: Space) -> None:
    project.flow(flow_of("deaf.sh", AFTER_A))
    with command(project, "--timeout", "1s", "--grace", "1500ms") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["message"] == "up":
                process.send_signal(signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM
    assert ends(read_run(project.latest("demo"))) == {"a": ("cancelled", "signal", 137), "b": ("cancelled", "stopped", None)}


def test_a_reader_that_stands_still_does_not_keep_a_run_beyond_its_time(project: Space) -> None:
    project.script("prints.sh", "exec yes")
    project.flow(flow_of("prints.sh"))
    with command(project, "--timeout", "500ms", "--grace", "0") as process:
        assert process.wait() == 124  # nothing of its output has been read
    assert json.loads((project.latest("demo") / "run.json").read_text())["exit_status"] == 124


# --- the script


@pytest.mark.parametrize(
    "tasks",
    [
        [behaving("a"), behaving("b", 3), behaving("c", "hang"), behaving("d"), behaving("e", trigger_rule="all_done")],
        [behaving("a", "hang"), behaving("b", depends_on=["a"], trigger_rule="one_failed")],
        [behaving("a", 1, retries={"max": 1, "delay": 600}), behaving("b", depends_on=["a"], trigger_rule="all_done")],
        [behaving("a", 0), behaving("b", 3)],
    ],
    ids=["a task runs", "the first task runs", "a retry waits", "all has ended"],
)
def test_script_and_scheduler_agree_about_a_timeout(tmp_path: Path, tasks: list[dict[str, Any]]) -> None:
    has_time = tasks[-1]["id"] == "b" and not tasks[-1]["depends_on"]
    world = World(tmp_path, {"name": "demo", "tasks": tasks}, keep_going=True, timeout=600 if has_time else 1.5)
    by_bash, by_one = world.bash(), world.scheduler(1)
    check_attempts(world, by_bash, by_one)
    check_journals(by_bash, by_one)
    assert by_bash.ends() == by_one.ends()
    assert by_bash.statuses == by_one.statuses
    assert by_bash.exit_status == by_one.exit_status == (1 if has_time else 124)


def test_the_scripts_timeout_can_be_another(project: Space) -> None:
    script = script_of(project, flow_of("waits.sh", AFTER_A), timeout=MAX_S)
    assert project.bash(script, env={"MINIFLOW_TIMEOUT": "0.5"}).returncode == 124
    assert events(project.latest("demo"))[-1]["error"] == "it took longer than its timeout of 500ms"


@pytest.mark.parametrize("value", ["soon", "0", "1.5m", "367d"])
@pytest.mark.parametrize("name", ["MINIFLOW_GRACE", "MINIFLOW_TIMEOUT"])
def test_the_script_refuses_what_is_no_duration(project: Space, name: str, value: str) -> None:
    done = project.bash(script_of(project, flow_of("nothing.sh")), env={name: value})
    if (name, value) == ("MINIFLOW_GRACE", "0"):
        assert done.returncode == 0
    else:
        assert done.returncode == 2
        assert re.fullmatch(f"error: {name} must be .*, not {re.escape(value)}\n", done.stderr)
        assert not project.output_dir.joinpath("demo").exists()


@contextlib.contextmanager
def script_running(project: Space, script: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Start a script; yield once its first task is up."""
    with subprocess.Popen(
        ["bash", str(script)], cwd=project.path, env=project.environ(env), stderr=subprocess.PIPE, text=True
    ) as process:
        log = project.output_dir / "demo/latest/logs/a.log"
        wait_until(lambda: log.exists() and "up" in log.read_text())
        yield process


def wait_until(is_true: Callable[[], bool]) -> None:
    while not is_true():
        time.sleep(0.01)


def test_a_signal_during_it_kills_at_once_and_the_script_exits_with_124(project: Space) -> None:
    project.script("hears.sh", "trap 'echo heard' TERM; echo up; while :; do sleep 600 & wait; done")
    script = script_of(project, flow_of("hears.sh", AFTER_A), timeout=1, grace=600)
    with script_running(project, script) as process:
        wait_until(lambda: "heard" in (project.latest("demo") / "logs/a.log").read_text())
        insist(process, signal.SIGTERM)
    assert process.returncode == 124
    assert ends(read_run(project.latest("demo"))) == {"a": OUT, "b": NOT_BEGUN}


def test_a_signal_before_it_is_what_the_script_ends_by(project: Space) -> None:
    script = script_of(project, flow_of("deaf.sh", AFTER_A), timeout=2, grace=2.5)
    with script_running(project, script) as process:
        process.send_signal(signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM
    assert ends(read_run(project.latest("demo")))["b"] == ("cancelled", "stopped", None)


@pytest.mark.parametrize("end", ["by itself", "out of time", "killed"])
def test_whoever_watches_the_time_is_gone_when_the_script_is(project: Space, marker: str, end: str) -> None:
    if end == "killed":
        script = script_of(project, flow_of("waits.sh"), timeout=600)
        with script_running(project, script, MARKER=marker) as process:
            task = int(events(project.latest("demo"))[-1]["pid"])
            process.kill()
            process.wait()
            wait_until(lambda: not [command for command in marked(marker) if str(script) in command])
            os.killpg(task, signal.SIGKILL)
            wait_until(lambda: not marked(marker))
        return
    script = script_of(project, flow_of("nothing.sh" if end == "by itself" else "waits.sh"), timeout=600)
    env = {"MARKER": marker, **({"MINIFLOW_TIMEOUT": "500ms"} if end == "out of time" else {})}
    done = project.bash(script, env=env)
    assert marked(marker) == []
    assert done.returncode == (0 if end == "by itself" else 124)


def test_what_reads_the_scripts_output_does_not_wait_for_who_watches_the_time(project: Space) -> None:
    script = script_of(project, flow_of("nothing.sh"), timeout=600)
    done = subprocess.run(["bash", "-c", f"bash {script} 2>&1 | cat"], env=project.environ(), capture_output=True, check=True)
    assert b"succeeded" in done.stdout


def test_a_task_has_no_descriptor_of_the_scripts(project: Space) -> None:
    project.script("lists.py", "import os; print(*sorted(os.listdir('/proc/self/fd')))")
    project.bash(script_of(project, flow_of("lists.py"), timeout=600))
    assert (project.latest("demo") / "logs/a.log").read_text() == "0 1 2 3\n"  # the last is the listing's own


def test_a_run_without_any_time_has_a_whole_record(project: Space) -> None:
    project.flow(flow_of("waits.sh"))
    assert project.miniflow("run", "demo", "--timeout", "1ms").returncode == 124
    journal = events(project.latest("demo"))
    assert (journal[0]["event"], journal[-1]["event"]) == ("run.started", "run.finished")
    assert len(only(journal, "task.started")) == len(only(journal, "task.finished"))
