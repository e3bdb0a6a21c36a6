"""Small flows, and what every run of them must hold, whatever has happened to it: no false success, a record that is true.

The run's process is one of `tests.faulty`, or any other.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from miniflow import MiniFlowError, read_run
from tests.conftest import Space, only

LINES = 20
# Each attempt proves itself, last of all: only who has done all of its work has its proof.
SCRIPTS = {
    "prints.sh": f"""
        for ((i = 0; i < {LINES}; i++)); do echo "out $i"; echo "err $i" >&2; done
        : >"$RECORDS/$MINIFLOW_TASK_ID"
    """,
    "second_time.sh": """
        echo "attempt $MINIFLOW_ATTEMPT"
        if ((MINIFLOW_ATTEMPT < 2)); then exit 7; fi
        : >"$RECORDS/$MINIFLOW_TASK_ID"
    """,
    "silent.sh": ': >"$RECORDS/$MINIFLOW_TASK_ID"',
    "fails.sh": "echo sorry; exit 3",
    "slow.sh": "exec sleep 600",
}
PRINTED = {"prints": {"stdout": [f"out {n}" for n in range(LINES)], "stderr": [f"err {n}" for n in range(LINES)]}}
GOOD = [
    {"id": "prints", "script": "prints.sh"},
    {"id": "again", "script": "second_time.sh", "retries": 1},
    {"id": "silent", "script": "silent.sh", "depends_on": ["prints", "again"]},
]
BAD = [
    *GOOD,
    {"id": "fails", "script": "fails.sh", "depends_on": "again"},
    {"id": "slow", "script": "slow.sh", "timeout": 0.1},
]
# Each but the first two starts in the slot of one that has ended, whose end is recorded once it runs.
QUICK = [{"id": f"quick{number}", "script": "silent.sh"} for number in range(6)]
FLOWS = {"good": GOOD, "bad": BAD, "quick": QUICK}
ARGS = ["run", "--parallel", "2", "--keep-going", "--log-format", "json"]


def put_flows(space: Space) -> None:
    """Write the flows."""
    for name, text in SCRIPTS.items():
        space.script(name, text)
    for name, tasks in FLOWS.items():
        space.flow({"name": name, "tasks": tasks})


def clear(space: Space) -> None:
    """Remove what a run has left."""
    for folder in (space.records_dir, space.output_dir):
        shutil.rmtree(folder, ignore_errors=True)
    space.records_dir.mkdir()


def judge(space: Space, flow: str, status: int, stdout: str, stderr: str) -> None:
    """See that a run of one of the flows, in an output directory of its own, has told and recorded the truth.

    Args:
        status: The exit status of the command.
        stdout: What it has printed in JSON format.
        stderr: What it has said; may be empty if that was what could not be written.
    """
    if "BaseEventLoop.__del__" not in stderr:  # asyncio's own, when one of its first calls fails
        assert "Traceback" not in stderr
        assert "Warning" not in stderr
        assert stderr.count("\n") <= 1
    assert status in (0, 1, 2)
    assert (status != 0) or flow != "bad"
    if status == 2 and stderr:
        assert stderr.startswith(("error: ", f"flows/{flow}.json:", "tasks: cannot read the tasks directory: "))
    runs = [path for path in (space.output_dir / flow).glob("*") if path.name != "latest"]
    if not runs:
        assert status == 2
        return
    (run_dir,) = runs
    journal = run_dir / "events.jsonl"
    if not journal.exists() or b"\n" not in journal.read_bytes():
        assert status == 2
        assert not any((run_dir / "status").glob("*"))
        return
    _judge_record(space, run_dir, status, stdout)


def _judge_record(space: Space, run_dir: Path, status: int, stdout: str) -> None:
    journal = whole_lines(run_dir / "events.jsonl")
    if not journal or journal[0]["event"] != "run.started":  # that is what could not be written: nothing was started
        assert status == 2
        assert {event["event"] for event in journal} <= {"task.cancelled", "run.finished"}
        return
    result = read_run(run_dir)
    ends = {event["task_id"]: event for event in only(journal, "task.finished")}
    for path in (run_dir / "status").iterdir():
        assert not path.name.startswith("."), "a temporary file is left"
        assert path.read_text() == f"{ends[path.name]['exit_status']}\n"
    for task_id, end in ends.items():
        if end["state"] != "succeeded":
            continue
        assert end["exit_status"] == 0
        assert (space.records_dir / task_id).exists()
        if task_id in PRINTED:
            lines = only(whole_lines(run_dir / "logs" / f"{task_id}.jsonl"), "task.output")
            for stream, printed in PRINTED[task_id].items():
                assert [event["message"] for event in lines if event["stream"] == stream] == printed
    if status == 2:
        return
    # Whoever says 0 or 1 has a complete record.
    assert result.exit_status == status
    tasks = json.loads((run_dir / "run.json").read_text())["tasks"]
    assert len(tasks) == len(FLOWS[run_dir.parent.name])
    assert {key: task["state"] for key, task in tasks.items()} == {name: task.state for name, task in result.tasks.items()}
    assert {path.name for path in (run_dir / "status").iterdir()} == set(ends)
    assert status == any(task["state"] != "succeeded" for task in tasks.values())
    assert json.loads(stdout.splitlines()[-1])["event"] == "run.finished"


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return the events of a file; a line that was written in part only is none."""
    found = []
    for line in path.read_text().split("\n"):
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


class Faulty:
    """A server of cases, and the space they run in."""

    def __init__(self, space: Space) -> None:
        self.problems: list[str] = []
        self._space = space
        put_flows(space)
        self._server = subprocess.Popen(
            # An event loop that cannot be made complains of itself.
            [sys.executable, "-W", "error", "-W", "ignore:unclosed event loop:ResourceWarning", "-m", "tests.faulty"],
            env=space.environ({"PYTHONPATH": str(Path(__file__).parent.parent)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self._server.communicate()

    def answer(self, args: Sequence[str], kind: str, index: int, number: int) -> tuple[dict[str, Any], str, str]:
        """Run a case; return how it ended, and what it said on both streams."""
        space = self._space
        case = {
            "folder": str(space.path),
            "args": ["-o", str(space.output_dir), *args],
            "env": {"RECORDS": str(space.records_dir)},
            "kind": kind,
            "index": index,
            "errno": number,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(case), file=self._server.stdin, flush=True)
        answer = json.loads(self._server.stdout.readline())
        return answer, (space.path / "stdout").read_text(), (space.path / "stderr").read_text()

    def run(self, flow: str, kind: str, index: int, number: int) -> bool:
        """Run a case and judge it, into `problems`; return whether there was such a call."""
        space = self._space
        clear(space)
        answer, stdout, stderr = self.answer([*ARGS, flow], kind, index, number)
        try:
            assert answer["left"] == []
            judge(space, flow, answer["status"], stdout, stderr)
        except (AssertionError, LookupError, MiniFlowError) as error:
            self.problems.append(f"{kind} {index} {errno.errorcode[number]}: {answer} {stderr}\n{error}")
        return bool(answer["calls"] > index)
