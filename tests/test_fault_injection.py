"""Each call of the operating system fails once, whichever it is: no false success, no orphan, no traceback, no hang.

The command runs in a process of its own (see `tests.faulty`) with its n-th call of one kind failing, for each kind and n.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miniflow import MiniFlowError, read_run
from tests.conftest import Space, only
from tests.faulty import ERRORS

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


class Faulty:
    """A server of cases, and the space they run in."""

    def __init__(self, space: Space) -> None:
        self.problems: list[str] = []
        self._space = space
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

    def run(self, flow: str, kind: str, index: int, number: int) -> bool:
        """Run a case and judge it, into `problems`; return whether there was such a call."""
        space = self._space
        for folder in (space.records_dir, space.output_dir):
            shutil.rmtree(folder, ignore_errors=True)
        space.records_dir.mkdir()
        case = {
            "folder": str(space.path),
            "args": ["-o", str(space.output_dir), "run", flow, "--parallel", "2", "--keep-going", "--log-format", "json"],
            "env": {"RECORDS": str(space.records_dir)},
            "kind": kind,
            "index": index,
            "errno": number,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(case), file=self._server.stdin, flush=True)
        answer = json.loads(self._server.stdout.readline())
        stderr = (space.path / "stderr").read_text()
        try:
            self._judge(flow, answer, stderr)
        except (AssertionError, LookupError, MiniFlowError) as error:
            self.problems.append(f"{kind} {index} {errno.errorcode[number]}: {answer} {stderr}\n{error}")
        return bool(answer["calls"] > index)

    def _judge(self, flow: str, answer: dict[str, Any], stderr: str) -> None:
        status = answer["status"]
        assert answer["left"] == []
        if "BaseEventLoop.__del__" not in stderr:  # asyncio's own, when one of its first calls fails
            assert "Traceback" not in stderr
            assert "Warning" not in stderr
            assert stderr.count("\n") <= 1
        assert status in (0, 1, 2)
        assert (status != 0) or flow == "good"
        if status == 2 and stderr:  # it is standard error itself that could not be written, otherwise
            assert stderr.startswith(("error: ", f"flows/{flow}.json:"))
        elif status == 2:
            assert answer["calls"] > 0
        runs = [path for path in (self._space.output_dir / flow).glob("*") if path.name != "latest"]
        if not runs:
            assert status == 2
            return
        (run_dir,) = runs
        journal = run_dir / "events.jsonl"
        if not journal.exists() or b"\n" not in journal.read_bytes():
            assert status == 2
            assert not any((run_dir / "status").glob("*"))
            return
        self._judge_record(run_dir, status)

    def _judge_record(self, run_dir: Path, status: int) -> None:
        space = self._space
        journal = whole_lines(run_dir / "events.jsonl")
        if journal[0]["event"] != "run.started":  # that is what could not be written: nothing was started
            assert status == 2
            assert {event["event"] for event in journal} == {"task.cancelled", "run.finished"}
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
                printed = {
                    stream: [event["message"] for event in lines if event["stream"] == stream]
                    for stream in ("stdout", "stderr")
                }
                assert printed == PRINTED[task_id]
        if status == 2:
            return
        # Whoever says 0 or 1 has a complete record.
        assert result.exit_status == status
        tasks = json.loads((run_dir / "run.json").read_text())["tasks"]
        assert len(tasks) == len(BAD if run_dir.parent.name == "bad" else GOOD)
        assert {key: task["state"] for key, task in tasks.items()} == {name: task.state for name, task in result.tasks.items()}
        assert {path.name for path in (run_dir / "status").iterdir()} == set(ends)
        assert status == any(task["state"] != "succeeded" for task in tasks.values())
        told = (space.path / "stdout").read_text().splitlines()
        assert json.loads(told[-1])["event"] == "run.finished"


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return the events of a file; a line that was written in part only is none."""
    found = []
    for line in path.read_text().split("\n"):
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    space = Space(tmp_path_factory.mktemp("faulty"))
    for name, text in SCRIPTS.items():
        space.script(name, text)
    space.flow({"name": "good", "tasks": GOOD})
    space.flow({"name": "bad", "tasks": BAD})
    server = Faulty(space)
    yield server
    server.close()


@pytest.fixture
def faulty(server: Faulty) -> Faulty:
    server.problems.clear()
    return server


CASES = [(kind, number) for kind, numbers in ERRORS.items() for number in numbers]


@pytest.mark.stress
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("flow", ["good", "bad"])
@pytest.mark.parametrize(("kind", "number"), CASES)
def test_every_call_may_fail(faulty: Faulty, flow: str, kind: str, number: int) -> None:
    index = 0
    while faulty.run(flow, kind, index, number):
        index += 1

    assert not faulty.problems, "\n".join(faulty.problems)


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_one_call_in_many_may_fail(faulty: Faulty, kind: str, number: int) -> None:
    index, step = 0, 1
    while faulty.run("bad" if kind == "waitid" else "good", kind, index, number):
        index += step
        step *= 3

    assert not faulty.problems, "\n".join(faulty.problems)
