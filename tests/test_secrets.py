"""Secrets: variables that a flow declares, which have to be there, and whose values are recorded nowhere."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from miniflow import Flow, FlowError, ParamsError, Task, UsageError, load_flow, plan_flow, run_flow
from miniflow.parse import flow_from_mapping, parse_flow
from tests.conftest import Space, events, only

SHELLCHECK = Path(sys.executable).with_name("shellcheck")

TOKEN = "tok\"en\\with$(odd) 'signs'"
KEY = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nab=\n-----END KEY-----\n"
SECRETS = {"API_TOKEN": TOKEN, "SIGNING_KEY": KEY, "PIN": "123"}

TELL = """
import os, sys
print("before", flush=True)
print("token:", os.environ["API_TOKEN"], flush=True)
sys.stderr.write("key: " + os.environ["SIGNING_KEY"])
half = len(os.environ["API_TOKEN"]) // 2
os.write(1, os.environ["API_TOKEN"][:half].encode())
sys.stderr.flush()
os.write(1, os.environ["API_TOKEN"][half:].encode() + b"\\n")
print("pin:", os.environ["PIN"])
sys.stdout.write(os.environ["API_TOKEN"][:4])
"""


def telling(space: Space, **fields: Any) -> dict[str, Any]:
    """Return a flow with a task that prints its secrets."""
    space.script("tell.py", TELL)
    task = {"id": "tell", "script": "tell.py", "secret_env": ["SIGNING_KEY", "PIN"]}
    flow = {"name": "demo", "secret_env": "API_TOKEN", "tasks": [task], **fields}
    space.flow(flow)
    return flow


def everything(folder: Path) -> bytes:
    """Return all that the files below a folder hold, and their names."""
    found = b""
    for path in folder.rglob("*"):
        found += os.fsencode(path) + b"\n"
        if path.is_file() and not path.is_symlink():
            found += path.read_bytes()
    return found


def spellings(secret: str) -> list[bytes]:
    """Return a secret as it is, as JSON writes it and as Python does."""
    return [text.encode() for text in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])]


def assert_no_secret(found: bytes | str) -> None:
    data = found if isinstance(found, bytes) else found.encode()
    for secret in (TOKEN, KEY.strip(), "MIIEpAIBAAKCAQEA", "-----END KEY-----"):
        for spelling in spellings(secret):
            assert spelling not in data


# --- the declaration ----------------------------------------------------------------------------------------------


def flow_text(flow: str = '"version": ""', task: str = "") -> str:
    return f'{{"name": "x",\n{flow},\n"tasks": [{{"id": "a", "script": "a.py"{task}}}]}}'


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ('"secret_env": 5', "2:15: secret_env: must be an array of names of variables, not the number 5"),
        ('"secret_env": {"A": 1}', "2:15: secret_env: must be an array of names of variables, not an object"),
        ('"secret_env": [5]', "2:16: secret_env[0]: must be the name of a variable, not the number 5"),
        (
            '"secret_env": "A B"',
            '2:15: secret_env: "A B" is no name of a variable: letters, digits and _ alone, the first no digit',
        ),
        (
            '"secret_env": ["A", "B=C"]',
            '2:21: secret_env[1]: "B=C" is no name of a variable: letters, digits and _ alone, the first no digit',
        ),
        ('"secret_env": ["A", "B", "A"]', "2:26: secret_env[2]: A stands twice in one list"),
        (
            '"secret_env": ["MINIFLOW_RUN_ID"]',
            "2:16: secret_env[0]: MINIFLOW_RUN_ID is no secret: variables of that beginning are MiniFlow's own",
        ),
        (
            '"env": {"A": 1}, "secret_env": ["A"]',
            '2:33: secret_env[0]: A is set by "env" of the flow, which would override the secret; take one of them away',
        ),
    ],
)
def test_a_bad_declaration_of_the_flow(fragment: str, expected: str) -> None:
    with pytest.raises(FlowError) as caught:
        parse_flow(flow_text(flow=fragment), "x.json")
    assert str(caught.value) == f"x.json:{expected}"


def test_a_task_whose_env_would_override_a_secret() -> None:
    tasks = ', "env": {"A": 1, "B": 2}, "secret_env": ["B", "C"]'
    with pytest.raises(FlowError) as caught:
        parse_flow(flow_text('"secret_env": "A", "env": {"C": 3}', tasks), "x.json")
    assert str(caught.value).splitlines() == [
        "x.json:3:49: tasks[0].env.A: A is a secret of the flow, which this would override",
        'x.json:3:81: tasks[0].secret_env[0]: B is set by "env" of the task, which would override the secret;'
        " take one of them away",
        'x.json:3:86: tasks[0].secret_env[1]: C is set by "env" of the flow, which would override the secret;'
        " take one of them away",
    ]


def test_one_name_alone_may_be_a_string_and_a_task_may_repeat_the_flows() -> None:
    flow = flow_from_mapping(
        {
            "name": "x",
            "secret_env": "PYTHONUNBUFFERED",
            "tasks": [{"id": "a", "script": "a.py", "secret_env": "PYTHONUNBUFFERED"}],
        }
    )
    assert flow.secret_env == flow.tasks[0].secret_env == ("PYTHONUNBUFFERED",)


def test_a_flow_built_in_python_has_them_too(space: Space) -> None:
    space.script("a.py")
    flow = Flow(name="x", tasks=[Task("a", "a.py", secret_env=["B"])], secret_env=["A"])
    loaded = load_flow(flow, tasks_dir=space.tasks_dir)
    assert (loaded.secret_env, loaded.tasks[0].secret_env) == (("A",), ("B",))


# --- a secret that is missing -------------------------------------------------------------------------------------

MISSING = (
    "error: not set, or empty: API_TOKEN (for every task), PIN (for tell); the flow takes such secrets (secret_env) from its"
    " caller's environment: export them, and start again\n"
)


def two_tasks(space: Space) -> None:
    telling(space)
    flow = json.loads((space.flows_dir / "demo.json").read_text())
    flow["tasks"].append({"id": "other", "script": "tell.py"})
    space.flow(flow)


def test_all_that_are_missing_are_one_error_before_anything_starts(space: Space) -> None:
    two_tasks(space)

    result = space.miniflow("run", "demo", env={"SIGNING_KEY": "x", "PIN": ""})

    assert (result.returncode, result.stdout, result.stderr) == (2, "", MISSING)
    assert not space.output_dir.exists()


async def test_in_python_it_is_a_usage_error(space: Space, anyio_backend: str) -> None:
    telling(space)
    with pytest.raises(UsageError, match="not set, or empty: API_TOKEN"):
        await run_flow("demo", **space.directories)
    assert not space.output_dir.exists()


@pytest.mark.parametrize("how", ["miniflow", "bash"])
def test_a_secret_of_a_task_that_is_not_selected_may_be_missing_and_is_masked_if_it_is_not(space: Space, how: str) -> None:
    space.script("tell.py", "import os; print(os.environ.get('API_TOKEN'))")
    tasks = [{"id": "other", "script": "tell.py", "secret_env": "API_TOKEN"}, {"id": "tell", "script": "tell.py"}]
    space.flow({"name": "demo", "tasks": tasks})
    script = space.miniflow("run", "demo", "--only", "tell", "--dry-run").stdout.strip()
    for env, told in ({}, "None"), (SECRETS, "***"):
        result = space.bash(script, env=env) if how == "bash" else space.miniflow("run", "demo", "--only", "tell", env=env)

        assert result.returncode == 0, result.stderr
        [log] = (space.latest("demo") / "logs").iterdir()
        assert told in log.read_text()
        assert_no_secret(log.read_bytes())


def test_a_dry_run_needs_none(space: Space) -> None:
    telling(space)
    assert space.miniflow("run", "demo", "--dry-run").returncode == 0


# --- what is recorded ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_value_comes_out_anywhere(space: Space, log_format: str) -> None:
    telling(space)

    result = space.miniflow("run", "demo", "--log-format", log_format, env=SECRETS)

    assert result.returncode == 0, result.stderr
    assert_no_secret(result.stdout + result.stderr)
    assert_no_secret(everything(space.output_dir))
    run_dir = space.latest("demo")
    log = [json.loads(line) for line in (run_dir / "logs" / "tell.jsonl").read_text().splitlines()]
    assert [line["message"] for line in only(log, "task.output") if line["stream"] == "stdout"] == [
        "before",
        "token: ***",
        "***",
        "pin: 123",
        TOKEN[:4],
    ]
    assert [line["message"] for line in only(log, "task.output") if line["stream"] == "stderr"] == ["key: ***"]


def test_the_script_masks_as_the_scheduler_does(space: Space) -> None:
    telling(space)
    script = space.miniflow("run", "demo", "--dry-run", env=SECRETS).stdout.strip()

    result = space.bash(script, env=SECRETS)

    assert result.returncode == 0, result.stderr
    assert_no_secret(result.stdout + result.stderr)
    assert_no_secret(everything(space.output_dir))
    log = (space.latest("demo") / "logs" / "tell.log").read_text()
    assert sorted(log.splitlines()) == sorted(["before", "token: ***", "key: ***", "***", "pin: 123", TOKEN[:4]])
    assert log.startswith("before\ntoken: ***\n")
    assert sorted(path.name for path in space.latest("demo").iterdir()) == ["events.jsonl", "flow.sh", "logs", "status"]


def test_a_traced_script_shows_no_value(space: Space) -> None:
    telling(space)
    script = space.miniflow("run", "demo", "--dry-run", env=SECRETS).stdout.strip()

    result = subprocess.run(
        ["bash", "-x", script], cwd=space.path, env=space.environ(SECRETS), capture_output=True, check=False
    )

    assert result.returncode == 0
    assert_no_secret(result.stdout + result.stderr)
    assert_no_secret(everything(space.output_dir))


def test_the_script_says_in_the_same_words_what_is_missing(space: Space) -> None:
    two_tasks(space)
    script = space.miniflow("run", "demo", "--dry-run").stdout.strip()

    result = space.bash(script, env={"SIGNING_KEY": "x", "PIN": ""})

    assert (result.returncode, result.stdout, result.stderr) == (2, "", MISSING)
    assert [path.name for path in space.output_dir.iterdir()] == ["demo.sh"]


def test_the_script_names_them_where_it_is_read(space: Space) -> None:
    two_tasks(space)
    script = Path(space.path, space.miniflow("run", "demo", "--dry-run").stdout.strip()).read_text()
    names = "API_TOKEN (for every task), SIGNING_KEY (for tell), PIN (for tell)"
    assert f"#   Secrets, which have to be set, and are masked in the logs: {names}\n" in script


@pytest.mark.skipif(not SHELLCHECK.exists(), reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say_about_the_script(space: Space) -> None:
    two_tasks(space)
    script = space.miniflow("run", "demo", "--dry-run").stdout.strip()
    found = subprocess.run([SHELLCHECK, script], cwd=space.path, capture_output=True, text=True, check=False)
    assert found.stdout + found.stderr == ""


def script_of(space: Space, code: str, **fields: Any) -> str:
    """Write the script of a flow with a secret and one task of this code; return its path."""
    space.script("a.py", code)
    space.flow({"name": "demo", "secret_env": "API_TOKEN", "tasks": [{"id": "a", "script": "a.py", **fields}]})
    return space.miniflow("run", "demo", "--dry-run").stdout.strip()


def ends(run_dir: Path) -> dict[str, Any]:
    [end] = only(events(run_dir), "task.finished")
    return {key: end.get(key) for key in ("state", "exit_status", "reason", "signal", "attempts")}


@pytest.mark.parametrize(
    ("code", "fields", "expected"),
    [
        ("raise SystemExit(77)", {}, ("failed", 77, "exit", None, 1)),
        ("raise SystemExit(77)", {"retries": 2}, ("failed", 77, "exit", None, 3)),
        ("import os; os.kill(os.getpid(), 9)", {}, ("failed", 137, "signal", "SIGKILL", 1)),
        ("import time; time.sleep(600)", {"timeout": "200ms"}, ("failed", 124, "timeout", None, 1)),
        ("import os; os.close(1); os.close(2)", {}, ("succeeded", 0, "exit", None, 1)),
        ("", {"cwd": "/nowhere"}, ("failed", 127, "spawn", None, 1)),
    ],
)
def test_how_an_attempt_ends_is_the_same_with_secrets(
    space: Space, code: str, fields: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    space.bash(script_of(space, f"import os\nprint(os.environ['API_TOKEN'], flush=True)\n{code}", **fields), env=SECRETS)

    run_dir = space.latest("demo")
    assert tuple(ends(run_dir).values()) == expected
    printed = "" if expected[2] == "spawn" else "***\n" * expected[4]
    log = run_dir / "logs" / "a.log"
    assert (log.read_text() if log.exists() else "") == printed


def test_the_log_of_a_task_that_prints_much_is_complete_when_it_ends(space: Space) -> None:
    code = """
        import os
        line = b"a line with " + os.environb[b"API_TOKEN"] + b" in it\\n"
        for _ in range(100):
            os.write(1, line * 1000)
        """
    assert space.bash(script_of(space, code), env=SECRETS).returncode == 0
    assert (space.latest("demo") / "logs" / "a.log").read_bytes() == b"a line with *** in it\n" * 100_000


LEAVES_A_DAEMON = """
import os, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", "import os, time; print('daemon', flush=True); open('daemon', 'w').close(); time.sleep(600)"],
    start_new_session=True,
)
while not os.path.exists("daemon"):
    pass
open("pid", "w").write(str(child.pid))
print("done", os.environ["API_TOKEN"])
"""


def test_a_process_that_was_left_behind_does_not_keep_the_script(space: Space) -> None:
    script = script_of(space, LEAVES_A_DAEMON)
    try:
        result = space.bash(script, env=SECRETS)
    finally:
        os.kill(int((space.path / "pid").read_text()), signal.SIGKILL)

    assert result.returncode == 0, result.stderr
    run_dir = space.latest("demo")
    assert ends(run_dir)["state"] == "succeeded"
    assert (run_dir / "logs" / "a.log").read_text() == "daemon\ndone ***\n"


WAITS_FOR_A_SIGNAL = """
import os, signal, sys, time
def hear(*_):
    print("heard", os.environ["API_TOKEN"], flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, hear)
open("ready", "w").close()
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_a_task_says_when_the_scripts_group_is_stopped_is_masked_and_recorded(
    space: Space, number: signal.Signals
) -> None:
    script = script_of(space, WAITS_FOR_A_SIGNAL)
    process = subprocess.Popen(
        ["bash", script], cwd=space.path, env=space.environ(SECRETS), start_new_session=True, stderr=subprocess.DEVNULL
    )
    while not (space.path / "ready").exists():
        assert process.poll() is None
    os.killpg(process.pid, number)

    assert process.wait() == -number
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    run_dir = space.latest("demo")
    assert ends(run_dir)["state"] == "cancelled"
    assert (run_dir / "logs" / "a.log").read_text() == "heard ***\n"


def test_a_log_that_cannot_be_written_ends_the_script_loudly(space: Space) -> None:
    script = script_of(space, "print('x' * 1000000)")
    limited = f"ulimit -f 100; trap '' XFSZ; exec bash {script}"
    result = subprocess.run(
        ["bash", "-c", limited], cwd=space.path, env=space.environ(SECRETS), capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.endswith("/logs/a.log\n")
    assert "error: cannot write" in result.stderr


def test_the_plan_names_them(space: Space) -> None:
    telling(space)
    space.miniflow("run", "demo", env=SECRETS)
    plan = json.loads((space.latest("demo") / "plan.json").read_text())
    assert plan["secret_env"] == ["API_TOKEN", "SIGNING_KEY", "PIN"]
    assert plan["tasks"][0]["secret_env"] == ["API_TOKEN", "SIGNING_KEY", "PIN"]


def test_a_task_gets_the_value_itself(space: Space) -> None:
    space.recorder()
    space.flow({"name": "demo", "tasks": [{"id": "a", "script": "record.py", "secret_env": "API_TOKEN"}]})
    assert space.miniflow("run", "demo", env=SECRETS).returncode == 0
    assert space.records()["a.1"]["env"]["API_TOKEN"] == TOKEN


def test_a_secret_of_one_task_is_masked_in_the_output_of_all(space: Space) -> None:
    space.script("quiet.py")
    space.script("tell.py", "import os; print(os.environ['API_TOKEN'])")
    tasks = [{"id": "quiet", "script": "quiet.py", "secret_env": "API_TOKEN"}, {"id": "tell", "script": "tell.py"}]
    space.flow({"name": "demo", "tasks": tasks})

    result = space.miniflow("run", "demo", "--log-format", "console", env=SECRETS)

    assert result.stdout == "tell │ ***\n"


async def test_an_event_is_masked_before_anybody_is_told(
    space: Space, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling(space)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    told: list[str] = []

    await run_flow("demo", on_event=lambda event: told.append(json.dumps(event.to_dict())), **space.directories)

    assert_no_secret("\n".join(told))


async def test_what_a_host_raises_is_recorded_without_it(
    space: Space, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling(space)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)

    def fail(event: object) -> None:
        raise ValueError(f"cannot send with {TOKEN}")

    with pytest.raises(ValueError, match="cannot send"):
        await run_flow("demo", on_event=fail, **space.directories)

    run_dir = space.latest("demo")
    assert_no_secret(everything(run_dir))
    assert events(run_dir)[-1]["error"] == "cannot send with ***"


def test_a_value_that_is_not_utf8_is_masked(space: Space) -> None:
    space.script("tell.py", 'import os; os.write(1, b"<" + os.environb[b"API_TOKEN"] + b">\\n")')
    space.flow({"name": "demo", "tasks": [{"id": "tell", "script": "tell.py", "secret_env": "API_TOKEN"}]})

    result = space.miniflow("run", "demo", "--log-format", "console", env={"API_TOKEN": "\udcff\udcfeab"})

    assert result.stdout == "tell │ <***>\n"


# --- a value that stands in the flow ------------------------------------------------------------------------------


def plan(space: Space, monkeypatch: pytest.MonkeyPatch, given: Mapping[str, Any] | None = None, **fields: Any) -> None:
    monkeypatch.setenv("API_TOKEN", "hunter2")
    space.script("a.py")
    task = {"id": "a", "script": "a.py", "secret_env": ["API_TOKEN"], **fields.pop("task", {})}
    plan_flow({"name": "x", "tasks": [task], **fields}, params=given, **space.directories)


EXPOSED = (
    "holds the value of API_TOKEN, a secret, which would then stand in the plan and in the script;"
    " let the task read it from its environment"
)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"task": {"args": ["-v", "--token=hunter2"]}}, "tasks[0].args[1]"),
        ({"task": {"args": {"token": "hunter2"}}}, "tasks[0].args.token"),
        ({"task": {"args": {"hunter2": True}}}, "tasks[0].args"),
        ({"task": {"env": {"AUTH": "Bearer hunter2"}}}, "tasks[0].env.AUTH"),
        ({"env": {"AUTH": "Bearer hunter2"}}, "env.AUTH"),
        ({"task": {"cwd": "/srv/hunter2"}}, "tasks[0].cwd"),
        ({"task": {"description": "Use hunter2"}}, "tasks[0].description"),
        ({"description": "Use hunter2"}, "description"),
        ({"task": {"id": "hunter2"}}, "tasks[0].id"),
    ],
)
def test_a_value_that_stands_in_the_flow_is_refused_without_showing_it(
    space: Space, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], where: str
) -> None:
    with pytest.raises(FlowError) as caught:
        plan(space, monkeypatch, **fields)
    assert str(caught.value) == f"{where}: {EXPOSED}"


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"token": "hunter2"}, '"token"'),
        ({"token": {"deep": ["x", "a hunter2"]}}, '"token"'),
        ({"token": {"hunter2": 1}}, '"token"'),
        ({"hunter2": 1}, "the name of one"),
    ],
)
def test_a_value_given_as_a_parameter_is_refused_without_showing_it(
    space: Space, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], where: str
) -> None:
    with pytest.raises(ParamsError) as caught:
        plan(space, monkeypatch, params)
    assert str(caught.value) == f"params: {where} {EXPOSED}"


def test_a_parameter_of_the_wrong_type_does_not_show_it(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError) as caught:
        plan(space, monkeypatch, {"n": "hunter2"}, params={"n": {"type": "integer"}})
    assert "hunter2" not in str(caught.value)


def test_a_placeholder_that_becomes_a_value_is_refused(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FlowError) as caught:
        plan(space, monkeypatch, {"n": 2}, task={"args": ["hunter{{ params.n }}"]})
    assert str(caught.value) == f"tasks[0].args[0]: {EXPOSED}"


def test_a_short_value_may_stand_anywhere(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(space, monkeypatch, task={"args": ["hun"]})
    monkeypatch.setenv("API_TOKEN", "hun")
    space.flow({"name": "x", "tasks": [{"id": "a", "script": "a.py", "args": ["hun"], "secret_env": "API_TOKEN"}]})
    assert plan_flow("x", **space.directories).secret_env == ("API_TOKEN",)


# --- what else is private -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["link/a.py", "sub/up/a.py", "/etc/passwd", "../secret/a.py", "sub/../../secret/a.py"])
def test_a_script_outside_the_tasks_directory_is_refused_and_nothing_is_started(space: Space, script: str) -> None:
    (space.path / "secret").mkdir()
    (space.path / "secret" / "a.py").touch()
    (space.tasks_dir / "link").symlink_to(space.path / "secret")
    (space.tasks_dir / "sub").mkdir()
    (space.tasks_dir / "sub" / "up").symlink_to("../../secret")
    space.flow({"name": "demo", "tasks": [{"id": "a", "script": script}]})

    result = space.miniflow("run", "demo")

    assert result.returncode == 2
    assert f'tasks[0].script: "{script}"' in result.stderr
    assert "outside" in result.stderr
    assert not space.output_dir.exists()


@pytest.mark.parametrize("how", ["miniflow", "bash"])
def test_a_run_directory_is_private_whatever_the_umask(space: Space, how: str) -> None:
    space.script("a.py", "print('hello')")
    space.flow({"name": "demo", "tasks": [{"id": "a", "script": "a.py"}]})
    command = f"{sys.executable} -m miniflow -f {space.flows_dir} -t {space.tasks_dir} -o {space.output_dir} run demo"
    if how == "bash":
        command = f"$({command} --dry-run | sed 's/^/bash /')"

    result = subprocess.run(
        ["bash", "-c", f"umask 000; {command}"],
        cwd=space.path,
        env=space.environ(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    run_dir = space.latest("demo")
    # Whoever may not enter the folder reads nothing in it, whatever the files' own modes are.
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((run_dir / "flow.sh").stat().st_mode) == 0o700
