"""The commands: options, environment variables, exit statuses, what goes to which stream."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from miniflow import FlowError, __version__, load_flow
from tests.conftest import Space, events, only

HELLO = {"name": "hello", "tasks": [{"id": "greet", "script": "hello.py", "args": ["a b"]}]}
PRINTS = "import sys; print('hello', sys.argv[1:]); print('oh', file=sys.stderr)"


@pytest.fixture
def hello(space: Space) -> Space:
    space.script("hello.py", PRINTS)
    space.flow(HELLO)
    return space


def test_version(space: Space) -> None:
    result = space.miniflow("--version")
    assert (result.stdout, result.returncode) == (f"miniflow {__version__}\n", 0)


@pytest.mark.parametrize("args", [["-h"], ["--help"], ["run", "-h"], ["run", "--help"], ["list", "-h"]])
def test_help_is_on_standard_output(space: Space, args: list[str]) -> None:
    result = space.miniflow(*args)
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: miniflow")


@pytest.mark.parametrize(
    ("word", "hint"), [("staus", " Did you mean 'status'?"), ("explian", " Did you mean 'explain'?"), ("xyzzy", "")]
)
def test_an_unknown_command_is_an_error_with_a_suggestion(space: Space, word: str, hint: str) -> None:
    result = space.miniflow(word)
    assert (result.stdout, result.returncode) == ("", 2)
    assert result.stderr.endswith(f"Error: No such command '{word}'.{hint}\n")


def test_the_installed_command_is_the_module(hello: Space) -> None:
    command = Path(sys.executable).with_name("miniflow")
    result = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"miniflow {__version__}\n"


# --- list


def test_list_prints_the_names_alone_into_a_pipe(hello: Space) -> None:
    hello.flow({**HELLO, "name": "another"})
    result = hello.miniflow("list")
    assert (result.stdout, result.stderr, result.returncode) == ("another\nhello\n", "", 0)


def test_list_as_json_says_all_about_each_flow(hello: Space) -> None:
    hello.flow({**HELLO, "name": "more", "description": "d", "version": "2", "params": {"p": 1}})
    assert json.loads(hello.miniflow("list", "--json").stdout)[1] == {
        "name": "more",
        "file": str(hello.flows_dir / "more.json"),
        "description": "d",
        "version": "2",
        "tasks": 1,
        "params": ["p"],
    }


def test_list_names_a_broken_file_and_reports_its_problems(hello: Space) -> None:
    path = hello.flow('{"name": "x"}', name="broken")
    result = hello.miniflow("list")
    assert result.stdout == "broken\nhello\n"
    assert result.stderr == f'{path}:1:1: the flow has no "tasks"\n'
    assert result.returncode == 2


def test_list_without_a_flows_directory_says_how_to_set_it(space: Space) -> None:
    result = space.miniflow("-f", "nowhere", "list")
    assert (result.stdout, result.stderr, result.returncode) == (
        "",
        "nowhere: no such directory; set it with --flows-dir\n",
        2,
    )


def on_terminal(space: Space, *args: str) -> tuple[str, int]:
    """Run a command with a pseudo-terminal as its standard output; return what it shows there, and its exit status."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "miniflow", *args],
        cwd=space.path,
        env=space.environ({"MINIFLOW_OUTPUT_DIR": str(space.output_dir)}),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(ours)
    process.communicate()
    return shown.decode().replace("\r\n", "\n"), process.returncode


def test_list_shows_a_table_on_a_terminal(hello: Space) -> None:
    hello.flow({**HELLO, "name": "described", "description": "What it is for\nand more"})
    shown, status = on_terminal(hello, "list")
    assert shown == "FLOW       TASKS  DESCRIPTION\ndescribed      1  What it is for\nhello          1\n"
    assert status == 0


# --- run: what it shows


def test_json_is_the_format_of_a_pipe_and_nothing_else_is_on_standard_output(hello: Space) -> None:
    result = hello.miniflow("run", "hello", "--parallel", "4")
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in shown] == [
        "run.started",
        "task.started",
        "task.output",
        "task.output",
        "task.finished",
        "run.finished",
    ]
    assert {event["message"]: event["stream"] for event in only(shown, "task.output")} == {
        "hello ['a b']": "stdout",
        "oh": "stderr",
    }
    assert (result.stderr, result.returncode) == ("", 0)


def test_what_is_shown_is_what_is_recorded(hello: Space) -> None:
    result = hello.miniflow("run", "hello")
    shown = result.stdout.splitlines()
    run_dir = hello.latest("hello")
    recorded = {*(run_dir / "events.jsonl").read_text().splitlines(), *(run_dir / "logs/greet.jsonl").read_text().splitlines()}
    assert set(shown) == recorded


def test_console_is_the_format_of_a_terminal(hello: Space) -> None:
    shown, status = on_terminal(hello, "run", "hello")
    assert sorted(shown.splitlines()) == ["greet │ hello ['a b']", "greet │ oh"]
    assert status == 0


def test_console_shows_output_on_standard_output_and_progress_on_standard_error(hello: Space) -> None:
    result = hello.miniflow("run", "hello", "--log-format", "console")
    assert sorted(result.stdout.splitlines()) == ["greet │ hello ['a b']", "greet │ oh"]
    assert re.sub(r"\d+\.\d+ s|\S*-[0-9a-f]{6}", "*", result.stderr).splitlines() == [
        "run * of hello started",
        "greet started",
        "greet succeeded in *",
        "run * of hello succeeded in *: 1 succeeded",
        "recorded in *",
    ]


def test_console_makes_control_characters_harmless(space: Space) -> None:
    space.script("evil.py", r"print('\x1b[2J\x1b]0;title\x07 tab\there \x9b1m \u202e')")
    space.flow({"name": "evil", "tasks": [{"id": "t", "script": "evil.py"}]})
    result = space.miniflow("run", "evil", "--log-format", "console")
    assert result.stdout == "t │ \\x1b[2J\\x1b]0;title\\x07 tab\there \\x9b1m \\u202e\n"


@pytest.mark.parametrize(("level", "shown"), [("INFO", True), ("debug", True), ("WARNING", False), ("ERROR", False)])
def test_log_level_says_what_is_shown_and_not_what_is_recorded(hello: Space, level: str, shown: bool) -> None:
    result = hello.miniflow("-l", level, "run", "hello")
    assert ("run.finished" in result.stdout) == shown
    assert [event["event"] for event in events(hello.latest("hello"))] == [
        "run.started",
        "task.started",
        "task.finished",
        "run.finished",
    ]


def test_a_failure_is_shown_at_every_level(space: Space) -> None:
    space.script("fails.py", "raise SystemExit(3)")
    space.flow({"name": "fails", "tasks": [{"id": "t", "script": "fails.py"}]})
    result = space.miniflow("-l", "ERROR", "run", "fails", "--log-format", "console")
    assert result.stderr.startswith("error: t failed with exit status 3\nerror: run ")
    assert result.returncode == 1


# --- run: how it is called


def test_a_flow_may_be_a_path(hello: Space) -> None:
    path = hello.flow({**HELLO, "name": "elsewhere"}).rename(hello.path / "some.json")
    assert hello.miniflow("run", str(path)).returncode == 0
    assert hello.miniflow("run", "./some.json").returncode == 0


def test_a_flow_may_be_named_by_its_file_or_by_its_name(hello: Space) -> None:
    hello.flow({**HELLO, "name": "inner"}, name="outer")
    assert hello.miniflow("run", "inner").returncode == 0
    assert hello.miniflow("run", "outer").returncode == 0


def test_a_name_that_two_files_give_is_an_error_unless_one_is_called_so(hello: Space) -> None:
    hello.flow(HELLO, name="other")
    assert hello.miniflow("run", "hello").returncode == 0
    (hello.flows_dir / "hello.json").rename(hello.flows_dir / "third.json")
    result = hello.miniflow("run", "hello")
    both = f"{hello.flows_dir}/other.json and {hello.flows_dir}/third.json"
    assert result.stderr == f'error: two files hold a flow named "hello": {both}; say which by its path\n'
    assert result.returncode == 2


def test_a_missing_tasks_directory_is_told_once(hello: Space) -> None:
    hello.flow({"name": "two", "tasks": [{"id": "a", "script": "x.py"}, {"id": "b", "script": "y.py"}]})
    result = hello.miniflow("-t", "nowhere", "run", "two")
    assert result.stderr == "nowhere: no such directory; set it with --tasks-dir\n"
    assert result.returncode == 2


@pytest.mark.parametrize("endless", ["/dev/zero", "-"])
def test_parameters_without_an_end_are_refused(hello: Space, endless: str) -> None:
    command = f"{sys.executable} -m miniflow run hello --params {endless} < /dev/zero"
    result = subprocess.run(
        ["bash", "-c", command], cwd=hello.path, env=hello.environ(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "no JSON" in result.stderr
    assert len(result.stderr) < 1000


def test_a_near_miss_is_suggested(hello: Space) -> None:
    result = hello.miniflow("run", "helo")
    assert result.stderr == f'error: no flow "helo" in {hello.flows_dir}; did you mean "hello"?\n'
    assert (result.stdout, result.returncode) == ("", 2)


def test_options_come_from_the_environment_too(hello: Space) -> None:
    env = {
        "MINIFLOW_FLOWS_DIR": str(hello.flows_dir),
        "MINIFLOW_TASKS_DIR": str(hello.tasks_dir),
        "MINIFLOW_OUTPUT_DIR": str(hello.path / "from env"),
        "MINIFLOW_LOG_LEVEL": "error",
        "MINIFLOW_PARALLEL": "3",
        "MINIFLOW_KEEP_GOING": "1",
        "MINIFLOW_LOG_FORMAT": "json",
    }
    result = subprocess.run(
        [sys.executable, "-m", "miniflow", "run", "hello"],
        cwd=hello.path,
        env=hello.environ(env),
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == ""
    (started,) = only(events((hello.path / "from env/hello/latest").resolve()), "run.started")
    assert (started["parallel"], started["keep_going"]) == (3, True)


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", "", "٣", "99999999999"])
def test_a_worker_limit_that_is_none_is_refused(hello: Space, value: str) -> None:
    result = hello.miniflow("run", "hello", "--parallel", value)
    assert result.stderr == f"error: --parallel must be a whole number from 1, or auto, not {value!r}\n"
    assert result.returncode == 2
    assert not hello.output_dir.exists()


def test_parallel_auto_is_the_number_of_processors(hello: Space) -> None:
    hello.miniflow("run", "hello", "--parallel", "auto")
    (started,) = only(events(hello.latest("hello")), "run.started")
    assert started["parallel"] == len(os.sched_getaffinity(0))


def test_keep_going_runs_what_does_not_depend_on_a_failure(space: Space) -> None:
    space.script("fails.py", "raise SystemExit(1)")
    space.script("works.py")
    space.flow({"name": "f", "tasks": [{"id": "a", "script": "fails.py"}, {"id": "b", "script": "works.py"}]})
    space.miniflow("run", "f")
    assert not (space.latest("f") / "status/b").exists()
    assert space.miniflow("run", "f", "--keep-going").returncode == 1
    assert (space.latest("f") / "status/b").read_text() == "0\n"


def test_python_names_the_interpreter(hello: Space) -> None:
    wrapper = hello.script("../wrapper", f'#!/bin/sh\necho wrapped\nexec {sys.executable} "$@"\n', mode=0o755)
    assert '"message":"wrapped"' in hello.miniflow("run", "hello", "--python", str(wrapper)).stdout
    assert '"message":"wrapped"' in hello.miniflow("run", "hello", "--python", "./wrapper").stdout
    assert '"message":"wrapped"' in hello.miniflow("run", "hello", env={"MINIFLOW_PYTHON": str(wrapper)}).stdout


def test_an_activated_environment_gives_the_interpreter(hello: Space) -> None:
    hello.script("../venv/bin/python3", f'#!/bin/sh\necho activated\nexec {sys.executable} "$@"\n', mode=0o755)
    assert '"message":"activated"' in hello.miniflow("run", "hello", env={"VIRTUAL_ENV": str(hello.path / "venv")}).stdout


# --- dry run


def test_dry_run_writes_the_script_and_prints_its_path_alone(hello: Space) -> None:
    result = hello.miniflow("run", "hello", "--dry-run")
    assert (result.stdout, result.stderr, result.returncode) == ("out/hello.sh\n", "", 0)
    script = hello.output_dir / "hello.sh"
    assert script.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in hello.output_dir.iterdir()] == ["hello.sh"]
    assert hello.bash(script).returncode == 0


def test_dry_run_keeps_going_if_told_so(space: Space) -> None:
    space.script("fails.py", "raise SystemExit(1)")
    space.script("works.py")
    space.flow({"name": "f", "tasks": [{"id": "a", "script": "fails.py"}, {"id": "b", "script": "works.py"}]})
    script = space.path / space.miniflow("run", "f", "--dry-run", "--keep-going").stdout.strip()
    assert space.bash(script).returncode == 1
    assert (space.latest("f") / "status/b").read_text() == "0\n"


# --- mistakes


def test_problems_of_a_flow_file_are_reported_together_and_nothing_is_made(hello: Space) -> None:
    path = hello.flow('{"name": "x",\n "tasks": [{"id": "a", "script": "helo.py", "depends_on": "b"}]}')
    result = hello.miniflow("run", "x")
    assert result.stderr.splitlines() == [
        f'{path}:2:34: tasks[0].script: no script "helo.py" in {hello.tasks_dir}; did you mean "hello.py"?',
        f'{path}:2:59: tasks[0].depends_on: no task "b"',
    ]
    assert (result.stdout, result.returncode) == ("", 2)
    assert not hello.output_dir.exists()


@pytest.mark.parametrize(
    "args",
    [["run"], ["run", "hello", "extra"], ["nonsense"], ["--nonsense"], ["run", "hello", "--nonsense"], ["-l", "x", "list"]],
)
def test_wrong_usage_is_told_on_standard_error(hello: Space, args: list[str]) -> None:
    result = hello.miniflow(*args)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: miniflow")
    assert "Traceback" not in result.stderr


def test_an_output_directory_that_cannot_be_made_is_an_error(hello: Space) -> None:
    hello.script("../file", "")
    result = hello.miniflow("-o", "file/below", "run", "hello")
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot write ")
    result = hello.miniflow("-o", "file/below", "run", "hello", "--dry-run")
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot make the output directory ")


# --- readers and callers of all kinds


def test_a_reader_that_goes_away_does_not_end_the_run(space: Space) -> None:
    space.script("prints.py", "for i in range(20000): print('x' * 50)")
    space.script("works.py")
    space.flow(
        {
            "name": "f",
            "tasks": [{"id": "a", "script": "prints.py"}, {"id": "b", "script": "works.py", "depends_on": "a"}],
        }
    )
    command = f"{sys.executable} -m miniflow -o {space.output_dir} run f | head -n 1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], cwd=space.path, env=space.environ(), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    run_dir = space.latest("f")
    assert json.loads((run_dir / "run.json").read_text())["state"] == "succeeded"
    assert (run_dir / "logs/a.jsonl").read_text().count("task.output") == 20000


def test_standard_output_on_a_full_disk_is_an_error_and_the_record_is_complete(hello: Space) -> None:
    command = f"{sys.executable} -m miniflow -o {hello.output_dir} run hello > /dev/full"
    result = subprocess.run(
        ["bash", "-c", command], cwd=hello.path, env=hello.environ(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot write standard output: No space left on device; the run has succeeded: ")
    assert json.loads((hello.latest("hello") / "run.json").read_text())["state"] == "succeeded"


@pytest.mark.parametrize("command", ["list", "list --json", "run hello --dry-run", "--help", "--version"])
def test_what_cannot_be_printed_is_an_error_without_a_traceback(hello: Space, command: str) -> None:
    full = f"{sys.executable} -m miniflow -o {hello.output_dir} {command} > /dev/full"
    result = subprocess.run(
        ["bash", "-c", full], cwd=hello.path, env=hello.environ(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr == "error: cannot write standard output: No space left on device\n"


@pytest.mark.parametrize("command", ["list", "run hello --dry-run"])
def test_a_reader_who_does_not_read_does_not_matter(hello: Space, command: str) -> None:
    script = f"{sys.executable} -m miniflow -o {hello.output_dir} {command} | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", script], cwd=hello.path, env=hello.environ(), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("command", ["list", "list --json", "validate", "validate --format github", "diff --exit-code"])
def test_what_is_wrong_is_told_by_the_exit_status_when_the_reader_has_gone(hello: Space, command: str) -> None:
    for params in ("{}", '{"other": 1}'):
        hello.miniflow("run", "hello", "-p", params)
    hello.flow("{", "broken")
    descriptor = nobody("pipe")

    process = subprocess.run(
        [sys.executable, "-m", "miniflow", "-o", hello.output_dir, *command.split()],
        cwd=hello.path,
        env=hello.environ(),
        stdout=descriptor,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    os.close(descriptor)
    assert process.returncode == (1 if command.startswith("diff") else 2)
    assert ("broken.json" in process.stderr) == command.startswith("list")  # what validate finds is its result


def nobody(kind: str) -> int:
    """Return a descriptor to write to that nobody reads any more."""
    if kind == "full disk":
        return os.open("/dev/full", os.O_WRONLY)
    ends = pty.openpty() if kind == "terminal" else os.pipe()
    os.close(ends[0])
    return ends[1]


@pytest.mark.parametrize("kind", ["pipe", "terminal", "full disk"])
@pytest.mark.parametrize(
    ("command", "status"),
    [("list", 0), ("list --nope", 2), ("run nope", 2), ("run hello", 0), ("run hello --log-format console", 0)],
)
def test_the_exit_status_tells_the_result_when_nobody_reads(hello: Space, kind: str, command: str, status: int) -> None:
    descriptor = nobody(kind)
    stdout = descriptor if kind != "full disk" else subprocess.DEVNULL

    process = subprocess.run(
        [sys.executable, "-m", "miniflow", *command.split()],
        cwd=hello.path,
        env=hello.environ(),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=descriptor,
        check=False,
    )

    os.close(descriptor)
    assert process.returncode == status


@pytest.mark.parametrize("option", ["-f", "-t", "-o"])
def test_a_directory_without_a_name_is_refused(hello: Space, option: str) -> None:
    result = hello.miniflow(option, "", "run", "hello", "--dry-run")
    assert result.returncode == 2
    assert "is empty; name a directory" in result.stderr


def test_a_path_that_begins_with_a_dash_is_printed_so_that_it_is_no_option(hello: Space) -> None:
    assert hello.miniflow("-o", "./-o", "run", "hello", "--dry-run").stdout == "./-o/hello.sh\n"


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_an_interpreter_whose_name_is_not_utf8_is_refused(hello: Space, dry: list[str]) -> None:
    result = hello.miniflow("run", "hello", "--python", "/tmp/\udcff/python", *dry)  # noqa: S108
    assert result.stderr == "error: the interpreter has a name that is not UTF-8: '/tmp/\\udcff/python'\n"
    assert result.returncode == 2
    assert not hello.output_dir.exists()


def test_an_interrupt_before_anything_runs_is_a_death_by_sigint(hello: Space) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "miniflow", "run", "hello", "-p", "-"],
        cwd=hello.path,
        env=hello.environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        state = ""
        while state != "S":  # it waits for its standard input
            stat = Path(f"/proc/{process.pid}/stat").read_text()
            wchan = Path(f"/proc/{process.pid}/wchan").read_text()
            state = stat.rpartition(")")[2].split()[0] if "pipe" in wchan else ""
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in shown


def test_a_second_signal_ends_tasks_without_the_rest_of_their_grace(space: Space) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('heard', flush=True)); print('ready', flush=True)"
    )
    space.script("deaf.py", deaf + "\nwhile True: time.sleep(600)")
    space.flow({"name": "f", "tasks": [{"id": "a", "script": "deaf.py"}]})
    with subprocess.Popen(
        [sys.executable, "-m", "miniflow", "-o", str(space.output_dir), "run", "f"],
        cwd=space.path,
        env=space.environ(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"message":"ready"' in line or '"message":"heard"' in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM
    assert (space.latest("f") / "status/a").read_text() == "137\n"


def test_signals_that_the_caller_ignores_are_ignored_by_the_run_and_not_by_its_tasks(space: Space) -> None:
    says = "import signal; print([n for n in (1, 3, 10, 15) if signal.getsignal(n) == signal.SIG_IGN])"
    space.script("says.py", says + "; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))")
    space.flow({"name": "f", "tasks": [{"id": "a", "script": "says.py"}]})
    command = f"trap '' HUP QUIT USR1 TERM; exec {sys.executable} -m miniflow -o {space.output_dir} run f --log-format console"
    result = subprocess.run(
        ["bash", "-c", command], cwd=space.path, env=space.environ(), capture_output=True, text=True, check=True
    )
    assert result.stdout == "a │ []\na │ set()\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_not_matter(hello: Space, closed: str) -> None:
    command = f"{sys.executable} -m miniflow -o {hello.output_dir} run hello {closed}"
    result = subprocess.run(
        ["bash", "-c", command], cwd=hello.path, env=hello.environ(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert "Traceback" not in result.stderr
    messages = [
        event["message"] for event in map(json.loads, (hello.latest("hello") / "logs/greet.jsonl").read_text().splitlines())
    ]
    assert "hello ['a b']" in messages


def test_an_ignored_sigchld_does_not_turn_failures_into_successes(space: Space) -> None:
    space.script("fails.py", "raise SystemExit(3)")
    space.flow({"name": "f", "tasks": [{"id": "a", "script": "fails.py"}]})
    command = f"trap '' CHLD; exec {sys.executable} -m miniflow -o {space.output_dir} run f"
    result = subprocess.run(
        ["bash", "-c", command], cwd=space.path, env=space.environ(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert (space.latest("f") / "status/a").read_text() == "3\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_and_the_command_ends_by_it(space: Space, number: signal.Signals) -> None:
    space.script("waits.py", "import time; print('ready', flush=True); time.sleep(600)")
    space.flow({"name": "f", "tasks": [{"id": "a", "script": "waits.py"}, {"id": "b", "script": "waits.py"}]})
    with subprocess.Popen(
        [sys.executable, "-m", "miniflow", "-o", str(space.output_dir), "run", "f"],
        cwd=space.path,
        env=space.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if '"message":"ready"' in line:
                process.send_signal(number)
                break
        shown = [json.loads(line) for line in process.stdout]
        assert process.stderr.read() == ""
    assert process.returncode == -number
    run_dir = space.latest("f")
    assert (run_dir / "status/a").read_text() == "143\n"
    assert not (run_dir / "status/b").exists()
    assert [(event["event"], event.get("state"), event.get("exit_status")) for event in shown[-2:]] == [
        ("task.finished", "cancelled", 143),
        ("run.finished", "cancelled", 128 + number),
    ]
    assert json.loads((run_dir / "run.json").read_text())["exit_status"] == 128 + number


@pytest.mark.parametrize("limit", range(5, 24, 3))
def test_too_few_descriptors_are_an_error_without_a_traceback(hello: Space, limit: int) -> None:
    command = f"ulimit -n {limit}; exec {sys.executable} -m miniflow -o {hello.output_dir} run hello"
    result = subprocess.run(
        ["bash", "-c", command], cwd=hello.path, env=hello.environ(), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        assert result.returncode == 2
        assert result.stderr == "error: a run needs 16 descriptors: Too many open files; raise `ulimit -n`\n"


def test_a_tasks_directory_that_cannot_be_looked_at_is_not_called_missing(
    hello: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def refuse(path: str, **options: object) -> os.stat_result:
        if str(path) == str(hello.tasks_dir):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(FlowError, match=r"cannot read the tasks directory: Input/output error"):
        load_flow("hello", flows_dir=hello.flows_dir, tasks_dir=hello.tasks_dir)


def test_a_script_that_cannot_be_looked_at_is_not_called_missing(hello: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat

    def refuse(path: str, **options: object) -> os.stat_result:
        if str(path).endswith("hello.py"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(FlowError, match=r'"hello.py" cannot be read: Input/output error'):
        load_flow("hello", flows_dir=hello.flows_dir, tasks_dir=hello.tasks_dir)


@pytest.mark.parametrize("fields", [{}, {"cwd": "tasks"}], ids=["here", "elsewhere"])
def test_what_a_locale_has_no_signs_for_reaches_tasks_all_the_same(space: Space, fields: dict[str, str]) -> None:
    space.script(
        "show.py", "import os, sys; print(ascii(os.fsencode(sys.argv[1]).decode()), ascii(os.environb[b'E'].decode()))"
    )
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "show.py", "args": ["漢"], "env": {"E": "→"}, **fields}]})
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    done = space.miniflow("run", "f", "--log-format", "console", env=ascii_alone)

    assert done.stdout == r"t │ '\u6f22' '\u2192'" + "\n"
    assert done.returncode == 0
