"""Tasks as real processes: exit statuses, signals, timeouts, what they inherit, what they print, and what they leave behind."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from miniflow import Event, RunResult, TaskFinished, TaskOutput, TaskResult, guardian, open_run, read_run, run_flow
from miniflow.executors import process, spawn, start
from tests.conftest import Space, events, only
from tests.reaping import reaping_thread

PYTHON = sys.executable


def run(
    space: Space,
    tasks: Sequence[Mapping[str, Any]] | Mapping[str, Any],
    on_event: Callable[[Event], object] | None = None,
    backend: str = "asyncio",
    flow: Mapping[str, Any] | None = None,
    **options: Any,
) -> RunResult:
    """Run one task, or more, to the end."""
    tasks = [tasks] if isinstance(tasks, Mapping) else tasks
    tasks = [{"id": f"t{n}", **task} for n, task in enumerate(tasks)]

    async def go() -> RunResult:
        described = {"name": "x", "tasks": tasks, **(flow or {})}
        options.setdefault("grace", 0.2)
        return await run_flow(described, on_event=on_event, keep_going=True, **space.directories, **options)

    return anyio.run(go, backend=backend)


def how(space: Space, script: str, **task: Any) -> tuple[str, int | None, str | None, str | None]:
    """Run a Python script as the one task of a flow; return how it ended."""
    space.script("task.py", script)
    ended = run(space, {"script": "task.py", **task}).tasks["t0"]
    return ended.state, ended.exit_status, ended.reason, ended.signal


def printed(space: Space, script: str, backend: str = "asyncio", **task: Any) -> list[str]:
    """Run a Python script as the one task of a flow; return the lines of its standard output."""
    space.script("task.py", script)
    lines: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, TaskOutput) and event.stream == "stdout":
            lines.append(event.line)

    result = run(space, {"script": "task.py", **task}, on_event, backend)
    assert result.state == "succeeded"
    return lines


def wait_gone(pid: int) -> None:
    """Wait until a process has ended; whoever was killed has in a moment, and the test's time runs out for others."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
            os.sched_yield()


# --- exit statuses


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_all_256_exit_statuses_are_recorded_as_they_are(space: Space, backend: str) -> None:
    space.script("exit.sh", 'exit "$1"')

    result = run(space, [{"script": "exit.sh", "args": [n]} for n in range(256)], backend=backend, parallel=8)

    assert {task.id: task.exit_status for task in result.tasks.values()} == {f"t{n}": n for n in range(256)}
    assert {task.reason for task in result.tasks.values()} == {"exit"}
    assert [task.id for task in result.tasks.values() if task.state == "succeeded"] == ["t0"]
    assert {path.name: path.read_text() for path in (result.run_dir / "status").iterdir()} == {
        f"t{n}": f"{n}\n" for n in range(256)
    }


# Those that do nothing by default, and those that stop a process; but a terminal's stop nobody whom no shell can let go on,
# as the kernel sees it, and that is every task: it leads a session of its own.
HARMLESS = ["SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGTSTP", "SIGTTIN", "SIGTTOU"]
DIES_BY = """
import os, resource, signal, sys
number = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if number not in (signal.SIGKILL, signal.SIGSTOP):
    signal.signal(number, signal.SIG_DFL)
os.kill(os.getpid(), number)
"""


def deaths_by_signal(space: Space) -> tuple[dict[str, Any], dict[str, tuple[str, int, str, str | None]]]:
    """Return a flow of tasks that each send themselves one of the signals 1 to 31, and how they are to end."""
    space.script("task.py", DIES_BY)
    tasks, expected = [], {}
    for number in range(1, 32):
        name = signal.Signals(number).name
        tasks.append({"id": name, "script": "task.py", "args": [number]})
        expected[name] = ("succeeded", 0, "exit", None) if name in HARMLESS else ("failed", 128 + number, "signal", name)
        if name == "SIGSTOP":  # nothing but a timeout ends it
            tasks[-1]["timeout"] = 0.5
            expected[name] = ("failed", 124, "timeout", None)
    return {"name": "f", "tasks": tasks}, expected


def ends_of(result: RunResult) -> dict[str, tuple[str, int | None, str | None, str | None]]:
    for task in result.tasks.values():
        assert (result.run_dir / "status" / task.id).read_text() == f"{task.exit_status}\n"
    return {task.id: (task.state, task.exit_status, task.reason, task.signal) for task in result.tasks.values()}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_of_the_signals_1_to_31_is_recorded_by_number_and_name(space: Space, backend: str) -> None:
    flow, expected = deaths_by_signal(space)

    result = run(space, flow["tasks"], backend=backend, parallel=4)

    assert ends_of(result) == expected


def test_the_script_records_each_of_the_signals_1_to_31_just_so(space: Space) -> None:
    flow, expected = deaths_by_signal(space)
    space.flow(flow)
    assert space.miniflow("run", "f", "--dry-run", "--keep-going").returncode == 0

    assert space.bash(space.output_dir / "f.sh").returncode == 1

    assert ends_of(read_run(space.latest("f"))) == expected


def exit_statuses_by_the_script(space: Space, statuses: Sequence[int]) -> None:
    space.script("exit.sh", 'exit "$1"')
    space.flow({"name": "f", "tasks": [{"id": f"t{n}", "script": "exit.sh", "args": [n]} for n in statuses]})
    assert space.miniflow("run", "f", "--dry-run", "--keep-going").returncode == 0

    assert space.bash(space.output_dir / "f.sh").returncode == 1

    ends = ends_of(read_run(space.latest("f")))
    assert {name: end[1] for name, end in ends.items()} == {f"t{n}": n for n in statuses}


def test_the_script_records_exit_statuses_as_they_are(space: Space) -> None:
    exit_statuses_by_the_script(space, [0, 1, 2, 64, *range(123, 132), 137, 143, 192, 254, 255])


@pytest.mark.stress
def test_the_script_records_all_256_exit_statuses_as_they_are(space: Space) -> None:
    exit_statuses_by_the_script(space, range(256))


@pytest.mark.parametrize(
    ("task", "error"),
    [
        ({"script": "tool", "args": ["x" * 100_000] * 40}, "Argument list too long: {tasks}/tool"),
        ({"script": "task.py", "python": "tool"}, "No such file or directory: tool"),
        ({"script": "task.py", "cwd": "tasks/tool"}, "Not a directory: {tasks}/tool"),
        ({"script": "lost"}, "No such file or directory: /gone/sh, which {tasks}/lost names as its interpreter"),
    ],
)
def test_an_interpreter_is_blamed_where_it_is_what_cannot_be_run(
    space: Space, monkeypatch: pytest.MonkeyPatch, task: dict[str, Any], error: str
) -> None:
    monkeypatch.chdir(space.path)
    space.script("task.py")
    space.script("tool", "#!/bin/sh\n", mode=0o755)
    space.script("lost", "#!/gone/sh\n", mode=0o755)
    (space.path / "tool").symlink_to("tasks/tool")

    seen: list[Event] = []
    run(space, task, seen.append)

    (finished,) = [event for event in seen if isinstance(event, TaskFinished)]
    assert finished.error == error.format(tasks=space.tasks_dir)


def test_a_death_by_a_realtime_signal_has_a_name_too(space: Space) -> None:
    assert how(space, "import os; os.kill(os.getpid(), 40)") == ("failed", 168, "signal", f"SIGRTMIN+{40 - signal.SIGRTMIN}")


@pytest.mark.parametrize("status", [124, 137, 126, 127])
def test_an_exit_with_a_telling_status_is_still_an_exit(space: Space, status: int) -> None:
    assert how(space, f"import sys; sys.exit({status})") == ("failed", status, "exit", None)


@pytest.mark.parametrize(
    ("task", "status", "error"),
    [
        ({"python": "no-such-python"}, 127, "No such file or directory: no-such-python"),
        ({"python": "./no/such/python"}, 127, "No such file or directory: .*/no/such/python"),
        ({"python": "./tasks"}, 126, "Permission denied: .*/tasks"),
        ({"cwd": "no/such/folder"}, 127, "No such file or directory: .*/no/such/folder"),
        ({"cwd": "tasks/task.py"}, 127, "Not a directory: .*/tasks/task.py"),
    ],
)
def test_what_cannot_be_started_fails_and_says_why(
    space: Space, monkeypatch: pytest.MonkeyPatch, task: dict[str, str], status: int, error: str
) -> None:
    monkeypatch.chdir(space.path)
    space.script("task.py")

    seen: list[Event] = []
    ended = run(space, {"script": "task.py", **task, "retries": 5}, seen.append).tasks["t0"]

    assert (ended.state, ended.exit_status, ended.reason, ended.attempts) == ("failed", status, "spawn", 1)
    (finished,) = [event for event in seen if isinstance(event, TaskFinished)]
    assert finished.error is not None
    assert re.fullmatch(error, finished.error)


def test_a_script_that_disappears_or_loses_its_mode_after_planning_fails_by_itself_alone(space: Space) -> None:
    space.script("first.py", "import os; os.remove(os.environ['T'] + '/gone'); os.chmod(os.environ['T'] + '/plain', 0o644)")
    for name in ("gone", "plain"):
        space.script(name, "#!/bin/sh\n", mode=0o755)
    tasks = [
        {"script": "first.py", "env": {"T": str(space.tasks_dir)}},
        *({"script": name, "depends_on": ["t0"]} for name in ("gone", "plain")),
    ]

    result = run(space, tasks)

    assert [(task.exit_status, task.reason) for task in result.tasks.values()] == [
        (0, "exit"),
        (127, "spawn"),
        (126, "spawn"),
    ]


def test_an_executable_text_without_a_shebang_is_run_by_a_shell(space: Space) -> None:
    space.script("plain", "exit 7\n", mode=0o755)

    ended = run(space, {"script": "plain"}).tasks["t0"]

    assert (ended.exit_status, ended.reason) == (7, "exit")


def test_a_task_that_forks_ends_with_its_own_status(space: Space) -> None:
    assert how(space, "import os, sys; sys.exit(3 if os.fork() else 5)") == ("failed", 3, "exit", None)


# --- timeouts


def test_a_task_that_takes_too_long_is_ended_and_exits_with_124(space: Space) -> None:
    assert how(space, "import time; time.sleep(600)", timeout=0.2) == ("failed", 124, "timeout", None)


def test_a_task_that_ignores_sigterm_is_killed(space: Space) -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"

    assert how(space, script, timeout=0.2) == ("failed", 124, "timeout", None)


def test_a_timeout_counts_also_if_the_task_then_exits_with_0(space: Space) -> None:
    script = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(600)"

    assert how(space, script, timeout=1) == ("failed", 124, "timeout", None)


def test_a_task_that_is_stopped_hears_the_sigterm_of_its_timeout(space: Space) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    space.script("task.py", script)

    ended = run(space, {"script": "task.py", "timeout": 0.2}, grace=600).tasks["t0"]

    assert (ended.exit_status, ended.reason) == (124, "timeout")


def test_a_task_says_its_last_words_in_the_grace_period(space: Space) -> None:
    space.script("task.sh", "trap 'echo last words; exit 0' TERM; echo up; sleep 600 & wait")
    lines: list[str] = []

    run(space, {"script": "task.sh", "timeout": 1}, lambda e: isinstance(e, TaskOutput) and lines.append(e.line), grace=60)

    assert lines == ["up", "last words"]


def test_a_timeout_is_one_attempts_own(space: Space) -> None:
    space.script("task.sh", '[ "$MINIFLOW_ATTEMPT" = 2 ] || exec sleep 600')

    ended = run(space, {"script": "task.sh", "timeout": 1, "retries": 1}).tasks["t0"]

    assert (ended.state, ended.attempts) == ("succeeded", 2)


# --- what a task gets


def test_standard_input_is_empty(space: Space) -> None:
    script = "import os, sys; print(sys.stdin.read() == '', os.path.samestat(os.fstat(0), os.stat('/dev/null')))"

    assert printed(space, script) == ["True True"]


def test_a_task_has_three_descriptors_whatever_its_host_has_open(space: Space) -> None:
    script = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')))"
    with socket.socket() as one, open(os.devnull) as two:
        os.set_inheritable(one.fileno(), True)
        os.set_inheritable(two.fileno(), True)

        # That of the listing itself was open when the list was made, and is not when it is looked at.
        assert printed(space, script) == ["[0, 1, 2]"]


def test_a_task_leads_a_session_of_its_own(space: Space) -> None:
    script = "import os; print(os.getpid() == os.getsid(0) == os.getpgid(0), os.getsid(0))"

    (line,) = printed(space, script)

    assert line.startswith("True")
    assert line.split()[1] != str(os.getsid(0))


def test_sigpipe_and_its_like_are_as_the_system_has_them_by_default(space: Space) -> None:
    # Python ignores these three for itself; whoever inherited that would not end when the reader of its output does.
    space.script("task.sh", "grep SigIgn /proc/self/status")
    lines: list[str] = []

    run(space, {"script": "task.sh"}, lambda e: isinstance(e, TaskOutput) and lines.append(e.line))

    ignored = int(lines[0].split()[1], 16)
    assert not any(ignored >> (number - 1) & 1 for number in (signal.SIGPIPE, signal.SIGXFSZ))


def test_a_task_runs_where_miniflow_was_called_or_in_its_cwd_below(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    (space.path / "sub").mkdir()
    monkeypatch.chdir(space.path)

    assert printed(space, "import os; print(os.getcwd())") == [str(space.path)]
    assert printed(space, "import os; print(os.getcwd())", cwd="sub") == [str(space.path / "sub")]


def test_a_tasks_env_wins_over_the_flows_and_that_over_the_callers(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("A", "B", "C"):
        monkeypatch.setenv(name, "caller")
    space.recorder()
    monkeypatch.setenv("RECORDS", str(space.records_dir))

    run(space, {"script": "record.py", "env": {"C": "task"}}, flow={"env": {"B": "flow", "C": "flow"}})

    env = space.records()["t0.1"]["env"]
    assert (env["A"], env["B"], env["C"]) == ("caller", "flow", "task")


def test_a_task_knows_its_run_whatever_the_caller_says(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLOW", "RUN_ID", "TASK_ID", "ATTEMPT", "PARAMS", "RUN_DIR"):
        monkeypatch.setenv(f"MINIFLOW_{name}", "of another run, whose task we are")
    space.recorder()
    monkeypatch.setenv("RECORDS", str(space.records_dir))

    task = {"script": "record.py", "retries": 1, "env": {"BEHAVIOUR": "[1, 0]"}}
    result = run(space, task, params={"city": "Zürich"})

    for attempt in ("1", "2"):
        env = space.records()[f"t0.{attempt}"]["env"]
        assert {key: value for key, value in env.items() if key.startswith("MINIFLOW_")} == {
            "MINIFLOW_FLOW": "x",
            "MINIFLOW_RUN_ID": result.run_id,
            "MINIFLOW_TASK_ID": "t0",
            "MINIFLOW_ATTEMPT": attempt,
            "MINIFLOW_PARAMS": '{"city":"Zürich"}',
            "MINIFLOW_RUN_DIR": str(result.run_dir),
        }


@pytest.mark.parametrize(
    ("caller", "task", "expected"), [(None, {}, "1"), ("0", {}, "0"), ("", {}, ""), (None, {"PYTHONUNBUFFERED": ""}, "")]
)
def test_python_does_not_buffer_unless_somebody_has_said_so(
    space: Space, monkeypatch: pytest.MonkeyPatch, caller: str | None, task: dict[str, str], expected: str
) -> None:
    if caller is None:
        monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    else:
        monkeypatch.setenv("PYTHONUNBUFFERED", caller)

    assert printed(space, "import os; print(os.environ['PYTHONUNBUFFERED'])", env=task) == [expected]


# --- what a task prints


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ten_megabytes_of_lines_come_whole_and_in_order(space: Space, backend: str) -> None:
    space.script("task.py", "import sys; sys.stdout.write(''.join(f'{n:099d}\\n' for n in range(100_000)))")

    result = run(space, {"script": "task.py"}, backend=backend)

    with (result.run_dir / "logs/t0.jsonl").open() as log:
        lines = [event["message"] for event in map(json.loads, log) if event["event"] == "task.output"]
    assert lines == [f"{n:099d}" for n in range(100_000)]


def test_one_line_of_a_megabyte_comes_in_parts(space: Space) -> None:
    space.script("task.py", "print('é' * 500_000)")
    parts: list[TaskOutput] = []

    run(space, {"script": "task.py"}, lambda e: isinstance(e, TaskOutput) and parts.append(e))

    assert all(part.partial for part in parts)
    assert "".join(part.line for part in parts) == "é" * 500_000


def test_bytes_of_any_kind_stay_readable(space: Space) -> None:
    script = r"import os; os.write(1, b'caf\xe9\n\x00\xff\xfe\n\xe2\x82\nno end')"

    assert printed(space, script) == ["caf\\xe9", "\x00\\xff\\xfe", "\\xe2\\x82", "no end"]


def test_both_streams_are_recorded_each_in_its_order(space: Space) -> None:
    space.script("task.py", "import sys\nfor n in range(500):\n print(n)\n print(n, file=sys.stderr)")
    lines: dict[str, list[str]] = {"stdout": [], "stderr": []}

    run(space, {"script": "task.py"}, lambda e: isinstance(e, TaskOutput) and lines[e.stream].append(e.line))

    assert lines == {"stdout": [str(n) for n in range(500)], "stderr": [str(n) for n in range(500)]}


def test_what_a_task_prints_before_it_crashes_is_recorded(space: Space) -> None:
    space.script("task.py", "import os; os.write(1, b'x' * 65536 + b'\\nlast'); os.write(2, b'why'); os.kill(os.getpid(), 9)")
    lines: list[str] = []

    run(space, {"script": "task.py"}, lambda e: isinstance(e, TaskOutput) and lines.append(e.line))

    assert sorted(lines) == ["last", "why", "x" * 65536]


def test_a_task_that_closes_its_output_goes_on(space: Space) -> None:
    assert how(space, "import os, time; os.close(1); os.close(2); time.sleep(0.2); os._exit(9)") == (
        "failed",
        9,
        "exit",
        None,
    )


# --- what a task leaves behind

LEAVE = """
    import os, subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=sys.argv[2] == "session")
    print(child.pid)
"""


def leave(space: Space, program: str, group: str) -> tuple[int, TaskResult]:
    """Run a task that leaves a program behind; return its pid and how the task ended."""
    space.script("task.py", LEAVE)
    lines: list[str] = []

    result = run(
        space,
        {"script": "task.py", "args": [program, group]},
        lambda e: isinstance(e, TaskOutput) and e.stream == "stdout" and lines.append(e.line),
    )

    return int(lines[0]), result.tasks["t0"]


def test_what_a_task_leaves_in_its_group_is_ended(space: Space) -> None:
    pid, task = leave(space, "import time; time.sleep(600)", "group")

    assert task.state == "succeeded"
    wait_gone(pid)


def test_what_a_task_leaves_in_its_group_is_killed_if_it_ignores_sigterm(space: Space) -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"

    pid, task = leave(space, program, "group")

    assert task.state == "succeeded"
    wait_gone(pid)


@pytest.mark.parametrize("program", ["import time; time.sleep(600)", "while True: print('y' * 1000, flush=True)"])
def test_whoever_has_left_the_group_and_holds_the_pipe_delays_the_task_by_about_a_second(space: Space, program: str) -> None:
    pid, task = leave(space, program, "session")
    try:
        assert task.state == "succeeded"
        assert task.duration is not None
        assert 1 <= task.duration < 2.9  # what is beyond one second is for a busy machine
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_task_that_times_out_takes_its_children_along(space: Space) -> None:
    script = """
        import os, subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(child.pid)
        time.sleep(600)
    """
    space.script("task.py", script)
    lines: list[str] = []

    run(space, {"script": "task.py", "timeout": 1}, lambda e: isinstance(e, TaskOutput) and lines.append(e.line))

    wait_gone(int(lines[0]))


# --- what leaves the group of a task

AWAY = """
import os, signal, sys, time
if os.fork():
    {parent}
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(0, 3)
signal.signal(signal.SIGTERM, signal.{disposition})
with open(os.environ["UP"] + ".tmp", "w") as file:
    file.write(str(os.getpid()))
os.rename(os.environ["UP"] + ".tmp", os.environ["UP"])
{child}
time.sleep(600)
"""


def away(parent: str = "time.sleep(600)", disposition: str = "SIG_DFL", child: str = "") -> str:
    """Return a task that leaves a daemon in a session of its own (double fork, `setsid`), which writes its pid."""
    return AWAY.format(parent=parent, disposition=disposition, child=child)


def is_there(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("disposition", ["SIG_DFL", "SIG_IGN"])
def test_a_daemon_ends_with_the_task_that_times_out(space: Space, backend: str, disposition: str) -> None:
    space.script("task.py", away(disposition=disposition))
    up = space.path / "up"

    result = run(space, {"script": "task.py", "timeout": 1.5, "env": {"UP": str(up)}}, backend=backend)

    assert result.tasks["t0"].reason == "timeout"
    assert not is_there(int(up.read_text()))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("disposition", ["SIG_DFL", "SIG_IGN"])
def test_daemons_end_with_the_run_that_is_stopped(space: Space, backend: str, disposition: str) -> None:
    space.script("task.py", away(disposition=disposition))
    ups = [space.path / f"up{n}" for n in range(4)]
    tasks = [{"id": f"t{n}", "script": "task.py", "env": {"UP": str(up)}} for n, up in enumerate(ups)]

    async def go() -> None:
        async with open_run({"name": "x", "tasks": tasks}, parallel=4, grace=0.2, **space.directories):
            while not all(up.exists() for up in ups):
                await anyio.lowlevel.checkpoint()

    anyio.run(go, backend=backend)

    assert [is_there(int(up.read_text())) for up in ups] == [False] * 4


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_that_stop_together_are_looked_for_together(space: Space, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space.script("task.sh", "exec sleep 600")
    tasks = [{"id": f"t{n}", "script": "task.sh"} for n in range(40)]
    looks = []
    real = guardian.search

    def search(attempts: Collection[guardian.Guarded], among: Any = None, undecided: Any = None) -> Iterator[Any]:
        looks.append(len(attempts))
        return real(attempts, among, undecided)

    monkeypatch.setattr(guardian, "search", search)

    async def go() -> None:
        async with open_run({"name": "x", "tasks": tasks}, parallel=40, **space.directories) as run:
            started = 0
            while started < 40:
                started += (await anext(run)).name == "task.started"

    anyio.run(go, backend=backend)

    assert max(looks) > 1
    assert len(looks) < 40


def test_a_daemon_has_the_grace_period_too(space: Space) -> None:
    said = space.path / "said"
    handler = f"signal.signal(signal.SIGTERM, lambda *_: (open({str(said)!r}, 'w').close(), os._exit(0)))"
    space.script("task.py", away(child=handler))

    run(space, {"script": "task.py", "timeout": 1.5, "env": {"UP": str(space.path / "up")}}, grace=60)

    assert said.exists()


def test_a_daemon_that_starts_others_is_followed(space: Space) -> None:
    # Each asks for SIGTERM by another process, in a session of its own again.
    child = """
def again(*_):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, again)
        time.sleep(600)
    os._exit(0)
signal.signal(signal.SIGTERM, again)
"""
    space.script("task.py", away(child=child))
    mark = f"MARK={space.path}"

    run(space, {"script": "task.py", "timeout": 1.5, "env": {"UP": str(space.path / "up"), "MARK": str(space.path)}})

    left = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes().split(b"\0"):
                left.append(path)
    assert left == []


def test_a_group_of_its_own_in_the_tasks_session_ends_with_the_task_that_times_out(space: Space) -> None:
    space.script("task.sh", "set -m; env -i sleep 600 & echo $!; wait")
    lines: list[str] = []

    run(space, {"script": "task.sh", "timeout": 1}, lambda e: isinstance(e, TaskOutput) and lines.append(e.line))

    assert not is_there(int(lines[0]))


def test_a_daemon_of_a_task_that_ends_by_itself_goes_on(space: Space) -> None:
    space.script("task.py", away(parent="os.wait(); os._exit(0)"))
    up = space.path / "up"

    result = run(space, {"script": "task.py", "env": {"UP": str(up)}})

    assert result.state == "succeeded"
    while not up.exists():
        os.sched_yield()
    pid = int(up.read_text())
    assert is_there(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_daemon_of_another_task_is_left_alone(space: Space) -> None:
    space.script("leave.py", away(parent="os.wait(); os._exit(0)"))
    space.script("long.py", "import time; time.sleep(600)")
    up = space.path / "up"

    run(
        space,
        [
            {"script": "leave.py", "env": {"UP": str(up)}},
            {"script": "long.py", "timeout": 0.2, "depends_on": "t0"},
        ],
    )

    pid = int(up.read_text())
    assert is_there(pid)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.usefixtures("no_pidfd")
def test_without_pidfds_a_task_and_its_group_end_with_it_all_the_same(space: Space) -> None:
    space.script("task.sh", "sleep 600 & echo $!; wait")
    lines: list[str] = []

    run(space, {"script": "task.sh", "timeout": 0.5}, lambda e: isinstance(e, TaskOutput) and lines.append(e.line))

    wait_gone(int(lines[0]))


# --- a host that is short of something

SHORT = """
import anyio, json, resource, sys
from miniflow import run_flow
limit, backend, flow, parallel, directories = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))

async def main():
    return await run_flow(json.loads(flow), parallel=int(parallel), **json.loads(directories))

result = anyio.run(main, backend=backend)
print(json.dumps([result.state, sorted({task.reason for task in result.tasks.values()})]))
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_with_few_descriptors_tasks_wait_for_one_another_and_all_succeed(space: Space, backend: str) -> None:
    space.script("task.sh", "echo out; echo err >&2")
    flow = json.dumps({"name": "x", "tasks": [{"id": f"t{n}", "script": "task.sh"} for n in range(300)]})
    directories = json.dumps({key: str(path) for key, path in space.directories.items()})

    process = subprocess.run(
        [PYTHON, "-W", "error", "-c", SHORT, "64", backend, flow, "200", directories],
        capture_output=True,
        text=True,
        check=False,
        env=space.environ(),
    )

    assert (process.stdout, process.stderr) == ('["succeeded", ["exit"]]\n', "")
    assert len(list((space.latest("x") / "logs").iterdir())) == 300


@pytest.fixture
def refuse_spawns(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Let the start of a task's process fail, with an errno, as long as so many run."""
    real = subprocess.Popen
    started: list[int] = []

    def is_running(pid: int) -> bool:
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def install(number: int, while_running: int) -> None:
        def popen(argv: Any, **options: Any) -> Any:
            if options["stdin"] != subprocess.DEVNULL:  # not a task
                return real(argv, **options)
            if sum(map(is_running, started)) >= while_running:
                raise OSError(number, os.strerror(number))
            process = real(argv, **options)
            started.append(process.pid)
            return process

        monkeypatch.setattr(spawn.subprocess, "Popen", popen)

    return install


SCARCITY = [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("number", SCARCITY, ids=errno.errorcode.get)
def test_a_start_that_the_system_refuses_is_tried_again_when_another_task_has_ended(
    space: Space, backend: str, number: int, refuse_spawns: Callable[..., None]
) -> None:
    refuse_spawns(number, 2)
    space.script("task.sh", "exit 0")
    started: list[str] = []

    result = run(
        space,
        [{"script": "task.sh"}] * 10,
        lambda e: e.name == "task.started" and started.append(getattr(e, "task_id", "")),
        backend=backend,
        parallel=4,
    )

    assert result.state == "succeeded"
    assert sorted(started) == sorted(f"t{n}" for n in range(10))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("number", SCARCITY, ids=errno.errorcode.get)
def test_a_start_that_the_system_refuses_while_nothing_runs_fails_and_says_how_to_mend_it(
    space: Space, backend: str, number: int, refuse_spawns: Callable[..., None]
) -> None:
    refuse_spawns(number, 0)
    space.script("task.sh", "exit 0")
    seen: list[Event] = []

    result = run(space, [{"script": "task.sh"}] * 2, seen.append, backend=backend, parallel=2)

    for task in result.tasks.values():
        assert (task.state, task.exit_status, task.reason) == ("failed", 126, "spawn")
    errors = {event.error for event in seen if isinstance(event, TaskFinished)}
    hint = {errno.EMFILE: "ulimit -n", errno.ENFILE: "file-max", errno.EAGAIN: "ulimit -u", errno.ENOMEM: "memory"}[number]
    assert all(error and error.startswith(os.strerror(number)) and hint in error for error in errors)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_wait_for_a_start_counts_neither_against_the_timeout_nor_as_the_tasks_time(
    space: Space, backend: str, refuse_spawns: Callable[..., None]
) -> None:
    refuse_spawns(errno.EAGAIN, 1)
    space.script("long.py", "import time; time.sleep(1)")
    space.script("task.sh", "exit 0")

    result = run(space, [{"script": "long.py"}, {"script": "task.sh", "timeout": 0.5}], backend=backend, parallel=2)

    assert result.state == "succeeded"
    first, second = (task.duration or 0 for task in result.tasks.values())
    assert second < first


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_that_is_stopped_while_tasks_wait_for_their_start_ends(
    space: Space, backend: str, refuse_spawns: Callable[..., None]
) -> None:
    refuse_spawns(errno.EAGAIN, 1)
    space.script("long.py", "import time; time.sleep(600)")
    tasks = [{"id": f"t{n}", "script": "long.py"} for n in range(5)]

    async def go() -> RunResult:
        async with open_run({"name": "x", "tasks": tasks}, parallel=5, grace=0.2, **space.directories) as run:
            async for event in run:
                if event.name == "task.started":
                    await anyio.wait_all_tasks_blocked()
                    run.cancel()
        return run.result

    result = anyio.run(go, backend=backend)

    assert result.state == "cancelled"
    assert {task.state for task in result.tasks.values()} == {"cancelled"}
    assert len(only(events(result.run_dir), "task.started")) == 1


# --- hosts that meddle


@pytest.mark.parametrize("status", [0, 3])
def test_a_host_that_reaps_every_child_never_makes_a_success_of_it(space: Space, status: int) -> None:
    space.script("task.py", f"import sys; sys.exit({status})")

    with reaping_thread():
        result = run(space, [{"script": "task.py"}] * 5, parallel=5)

    # Whoever is first has the status: ours is exact, or known to be lost.
    for task in result.tasks.values():
        assert (task.state, task.exit_status, task.reason) in [
            ("failed", 1, "lost"),
            ("failed" if status else "succeeded", status, "exit"),
        ]


@pytest.mark.parametrize("status", [0, 3])
def test_a_host_that_ignores_sigchld_loses_the_status_and_lost_is_failed(space: Space, status: int) -> None:
    space.script("task.py", f"import sys; print('output'); sys.exit({status})")
    lines: list[str] = []
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        result = run(
            space,
            [{"script": "task.py", "retries": 1}] * 3,
            lambda e: isinstance(e, TaskOutput) and lines.append(e.line),
            parallel=3,
        )
    finally:
        signal.signal(signal.SIGCHLD, before)

    for task in result.tasks.values():
        assert (task.state, task.exit_status, task.reason, task.attempts) == ("failed", 1, "lost", 1)
    assert lines == ["output"] * 3


def test_a_host_that_has_children_of_its_own_keeps_them(space: Space) -> None:
    space.script("task.py", "")
    with subprocess.Popen([PYTHON, "-c", "import sys; sys.exit(7)"]) as own:
        run(space, [{"script": "task.py"}] * 3)

        assert own.wait() == 7


WITHOUT = """
import anyio, json, os, resource, sys
from miniflow import MiniFlowError, run_flow

async def main(left, directories):
    def limit(event):
        if event.name == "run.started":
            used = max(int(fd) for fd in os.listdir("/proc/self/fd")) + 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + left, 4096))
    tasks = [{"id": f"t{n}", "script": "task.sh"} for n in range(6)]
    try:
        result = await run_flow({"name": "x", "tasks": tasks}, parallel=6, keep_going=True, on_event=limit, **directories)
    except MiniFlowError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    return [[t.state, t.exit_status, t.reason] for t in result.tasks.values()]

resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
print(json.dumps([anyio.run(main, left, json.loads(sys.argv[2]), backend=sys.argv[1]) for left in range(1, 14, 2)]))
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_without_descriptors_tasks_fail_as_not_started_and_the_run_ends(space: Space, backend: str) -> None:
    space.script("task.sh", "exit 0")
    directories = json.dumps({key: str(path) for key, path in space.directories.items()})

    process = subprocess.run(
        [PYTHON, "-W", "error", "-c", WITHOUT, backend, directories],
        capture_output=True,
        text=True,
        check=False,
        env=space.environ(),
    )

    assert process.stderr == ""
    outcomes = json.loads(process.stdout)
    assert len(outcomes) == 7
    for outcome in outcomes:
        if isinstance(outcome, str):
            assert outcome.startswith("cannot write")
            continue
        for task in outcome:
            assert task in (["succeeded", 0, "exit"], ["failed", 126, "spawn"])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_task_ends_as_soon_as_who_held_its_pipes_has_printed_the_last_line(
    space: Space, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """The line and the end of the pipe may be noticed at once."""
    monkeypatch.setattr(process, "STRAGGLER_GRACE_S", 600.0)
    late = "import os, time; time.sleep(0.1); os.write(1, b'late\\n')"
    space.script(
        "task.py",
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', {late!r}], start_new_session=True, env={{}})",
    )

    result = run(space, [{"script": "task.py"}] * 6, backend=backend, parallel=3)

    assert [task.duration for task in result.tasks.values() if (task.duration or 0) > 300] == []
    logs = [(result.run_dir / f"logs/{task_id}.jsonl").read_text() for task_id in result.tasks]
    assert ['"message":"late"' in log for log in logs] == [True] * 6


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="there are no pipes in packet mode")
def test_each_packet_of_a_pipe_is_told_of_before_the_task_ends(space: Space) -> None:
    """A read of such a pipe returns one packet, however many are in it."""
    space.script(
        "task.py",
        "import fcntl, os\n"
        "fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_DIRECT)\n"
        "for n in range(8): os.write(1, b'%d\\n' % n)\n"
        f"open({str(space.records_dir / 'go')!r}).read()\n",
    )
    os.mkfifo(space.records_dir / "go")
    printed = []

    def on_event(event: Event) -> None:
        if isinstance(event, TaskOutput):
            printed.append(event.line)
            if len(printed) == 8:
                (space.records_dir / "go").write_text("")

    assert run(space, {"script": "task.py", "timeout": 60}, on_event=on_event).state == "succeeded"
    assert printed == [str(n) for n in range(8)]


# --- the ways to wait


@pytest.fixture
def no_pidfd(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A platform without pidfd_open: a kernel before 5.3, or a sandbox that forbids it."""

    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("wait for "):
            thread.join()  # it ends when its process has


@pytest.mark.usefixtures("no_pidfd")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_without_pidfds_everything_is_recorded_just_so(space: Space, backend: str) -> None:
    space.script("exit.sh", 'echo "$1"; exit "$1"')
    space.script("long.py", "import time; time.sleep(600)")
    space.script("quiet.py", "import time; time.sleep(0.3)")
    space.script("deaf.sh", "exec >&- 2>&-; sleep 0.3; exit 3")
    tasks = [
        *({"script": "exit.sh", "args": [n]} for n in range(20)),
        {"script": "long.py", "timeout": 0.2},
        {"script": "quiet.py"},
        {"script": "deaf.sh"},
    ]

    result = run(space, tasks, backend=backend, parallel=4)

    assert [task.exit_status for task in sorted(result.tasks.values(), key=lambda task: int(task.id[1:]))] == [
        *range(20),
        124,
        0,
        3,
    ]


def test_a_process_that_cannot_be_watched_is_killed_and_counts_as_not_started(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(start, "_exit_descriptor", refuse)
    space.script("task.py", "import time; time.sleep(600)")

    result = run(space, {"script": "task.py"})

    task = result.tasks["t0"]
    assert (task.state, task.exit_status, task.reason) == ("failed", 126, "spawn")
    (started,) = only(events(result.run_dir), "task.started")
    wait_gone(started["pid"])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_leaves_no_descriptor_thread_or_child_behind(space: Space, backend: str) -> None:
    space.script("task.py", "print('hello')")
    space.script("long.py", "import time; time.sleep(600)")
    tasks = [{"script": "task.py"}, {"script": "long.py", "timeout": 0.1}, {"script": "task.py", "python": "none"}]
    run(space, tasks, backend=backend)  # what is loaded and opened once
    before = set(os.listdir("/proc/self/fd"))

    run(space, tasks, backend=backend, parallel=3)

    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_host_with_many_descriptors_can_run_a_flow(space: Space) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("the system allows too few descriptors")
    space.script("task.sh", "echo hello")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]  # select(2) would end at 1024
    try:
        result = run(space, {"script": "task.sh"})
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert result.state == "succeeded"
    assert stat.S_ISREG((result.run_dir / "logs/t0.jsonl").stat().st_mode)
