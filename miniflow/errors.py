"""Every error a user can meet: what is wrong, where, and how to mend it.

    MiniFlowError
    ├─ FlowError          the flow file, or what it was given, is wrong
    │  └─ UnknownFlowError    no flow of that name
    ├─ ParamsError        --params do not fit what the flow declares
    ├─ UsageError         an option or argument makes no sense
    ├─ OutputError        a log, a status or the script cannot be written
    ├─ HostError          the system refuses what a run needs: a process, a descriptor
    ├─ RunFailed          a task failed; carries the result (raised by the sync API alone)
    └─ InternalError      a bug in MiniFlow

A failing task is no exception but a value (see `miniflow.events`): exceptions are for trouble in MiniFlow or around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from miniflow.values import dataclass

TYPE_CHECKING = False  # `typing` takes long to load, and a command that only looks needs nothing of it
if TYPE_CHECKING:
    from miniflow.results import RunResult

# Enough to mend a file in one go; a file with more is broken in one way, many times.
MAX_SHOWN_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `flows/x.json:12:7: tasks[1].depends_on[0]: no task "a"`."""

    message: str
    path: str = ""
    """Where in the flow, as `tasks[1].depends_on[0]`; empty for the whole."""
    file: str | None = None
    line: int | None = None
    """1-based."""
    column: int | None = None
    """1-based, in characters."""

    @property
    def place(self) -> str:
        """Where in which file: `flows/x.json:12:7`, as far as that is known."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.path, self.message) if part)


class MiniFlowError(Exception):
    """The one class to catch for everything that MiniFlow raises on purpose."""


class FlowError(MiniFlowError):
    """A flow is wrong. All problems found are reported together, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = tuple(problems)
        super().__init__(str(self))

    def __str__(self) -> str:
        shown = [str(problem) for problem in self.problems[:MAX_SHOWN_PROBLEMS]]
        if len(self.problems) > len(shown):
            shown.append(f"... and {len(self.problems) - len(shown)} more problems")
        return "\n".join(shown)


class UnknownFlowError(FlowError):
    """There is no flow of that name in the flows directory."""


class ParamsError(MiniFlowError):
    """The parameters given do not fit what the flow declares, or are no JSON object."""


class UsageError(MiniFlowError):
    """An option or argument makes no sense."""


class OutputError(MiniFlowError):
    """A log, a status or the script cannot be written; the run was stopped."""


class HostError(MiniFlowError):
    """The system refuses what every run needs, a process or a descriptor; nothing was started."""


class InternalError(MiniFlowError):
    """A bug in MiniFlow; please report it."""


class RunFailed(MiniFlowError):  # noqa: N818  the public name
    """The run ended as failed or cancelled; `result` says why, and how each task ended."""

    def __init__(self, result: RunResult) -> None:
        self.result = result
        super().__init__(str(self))

    def __str__(self) -> str:
        failed = [task for task in self.result.tasks.values() if task.state == "failed"]
        named = ", ".join(f"{task.id} (exit status {task.exit_status})" for task in failed[:5])
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        what = "".join(f": {why}" for why in (f"{named}{more}", self.result.error) if why)
        return f'flow "{self.result.flow}" {self.result.state}{what}; see {self.result.run_dir}'
