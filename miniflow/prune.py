"""Removes runs that are no longer wanted; never one that goes on, or that another run is resuming."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from miniflow.errors import MiniFlowError, OutputError
from miniflow.files import writing
from miniflow.journal import no_locks
from miniflow.resume import LATEST, run_ids
from miniflow.rundir import RunDir, read_record
from miniflow.runs import flows_with_runs
from miniflow.values import dataclass

_ASIDE = ".removed-"
"""What the name of a run directory begins with while it is deleted: whatever comes between, nobody takes it for a run."""
_BEGINS_S = 3600
"""A run whose directory is so young may be about to begin though it has no journal yet."""

Why: TypeAlias = Literal["running", "resumed"]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of the runs that nobody wanted to keep."""

    removed: tuple[RunDir, ...]
    """Or what would be removed."""
    in_use: tuple[tuple[RunDir, Why], ...]
    """Those that are still needed, and for what."""
    problems: tuple[MiniFlowError, ...]
    """Why others could not be removed."""


def prune(
    output_dir: str | os.PathLike[str],
    flow: str | None = None,
    *,
    keep: int = 0,
    older_than_s: float | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove runs.

    Args:
        output_dir: Where the runs are.
        flow: Of this flow alone.
        keep: The newest of each flow, which are kept.
        older_than_s: Those that began less long ago are kept as well.
        dry_run: Remove nothing, and tell what would be removed.

    Raises:
        UsageError: The output directory cannot be read.
    """
    base = Path(output_dir).expanduser()
    removed: list[RunDir] = []
    in_use: list[tuple[RunDir, Why]] = []
    problems: list[MiniFlowError] = []
    now_s = time.time()
    for name in flows_with_runs(base) if flow is None else [flow]:
        try:
            newest_first = run_ids(base, name)[::-1]
        except MiniFlowError as error:
            problems.append(error)
            continue
        unwanted = newest_first[keep:]
        if older_than_s is not None:
            unwanted = [run_id for run_id in unwanted if now_s - _began_s(run_id) >= older_than_s]
        if not dry_run:
            _attempt(_finish, base / name, problems)
        for run_dir in [RunDir(base / name / run_id) for run_id in reversed(unwanted)]:
            try:
                with _held(run_dir) as why:
                    if why is not None:
                        in_use.append((run_dir, why))
                    elif dry_run or _remove(run_dir.path):
                        removed.append(run_dir)
            except MiniFlowError as error:
                problems.append(error)
        if not dry_run:
            _attempt(_repair_latest, base / name, problems)
    return Pruned(tuple(removed), tuple(in_use), tuple(problems))


def _began_s(run_id: str) -> float:
    """Return when a run began, in seconds since 1970, by its name; if that is no date, never."""
    try:
        return datetime.strptime(run_id[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return math.inf


@contextlib.contextmanager
def _held(run_dir: RunDir) -> Iterator[Why | None]:
    """Keep a run from being resumed meanwhile; yield what it is needed for, if it is."""
    with contextlib.ExitStack() as stack:
        if _goes_on(run_dir, _opened(run_dir.journal, stack)):
            yield "running"
        elif _lock(_opened(run_dir.plan, stack)) is False:
            yield "resumed"
        else:
            yield None


def _goes_on(run_dir: RunDir, journal: int | None) -> bool:
    lock = _lock(journal)
    if lock is False:
        return True
    if journal is None or os.fstat(journal).st_size == 0:
        # The directory comes first, then the journal, then its lock, and then the first event.
        return time.time() - _began_s(run_dir.run_id) < _BEGINS_S
    return lock is None and not read_record(run_dir)[0].has_ended


def _opened(path: Path, stack: contextlib.ExitStack) -> int | None:
    """Open a file until the stack is left; None if it cannot be read: who would write it cannot, either."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    stack.callback(os.close, descriptor)
    return descriptor


def _lock(descriptor: int | None) -> bool | None:
    """Return whether a file is now locked by us, or by somebody else; None where there is nothing to lock, or no locks.

    The lock is a shared one: it keeps writers away, and those who look whether there is one do not keep us away.
    """
    if descriptor is None:
        return None
    try:
        with no_locks():
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    return None


def _remove(path: Path) -> bool:
    """Remove a run directory; return whether it was there.

    Raises:
        OutputError: It cannot be removed, or not as a whole.
    """
    if os.path.islink(path):
        raise OutputError(f"cannot remove {path}: it is a link to somewhere else; remove that by hand")
    aside = path.with_name(_ASIDE + path.name)
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False  # somebody else was faster
    except OSError as error:
        raise OutputError(f"cannot remove {path}: {error.strerror}") from error
    _delete(aside)
    return True


def _delete(aside: Path) -> None:
    with writing(aside):
        while os.path.exists(aside):
            with contextlib.suppress(FileNotFoundError):  # somebody else deletes it, too
                shutil.rmtree(aside)


def _attempt(step: Callable[[Path], None], base: Path, problems: list[MiniFlowError]) -> None:
    try:
        step(base)
    except MiniFlowError as error:
        problems.append(error)


def _finish(base: Path) -> None:
    """Delete what was left by one who was broken off."""
    if os.path.isdir(base):
        with writing(base):
            left = [name for name in os.listdir(base) if name.startswith(_ASIDE)]
        for name in left:
            _delete(base / name)


def _repair_latest(base: Path) -> None:
    """Have `latest` point to a run that is there."""
    latest = base / LATEST
    if not os.path.islink(latest) or os.path.exists(latest):
        return
    pointed: list[str] | None = None
    while (
        newest := run_ids(base.parent, base.name)[-1:]
    ) != pointed:  # one that begins meanwhile must not lose to an older one
        if newest:
            RunDir(base / newest[0]).become_latest()
        else:
            with writing(latest):
                latest.unlink(missing_ok=True)
        pointed = newest
