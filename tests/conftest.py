"""Worlds for tests: a project with flows, tasks and an output directory, and the ways to run something in it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Whoever started the tests may ignore these (`nohup`, `&` in a shell); what the tests start shall not.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

# Containers like to forbid bytecode; then each of our many processes would compile all that it loads. The workers of
# pytest come after this, and so does what they start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Whoever runs the tests may want colours, or none (continuous integration often does); what the tests run gets told by them.
for _name in ("FORCE_COLOR", "NO_COLOR"):
    os.environ.pop(_name, None)


def pytest_xdist_auto_num_workers() -> int:
    """Return half as many again as there are processors: the tests wait a lot, for time limits and periods of grace."""
    return -(-len(os.sched_getaffinity(0)) * 3 // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


# A machine that is busy is no failure, and a run of the tests can be had again: those behind the marker are random.
settings.register_profile(
    "default suite",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("default suite")

# What a task of a test was run with and how it behaves: see Space.recorder.
RECORDER = """
import json, os, pathlib, signal, sys, time

attempt = int(os.environ["MINIFLOW_ATTEMPT"])
task = os.environ["MINIFLOW_TASK_ID"]
folder = pathlib.Path(os.environ["RECORDS"])
record = {"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}
(folder / f"{task}.{attempt}.tmp").write_text(json.dumps(record))
(folder / f"{task}.{attempt}.tmp").rename(folder / f"{task}.{attempt}.json")
behaviour = json.loads(os.environ.get("BEHAVIOUR", "[0]"))
what = behaviour[min(attempt, len(behaviour)) - 1]
if what == "hang":
    time.sleep(600)
if isinstance(what, str):  # the name of a signal
    os.kill(os.getpid(), getattr(signal, what))
sys.exit(what)
"""


class Space:
    """A project folder of a test's own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.flows_dir = path / "flows"
        self.tasks_dir = path / "tasks"
        self.output_dir = path / "out"
        self.records_dir = path / "records"
        for folder in (self.flows_dir, self.tasks_dir, self.records_dir):
            folder.mkdir()

    def script(self, name: str, text: str = "", mode: int = 0o644) -> Path:
        """Write a script into the tasks directory."""
        path = self.tasks_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        path.chmod(mode)
        return path

    def recorder(self, name: str = "record.py") -> Path:
        """Write a script that records argv, cwd and environment of each attempt, then behaves as BEHAVIOUR says.

        BEHAVIOUR is a JSON list, one entry an attempt, the last for all later ones: an exit status, "hang", or a signal's name.
        """
        return self.script(name, RECORDER)

    def records(self) -> dict[str, dict[str, Any]]:
        """Return what the recorder has written, by `<task>.<attempt>`."""
        return {path.stem: json.loads(path.read_text()) for path in sorted(self.records_dir.glob("*.json"))}

    def flow(self, flow: Mapping[str, Any] | str | bytes, name: str | None = None) -> Path:
        """Write a flow file."""
        if isinstance(flow, Mapping):
            name = name or str(flow["name"])
            flow = json.dumps(flow, indent=2)
        path = self.flows_dir / f"{name or 'x'}.json"
        path.write_bytes(flow.encode() if isinstance(flow, str) else flow)
        return path

    @property
    def directories(self) -> dict[str, Path]:
        """The keyword arguments of `run_flow` that name this space's directories."""
        return {"flows_dir": self.flows_dir, "tasks_dir": self.tasks_dir, "output_dir": self.output_dir}

    def environ(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment that commands of this space run in."""
        of_others = ("MINIFLOW_", "GITHUB_", "COLUMNS", "LINES")  # readline sets the last two for the children of pytest
        base = {key: value for key, value in os.environ.items() if not key.startswith(of_others)}
        return {**base, "RECORDS": str(self.records_dir), **(env or {})}

    def miniflow(
        self, *args: str, env: Mapping[str, str] | None = None, stdin: str | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line in this space, with its directories."""
        directories = ["-f", str(self.flows_dir), "-t", str(self.tasks_dir), "-o", str(self.output_dir)]
        return subprocess.run(
            [sys.executable, "-m", "miniflow", *directories, *args],
            cwd=cwd or self.path,
            env=self.environ(env),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def bash(
        self, script: Path | str, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a bash script in this space."""
        return subprocess.run(
            ["bash", str(script), *args],
            cwd=cwd or self.path,
            env=self.environ(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def latest(self, flow: str) -> Path:
        """Return the newest run directory of a flow."""
        return (self.output_dir / flow / "latest").resolve()


def events(run_dir: Path) -> list[dict[str, Any]]:
    """Return the journal of a run."""
    return [json.loads(line) for line in (run_dir / "events.jsonl").read_text().rstrip("\n").split("\n")]


def only(items: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the events of one name."""
    return [item for item in items if item["event"] == name]


def insist(process: subprocess.Popen[Any], number: int) -> None:
    """Send a signal to a script that has had one already, until it ends.

    bash misses a signal that comes in the very moment in which it begins to wait, as it does again after the first.
    """
    while process.returncode is None:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return Space(tmp_path)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def marker(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A variable that every process of the test's runs has in its environment; at the end no process has it."""
    value = str(uuid.uuid4())
    monkeypatch.setenv("MARKER", value)
    yield value
    assert survivors(value) == []


def survivors(marker: str) -> list[int]:
    """Return the processes, our own aside, that have the marker in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            if f"MARKER={marker}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found
