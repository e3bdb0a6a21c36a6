"""The synchronous Python API: the class `MiniFlow`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miniflow import catalog
from miniflow.errors import RunFailed, UsageError
from miniflow.options import PathLike, TaskIds
from miniflow.plan import DEFAULT_GRACE_S
from miniflow.prepare import (
    DEFAULT_FLOWS_DIR,
    DEFAULT_OUTPUT_DIR,
    DEFAULT_TASKS_DIR,
    FlowLike,
    check_parallel,
    plan_flow,
    write_script,
)
from miniflow.rundir import RunDir

if TYPE_CHECKING:
    from miniflow.events import Event
    from miniflow.results import RunResult


class MiniFlow:
    """Flows, tasks and output of one project; synchronous. In asynchronous code, `run_flow` is the one to use."""

    def __init__(
        self,
        flows_dir: PathLike = DEFAULT_FLOWS_DIR,
        tasks_dir: PathLike = DEFAULT_TASKS_DIR,
        output_dir: PathLike = DEFAULT_OUTPUT_DIR,
    ) -> None:
        self.flows_dir = Path(flows_dir)
        self.tasks_dir = Path(tasks_dir)
        self.output_dir = Path(output_dir)

    def list_flows(self) -> list[str]:
        """Return the names of the flows in the flows directory, sorted; of a file that is broken, the file's name.

        Raises:
            FlowError: The directory cannot be read.
        """
        return sorted({catalog.flow_name(path) for path in catalog.flow_files(self.flows_dir)})

    def execute_flow(
        self,
        name: FlowLike,
        params: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        *,
        parallel: int = 1,
        keep_going: bool = False,
        only: TaskIds | None = None,
        from_: TaskIds | None = None,
        until: TaskIds | None = None,
        on_event: Callable[[Event], object] | None = None,
        python: str | None = None,
        grace: float = DEFAULT_GRACE_S,
        timeout: float | None = None,
        resume: bool | str = False,
    ) -> Path:
        """Run a flow to its end, or with `dry_run` only write its script; return the path of the script.

        The arguments are those of `run_flow`. The script of a run is the copy in its run directory.

        Raises:
            RunFailed: A task failed, or the run took longer than its timeout; `result` says how each ended.
            FlowError, ParamsError, UsageError, OutputError: As `run_flow`; UsageError also inside a running event loop.
        """
        flows_dir, tasks_dir, output_dir = self.flows_dir, self.tasks_dir, self.output_dir
        if dry_run:
            check_parallel(parallel)
            if resume is not False:
                raise UsageError("a script runs every task: dry_run and resume do not go together")
            return write_script(
                plan_flow(
                    name,
                    params=params,
                    keep_going=keep_going,
                    only=only,
                    from_=from_,
                    until=until,
                    python=python,
                    grace=grace,
                    timeout=timeout,
                    flows_dir=flows_dir,
                    tasks_dir=tasks_dir,
                    output_dir=output_dir,
                )
            )
        _refuse_inside_event_loop()
        import anyio

        from miniflow.running import run_flow

        async def run() -> RunResult:
            return await run_flow(
                name,
                parallel=parallel,
                params=params,
                keep_going=keep_going,
                only=only,
                from_=from_,
                until=until,
                on_event=on_event,
                python=python,
                grace=grace,
                timeout=timeout,
                resume=resume,
                flows_dir=flows_dir,
                tasks_dir=tasks_dir,
                output_dir=output_dir,
            )

        result = anyio.run(run)
        if result.state != "succeeded":
            raise RunFailed(result)
        return RunDir(result.run_dir).script


def _refuse_inside_event_loop() -> None:
    import anyio.lowlevel

    try:
        anyio.lowlevel.current_token()
    except RuntimeError:  # there is none
        return
    raise UsageError(
        "execute_flow blocks, and this thread runs an event loop: use `result = await miniflow.run_flow(...)` instead"
    )
