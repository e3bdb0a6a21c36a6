"""Tasks that are hard to end, and what becomes of the runs in which they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import Space

SCRIPTS = {
    "sleeps.sh": "echo up; sleep 600 & sleep 600",
    "deaf.sh": "trap '' TERM; echo up; sleep 600 & sleep 600",
    "stopped.sh": "echo up; kill -STOP $$",
    "loud.sh": "while :; do echo loud; done",
    "fails.sh": "echo failing; exit 3",
}
TASKS: list[dict[str, Any]] = [
    {"id": "sleeps", "script": "sleeps.sh"},
    {"id": "deaf", "script": "deaf.sh"},
    {"id": "stopped", "script": "stopped.sh"},
    {"id": "loud", "script": "loud.sh"},
    {"id": "fails", "script": "fails.sh", "retries": {"max": 3, "delay": 600}},
]


def put_scripts(space: Space) -> None:
    for name, text in SCRIPTS.items():
        space.script(name, text)


def only_run(space: Space, flow: str) -> Path | None:
    """Return the directory of the one run of a flow, or None if there is none."""
    runs = list((space.output_dir / flow).glob("2*"))
    if not runs:
        return None
    (run_dir,) = runs
    return run_dir
