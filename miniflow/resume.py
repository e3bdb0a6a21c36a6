"""The run that another one resumes: found, locked, read, and rid of what it has left running."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from pathlib import Path

from miniflow.errors import MiniFlowError, UsageError
from miniflow.files import close_kept, keep_from_forks
from miniflow.journal import no_locks
from miniflow.processes import end_leftovers
from miniflow.reuse import OldRun, old_run
from miniflow.rundir import Record, RunDir, read_record
from miniflow.suggest import quoted

LATEST = "latest"
_RUN_ID = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{6}")
_SHOWN_RUNS = 5


def run_ids(output_dir: Path, flow: str) -> list[str]:
    """Return the runs of a flow, the oldest first; none if it has not been run.

    Raises:
        UsageError: The directory where they are cannot be read.
    """
    base = output_dir / flow
    try:
        return sorted(name for name in os.listdir(base) if _RUN_ID.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"the runs of flow {quoted(flow)} cannot be read: {error.strerror}: {base}") from None


def find_run(output_dir: Path, flow: str, name: str = LATEST) -> RunDir:
    """Return a run of a flow.

    Args:
        output_dir: Where the runs are.
        flow: The flow's name.
        name: The run's, or a beginning of it that no other run's name has, or `latest`.

    Raises:
        UsageError: There is none, or more than one.
    """
    base = output_dir / flow
    known = run_ids(output_dir, flow)
    if not known:
        raise UsageError(f"flow {quoted(flow)} has not been run yet: there is no run in {base}")
    if name == LATEST:
        found = [run_id for run_id in (os.path.basename(os.path.realpath(base / LATEST)),) if run_id in known] or known[-1:]
    else:
        found = [run_id for run_id in known if run_id == name] or [
            run_id for run_id in known if name and run_id.startswith(name)
        ]
    if len(found) == 1:
        return RunDir((base / found[0]).resolve())
    shown = ", ".join(reversed((found or known)[-_SHOWN_RUNS:]))
    more = " and older ones" if len(found or known) > _SHOWN_RUNS else ""
    if found:
        raise UsageError(f"more than one run of flow {quoted(flow)} begins with {quoted(name)}: {shown}{more}")
    raise UsageError(f"no run of flow {quoted(flow)} is called {quoted(name)}; there are {shown}{more}")


class ResumedRun:
    """A run that is being resumed, locked against all others who would; `close` it at the end of the new run.

    Args:
        run_dir: Of the run.

    Raises:
        UsageError: It goes on, somebody else resumes it, or it has no plan.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._descriptor = -1
        try:
            # Locked is its plan, not its journal: that lock tells whether the run goes on, which it does not.
            self._descriptor = os.open(run_dir.plan, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UsageError(
                f"run {run_dir.run_id} cannot be resumed: it has no plan.json, like all runs of the bash script"
            ) from None
        except OSError as error:
            raise self._refused(error) from None
        keep_from_forks(self._descriptor)
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):  # a FIFO or a device would never end
                raise UsageError(f"run {run_dir.run_id} cannot be resumed: {run_dir.plan} is no file")
            self._lock()
            self._record = self._read_record()
            self.old = self._read_plan()
        except BaseException:
            self.close()
            raise

    def end_leftovers(self, grace_s: float) -> None:
        """End what its runner has left running when it died; blocks."""
        end_leftovers(self._run_dir.run_id, dict(self._record.open_attempts.values()), grace_s)

    def close(self) -> None:
        """Let others resume it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            close_kept(descriptor)

    def _refused(self, error: OSError) -> UsageError:
        return UsageError(f"run {self._run_dir.run_id} cannot be resumed: {error.strerror}: {self._run_dir.plan}")

    def _lock(self) -> None:
        try:
            with no_locks():
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"run {self._run_dir.run_id} is being resumed by another run; wait for the end of that, or stop it"
            ) from None
        except OSError as error:
            raise self._refused(error) from None

    def _read_record(self) -> Record:
        record, _, has_writer = read_record(self._run_dir)
        if has_writer and not record.has_ended:
            raise UsageError(f"run {self._run_dir.run_id} is still going on; wait for its end, or stop it")
        return record

    def _read_plan(self) -> OldRun:
        try:
            with open(self._descriptor, "rb", closefd=False) as file:
                plan = json.loads(file.read())
            return old_run(self._run_dir.run_id, plan, self._record.tasks, self._record.changed_scripts)
        except OSError as error:
            raise self._refused(error) from None
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
            what = f"{type(error).__name__}: {error}"
            raise MiniFlowError(
                f"run {self._run_dir.run_id} cannot be resumed: {self._run_dir.plan} is damaged, or of another version of"
                f" MiniFlow ({what})"
            ) from None
