"""What holds of the record of every run that has ended, however it did."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

from miniflow import read_run
from tests.conftest import events, only

ENDS = {"task.finished", "task.skipped", "task.cancelled"}


def assert_whole(run_dir: Path, tasks: Collection[str], *, by_script: bool = False) -> str:
    """Journal, statuses and summary are complete and agree; returns the run's state."""
    journal = events(run_dir)
    assert journal[0]["event"] == "run.started"
    assert [event["event"] for event in journal].index("run.finished") == len(journal) - 1
    assert sorted(event["task_id"] for event in journal if event["event"] in ENDS) == sorted(tasks)
    ends = {event["task_id"]: event for event in journal if event["event"] in ENDS}
    statuses = {path.name: int(path.read_text()) for path in (run_dir / "status").iterdir()}
    assert statuses == {name: end["exit_status"] for name, end in ends.items() if end["event"] == "task.finished"}
    assert {event["task_id"] for event in only(journal, "task.started")} == statuses.keys()
    assert all((end.get("state") == "succeeded") == (end.get("exit_status") == 0) for end in ends.values())
    assert [path.name for path in run_dir.rglob(".*")] == []
    state = str(journal[-1]["state"])
    assert read_run(run_dir).state == state
    if not by_script:
        summary = json.loads((run_dir / "run.json").read_text())
        assert summary["state"] == state
        assert summary["tasks"].keys() == ends.keys()
        assert sum(summary["counts"].values()) == len(ends)
    return state


def is_of_pythons_start(shown: str) -> bool:
    """Whether a traceback is of Ctrl-C while Python itself was starting: until our first lines have been run."""
    frames = re.findall(r'File "(.*?)", line \d+(?:, in (\S+))?', shown)
    ours = [where for file, where in frames if "/miniflow/" in file]
    return "KeyboardInterrupt" in shown and bool(frames) and set(ours) <= {"<module>"}
