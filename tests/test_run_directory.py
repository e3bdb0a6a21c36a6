"""What a run leaves behind: the layout, the journal, the logs, the statuses, and reading them back."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from miniflow import MiniFlowError, OutputError, RunResult, read_run, run_flow
from miniflow.events import OutputChunk, TaskFinished, TaskOutput, TaskStarted, format_timestamp
from miniflow.executors import Attempt, Observer
from miniflow.executors.local import LocalExecutor
from miniflow.files import write_atomically
from miniflow.results import Outcome
from miniflow.rundir import RunDir, create_run_dir
from miniflow.sinks.json_lines import JsonRenderer
from miniflow.sinks.run_directory import RunDirectorySink
from miniflow.values import replace
from tests.conftest import Space, events, only

# One task for each way to end; with the retries, one event of each name.
FLOW = {
    "name": "all_ends",
    "params": {"date": "2023-01-01"},
    "tasks": [
        {"id": "ok", "script": "ok.py", "args": ["--name", "Zoë"]},
        {"id": "bad", "script": "bad.py", "depends_on": "ok", "retries": 1},
        {"id": "after", "script": "ok.py", "depends_on": "bad"},
        {"id": "other", "script": "ok.py"},
        {"id": "clean", "script": "clean.py", "depends_on": "bad", "trigger_rule": "one_failed"},
        {"id": "alarm", "script": "ok.py", "depends_on": "ok", "trigger_rule": "one_failed"},
    ],
}


@pytest.fixture
def project(space: Space) -> Space:
    space.script("ok.py")
    space.script("bad.py", "import sys; print('about to fail'); print('why', file=sys.stderr); sys.exit(3)")
    space.script("clean.py", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    return space


def run(space: Space, flow: Any = FLOW, **options: Any) -> RunResult:
    async def go() -> RunResult:
        return await run_flow(flow, **space.directories, **options)

    return anyio.run(go)


def masked(line: str) -> str:
    """Return a line of JSON without what differs from run to run."""
    line = re.sub(r'"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"', '"timestamp":"TIME"', line)
    line = re.sub(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{6}", "RUN", line)
    line = re.sub(r'"pid":\d+', '"pid":PID', line)
    line = re.sub(r'"start_time":\d+', '"start_time":TICKS', line)
    line = re.sub(r'"duration_s":\d+\.\d+(e-\d+)?', '"duration_s":SECONDS', line)
    line = re.sub(r"in \d+\.\d\d s", "in N s", line)
    return re.sub(r'"argv":\["[^"]*","[^"]*/tasks/', '"argv":["PYTHON","TASKS/', line)


GOLDEN = r"""
{"timestamp":"TIME","level":"info","event":"run.started","message":"run RUN of all_ends started","flow":"all_ends","run_id":"RUN","schema":1,"tasks":6,"parallel":1,"keep_going":false,"params":["date"]}
{"timestamp":"TIME","level":"info","event":"task.started","message":"ok started","flow":"all_ends","run_id":"RUN","task_id":"ok","attempt":1,"pid":PID,"argv":["PYTHON","TASKS/ok.py","--name","Zoë"],"start_time":TICKS}
{"timestamp":"TIME","level":"info","event":"task.finished","message":"ok succeeded in N s","flow":"all_ends","run_id":"RUN","task_id":"ok","attempt":1,"state":"succeeded","exit_status":0,"reason":"exit","duration_s":SECONDS,"attempts":1}
{"timestamp":"TIME","level":"info","event":"task.skipped","message":"alarm skipped: no task it depends on has failed","flow":"all_ends","run_id":"RUN","task_id":"alarm","reason":"no_failure"}
{"timestamp":"TIME","level":"info","event":"task.started","message":"bad started","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":1,"pid":PID,"argv":["PYTHON","TASKS/bad.py"],"start_time":TICKS}
{"timestamp":"TIME","level":"warning","event":"task.retrying","message":"bad failed with exit status 3; next attempt in 0 s","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":1,"delay_s":0.0,"exit_status":3,"reason":"exit"}
{"timestamp":"TIME","level":"info","event":"task.started","message":"bad started, attempt 2","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":2,"pid":PID,"argv":["PYTHON","TASKS/bad.py"],"start_time":TICKS}
{"timestamp":"TIME","level":"error","event":"task.finished","message":"bad failed with exit status 3, attempt 2","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":2,"state":"failed","exit_status":3,"reason":"exit","duration_s":SECONDS,"attempts":2}
{"timestamp":"TIME","level":"warning","event":"task.skipped","message":"after skipped: a task it depends on failed or was cancelled","flow":"all_ends","run_id":"RUN","task_id":"after","reason":"upstream_failed"}
{"timestamp":"TIME","level":"warning","event":"task.cancelled","message":"other cancelled: another task has failed","flow":"all_ends","run_id":"RUN","task_id":"other","reason":"fail_fast"}
{"timestamp":"TIME","level":"info","event":"task.started","message":"clean started","flow":"all_ends","run_id":"RUN","task_id":"clean","attempt":1,"pid":PID,"argv":["PYTHON","TASKS/clean.py"],"start_time":TICKS}
{"timestamp":"TIME","level":"error","event":"task.finished","message":"clean was killed by SIGKILL","flow":"all_ends","run_id":"RUN","task_id":"clean","attempt":1,"state":"failed","exit_status":137,"reason":"signal","signal":"SIGKILL","duration_s":SECONDS,"attempts":1}
{"timestamp":"TIME","level":"error","event":"run.finished","message":"run RUN of all_ends failed in N s: 1 succeeded, 2 failed, 2 skipped, 1 cancelled","flow":"all_ends","run_id":"RUN","state":"failed","exit_status":1,"duration_s":SECONDS,"counts":{"succeeded":1,"failed":2,"skipped":2,"cancelled":1}}
"""  # noqa: E501  the lines are what is specified

GOLDEN_LOG = r"""
{"timestamp":"TIME","level":"info","event":"task.started","message":"bad started","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":1,"pid":PID,"argv":["PYTHON","TASKS/bad.py"],"start_time":TICKS}
{"timestamp":"TIME","level":"info","event":"task.output","message":"about to fail","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":1,"stream":"stdout"}
{"timestamp":"TIME","level":"info","event":"task.output","message":"why","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":1,"stream":"stderr"}
{"timestamp":"TIME","level":"warning","event":"task.retrying","message":"bad failed with exit status 3; next attempt in 0 s","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":1,"delay_s":0.0,"exit_status":3,"reason":"exit"}
{"timestamp":"TIME","level":"info","event":"task.started","message":"bad started, attempt 2","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":2,"pid":PID,"argv":["PYTHON","TASKS/bad.py"],"start_time":TICKS}
{"timestamp":"TIME","level":"info","event":"task.output","message":"about to fail","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":2,"stream":"stdout"}
{"timestamp":"TIME","level":"info","event":"task.output","message":"why","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":2,"stream":"stderr"}
{"timestamp":"TIME","level":"error","event":"task.finished","message":"bad failed with exit status 3, attempt 2","flow":"all_ends","run_id":"RUN","task_id":"bad","attempt":2,"state":"failed","exit_status":3,"reason":"exit","duration_s":SECONDS,"attempts":2}
"""  # noqa: E501


# --- journal and logs


def test_the_journal_holds_one_line_an_event_with_its_keys_in_the_order_of_the_contract(project: Space) -> None:
    result = run(project)

    lines = (result.run_dir / "events.jsonl").read_text().splitlines()
    assert [masked(line) for line in lines] == GOLDEN.strip().splitlines()


def test_a_task_log_holds_its_life_cycle_and_every_line_it_printed(project: Space) -> None:
    result = run(project)

    lines = (result.run_dir / "logs" / "bad.jsonl").read_text().splitlines()
    assert [masked(line) for line in lines] == GOLDEN_LOG.strip().splitlines()


def test_a_part_of_a_long_line_says_so() -> None:
    event = TaskOutput(1_700_000_000_123_456_789, "f", "r", "a", 1, "stdout", "x", partial=True)

    assert JsonRenderer().render_item(event).lines == (
        b'{"timestamp":"2023-11-14T22:13:20.123456Z","level":"info","event":"task.output","message":"x","flow":"f",'
        b'"run_id":"r","task_id":"a","attempt":1,"stream":"stdout","partial":true}\n'
    )


@pytest.mark.parametrize(
    ("at_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (999, "1970-01-01T00:00:00.000000Z"),
        (1_000_000_000_000_001_000, "2001-09-09T01:46:40.000001Z"),
        (1_000_000_000_999_999_999, "2001-09-09T01:46:40.999999Z"),
    ],
)
def test_timestamps_have_six_decimals_always(at_ns: int, text: str) -> None:
    assert format_timestamp(at_ns) == text


def test_nothing_a_task_prints_can_forge_an_event(space: Space) -> None:
    forged = '{"event":"task.finished","task_id":"a","state":"succeeded"}'
    space.script("a.py", f"print('''x\"}}\\n{forged}\\n\\r\\x1b[2J\\u2028\\x00''')")

    result = run(space, {"name": "x", "tasks": [{"id": "a", "script": "a.py"}]})

    log = [json.loads(line) for line in (result.run_dir / "logs/a.jsonl").read_bytes().split(b"\n")[:-1]]
    assert [line["event"] for line in log] == ["task.started", *["task.output"] * 3, "task.finished"]
    assert [line["message"] for line in log[1:4]] == ['x"}', forged, "\r\x1b[2J\u2028\0"]


# --- layout


def test_a_run_directory_holds_plan_script_journal_logs_statuses_and_summary(project: Space) -> None:
    result = run(project)

    files = sorted(str(path.relative_to(result.run_dir)) for path in result.run_dir.rglob("*"))
    assert files == [
        "events.jsonl",
        "flow.sh",
        "logs",
        "logs/bad.jsonl",
        "logs/clean.jsonl",
        "plan.json",
        "run.json",
        "status",
        "status/bad",
        "status/clean",
        "status/ok",
    ]


def test_a_silent_task_that_succeeds_makes_no_log(project: Space) -> None:
    result = run(project)

    assert not (result.run_dir / "logs/ok.jsonl").exists()


def test_a_status_is_the_decimal_number_and_a_newline(project: Space) -> None:
    result = run(project)

    statuses = {path.name: path.read_bytes() for path in (result.run_dir / "status").iterdir()}
    assert statuses == {"ok": b"0\n", "bad": b"3\n", "clean": b"137\n"}


@pytest.mark.parametrize(
    "what", ["removed", "written to", "as many as there can be", "none in this file system", "there is one already"]
)
def test_statuses_are_right_where_one_cannot_be_a_link_to_another(
    space: Space, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    body = {
        "removed": "for path in status.iterdir(): path.unlink()",
        "written to": "for path in status.iterdir(): path.write_text('7')",
        "there is one already": "mine.write_text('7')",
    }
    space.script(
        "a.py",
        "import os, pathlib, sys\n"
        "status = pathlib.Path(os.environ['MINIFLOW_RUN_DIR'], 'status')\n"
        "mine = status / os.environ['MINIFLOW_TASK_ID']\n"
        f"{body.get(what, '')}\n"
        "sys.exit(int(sys.argv[1]))",
    )
    if what in ("as many as there can be", "none in this file system"):
        number = errno.EMLINK if what == "as many as there can be" else errno.EPERM

        def refuse(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "link", refuse)
    statuses = [0, 0, 3, 0, 3]
    tasks = [{"id": f"t{n}", "script": "a.py", "args": [status]} for n, status in enumerate(statuses)]

    result = run(space, {"name": "x", "tasks": tasks}, keep_going=True)

    found = {path.name: path.read_text() for path in (result.run_dir / "status").iterdir()}
    expected = {f"t{n}": f"{status}\n" for n, status in enumerate(statuses)}
    if what in ("removed", "written to"):  # it is right when it is written; what comes after that is the tasks' own doing
        assert found.pop("t4") == "3\n"
        assert set(found.values()) == ({"7"} if what == "written to" else set())
    else:
        assert found == expected


@pytest.mark.parametrize("keeps_time", [False, True], ids=["at another time", "within a tick of its clock"])
def test_a_status_that_was_written_to_is_no_ones_but_its_own_though_earlier_ones_were_not(
    space: Space, monkeypatch: pytest.MonkeyPatch, keeps_time: bool
) -> None:
    monkeypatch.setattr("miniflow.sinks.run_directory.tick_ns", lambda looks: 10**18 if keeps_time else -(10**18))
    space.script(
        "a.py",
        f"""
import os, pathlib
status = pathlib.Path(os.environ["MINIFLOW_RUN_DIR"], "status")
for path in status.iterdir() if os.environ["MINIFLOW_TASK_ID"] == "t3" else ():
    looks = path.stat()
    path.write_text("7\\n")
    if {keeps_time}:
        os.utime(path, ns=(looks.st_atime_ns, looks.st_mtime_ns))
""",
    )

    result = run(space, {"name": "x", "tasks": [{"id": f"t{n}", "script": "a.py"} for n in range(5)]})

    found = {path.name: path.read_text() for path in (result.run_dir / "status").iterdir()}
    assert found == {"t0": "7\n", "t1": "7\n", "t2": "7\n", "t3": "0\n", "t4": "0\n"}


def test_a_status_is_written_after_its_event_and_before_what_comes_next(project: Space) -> None:
    seen: list[bool] = []

    def look(event: Any) -> None:
        if event.name == "task.finished":
            journal = events(project.latest("all_ends"))
            assert journal[-1]["task_id"] == event.task_id
            seen.append((project.latest("all_ends") / "status" / event.task_id).exists())

    run(project, on_event=look)

    assert seen == [True, True, True]


def test_the_summary_says_how_the_run_and_each_task_ended(project: Space) -> None:
    result = run(project)

    summary = json.loads((result.run_dir / "run.json").read_text())
    journal = events(result.run_dir)
    durations = [summary["tasks"][task].pop("duration_s") for task in ("ok", "bad", "clean")]
    assert durations == [event["duration_s"] for event in only(journal, "task.finished")]
    assert summary == {
        "schema": 1,
        "flow": "all_ends",
        "run_id": result.run_id,
        "state": "failed",
        "exit_status": 1,
        "started_at": journal[0]["timestamp"],
        "finished_at": journal[-1]["timestamp"],
        "duration_s": journal[-1]["duration_s"],
        "counts": {"succeeded": 1, "failed": 2, "skipped": 2, "cancelled": 1},
        "tasks": {
            "ok": {"state": "succeeded", "exit_status": 0, "reason": "exit", "attempts": 1},
            "alarm": {"state": "skipped", "reason": "no_failure", "attempts": 0},
            "bad": {"state": "failed", "exit_status": 3, "reason": "exit", "attempts": 2},
            "after": {"state": "skipped", "reason": "upstream_failed", "attempts": 0},
            "other": {"state": "cancelled", "reason": "fail_fast", "attempts": 0},
            "clean": {"state": "failed", "exit_status": 137, "reason": "signal", "signal": "SIGKILL", "attempts": 1},
        },
    }


def test_the_plan_says_what_was_to_run(project: Space) -> None:
    result = run(project, params={"date": "2024-02-29"})

    plan = json.loads((result.run_dir / "plan.json").read_text())
    assert plan["params"] == {"date": "2024-02-29"}
    assert [task["id"] for task in plan["tasks"]] == ["ok", "bad", "after", "other", "clean", "alarm"]
    assert plan["tasks"][0]["argv"][1:] == [str(project.tasks_dir / "ok.py"), "--name", "Zoë"]
    assert plan["tasks"][1]["upstream"] == ["ok"]


def test_the_run_directory_and_the_script_are_for_the_user_alone(project: Space) -> None:
    before = os.umask(0)
    try:
        result = run(project)
    finally:
        os.umask(before)

    assert stat.S_IMODE(result.run_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((result.run_dir / "flow.sh").stat().st_mode) == 0o700


def test_a_run_is_named_by_its_time_so_that_runs_sort_by_it(project: Space) -> None:
    first, second = run(project), run(project)

    assert re.fullmatch(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{6}", first.run_id)
    assert first.run_id[:19] < second.run_id[:19]
    assert first.run_dir == project.output_dir.resolve() / "all_ends" / first.run_id


def test_latest_points_at_the_newest_run_by_a_relative_link(project: Space) -> None:
    run(project)
    second = run(project)

    assert (project.output_dir / "all_ends" / "latest").readlink() == Path(second.run_id)


def latest_run_dir(output_dir: Path) -> RunDir:
    run_dir = create_run_dir(output_dir, "x")
    run_dir.become_latest()
    return run_dir


def test_many_runs_that_are_created_at_once_have_each_a_directory_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: latest_run_dir(tmp_path).path, range(200)))

    assert len(set(made)) == 200
    assert (tmp_path / "x" / "latest").resolve() in made
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == sorted([*(path.name for path in made), "latest"])


def test_two_runs_of_one_flow_at_once_do_not_meet(project: Space) -> None:
    async def go() -> list[RunResult]:
        results: list[RunResult] = []

        async def one() -> None:
            results.append(await run_flow(FLOW, **project.directories))

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(one)
        return results

    first, second = anyio.run(go)

    assert first.run_dir != second.run_dir
    for result in (first, second):
        assert {event["run_id"] for event in events(result.run_dir)} == {result.run_id}
        assert len(events(result.run_dir)) == len(GOLDEN.strip().splitlines())


def test_an_output_directory_that_cannot_be_made_is_an_error_before_anything_runs(project: Space) -> None:
    project.output_dir.write_text("in the way")

    with pytest.raises(OutputError, match=r"cannot write .*out"):
        run(project)


def test_a_file_is_replaced_whole_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    write_atomically(path, b"new")

    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("command", ["run f --junit", "graph f -o", "report -o"])
def test_the_name_of_a_descriptor_is_not_replaced(space: Space, command: str) -> None:
    """As `/dev/stdout` is, where standard output is a file and we may write to `/dev`."""
    space.script("quick.py")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "quick.py"}]})
    space.miniflow("run", "f")
    (space.path / "stdout").symlink_to("/proc/self/fd/1")

    with (space.path / "file").open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "miniflow", "-o", str(space.output_dir), *command.split(), "stdout"],
            cwd=space.path,
            env=space.environ(),
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, "stdout is no file" in done.stderr) == (2, True)
    assert (space.path / "stdout").is_symlink()


def test_a_file_that_cannot_be_replaced_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()

    with pytest.raises(OutputError):
        write_atomically(tmp_path / "file", b"new")

    assert os.listdir(tmp_path) == ["file"]


# --- reading a run back


def test_a_run_reads_back_as_it_was_returned(project: Space) -> None:
    result = run(project)

    assert read_run(result.run_dir) == result
    assert read_run(project.output_dir / "all_ends" / "latest") == result


RANK = {"running": 1, "retrying": 1, "interrupted": 1, "succeeded": 2, "failed": 2, "skipped": 2, "cancelled": 2}


def test_a_journal_cut_off_anywhere_reads_as_what_its_whole_lines_say(project: Space, tmp_path: Path) -> None:
    whole = (run(project).run_dir / "events.jsonl").read_bytes()
    cut = tmp_path / "all_ends" / "20230101T000000.000Z-000000"
    cut.mkdir(parents=True)
    by_lines: dict[int, RunResult] = {}
    before: RunResult | None = None

    for length in range(len(whole) + 1):
        (cut / "events.jsonl").write_bytes(whole[:length])
        result = read_run(cut)

        lines = whole[:length].count(b"\n")
        assert result == by_lines.setdefault(lines, result)
        assert result.flow == "all_ends"
        assert result.state == ("interrupted" if length < len(whole) else "failed")
        for task in before.tasks.values() if before else ():  # what is known with fewer bytes is known with more
            assert RANK[task.state] <= RANK[result.tasks[task.id].state]
            assert task.attempts <= result.tasks[task.id].attempts
            assert RANK[task.state] == 1 or task == result.tasks[task.id]
        before = result
    assert by_lines[3].tasks["ok"].state == "succeeded"
    assert by_lines[5].tasks["bad"].state == "interrupted"
    assert by_lines[6].tasks["bad"].state == "interrupted"
    assert by_lines[6].tasks["bad"].exit_status == 3


@pytest.mark.parametrize(
    "line",
    [
        {"event": "task.finished", "task_id": "ok"},
        {"event": "task.finished", "task_id": "ok", "state": 3},
        {"event": "task.finished", "task_id": ["ok"], "state": "failed"},
        {"event": "run.finished"},
        {"event": "run.finished", "state": "over"},
        {"event": ["task.started"]},
    ],
    ids=str,
)
def test_an_event_that_says_nothing_sensible_is_ignored(project: Space, line: dict[str, Any]) -> None:
    result = run(project)
    with (result.run_dir / "events.jsonl").open("a") as journal:
        journal.write(json.dumps(line) + "\n")

    assert read_run(result.run_dir) == result


def test_a_torn_line_in_the_midst_costs_no_other(project: Space) -> None:
    result = run(project)
    journal = result.run_dir / "events.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(
        b"".join([*lines[:3], b'{"timestamp":"2023\n', b"\xff\n", b"[1]\n", b"[" * 100_000 + b"\n", *lines[3:]])
    )

    assert read_run(result.run_dir) == result


def test_a_task_that_could_not_be_started_took_no_time_and_not_less(project: Space) -> None:
    result = run(project, {"name": "x", "tasks": [{"id": "a", "script": "ok.py", "cwd": "gone"}]})

    finished = only(events(result.run_dir), "task.finished")
    assert [str(event["duration_s"]) for event in finished] == ["0.0"]


def test_a_run_that_was_moved_still_knows_its_flow(project: Space, tmp_path: Path) -> None:
    result = run(project)
    moved = result.run_dir.rename(tmp_path / result.run_id)

    assert read_run(moved).flow == "all_ends"


@pytest.mark.parametrize("content", [None, b'{"event":"task.started","task_id":"a"}\n'])
def test_what_is_no_run_directory_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "events.jsonl").write_bytes(content)

    with pytest.raises(MiniFlowError, match=re.escape(str(tmp_path))):
        read_run(tmp_path)


def test_a_run_by_the_script_reads_like_any_other(project: Space) -> None:
    ours = run(project)

    process = project.bash(ours.run_dir / "flow.sh")

    theirs = read_run(project.latest("all_ends"))
    assert process.returncode == ours.exit_status == theirs.exit_status == 1
    assert theirs.run_dir != ours.run_dir
    assert {task.id: (task.state, task.exit_status, task.attempts) for task in theirs.tasks.values()} == {
        task.id: (task.state, task.exit_status, task.attempts) for task in ours.tasks.values()
    }


# --- when it cannot be written

IN_A_LIMITED_PROCESS = """
import anyio, json, resource, signal, sys
from miniflow import OutputError, run_flow

limit, flow, directories = int(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])

def limit_files(event):
    if event.name == "run.started":
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

async def main():
    try:
        result = await run_flow(flow, parallel=4, on_event=limit_files, grace=0.5, **directories)
    except OutputError as error:
        print("OutputError", error)
    else:
        print(result)

anyio.run(main)
"""


def run_with_file_size_limit(space: Space, limit: int, flow: Any) -> str:
    directories = {key: str(path) for key, path in space.directories.items()}
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_A_LIMITED_PROCESS, str(limit), json.dumps(flow), json.dumps(directories)],
        capture_output=True,
        text=True,
        env=space.environ({"MARKER": str(space.path)}),
        check=True,
    )
    return process.stdout


def survivors(marker: str) -> list[str]:
    """Return the processes that have MARKER=... in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARKER={marker}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_a_log_that_cannot_be_written_ends_the_run_loudly_and_its_task_has_not_succeeded(space: Space) -> None:
    space.script("loud.py", "print('x' * 20_000)")
    space.script("long.py", "import time; time.sleep(600)")
    flow = {"name": "x", "tasks": [{"id": "long", "script": "long.py"}, {"id": "loud", "script": "loud.py"}]}

    printed = run_with_file_size_limit(space, 10_000, flow)

    assert re.match(r"OutputError cannot write .*/logs/loud.jsonl: File too large", printed)
    assert survivors(str(space.path)) == []
    result = read_run(space.latest("x"))  # the journal could still be written
    assert result.state in ("cancelled", "failed")
    assert result.tasks["long"].state == "cancelled"
    assert result.tasks["loud"].state in ("cancelled", "failed")
    assert (space.latest("x") / "status/loud").read_text() != "0\n"


def test_a_journal_that_cannot_be_written_ends_the_run_loudly_and_leaves_no_process(space: Space) -> None:
    space.script("long.py", "import time; time.sleep(600)")
    tasks = [{"id": f"t{n}", "script": "long.py"} for n in range(4)]

    for limit in (300, 600, 1000):
        printed = run_with_file_size_limit(space, limit, {"name": "x", "tasks": tasks})

        assert re.match(r"OutputError cannot write .*: File too large", printed)
        assert survivors(str(space.path)) == []
        result = read_run(space.latest("x"))
        assert result.state == "interrupted"
        assert "succeeded" not in {task.state for task in result.tasks.values()}


ENDED = TaskFinished(1_000_000_000, "x", "r", "a", 1, "succeeded", 0, "exit", None, None, 0.1, 1)
BEGUN = TaskStarted(1_000_000_000, "x", "r", "b", 1, 4711, ("true",), 99, None, False, None)


def test_a_journal_that_stays_full_refuses_every_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = RunDirectorySink(create_run_dir(tmp_path, "x"), JsonRenderer())

    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse)
        for told in ([BEGUN], [ENDED, BEGUN], [ENDED]):
            with pytest.raises(OutputError, match="No space left on device"):
                sink.emit(*told)
    sink.close()

    assert sink.record.tasks == {}


@pytest.mark.parametrize("room", [0, 1, 100, "all of one", "and a byte", "all but a byte"])
def test_on_a_disk_that_is_full_each_of_two_events_told_together_counts_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int | str
) -> None:
    run_dir = create_run_dir(tmp_path, "x")
    renderer = JsonRenderer()
    sink = RunDirectorySink(run_dir, renderer)
    ended, begun = renderer.render_item(ENDED).lines, renderer.render_item(BEGUN).lines
    lengths = {"all of one": len(ended), "and a byte": len(ended) + 1, "all but a byte": len(ended) + len(begun) - 1}
    left = room if isinstance(room, int) else lengths[room]
    is_full = False
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        """Take what there is room for, fail once, and then have room again."""
        nonlocal left, is_full
        if is_full:
            return real(descriptor, data)
        taken, left = min(left, len(data)), max(0, left - len(data))
        if taken == 0:
            is_full = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, bytes(data)[:taken])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(OutputError, match="No space left on device"):
            sink.emit(ENDED, BEGUN)
    sink.close()

    lines = [line for line in run_dir.journal.read_bytes().split(b"\n")[:-1] if line.endswith(b"}")]
    states = {json.loads(line)["task_id"]: json.loads(line)["event"] for line in lines}
    if isinstance(room, int):
        assert states == {"b": "task.started"}
    else:
        assert states == {"a": "task.finished"}
    assert sink.record.tasks.keys() == states.keys()
    assert {path.name for path in run_dir.statuses.iterdir()} == states.keys() & {"a"}


def test_a_log_that_was_removed_costs_the_ends_that_were_told_together_with_it_nothing(tmp_path: Path) -> None:
    run_dir = create_run_dir(tmp_path, "x")
    sink = RunDirectorySink(run_dir, JsonRenderer())
    for task_id in ("a", "b"):
        line = TaskOutput(1_000_000_000, "x", "r", task_id, 1, "stdout", "", False)
        sink.emit(OutputChunk(line, "hello"))
    run_dir.log("a").unlink()

    with pytest.raises(OutputError, match=r"cannot write .*/logs/a\.jsonl: No such file or directory"):
        sink.emit(ENDED, replace(ENDED, task_id="b"), replace(ENDED, task_id="c"))
    sink.close()

    assert {path.name for path in run_dir.statuses.iterdir()} >= {"b", "c"}


def test_a_run_directory_that_disappears_ends_the_run_loudly(space: Space) -> None:
    space.script("gone.py", "import os, shutil; shutil.rmtree(os.environ['MINIFLOW_RUN_DIR'])")

    with pytest.raises(OutputError, match=r"cannot write .*: No such file or directory"):
        run(space, {"name": "x", "tasks": [{"id": "a", "script": "gone.py"}]})


def test_logs_that_disappear_cost_neither_the_journal_nor_the_statuses(space: Space) -> None:
    space.script("gone.py", "import os, shutil; shutil.rmtree(os.environ['MINIFLOW_RUN_DIR'] + '/logs'); print('oops')")
    space.script("ok.py")
    flow = {"name": "x", "tasks": [{"id": "a", "script": "gone.py"}, {"id": "b", "script": "ok.py"}]}

    with pytest.raises(OutputError, match=r"cannot write .*/logs/a\.jsonl: No such file or directory"):
        run(space, flow)

    journal = events(space.latest("x"))
    assert journal[-1]["event"] == "run.finished"
    assert journal[-1]["exit_status"] != 0
    assert (space.latest("x") / "status/a").read_text() != "0\n"
    assert json.loads((space.latest("x") / "run.json").read_text())["tasks"]["b"]["state"] == "cancelled"


def test_a_task_whose_output_is_lost_has_not_succeeded_even_if_it_has_ended_already(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_at_once(self: LocalExecutor, attempt: Attempt, observer: Observer) -> None:
        observer.started(1)
        try:
            (Path(os.fsdecode(attempt.env[b"MINIFLOW_RUN_DIR"])) / "logs").rmdir()
            observer.output("stdout", b"a line\n")
        finally:
            observer.ended(Outcome(0))

    monkeypatch.setattr(LocalExecutor, "run", run_at_once)
    space.script("a.py")

    with pytest.raises(OutputError):
        run(space, {"name": "x", "tasks": [{"id": "a", "script": "a.py"}]})

    (finished,) = only(events(space.latest("x")), "task.finished")
    assert (finished["state"], finished["exit_status"], finished["reason"]) == ("failed", 1, "lost")
    assert finished["message"] == "a cannot be said to have succeeded: its output could not be written"
