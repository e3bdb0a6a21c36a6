"""Which runs there are, of all flows, and the one that somebody means."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from miniflow.errors import MiniFlowError, UsageError
from miniflow.resume import LATEST, find_run, run_ids
from miniflow.rundir import RunDir
from miniflow.suggest import did_you_mean, quoted

_FLOW = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_SHOWN_RUNS = 5


def flows_with_runs(output_dir: str | os.PathLike[str]) -> list[str]:
    """Return the names of the flows that may have runs.

    Raises:
        UsageError: The output directory cannot be read.
    """
    try:
        with os.scandir(output_dir) as entries:
            return sorted(entry.name for entry in entries if _FLOW.fullmatch(entry.name) and os.path.isdir(entry))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"the output directory cannot be read: {error.strerror}: {os.fspath(output_dir)}") from None


def known_flow(output_dir: str | os.PathLike[str], flow: str | None) -> str | None:
    """Return the name of a flow that somebody has typed.

    Raises:
        UsageError: It has not been run.
    """
    base = Path(output_dir).expanduser()
    if flow is None or (_FLOW.fullmatch(flow) and run_ids(base, flow)):
        return flow
    known = flows_with_runs(base)
    raise UsageError(f"flow {quoted(flow)} has not been run yet: there is no run in {base / flow}{did_you_mean(flow, known)}")


def all_runs(
    output_dir: str | os.PathLike[str], flow: str | None = None, problems: list[MiniFlowError] | None = None
) -> list[RunDir]:
    """Return the runs of all flows, or of one, the newest first.

    Args:
        output_dir: Where the runs are.
        flow: The flow's name.
        problems: Gets what cannot be read.

    Raises:
        UsageError: Something cannot be read, and nobody wants to know what else there is.
    """
    base = Path(output_dir).expanduser()
    found: list[tuple[str, str]] = []
    for name in flows_with_runs(base) if flow is None else [flow]:
        try:
            found += [(run_id, name) for run_id in run_ids(base, name)]
        except UsageError as error:
            if problems is None:
                raise
            problems.append(error)
    return [RunDir(base / name / run_id) for run_id, name in sorted(found, reverse=True)]


def find_any_run(output_dir: str | os.PathLike[str], name: str | None = None, flow: str | None = None) -> RunDir:
    """Return the run that somebody means.

    Args:
        output_dir: Where the runs are.
        name: The run's id, or a beginning of it that no other run's id has; a flow's name or `latest`, for the latest; or the
            path of a run directory. None: the latest.
        flow: The flow that it is a run of; None: whichever.

    Raises:
        UsageError: There is none, or more than one.
    """
    base = Path(output_dir).expanduser()
    if name is not None and (os.path.sep in name or os.path.isfile(os.path.join(name, "events.jsonl"))):
        return RunDir(_existing(name).resolve())
    if flow is not None:
        return find_run(base, flow, name if name is not None else LATEST)
    flows = flows_with_runs(base)
    if name in flows and name != LATEST and run_ids(base, name):
        return find_run(base, name)
    problems: list[MiniFlowError] = []
    runs = all_runs(base, None, problems)
    if not runs:
        raise UsageError("\n".join([f"nothing has been run yet: there is no run in {base}", *map(str, problems)]))
    if name is None or name == LATEST:
        # One that has no journal is only just beginning, or never came so far.
        begun = next((run for run in runs if os.path.lexists(run.journal)), runs[0])
        return RunDir(begun.path.resolve())
    found = [run for run in runs if run.run_id == name] or [run for run in runs if name and run.run_id.startswith(name)]
    if len(found) == 1:
        return RunDir(found[0].path.resolve())
    if found:
        raise UsageError(f"more than one run begins with {quoted(name)}: {_shown(found)}")
    more = "".join(f"\n{problem}" for problem in problems)
    raise UsageError(
        f"no run or flow that has been run is called {quoted(name)}{did_you_mean(name, flows)}; there are {_shown(runs)}{more}"
    )


def _existing(name: str) -> Path:
    path = Path(name)
    if not os.path.isdir(path):
        raise UsageError(f"there is no run directory {quoted(name)}")
    return path


def _shown(runs: Iterable[RunDir]) -> str:
    listed = [f"{run.run_id} ({run.path.parent.name})" for run in runs]
    return ", ".join(listed[:_SHOWN_RUNS]) + (" and older ones" if len(listed) > _SHOWN_RUNS else "")
