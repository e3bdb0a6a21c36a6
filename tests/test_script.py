"""The canonical bash script: what it says, what it does, and that it needs nothing of MiniFlow."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from miniflow import plan_flow, read_run, write_script
from tests.conftest import Space, events, insist, only

GOLDEN = Path(__file__).with_name("golden")
REWRITE = bool(os.environ.get("MINIFLOW_REWRITE_GOLDEN"))
"""`MINIFLOW_REWRITE_GOLDEN=1 pytest tests/test_script.py` writes the golden files anew; review the difference as code."""

SHELL = shutil.which("bash") or "bash"


def script_of(space: Space, flow: Mapping[str, Any], **options: Any) -> Path:
    """Write the script of a flow, as `--dry-run` does."""
    space.flow(flow)
    with contextlib.chdir(space.path):
        return write_script(plan_flow(str(flow["name"]), **space.directories, **{"python": sys.executable, **options}))


def run(space: Space, flow: Mapping[str, Any], env: Mapping[str, str] | None = None, **options: Any) -> Path:
    """Run the script of a flow; return the run directory."""
    space.bash(script_of(space, flow, **options), env=env)
    return space.latest(str(flow["name"]))


def states(run_dir: Path) -> dict[str, str]:
    return {task.id: task.state for task in read_run(run_dir).tasks.values()}


def statuses(run_dir: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((run_dir / "status").iterdir())}


def behave(*what: int | str) -> dict[str, str]:
    return {"BEHAVIOUR": json.dumps(what)}


def task(task_id: str, *what: int | str, **fields: Any) -> dict[str, Any]:
    """Return a task that behaves so, attempt by attempt."""
    return {"id": task_id, "script": "record.py", "env": behave(*(what or (0,))), **fields}


def flow_of(*tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "demo", "tasks": list(tasks), **fields}


@pytest.fixture
def recording(space: Space) -> Space:
    space.recorder()
    return space


# --- the text

EVERY_FEATURE = {
    "name": "every_feature",
    "description": "All that a flow can say.\n\nIn more than one paragraph; $(date) and `date` stay as they are.",
    "version": "2.1",
    "params": {"date": "2023-01-01", "limit": {"type": "integer", "default": 10}, "quote": "it's"},
    "env": {"TZ": "UTC", "GREETING": "hello, world"},
    "python": ".venv/bin/python",
    "tasks": [
        {"id": "plain", "script": "plain.sh"},
        {
            "id": "listed",
            "script": "sub/listed.py",
            "description": "Takes a list.\nshellcheck disable=all is no directive here.",
            "args": ["--limit", 10, 1.5, True, "{{ params.date }}", "a b", "", "it's", "$(date)", "x\ny", "\\{{", "-n", "*"],
            "env": {"TZ": "Europe/Zurich", "EMPTY": "", "ID": "{{ task.id }}"},
            "cwd": "data/{{ params.date }}",
        },
        {
            "id": "optioned",
            "script": "sub/listed.py",
            "depends_on": ["plain", "listed"],
            "args": {"input-file": "in.csv", "v": 3, "verbose": True, "dry": False, "none": None, "tag": ["a", "b"], "x": "-1"},
            "python": "python3.13",
            "retries": {"max": 3, "delay": 0.5, "backoff": 2, "max_delay": 1.5, "on_exit_codes": [75, 111]},
            "timeout": "1m30s",
        },
        {"id": "a.b-c", "script": "program", "depends_on": "optioned", "trigger_rule": "all_done", "cwd": "/srv"},
        {"id": "if", "script": "own.py", "depends_on": "optioned", "trigger_rule": "one_failed", "retries": 2},
    ],
}  # fmt: skip


def every_feature(space: Space) -> Path:
    for name in ("plain.sh", "sub/listed.py", "program", "own.py"):
        space.script(name, "#!/bin/sh\n", mode=0o755)
    return script_of(space, EVERY_FEATURE, python="/opt/python/bin/python3")


def test_the_text_is_the_golden_one(space: Space) -> None:
    text = every_feature(space).read_text().replace(str(space.path), "/project")
    for name in ("opening.sh", "machinery.sh"):  # they have no golden copy: they are files of their own
        part = (Path(__file__).parent.parent / "miniflow" / name).read_text()
        assert part in text
        text = text.replace(part, f"<{name}>\n")
    path = GOLDEN / "every_feature.sh"
    if REWRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_the_same_flow_gives_the_same_bytes_whatever_the_process(space: Space) -> None:
    for name in ("plain.sh", "sub/listed.py", "program", "own.py"):
        space.script(name, mode=0o755)
    space.flow(EVERY_FEATURE)
    texts = set()
    for seed in ("1", "2"):
        done = space.miniflow("run", "every_feature", "--dry-run", env={"PYTHONHASHSEED": seed, "TZ": f"X{seed}"})
        texts.add((space.path / done.stdout.strip()).read_bytes())
    assert len(texts) == 1


def test_the_script_is_for_its_owner_alone(recording: Space) -> None:
    assert stat.S_IMODE(script_of(recording, flow_of(task("a"))).stat().st_mode) == 0o700


def test_each_task_is_one_block_with_its_description_as_comment(space: Space) -> None:
    text = every_feature(space).read_text()
    blocks = re.findall(r"^  # --- (\S+) -+\n((?:  # .*\n)*)((?:  \S.*\n)+)\n", text, re.MULTILINE)
    assert [name for name, _, _ in blocks] == ["plain", "listed", "optioned", "a.b-c", "if"]
    assert blocks[1][1] == '  # Takes a list.\n  # "shellcheck disable=all is no directive here."\n'
    for name, _, commands in blocks:
        lines = commands.splitlines()
        assert lines[0].startswith(f"  task {name} ")
        assert lines[-1].startswith("  run ")


@pytest.mark.parametrize("folder", ["plain", "with a space", "über", "a=b", '$x ${y}`z`\\w\\\\"v"{u}', "#~*?[a]&;(b)"])
def test_a_command_can_be_pasted_as_one_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    space = Space(tmp_path / folder)
    space.recorder()
    args = ["a b", "it's", "$(touch canary)", "two\nlines", "", "-n", "ü"]
    text = script_of(space, flow_of(task("a", args=args, env={"V": "x y\n'z'"}))).read_text()
    [line] = [line.removeprefix("  run ") for line in text.splitlines() if line.startswith("  run ")]
    given = space.environ({"MINIFLOW_TASK_ID": "a", "MINIFLOW_ATTEMPT": "1"})
    subprocess.run([SHELL, "-c", line], env=given, cwd=tmp_path, check=True)
    record = space.records()["a.1"]
    assert record["argv"] == args
    assert record["env"]["V"] == "x y\n'z'"
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("folder", ["$HOME", "it's", "a!b", "a\nb"])
def test_the_tasks_directory_of_a_command_can_be_another_whatever_was_planned(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    space = Space(tmp_path / folder)
    space.recorder()
    script = script_of(space, flow_of(task("a")))
    space.tasks_dir.rename(tmp_path / "moved")
    assert space.bash(script, env={"MINIFLOW_TASKS_DIR": str(tmp_path / "moved")}).returncode == 0
    assert set(space.records()) == {"a.1"}


def test_nothing_in_a_description_hides_text_from_the_reader(recording: Space) -> None:
    text = script_of(recording, flow_of(task("a", description="seen\x1b[8m hidden\r\u202e!"), description="\x9b8m")).read_text()
    assert not set(text) & set("\x1b\r\u202e\x9b")


@pytest.mark.long
def test_ten_thousand_tasks_are_read_and_run_to_their_ends(recording: Space) -> None:
    # bash runs a list of commands by recursion: one flat list of so many would overflow a small stack.
    chain = [task("t0", 1), *(task(f"t{n}", depends_on=f"t{n - 1}", timeout=1, retries=1) for n in range(1, 10_000))]
    script = script_of(recording, flow_of(*chain))
    limited = ["bash", "-c", 'ulimit -s 2048; exec bash "$0"', script]
    done = subprocess.run(limited, env=recording.environ(), stderr=subprocess.DEVNULL, check=False)
    assert done.returncode == 1
    assert read_run(recording.latest("demo")).tasks["t9999"].reason == "upstream_failed"


# --- what its caller can change


def test_the_tasks_directory_can_be_another(recording: Space) -> None:
    script = script_of(recording, flow_of(task("a")))
    moved = recording.tasks_dir.rename(recording.path / "moved $x")
    assert recording.bash(script).returncode == 2
    assert recording.bash(script, env={"MINIFLOW_TASKS_DIR": str(moved)}).returncode == 0
    assert recording.bash(script, env={"MINIFLOW_TASKS_DIR": moved.name}).returncode == 0


@pytest.mark.parametrize("relative", [False, True])
def test_the_output_directory_can_be_another(recording: Space, relative: bool) -> None:
    script = script_of(recording, flow_of(task("a")))
    other = recording.path / "other out"
    recording.bash(script, env={"MINIFLOW_OUTPUT_DIR": other.name if relative else str(other)})
    assert states(other / "demo" / "latest") == {"a": "succeeded"}
    assert not (recording.output_dir / "demo").exists()


@pytest.mark.parametrize("relative", [False, True])
def test_the_work_directory_can_be_another(recording: Space, relative: bool) -> None:
    script = script_of(recording, flow_of(task("a"), task("b", cwd="sub")))
    (recording.path / "work here" / "sub").mkdir(parents=True)
    recording.bash(script, env={"MINIFLOW_WORK_DIR": "work here" if relative else str(recording.path / "work here")})
    folders = {name: record["cwd"] for name, record in recording.records().items()}
    assert folders == {"a.1": str(recording.path / "work here"), "b.1": str(recording.path / "work here" / "sub")}


@pytest.mark.parametrize("value", ["{path}/my=python", "./my=python"])
@pytest.mark.parametrize("env", [{}, {"V": "1"}])
def test_the_interpreter_can_be_another(space: Space, value: str, env: dict[str, str]) -> None:
    # The name has an "=": `env` must not take it for a variable.
    python = space.path / "my=python"
    python.write_text('#!/bin/sh\necho "by $0: $(basename $1) $V"\n')
    python.chmod(0o755)
    space.script("a.py")
    (space.path / "sub").mkdir()
    script = script_of(space, flow_of({"id": "a", "script": "a.py", "cwd": "sub", "env": env}))
    done = space.bash(script, env={"MINIFLOW_PYTHON": value.format(path=space.path)})
    log = (space.latest("demo") / "logs" / "a.log").read_text()
    assert (done.returncode, log.split(": ")[1].split()) == (0, ["a.py", *env.values()])


@pytest.mark.parametrize("yes", ["1", "true", "YES", "on", "t", "Y"])
def test_keep_going_can_be_switched_on(recording: Space, yes: str) -> None:
    run_dir = run(recording, flow_of(task("a", 1), task("b")), env={"MINIFLOW_KEEP_GOING": yes})
    assert states(run_dir) == {"a": "failed", "b": "succeeded"}


@pytest.mark.parametrize("no", ["0", "false", "no", "F", "n", "Off"])
def test_keep_going_can_be_switched_off(recording: Space, no: str) -> None:
    run_dir = run(recording, flow_of(task("a", 1), task("b")), env={"MINIFLOW_KEEP_GOING": no}, keep_going=True)
    assert states(run_dir) == {"a": "failed", "b": "cancelled"}


def test_an_empty_variable_changes_nothing(recording: Space) -> None:
    names = ["TASKS_DIR", "OUTPUT_DIR", "WORK_DIR", "PYTHON", "KEEP_GOING", "GRACE"]
    run_dir = run(recording, flow_of(task("a")), env={f"MINIFLOW_{name}": "" for name in names})
    assert states(run_dir) == {"a": "succeeded"}


def test_python3_runs_what_a_missing_interpreter_was_planned_for(recording: Space) -> None:
    flow = flow_of(task("a"), task("b", python="gone/bin/python"), task("c", python="python-that-is-gone"))
    done = recording.bash(script_of(recording, flow, python="/gone/bin/python"))
    assert states(recording.latest("demo")) == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}
    gone = ["/gone/bin/python", f"{recording.path}/gone/bin/python", "python-that-is-gone"]
    assert done.stderr.splitlines()[:4] == [
        *(f"note: {path} is not there; python3 runs instead" for path in gone),
        f"recording in {recording.latest('demo')}",
    ]


def test_nothing_is_said_of_a_missing_interpreter_that_no_task_needs(recording: Space) -> None:
    recording.script("a.sh")
    done = recording.bash(script_of(recording, flow_of({"id": "a", "script": "a.sh"}), python="/gone/bin/python"))
    assert "note:" not in done.stderr
    done = recording.bash(
        script_of(recording, flow_of(task("a")), python="/gone/bin/python"), env={"MINIFLOW_PYTHON": sys.executable}
    )
    assert "note:" not in done.stderr


def test_an_interpreter_of_a_tasks_own_is_found_from_the_work_directory(space: Space) -> None:
    space.script("a.py")
    python = space.path / "my" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho mine\n")
    python.chmod(0o755)
    flow = flow_of({"id": "a", "script": "a.py", "python": "my/python", "cwd": "my"})
    script = script_of(space, flow)
    for work_dir in ("", ".", str(space.path)):
        space.bash(script, env={"MINIFLOW_WORK_DIR": work_dir})
        assert (space.latest("demo") / "logs" / "a.log").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("MINIFLOW_TASKS_DIR", "/gone", "MINIFLOW_TASKS_DIR"),
        ("MINIFLOW_WORK_DIR", "/gone", "MINIFLOW_WORK_DIR"),
        ("MINIFLOW_OUTPUT_DIR", "/dev/null/out", "/dev/null/out"),
        ("MINIFLOW_GRACE", "soon", "MINIFLOW_GRACE"),
        ("MINIFLOW_KEEP_GOING", "maybe", "MINIFLOW_KEEP_GOING"),
        ("MINIFLOW_KEEP_GOING", "2", "MINIFLOW_KEEP_GOING"),
    ],
)
def test_what_cannot_be_used_is_named_with_exit_status_2(recording: Space, name: str, value: str, word: str) -> None:
    done = recording.bash(script_of(recording, flow_of(task("a"))), env={name: value})
    assert done.returncode == 2
    assert f"error: {'cannot make ' if 'OUTPUT' in name else ''}" in done.stderr
    assert word in done.stderr
    assert recording.records() == {}


# --- where it runs


def test_it_runs_without_miniflow_in_a_bare_environment(recording: Space, tmp_path: Path) -> None:
    script = script_of(recording, flow_of(task("a", args=["x"])))
    copy = shutil.copy(script, tmp_path / "a copy.sh")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {"PATH": "/usr/bin:/bin", "RECORDS": str(recording.records_dir)}
    done = subprocess.run([SHELL, copy], env=env, cwd=elsewhere, capture_output=True, check=False)
    assert done.returncode == 0
    record = recording.records()["a.1"]
    assert (record["argv"], record["cwd"]) == (["x"], str(recording.path))


def test_nothing_of_miniflow_is_in_it(recording: Space) -> None:
    script = script_of(recording, flow_of(task("a")), python="python3")
    assert str(Path(__file__).parent.parent) not in script.read_text()


@pytest.mark.parametrize("command", [[SHELL], [SHELL, "-s"], [SHELL, "/dev/stdin"]])
def test_it_can_be_piped_into_bash(recording: Space, command: list[str]) -> None:
    script = script_of(recording, flow_of(task("a"), task("b", depends_on="a")))
    (recording.path / "main").write_text("what bash calls a script that it reads from standard input")
    done = subprocess.run(
        command, input=script.read_bytes(), env=recording.environ(), cwd=recording.path, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert states(recording.latest("demo")) == {"a": "succeeded", "b": "succeeded"}
    assert not (recording.latest("demo") / "flow.sh").exists()


def test_a_part_of_it_does_nothing(recording: Space) -> None:
    text = script_of(recording, flow_of(task("a"))).read_text()
    for length in (len(text) // 2, len(text) - 3, len(text) - len("  flow\n  mf_end\n}\n")):
        subprocess.run([SHELL], input=text[:length].encode(), env=recording.environ(), capture_output=True, check=False)
    assert recording.records() == {}


def test_another_shell_says_what_is_needed(recording: Space) -> None:
    dash = shutil.which("dash") or pytest.skip("there is no dash")
    done = subprocess.run([dash, script_of(recording, flow_of(task("a")))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: this script needs bash 4.3 or newer\n")


def test_it_can_be_edited_while_it_runs(recording: Space) -> None:
    edit = recording.script("edit.sh")
    script = script_of(recording, flow_of(task("a"), {"id": "b", "script": "edit.sh"}, task("c", depends_on="b")))
    edit.write_text(f"printf 'exit 77\\n%.0s' {{1..5000}} >{script}\n")
    assert recording.bash(script).returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_do_not_matter(recording: Space, closed: str) -> None:
    recording.script("print.sh", "echo out; echo err >&2; ls /proc/self/fd | wc -w")
    script = script_of(recording, flow_of(task("a"), {"id": "b", "script": "print.sh"}))
    done = recording.bash("-c", f'exec bash "$0" {closed}', str(script))
    run_dir = recording.latest("demo")
    assert done.returncode == 0
    assert [event["event"] for event in events(run_dir)][-1] == "run.finished"
    assert (run_dir / "logs" / "b.log").read_text() == "out\nerr\n4\n"


def test_a_reader_who_goes_away_does_not_end_it(recording: Space) -> None:
    script = script_of(recording, flow_of(*(task(f"t{n}") for n in range(5))))
    done = recording.bash("-c", 'bash "$0" 2>&1 | head -1; exit "${PIPESTATUS[0]}"', str(script))
    assert done.returncode == 0
    assert done.stdout.startswith("recording in ")
    assert [event["event"] for event in events(recording.latest("demo"))] == [
        "run.started",
        *["task.started", "task.finished"] * 5,
        "run.finished",
    ]


HOSTILE_ENVIRONMENTS: dict[str, dict[str, str]] = {
    "options": {"SHELLOPTS": "errexit:keyword:allexport:noclobber:noglob:nounset:pipefail"},
    "job control": {"SHELLOPTS": "monitor"},
    "posix": {"POSIXLY_CORRECT": "1"},
    "extensions": {"BASHOPTS": "nocasematch:nullglob:failglob:nocaseglob:xpg_echo:execfail:lastpipe:localvar_inherit"},
    "words": {"IFS": "abc", "CDPATH": "/", "TZ": "America/St_Johns", "LC_ALL": "tr_TR.UTF-8", "GREP_OPTIONS": "-v"},
    "names of its own": {
        **{name: f"caller's {name}" for name in ("mf_task", "mf_params", "mf_command", "mf_stop", "mf_states")},
        **{name: f"caller's {name}" for name in ("log", "delay", "status", "state", "file", "id", "base", "name", "REPLY")},
    },
    "functions": {
        f"BASH_FUNC_{name}%%": '() { echo "the caller\'s"\n}'
        for name in ["kill", "mkdir", "printf", "cd", "wait", "trap", "type", "mv", "task", "run", "flow", "mf_json", "module"]
    },
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE_ENVIRONMENTS)
def test_the_callers_environment_is_the_tasks_and_changes_nothing_else(recording: Space, what: str) -> None:
    given = HOSTILE_ENVIRONMENTS[what]
    (recording.path / "sub").mkdir()
    flow = flow_of(
        task("a", 3, args=["x=y", "*", "Z"], cwd="sub", retries=1, timeout=60),
        task("b", depends_on="a", trigger_rule="all_done"),
    )
    done = recording.bash(script_of(recording, flow), env=given)
    assert done.returncode == 1
    run_dir = recording.latest("demo")
    assert states(run_dir) == {"a": "failed", "b": "succeeded"}
    assert events(run_dir)[1]["argv"][2:] == ["x=y", "*", "Z"]
    record = recording.records()["a.2"]
    assert (record["argv"], record["cwd"]) == (["x=y", "*", "Z"], str(recording.path / "sub"))
    environ = record["env"]
    ours = {
        "BEHAVIOUR",
        "PYTHONUNBUFFERED",
        *(f"MINIFLOW_{name}" for name in ("FLOW", "RUN_ID", "RUN_DIR", "PARAMS", "TASK_ID", "ATTEMPT")),
    }
    bashs = {"PWD", "OLDPWD", "SHLVL", "_", "PS1", "PS2"}
    assert environ.keys() - ours - bashs == recording.environ(given).keys() - ours - bashs
    for name, value in given.items():
        if name.startswith("BASH_FUNC"):
            assert environ[name].split() == value.split()
        elif name in ("SHELLOPTS", "BASHOPTS"):  # bash has added its defaults
            assert set(environ[name].split(":")) >= set(value.split(":"))
        elif name != "IFS":  # bash takes no other IFS than its own
            assert environ[name] == value


def test_a_file_of_the_work_directory_is_not_taken_for_a_module(recording: Space) -> None:
    (recording.path / "signal.py").write_text("raise SystemExit(77)")
    recording.script("a.sh")
    script = script_of(recording, flow_of({"id": "a", "script": "a.sh"}))
    assert recording.bash("-c", f"trap '' PIPE; exec bash '{script}'").returncode == 0


# --- what a task gets


GLIBCS_OWN = 0b11 << 31
"""The signals 32 and 33, which no program can set. Its posix_spawn leaves the first one ignored, and that is inherited; by
pytest's workers too, from Python 3.13 on."""


@pytest.mark.parametrize("ignored", ["", "PIPE", "INT", "HUP USR1", "QUIT TERM", "INT HUP TERM USR1 USR2 CHLD ALRM TSTP XFSZ"])
def test_a_task_has_default_signals_and_three_descriptors_and_a_session_of_its_own(space: Space, ignored: str) -> None:
    space.script(
        "look.sh", "grep -E 'SigIgn|SigBlk' /proc/self/status; ps -o sid= -p $$ | tr -d ' '; echo $$; cat; ls /proc/$$/fd"
    )
    script = script_of(space, flow_of({"id": "a", "script": "look.sh", "timeout": 600}))
    caller = f"trap '' {ignored};" if ignored else ""
    subprocess.run(
        [SHELL, "-c", f"{caller} exec bash '{script}' 3</dev/null 7</etc/passwd 63>&1 200</dev/null"],
        env=space.environ(),
        input=b"not for the task",
        capture_output=True,
        check=True,
        preexec_fn=_hear_every_signal,
    )
    blocked, ignoring, session, pid, *descriptors = (space.latest("demo") / "logs" / "a.log").read_text().splitlines()
    assert [int(line.split()[1], 16) & ~GLIBCS_OWN for line in (blocked, ignoring)] == [0, 0]
    assert session == pid
    assert {"0", "1", "2"} <= set(descriptors) <= {"0", "1", "2", "255"}  # 255 is where bash keeps its script


def test_a_task_gets_the_variables_of_the_contract(recording: Space) -> None:
    flow = flow_of(
        task("a", 1, env={"BOTH": "task's", **behave(1)}, retries=1), env={"BOTH": "flow's", "ONE": "flow's"}, params={"p": "ü"}
    )
    run_dir = run(recording, flow, env={"ONE": "caller's", "TWO": "caller's", "MINIFLOW_ATTEMPT": "99"})
    environ = recording.records()["a.2"]["env"]
    wanted = {
        "BOTH": "task's",
        "ONE": "flow's",
        "TWO": "caller's",
        "MINIFLOW_FLOW": "demo",
        "MINIFLOW_RUN_ID": run_dir.name,
        "MINIFLOW_RUN_DIR": str(run_dir),
        "MINIFLOW_TASK_ID": "a",
        "MINIFLOW_ATTEMPT": "2",
        "MINIFLOW_PARAMS": '{"p":"ü"}',
        "PYTHONUNBUFFERED": "1",
    }
    assert {name: environ[name] for name in wanted} == wanted


def test_the_callers_pythonunbuffered_is_kept(recording: Space) -> None:
    run(recording, flow_of(task("a")), env={"PYTHONUNBUFFERED": ""})
    assert recording.records()["a.1"]["env"]["PYTHONUNBUFFERED"] == ""


def test_dots_in_a_working_directory_mean_what_they_mean_to_the_system(recording: Space) -> None:
    (recording.path / "real" / "inside").mkdir(parents=True)
    (recording.path / "link").symlink_to("real/inside")
    run(recording, flow_of(task("a", cwd="link/..")))
    assert recording.records()["a.1"]["cwd"] == str(recording.path / "real")


# --- what it leaves behind

KEYS = {
    "run.started": ["schema", "tasks", "parallel", "keep_going", "params"],
    "task.started": ["task_id", "attempt", "pid", "argv"],
    "task.retrying": ["task_id", "attempt", "delay_s", "exit_status", "reason"],
    "task.finished": ["task_id", "attempt", "state", "exit_status", "reason", "duration_s", "attempts"],
    "task.skipped": ["task_id", "reason"],
    "task.cancelled": ["task_id", "reason"],
    "run.finished": ["state", "exit_status", "duration_s", "counts"],
}


def test_the_journal_has_the_contracts_events_and_keys_in_order(recording: Space) -> None:
    flow = flow_of(task("a", 1, retries=1), task("b", depends_on="a"), task("c"), params={"p": 1, "q": "secret"})
    run_dir = run(recording, flow)
    journal = events(run_dir)
    names = [
        "run.started",
        "task.started",
        "task.retrying",
        "task.started",
        "task.finished",
        "task.skipped",
        "task.cancelled",
        "run.finished",
    ]
    assert [event["event"] for event in journal] == names
    for event in journal:
        common = ["timestamp", "level", "event", "message", "flow", "run_id"]
        assert list(event) == [*common, *KEYS[event["event"]]]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["timestamp"])
        assert (event["flow"], event["run_id"]) == ("demo", run_dir.name)
    assert journal[0]["params"] == ["p", "q"]
    assert journal[0]["schema"] == 1
    assert [event["level"] for event in journal] == ["info", "info", "warning", "info", "error", "warning", "warning", "error"]
    assert "secret" not in (run_dir / "events.jsonl").read_text()
    assert journal[-1]["counts"] == {"succeeded": 0, "failed": 1, "skipped": 1, "cancelled": 1}


def test_a_death_and_a_failed_start_have_their_keys(recording: Space) -> None:
    flow = flow_of(task("a", "SIGKILL"), task("b", cwd="gone"))
    killed, missing = only(events(run(recording, flow, keep_going=True)), "task.finished")
    assert list(killed)[6:] == ["task_id", "attempt", "state", "exit_status", "reason", "signal", "duration_s", "attempts"]
    assert list(missing)[6:] == ["task_id", "attempt", "state", "exit_status", "reason", "error", "duration_s", "attempts"]


def test_bytes_that_are_not_utf8_are_readable_in_the_journal(recording: Space) -> None:
    script = script_of(recording, flow_of(task("a", args=["ü日🎈"])))
    odd = os.fsencode(recording.path) + b"/t\xff\xc3"
    os.rename(recording.tasks_dir, odd)
    recording.bash(script, env={"MINIFLOW_TASKS_DIR": os.fsdecode(odd)})
    started = events(recording.latest("demo"))[1]
    assert started["argv"][1:] == [f"{recording.path}/t\\xff\\xc3/record.py", "ü日🎈"]


def test_each_task_that_ran_has_its_exit_status_and_its_raw_output(space: Space) -> None:
    space.script("print.sh", "printf 'out %s\\n' \"$MINIFLOW_ATTEMPT\"; printf 'err\\377\\n' >&2; exit 3")
    space.script("silent.sh")
    flow = flow_of({"id": "a", "script": "print.sh", "retries": 1}, {"id": "b", "script": "silent.sh", "depends_on": "a"})
    run_dir = run(space, flow)
    assert statuses(run_dir) == {"a": "3\n"}
    assert (run_dir / "logs" / "a.log").read_bytes() == b"out 1\nerr\xff\nout 2\nerr\xff\n"
    assert not (run_dir / "logs" / "b.log").exists()


def test_an_id_that_looks_like_a_temporary_name_loses_no_exit_status(recording: Space) -> None:
    run_dir = run(recording, flow_of(task("a.tmp", 3), task("a", 4), task("b", 5), task("b.tmp", 6)), keep_going=True)
    assert statuses(run_dir) == {"a": "4\n", "a.tmp": "3\n", "b": "5\n", "b.tmp": "6\n"}


def test_a_clock_that_is_set_back_makes_no_duration_negative(recording: Space) -> None:
    clock = recording.path / "bin" / "date"
    clock.parent.mkdir()
    clock.write_text("""#!/bin/sh
read -r now <"$CLOCK"
echo $((now - 1500000)) >"$CLOCK"
echo "$now"
""")
    clock.chmod(0o755)
    (recording.path / "now").write_text("1700000000000000\n")
    script = script_of(recording, flow_of(task("a"), task("b", 1)))
    env = {"PATH": f"{clock.parent}:{os.environ['PATH']}", "CLOCK": str(recording.path / "now")}
    # Without bash's own clock, the script asks `date`.
    recording.bash("-c", 'unset EPOCHREALTIME; . "$0"', str(script), env=env)
    journal = events(recording.latest("demo"))
    assert journal[0]["timestamp"] > journal[-1]["timestamp"]
    assert [event["duration_s"] for event in journal if event["event"].endswith(".finished")] == [0, 0, 0]


def test_the_run_directory_is_private_and_holds_the_script(recording: Space) -> None:
    script = script_of(recording, flow_of(task("a")))
    recording.bash(script)
    run_dir = recording.latest("demo")
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    assert (run_dir / "flow.sh").read_bytes() == script.read_bytes()
    assert sorted(path.name for path in run_dir.iterdir()) == ["events.jsonl", "flow.sh", "logs", "status"]
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{6}", run_dir.name)


def test_latest_points_at_the_last_run(recording: Space) -> None:
    script = script_of(recording, flow_of(task("a")))
    ids = []
    for _ in range(3):
        recording.bash(script)
        ids.append(os.readlink(recording.output_dir / "demo" / "latest"))
    assert ids == sorted(set(ids))
    assert sorted(path.name for path in (recording.output_dir / "demo").iterdir()) == sorted([*ids, "latest"])


# --- how it exits


def test_it_exits_with_0_if_every_task_that_ran_succeeded(recording: Space) -> None:
    flow = flow_of(task("a"), task("never", depends_on="a", trigger_rule="one_failed"))
    assert recording.bash(script_of(recording, flow)).returncode == 0


def test_it_exits_with_1_if_a_task_failed_whatever_ran_after(recording: Space) -> None:
    flow = flow_of(task("a", 42), task("b", depends_on="a", trigger_rule="all_done"))
    assert recording.bash(script_of(recording, flow)).returncode == 1
    assert read_run(recording.latest("demo")).state == "failed"


def test_a_journal_that_cannot_be_written_ends_it_loudly_with_2(recording: Space) -> None:
    flow = flow_of({"id": "a", "script": "break.sh"}, task("b"))
    # Again and again, as the script may write that the task has started between the two.
    recording.script("break.sh", 'cd "$MINIFLOW_RUN_DIR"; until mkdir events.jsonl 2>/dev/null; do rm -f events.jsonl; done')
    done = recording.bash(script_of(recording, flow))
    assert done.returncode == 2
    assert "error: cannot write" in done.stderr
    assert recording.records() == {}


def test_an_exit_status_that_cannot_be_written_ends_it_loudly_with_2(recording: Space) -> None:
    flow = flow_of({"id": "a", "script": "break.sh"}, task("b"))
    recording.script("break.sh", 'rmdir "$MINIFLOW_RUN_DIR/status"')
    assert recording.bash(script_of(recording, flow)).returncode == 2
    assert recording.records() == {}


# --- attempts


@pytest.mark.parametrize(
    ("what", "exit_status", "reason", "signal_name"),
    [
        (1, 1, "exit", None),
        (3, 3, "exit", None),
        (124, 124, "exit", None),
        (126, 126, "exit", None),
        (127, 127, "exit", None),
        (255, 255, "exit", None),
        ("SIGKILL", 137, "signal", "SIGKILL"),
        ("SIGTERM", 143, "signal", "SIGTERM"),
        ("SIGINT", 130, "signal", "SIGINT"),
        ("SIGUSR1", 138, "signal", "SIGUSR1"),
    ],
)
def test_how_an_attempt_ended_is_recorded(
    recording: Space, what: int | str, exit_status: int, reason: str, signal_name: str | None
) -> None:
    run_dir = run(recording, flow_of(task("a", what)))
    result = read_run(run_dir).tasks["a"]
    assert (result.state, result.exit_status, result.reason, result.signal) == ("failed", exit_status, reason, signal_name)
    assert statuses(run_dir) == {"a": f"{exit_status}\n"}


def test_retries_go_on_until_one_succeeds(recording: Space) -> None:
    run_dir = run(recording, flow_of(task("a", 1, "SIGKILL", 0, retries={"max": 5, "delay": "10ms"})))
    assert sorted(recording.records()) == ["a.1", "a.2", "a.3"]
    assert [event["delay_s"] for event in only(events(run_dir), "task.retrying")] == [0.01, 0.01]
    assert read_run(run_dir).tasks["a"].attempts == 3
    assert statuses(run_dir) == {"a": "0\n"}


def test_retries_end_with_the_last(recording: Space) -> None:
    run_dir = run(recording, flow_of(task("a", 1, 2, 3, 4, retries={"max": 2, "delay": 0.001, "backoff": 10})))
    assert [event["delay_s"] for event in only(events(run_dir), "task.retrying")] == [0.001, 0.01]
    assert statuses(run_dir) == {"a": "3\n"}


def test_a_retry_waits_for_its_delay(recording: Space) -> None:
    run_dir = run(recording, flow_of(task("a", 1, 0, retries={"max": 1, "delay": 0.2})))
    assert only(events(run_dir), "task.finished")[0]["duration_s"] >= 0.2


def test_only_the_exit_statuses_worth_a_retry_get_one(recording: Space) -> None:
    flow = flow_of(task("a", 75, 75, 1, 0, retries={"max": 9, "on_exit_codes": [74, 75]}))
    run_dir = run(recording, flow)
    assert sorted(recording.records()) == ["a.1", "a.2", "a.3"]
    assert statuses(run_dir) == {"a": "1\n"}


def test_a_timeout_is_124_and_may_be_retried(recording: Space) -> None:
    flow = flow_of(task("a", "hang", 0, timeout=1, retries={"max": 1, "on_exit_codes": [124]}))
    run_dir = run(recording, flow)
    [retrying] = only(events(run_dir), "task.retrying")
    assert (retrying["exit_status"], retrying["reason"]) == (124, "timeout")
    assert states(run_dir) == {"a": "succeeded"}


@pytest.mark.parametrize("end", ["exit 0", "exit 7", ":"])
def test_a_timeout_is_124_however_the_task_takes_it(space: Space, end: str) -> None:
    # `:` goes on, and is killed after the grace period.
    space.script("stubborn.sh", f"trap '{end}' TERM; while :; do sleep 600; done")
    run_dir = run(space, flow_of({"id": "a", "script": "stubborn.sh", "timeout": 0.2}), env={"MINIFLOW_GRACE": "0.2"})
    result = read_run(run_dir).tasks["a"]
    assert (result.exit_status, result.reason, result.signal) == (124, "timeout", None)


def test_a_stopped_process_is_ended_by_its_timeout(space: Space) -> None:
    space.script("stop.sh", "trap 'exit 7' TERM; kill -STOP $$")
    run_dir = run(space, flow_of({"id": "a", "script": "stop.sh", "timeout": 0.2}), env={"MINIFLOW_GRACE": "600"})
    assert read_run(run_dir).tasks["a"].exit_status == 124


def test_a_quick_task_does_not_wait_for_its_timeout(recording: Space) -> None:
    assert states(run(recording, flow_of(task("a", timeout=600)))) == {"a": "succeeded"}


NOT_STARTED = {
    "no such directory": ({"cwd": "gone"}, 127, "No such file or directory: {path}/gone"),
    "a file for a directory": ({"cwd": "file"}, 127, None),
    "no such interpreter": (
        {"script": "no_interpreter"},
        127,
        "No such file or directory: /gone/interpreter, which {path}/tasks/no_interpreter names as its interpreter",
    ),
    "a directory as interpreter": (
        {"script": "odd_interpreter"},
        126,
        "Permission denied: /tmp, which {path}/tasks/odd_interpreter names as its interpreter",
    ),
    "not on the PATH of the task": ({"script": "a.sh", "env": {"PATH": "/gone"}}, 127, "No such file or directory: bash"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_STARTED)
def test_what_cannot_be_started_is_not_retried(space: Space, what: str) -> None:
    fields, exit_status, error = NOT_STARTED[what]
    (space.path / "file").touch()
    space.script("a.sh")
    space.script("no_interpreter", "#! /gone/interpreter -x\n", mode=0o755)
    space.script("odd_interpreter", "#!/tmp\n", mode=0o755)
    run_dir = run(space, flow_of({"id": "a", "script": "a.sh", "retries": 3, **fields}))
    [finished] = only(events(run_dir), "task.finished")
    assert (finished["exit_status"], finished["reason"], finished["attempts"]) == (exit_status, "spawn", 1)
    if error:
        assert finished["error"] == error.format(path=space.path)
        events_of_miniflow = map(json.loads, space.miniflow("run", "demo").stdout.splitlines())
        assert only(list(events_of_miniflow), "task.finished")[0]["error"] == finished["error"]
    assert only(events(run_dir), "task.started") == []
    assert statuses(run_dir) == {"a": f"{exit_status}\n"}


@pytest.mark.parametrize(("lost", "exit_status"), [("gone", 127), ("not executable", 126)])
def test_a_program_that_changed_since_planning_cannot_be_started(space: Space, lost: str, exit_status: int) -> None:
    program = space.script("program", "#!/bin/sh\n", mode=0o755)
    script = script_of(space, flow_of({"id": "a", "script": "program"}))
    program.unlink() if lost == "gone" else program.chmod(0o644)
    space.bash(script)
    result = read_run(space.latest("demo")).tasks["a"]
    assert (result.exit_status, result.reason) == (exit_status, "spawn")


def test_a_program_is_run_by_its_first_line_or_by_sh(space: Space) -> None:
    space.script("by_python", f"#! {sys.executable} -S\nimport sys; print(sys.flags.no_site)\n", mode=0o755)
    space.script("by_sh", "echo $((1 + 1))\n", mode=0o755)
    run_dir = run(space, flow_of({"id": "a", "script": "by_python"}, {"id": "b", "script": "by_sh"}))
    assert [(run_dir / "logs" / f"{name}.log").read_text() for name in ("a", "b")] == ["1\n", "2\n"]


def test_a_program_is_found_on_the_path_of_its_task(space: Space) -> None:
    tool = space.path / "bin" / "bash"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o755)
    space.script("a.sh")
    run_dir = run(space, flow_of({"id": "a", "script": "a.sh", "env": {"PATH": str(tool.parent)}}))
    assert (run_dir / "logs" / "a.log").read_text() == "mine\n"


# --- order and rules


def test_the_earlier_in_the_file_goes_first(recording: Space) -> None:
    flow = flow_of(task("d", depends_on="b"), task("a"), task("c"), task("b"))
    run_dir = run(recording, flow)
    assert [event["task_id"] for event in only(events(run_dir), "task.started")] == ["a", "c", "b", "d"]


def test_trigger_rules(recording: Space) -> None:
    flow = flow_of(
        task("good"),
        task("bad", 1),
        task("after_bad", depends_on=["good", "bad"]),
        task("far_after_bad", depends_on="after_bad"),
        task("cleanup", depends_on=["bad", "after_bad"], trigger_rule="all_done"),
        task("alarm", depends_on="far_after_bad", trigger_rule="one_failed"),
        task("no_alarm", depends_on="good", trigger_rule="one_failed"),
        task("after_no_alarm", depends_on="no_alarm"),
        task("alarm_about_no_alarm", depends_on="after_no_alarm", trigger_rule="one_failed"),
    )
    result = read_run(run(recording, flow, keep_going=True))
    assert {task.id: (task.state, task.reason) for task in result.tasks.values()} == {
        "good": ("succeeded", "exit"),
        "bad": ("failed", "exit"),
        "after_bad": ("skipped", "upstream_failed"),
        "far_after_bad": ("skipped", "upstream_failed"),
        "cleanup": ("succeeded", "exit"),
        "alarm": ("succeeded", "exit"),
        "no_alarm": ("skipped", "no_failure"),
        "after_no_alarm": ("skipped", "upstream_skipped"),
        "alarm_about_no_alarm": ("skipped", "no_failure"),
    }


def test_after_a_failure_nothing_starts_but_what_is_there_for_failures(recording: Space) -> None:
    flow = flow_of(
        task("bad", 1),
        task("other"),
        task("after_other", depends_on="other"),
        task("cleanup", depends_on="other", trigger_rule="all_done"),
        task("alarm", depends_on="bad", trigger_rule="one_failed"),
        task("after_alarm", depends_on="alarm"),
    )
    result = read_run(run(recording, flow))
    assert {task.id: (task.state, task.reason) for task in result.tasks.values()} == {
        "bad": ("failed", "exit"),
        "other": ("cancelled", "fail_fast"),
        "after_other": ("skipped", "upstream_failed"),
        "cleanup": ("succeeded", "exit"),
        "alarm": ("succeeded", "exit"),
        "after_alarm": ("cancelled", "fail_fast"),
    }


# --- nothing stays behind


def _hear_every_signal() -> None:
    """In a child: undo what the caller of the tests ignores; bash cannot trap a signal that was ignored when it began."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def started(space: Space, script: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a script; its tasks find the FIFO `alive` in ALIVE."""
    os.mkfifo(space.path / "alive")
    environ = space.environ({"ALIVE": str(space.path / "alive"), **env})
    with subprocess.Popen(
        [SHELL, script], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_hear_every_signal
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# Says "ready" once it is, and holds the FIFO open, as do its children: its end of file is the end of them all.
HOLD = 'exec 9>"$ALIVE"; sleep 600 & echo ready >&9; '


def test_what_a_task_leaves_behind_is_ended(space: Space) -> None:
    space.script("leave.sh", 'exec 9>"$ALIVE"; (trap "" TERM; while :; do sleep 600; done) & echo ready >&9; exit 0')
    space.script("next.sh")
    flow = flow_of({"id": "a", "script": "leave.sh"}, {"id": "b", "script": "next.sh", "depends_on": "a"})
    with started(space, script_of(space, flow)) as process:
        assert (space.path / "alive").read_text() == "ready\n"  # to its end of file
        process.communicate()
    assert process.returncode == 0
    assert statuses(space.latest("demo")) == {"a": "0\n", "b": "0\n"}


# Holds the FIFO open in a child that takes longer to clean up than the second that a task's leftovers would have.
CLEANER = """exec 9>"$ALIVE"
(trap 'trap "" TERM; sleep 1.5; echo cleaned >&9; exit' TERM; echo ready >&9; while :; do sleep 600 & wait; done) &
"""


def test_a_child_of_a_task_that_took_too_long_has_the_rest_of_the_grace_period(space: Space) -> None:
    space.script("clean.sh", CLEANER + "wait")
    flow = flow_of({"id": "a", "script": "clean.sh", "timeout": 1})
    with started(space, script_of(space, flow), MINIFLOW_GRACE="600") as process:
        assert (space.path / "alive").read_text() == "ready\ncleaned\n"
        process.communicate()
    result = read_run(space.latest("demo")).tasks["a"]
    assert (result.exit_status, result.reason) == (124, "timeout")


def test_a_child_of_a_task_that_is_stopped_has_the_rest_of_the_grace_period(space: Space) -> None:
    space.script("clean.sh", CLEANER + "wait")
    with started(space, script_of(space, flow_of({"id": "a", "script": "clean.sh"})), MINIFLOW_GRACE="600") as process:
        with (space.path / "alive").open() as alive:
            assert alive.readline() == "ready\n"
            process.terminate()
            assert alive.read() == "cleaned\n"
        process.communicate()
    assert statuses(space.latest("demo")) == {"a": "143\n"}


def test_a_child_that_ignores_the_signal_is_killed_after_the_grace_period(space: Space) -> None:
    space.script("leave.sh", 'exec 9>"$ALIVE"; (trap "" TERM; echo ready >&9; while :; do sleep 600; done) & wait')
    flow = flow_of({"id": "a", "script": "leave.sh", "timeout": 0.5})
    with started(space, script_of(space, flow), MINIFLOW_GRACE="0.3") as process:
        assert (space.path / "alive").read_text() == "ready\n"
        process.communicate()
    assert statuses(space.latest("demo")) == {"a": "124\n"}


@pytest.mark.parametrize("ends", ["time_limit", "signal"])
def test_whoever_ends_a_task_first_is_the_reason(space: Space, ends: str) -> None:
    # The other comes during the grace period: a signal after the time limit, or a time limit after the signal.
    space.script("polite.sh", "trap 'echo heard >&9; sleep 1.5; exit 7' TERM; " + HOLD + "wait; wait")
    limit = 0.3 if ends == "time_limit" else 1
    flow = flow_of({"id": "a", "script": "polite.sh", "timeout": limit})
    with started(space, script_of(space, flow), MINIFLOW_GRACE="600") as process:
        with (space.path / "alive").open() as alive:
            assert alive.readline() == "ready\n"
            if ends == "signal":
                process.terminate()
            assert alive.readline() == "heard\n"
            if ends == "time_limit":
                process.terminate()
        process.communicate()
    result = read_run(space.latest("demo")).tasks["a"]
    assert (result.reason, result.exit_status) == (("timeout", 124) if ends == "time_limit" else ("exit", 7))


def test_a_second_signal_kills_the_children_of_a_task_that_has_ended_already(space: Space) -> None:
    child = 'trap "echo heard >&9" TERM; echo ready >&9; while :; do sleep 600; done'
    space.script("leave.sh", f'exec 9>"$ALIVE"; ({child}) & wait')
    with started(space, script_of(space, flow_of({"id": "a", "script": "leave.sh"})), MINIFLOW_GRACE="600") as process:
        with (space.path / "alive").open() as alive:
            assert alive.readline() == "ready\n"
            process.terminate()
            assert alive.readline() == "heard\n"
            insist(process, signal.SIGTERM)
            assert alive.read() == ""
        process.communicate()
    assert process.returncode == -signal.SIGTERM
    assert statuses(space.latest("demo")) == {"a": "143\n"}


def test_what_a_task_leaves_behind_has_a_second_to_clean_up(space: Space) -> None:
    clean = "(trap 'echo cleaned >&9; exit' TERM; echo ready >&9; while :; do sleep 600 & wait; done) >/dev/null 2>&1 &"
    space.script("leave.sh", f'exec 8<>"$READY" 9>"$ALIVE"; {clean.replace("ready >&9", "ready >&8")} read -r _ <&8')
    os.mkfifo(space.path / "ready")
    script = script_of(space, flow_of({"id": "a", "script": "leave.sh"}))
    with started(space, script, READY=str(space.path / "ready")) as process:
        assert (space.path / "alive").read_text() == "cleaned\n"
        process.communicate()
    assert statuses(space.latest("demo")) == {"a": "0\n"}


def test_a_signal_after_a_task_has_ended_by_itself_does_not_change_its_exit_status(space: Space) -> None:
    space.script("leave.sh", 'exec 9>"$ALIVE"; (trap "echo heard >&9" TERM; while :; do sleep 600; done) & exit 0')
    with started(space, script_of(space, flow_of({"id": "a", "script": "leave.sh"}))) as process:
        with (space.path / "alive").open() as alive:
            alive.readline()
            process.terminate()
            assert set(alive) <= {"heard\n"}
        process.communicate()
    assert statuses(space.latest("demo")) == {"a": "0\n"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_tasks_and_is_what_the_script_dies_of(space: Space, number: signal.Signals) -> None:
    space.script("hold.sh", HOLD + "wait")
    space.script("never.sh", "touch never")
    flow = flow_of(
        {"id": "a", "script": "hold.sh", "retries": 3},
        {"id": "b", "script": "never.sh", "depends_on": "a", "trigger_rule": "all_done"},
        {"id": "c", "script": "never.sh"},
    )
    with started(space, script_of(space, flow), MINIFLOW_GRACE="600") as process:
        with (space.path / "alive").open() as alive:
            assert alive.readline() == "ready\n"
            process.send_signal(number)
            assert alive.read() == ""
        process.communicate()  # both pipes at their end: nothing of the script is left either
    assert process.returncode == -number
    run_dir = space.latest("demo")
    result = read_run(run_dir)
    assert (result.state, result.exit_status) == ("cancelled", 128 + number)
    assert {task.id: (task.state, task.reason) for task in result.tasks.values()} == {
        "a": ("cancelled", "signal"),
        "b": ("cancelled", "stopped"),
        "c": ("cancelled", "stopped"),
    }
    assert statuses(run_dir) == {"a": "143\n"}
    assert not (space.path / "never").exists()


def test_a_task_that_is_stopped_and_exits_with_0_has_not_succeeded(space: Space) -> None:
    space.script("polite.sh", "trap 'exit 0' TERM; " + HOLD + "wait")
    with started(space, script_of(space, flow_of({"id": "a", "script": "polite.sh"}))) as process:
        with (space.path / "alive").open() as alive:
            assert alive.readline() == "ready\n"
            process.terminate()
        process.communicate()
    assert statuses(space.latest("demo")) == {"a": "143\n"}
    assert states(space.latest("demo")) == {"a": "cancelled"}


def test_a_task_that_ignores_the_signal_is_killed_after_the_grace_period(space: Space) -> None:
    space.script("stubborn.sh", "trap '' TERM; " + HOLD + "wait")
    with started(space, script_of(space, flow_of({"id": "a", "script": "stubborn.sh"})), MINIFLOW_GRACE="0.1") as process:
        with (space.path / "alive").open() as alive:
            assert alive.readline() == "ready\n"
            process.terminate()
            assert alive.read() == ""
        process.communicate()
    assert process.returncode == -signal.SIGTERM
    assert statuses(space.latest("demo")) == {"a": "137\n"}


def test_a_second_signal_kills_at_once(space: Space) -> None:
    space.script("stubborn.sh", "trap 'echo heard >&9' TERM; " + HOLD + "while :; do wait; sleep 600; done")
    with started(space, script_of(space, flow_of({"id": "a", "script": "stubborn.sh"})), MINIFLOW_GRACE="600") as process:
        with (space.path / "alive").open() as alive:
            assert alive.readline() == "ready\n"
            process.terminate()
            assert alive.readline() == "heard\n"
            insist(process, signal.SIGINT)
            assert set(alive) <= {"heard\n"}
        process.communicate()
    assert process.returncode == -signal.SIGTERM
    assert statuses(space.latest("demo")) == {"a": "137\n"}


def test_a_signal_ends_the_wait_for_a_retry(recording: Space) -> None:
    script = script_of(recording, flow_of(task("a", 3, retries={"max": 1, "delay": 600})))
    with started(recording, script) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"next attempt" in line:
                process.terminate()
        process.communicate()
    assert process.returncode == -signal.SIGTERM
    run_dir = recording.latest("demo")
    assert statuses(run_dir) == {"a": "3\n"}
    assert states(run_dir) == {"a": "cancelled"}


def test_a_signal_during_the_last_task_that_hears_it_late_changes_no_outcome_before(recording: Space) -> None:
    recording.script("hold.sh", HOLD + "wait")
    flow = flow_of(task("a"), task("b", 5), {"id": "c", "script": "hold.sh"})
    with started(recording, script_of(recording, flow, keep_going=True)) as process:
        with (recording.path / "alive").open() as alive:
            assert alive.readline() == "ready\n"
            process.terminate()
        process.communicate()
    assert states(recording.latest("demo")) == {"a": "succeeded", "b": "failed", "c": "cancelled"}


def test_an_ignored_signal_stays_ignored(space: Space) -> None:
    space.script("hold.sh", 'exec 9>"$ALIVE"; echo ready >&9; read -r <"$GO"')
    os.mkfifo(space.path / "go")
    script = script_of(space, flow_of({"id": "a", "script": "hold.sh"}))
    wrapper = space.path / "nohup.sh"
    wrapper.write_text(f"trap '' HUP; exec bash '{script}'")
    with started(space, wrapper, GO=str(space.path / "go")) as process:
        with (space.path / "alive").open() as alive:
            assert alive.readline() == "ready\n"
            process.send_signal(signal.SIGHUP)
            (space.path / "go").write_text("go\n")
        process.communicate()
    assert process.returncode == 0
