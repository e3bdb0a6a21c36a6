"""What shells complete: commands, options and their values, names of flows, tasks and runs; at once, and without a word."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from miniflow import commands
from miniflow.cli import COMMANDS, cli
from miniflow.completion import answer, read_table
from miniflow.completion_table import table_text
from tests.conftest import Space

MINIFLOW = Path(sys.executable).with_name("miniflow")
HEAVY = {"asyncio", "anyio", "structlog", "msgspec", "trio", "rich", "subprocess", "click", "pathlib", "typing"}
TABLE = table_text(cli)
OLD, NEW = "20260101T000000.000Z-00000a", "20260102T000000.000Z-00000b"


@pytest.fixture
def project(space: Space) -> Space:
    tasks = [
        {"id": "fetch_data", "script": "x.py", "description": "Get\nthe:\trows"},
        {"id": "fetch_rates", "script": "x.py"},
        {"id": "report", "script": "x.py", "depends_on": ["fetch_data", "fetch_rates"]},
    ]
    space.flow({"name": "demo", "tasks": tasks})
    space.flow({"name": "daily", "tasks": [{"id": "one", "script": "x.py"}]}, name="another_file")
    space.flow("{", name="broken")
    return space


@pytest.fixture
def runs(project: Space) -> Space:
    for run in (OLD, NEW):
        path = project.path / "miniflow_output/demo" / run
        path.mkdir(parents=True)
        (path / "plan.json").write_text('{\n "schema": 1,\n "tasks": [\n  {"id":"a","x":{"id":"no"}},\n  {"id":"b"}\n ]\n}\n')
    script_run = project.path / "miniflow_output/nightly/20260101T120000.000Z-00000c"
    script_run.mkdir(parents=True)
    (script_run / "events.jsonl").write_text('{"event":"task.started","task_id":"z"}\n' * 2)
    return project


def environment(project: Space, **env: str) -> dict[str, str]:
    return project.environ({"PATH": f"{MINIFLOW.parent}{os.pathsep}{os.environ['PATH']}", **env})


def offered(project: Space, monkeypatch: pytest.MonkeyPatch, line: str, shell: str = "bash", **env: str) -> list[str]:
    """Return what is offered where a line has been typed, its last word not to the end."""
    monkeypatch.chdir(project.path)
    return [*answer(line.split(" ")[1:], {"_MINIFLOW_COMPLETE": shell, **env}, read_table(TABLE))]


ALL = ["fetch_data", "fetch_rates", "report"]
FLOWS = ["broken", "daily", "demo"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("miniflow run demo --only ", ALL),
        ("miniflow run demo --from f", ALL[:2]),
        ("miniflow run demo --until fetch_r", ["fetch_rates"]),
        ("miniflow run demo --only report --only ", ALL[:2]),
        ("miniflow run demo --only report --from ", ALL),
        ("miniflow run --parallel 2 demo --keep-going --from r", ["report"]),
        ("miniflow run --only r", []),
        ("miniflow run flows/demo.json --only ", ALL),
        ("miniflow run demo.json --only ", ALL),
        ("miniflow run daily --only ", ["one"]),
        ("miniflow -f flows run demo --only r", ["report"]),
        ("miniflow --flows-dir flows -l ERROR run demo --only r", ["report"]),
        ("miniflow --flows-dir=flows run demo --only r", ["report"]),
        ("miniflow -f ~ run ~/demo.json --only r", ["report"]),
        ("miniflow -f ~ run demo --only r", ["report"]),
        ("miniflow run demo --only x", []),
        ("miniflow run --resume demo --only r", ["report"]),
    ],
)
def test_the_ids_of_the_flow_on_the_command_line_are_offered(
    project: Space, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    monkeypatch.setenv("HOME", str(project.flows_dir))
    assert offered(project, monkeypatch, line) == expected


def test_the_flows_directory_of_the_environment_counts(project: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    project.flows_dir.rename(project.path / "elsewhere")
    assert offered(project, monkeypatch, "miniflow run demo --only r") == []
    assert offered(project, monkeypatch, "miniflow run demo --only r", MINIFLOW_FLOWS_DIR="elsewhere") == ["report"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("miniflow run ", FLOWS),
        ("miniflow run d", ["daily", "demo"]),
        ("miniflow run ./fl", [":file"]),
        ("miniflow validate demo ", ["broken", "daily"]),
        ("miniflow run demo ", []),
        ("miniflow run demo -p ", [":file"]),
        ("miniflow -o ", [":dir"]),
        ("miniflow run demo --log-format ", ["auto", "console", "json", "github"]),
        ("miniflow run demo --log-format=c", ["console"]),
        ("miniflow run demo --parallel ", []),
        ("miniflow completion ", ["bash", "zsh", "fish"]),
        ("miniflow run demo --keep", ["--keep-going"]),
        ("miniflow run demo --keep-going --keep", []),
        ("miniflow run demo --only report --on", ["--only"]),
        ("miniflow run --fr", ["--from"]),
        ("miniflow run -- -", []),
        ("miniflow run -- ", FLOWS),
        ("miniflow --flo", ["--flows-dir"]),
        ("miniflow -f flows r", [name for name in COMMANDS if name.startswith("r")]),
        ("miniflow runs pr", ["prune"]),
        ("miniflow nothing ", []),
        ("miniflow run --nothing=", []),
    ],
)
def test_flows_options_values_and_commands_are_offered(
    project: Space, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    assert offered(project, monkeypatch, line) == expected


def test_all_commands_are_offered_and_nothing_that_is_none(project: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered(project, monkeypatch, "miniflow ") == [*COMMANDS]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("miniflow run demo --resume ", ["latest", NEW, OLD]),
        ("miniflow run demo --resume 20260101", [OLD]),
        ("miniflow run --resume ", []),
        (f"miniflow run {'x' * 300} --resume ", ["latest"]),
        ("miniflow run ../x --resume ", ["latest"]),
        ("miniflow logs ", ["latest", "demo", "nightly", NEW, "20260101T120000.000Z-00000c", OLD, "a", "b"]),
        ("miniflow logs d", ["demo"]),
        ("miniflow logs b", ["b"]),
        ("miniflow logs demo ", ["a", "b"]),
        ("miniflow logs latest ", ["a", "b"]),
        ("miniflow logs 20260102 ", ["a", "b"]),
        ("miniflow logs 2026 ", []),
        ("miniflow logs nightly ", ["z"]),
        ("miniflow logs ./run/ ", []),
        (f"miniflow logs ./miniflow_output/demo/{OLD} ", ["a", "b"]),
        ("miniflow logs ./", [":dir"]),
        ("miniflow -o nowhere logs ", []),
    ],
)
def test_runs_and_their_tasks_are_offered_the_newest_first(
    runs: Space, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    assert offered(runs, monkeypatch, line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "miniflow run broken --only ",
        "miniflow run nobody --only ",
        "miniflow run flows --only ",
        "miniflow run /dev/zero --only ",
        "miniflow run ~no_such_user/x --only ",
        "miniflow -f /nowhere run demo --only ",
        "miniflow -f /nowhere run ",
        "miniflow -f ~no_such_user run ",
        "miniflow -o /dev/null logs ",
        "miniflow logs \0 ",
    ],
)
def test_what_is_wrong_completes_to_nothing_without_a_word(
    project: Space, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], line: str
) -> None:
    assert offered(project, monkeypatch, line) == []
    assert capfd.readouterr() == ("", "")


def test_a_name_that_is_none_is_not_offered(project: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    project.flow('{"name": "$(touch x)\\n a b"}', name="odd")
    assert offered(project, monkeypatch, "miniflow run ") == FLOWS


def test_shells_that_show_descriptions_get_them_on_one_line(project: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in ("zsh", "fish"):
        ids = offered(project, monkeypatch, "miniflow run demo --only fetch", shell)
        assert ids == ["fetch_data\tGet the: rows", "fetch_rates"]
        assert offered(project, monkeypatch, "miniflow run demo --keep", shell)[0].startswith("--keep-going\tAfter a failure")


def test_a_value_after_a_sign_is_completed_as_each_shell_takes_it(project: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in ("zsh", "fish"):
        assert offered(project, monkeypatch, "miniflow run demo --only=rep", shell) == ["--only=report"]
    assert offered(project, monkeypatch, "miniflow run demo --only = rep") == ["report"]
    assert offered(project, monkeypatch, "miniflow run demo --only =") == ALL
    assert offered(project, monkeypatch, "miniflow run demo --only = report --only ") == ALL[:2]


def test_each_value_that_the_help_names_as_a_flow_a_task_or_a_run_is_completed_as_one() -> None:
    table = read_table(TABLE)
    assert table["run"].arguments == ["flow"]
    assert table["logs"].arguments == ["run", "task"]
    assert {path.partition(" ")[0] for path in table} == {"", *COMMANDS}
    names = {"any"}  # of what is new, as a flow's
    for path, command in table.items():
        assert {kind.rstrip("*") for kind in command.arguments} <= {"flow", "run", "task", "bash|zsh|fish", *names}, path


def test_every_module_of_a_command_is_one_that_can_be_called() -> None:
    texts = {path.stem: path.read_text() for path in Path(commands.__file__).parent.glob("*.py")}
    assert {name for name, text in texts.items() if "def command(" in text} == {*COMMANDS}


@pytest.mark.parametrize("words", [["run", "demo", "--only", ""], ["logs", ""], ["run", ""], ["r"]])
def test_nothing_heavy_is_loaded_for_it(runs: Space, words: list[str]) -> None:
    program = f"""
import sys
before = {{*sys.modules}}
from miniflow.commandline import main
main()
print(sorted({HEAVY} & ({{*sys.modules}} - before)))
"""
    env = environment(runs, _MINIFLOW_COMPLETE="bash", _MINIFLOW_COMMANDS=TABLE)
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=runs.path, env=env, capture_output=True, text=True, check=True
    )
    *found, loaded = done.stdout.splitlines()
    assert found
    assert loaded == "[]"


def quickest_s(project: Space, *words: str) -> float:
    """Return the least time of a processor that an answer takes: whatever else runs here keeps all of them waiting."""
    env = environment(project, _MINIFLOW_COMPLETE="bash", _MINIFLOW_COMMANDS=TABLE)
    taken = []
    for _ in range(4):
        process = subprocess.Popen(
            [MINIFLOW, *words], cwd=project.path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        assert status == 0
        taken.append(usage.ru_utime + usage.ru_stime)
    return min(taken)


@pytest.mark.stress  # a machine may be busy, or slow
def test_it_takes_less_than_a_tenth_of_a_second_also_with_ten_thousand_flows_and_runs(space: Space) -> None:
    flow = space.flow({"name": "many", "tasks": [{"id": f"t{n}", "script": "x.py"} for n in range(100)]})
    runs = space.path / "miniflow_output/many"
    runs.mkdir(parents=True)
    for n in range(10_000):
        os.link(flow, space.flows_dir / f"flow{n}.json")
        os.mkdir(runs / f"20260101T{n // 60 % 24:02d}{n % 60:02d}00.{n // 1440:03d}Z-{n:06x}")

    for line in ("", "run ", "run flow999", "run many --only ", "run many --resume ", "logs "):
        assert quickest_s(space, *line.split(" ")) < 0.1, line


SWITCHED_ON = {
    "bash": 'eval "$(miniflow completion bash)"',
    "zsh": 'eval "$(miniflow completion zsh)"',
    "fish": "miniflow completion fish | source",
}
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
BEFORE = {
    "bash": "bind 'set enable-bracketed-paste off'; PS1='READY> '",
    "zsh": "autoload -Uz compinit && compinit -u -D; unsetopt zle_bracketed_paste; PS1='READY> '",
    "fish": "function fish_prompt; printf 'READY> '; end; set -g fish_greeting",
}


NOT_TEXT = re.compile(r".\x08|\x07|\x1b\[[0-9;?>=]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[()=>].?")
"""What moves the cursor, and what is then written over."""


class Terminal:
    """A shell on a terminal of its own."""

    def __init__(self, shell: str, project: Space) -> None:
        self._seen = ""
        env = environment(project, TERM="xterm", HOME=str(project.path), COLUMNS="200", LINES="50")
        pid, self._descriptor = pty.fork()
        if pid == 0:
            os.chdir(project.path)
            os.execvpe(shell, START[shell], env)  # noqa: S606
        self._pid = pid

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Wait until that has been printed since the last that was waited for; return all until there."""
        deadline = time.monotonic() + 30
        while not (match := re.search(pattern, self._seen, re.DOTALL)):
            ready, _, _ = select.select([self._descriptor], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} has not come: {self._seen!r}"
            data = os.read(self._descriptor, 65536).decode(errors="replace")
            if "\x1b[c" in data or "\x1b[0c" in data:  # asks what terminal this is
                self.type("\x1b[?1;2c")
            self._seen = NOT_TEXT.sub("", self._seen + data)
        before, self._seen = self._seen[: match.end()], self._seen[match.end() :]
        return before

    def close(self) -> None:
        os.close(self._descriptor)
        os.waitpid(self._pid, 0)


@pytest.fixture(params=["bash", "zsh", "fish"])
def terminal(project: Space, request: pytest.FixtureRequest) -> Iterator[tuple[str, Terminal]]:
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    terminal = Terminal(shell, project)
    terminal.type(f"{BEFORE[shell]}; {SWITCHED_ON[shell]}; echo swit''ched on\n")
    terminal.wait_for("switched on.*READY> ")
    yield shell, terminal
    terminal.close()


def test_a_tab_completes_what_is_typed_in_each_shell(terminal: tuple[str, Terminal]) -> None:
    _, screen = terminal

    screen.type("echo miniflow run demo\n")  # the shell is there
    screen.wait_for("READY> ")
    screen.type("miniflow run de\t--until rep\t--keep-g\t")

    screen.wait_for(r"miniflow run demo +--until report +--keep-going ")


def test_two_tabs_show_what_there_is_in_each_shell(terminal: tuple[str, Terminal]) -> None:
    _, screen = terminal

    screen.type("miniflow run demo --only fe\t")
    screen.wait_for("fetch_")
    screen.type("\t\t")

    screen.wait_for("fetch_data.*fetch_rates")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_readme_says_how_to_switch_it_on(shell: str) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    assert f"`{SWITCHED_ON[shell]}`" in readme.replace("\\|", "|")  # as it is written in a table


def test_scripts_are_printed_for_the_shells_that_are_known(space: Space) -> None:
    assert space.miniflow("completion", "tcsh").returncode == 2
    for shell in SWITCHED_ON:
        done = space.miniflow("completion", shell)
        assert done.returncode == 0
        assert "@TABLE@" not in done.stdout
