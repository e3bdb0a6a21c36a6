"""The two runs that `miniflow diff` compares, found and read."""

from __future__ import annotations

from pathlib import Path

from miniflow.differences import Differences, RecordedRun, differences
from miniflow.errors import UsageError
from miniflow.planfile import read_document, read_planned
from miniflow.rundir import RunDir, read_record
from miniflow.runs import all_runs, find_any_run
from miniflow.suggest import quoted
from miniflow.timeline import read_timeline


def compare(output_dir: Path, first: str | None, second: str | None) -> Differences:
    """Return what differs between two runs; with one named, or none, between that or the latest and the one before it.

    Raises:
        UsageError: There is no such run, or none before it.
        MiniFlowError: One cannot be read.
    """
    run_dir = find_any_run(output_dir, first)
    before, after = (_before(run_dir), run_dir) if second is None else (run_dir, find_any_run(output_dir, second))
    return differences(_read(before), _read(after))


def _before(run_dir: RunDir) -> RunDir:
    """Return the run of the same flow before a run, where that run is."""
    flow = run_dir.path.parent.name
    earlier = [run for run in all_runs(run_dir.path.parent.parent, flow) if run.run_id < run_dir.run_id]
    if not earlier:
        raise UsageError(
            f"run {run_dir.run_id} is the first of flow {quoted(flow)}: there is none before it to compare with; name two runs"
        )
    return earlier[0]


def _read(run_dir: RunDir) -> RecordedRun:
    changed_scripts = read_record(run_dir)[0].changed_scripts
    return RecordedRun(read_timeline(run_dir), read_document(run_dir), read_planned(run_dir)[1], changed_scripts)
