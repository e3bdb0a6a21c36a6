"""The Python API, as far as it is synchronous: flows, plans, scripts, and the class `MiniFlow`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from miniflow import library
from miniflow.bash import render_script
from miniflow.dump import flow_to_mapping
from miniflow.errors import OutputError, RunFailed, UsageError
from miniflow.model import Flow
from miniflow.parse import flow_from_mapping
from miniflow.plan import Place, Plan, make_plan
from miniflow.rundir import RunDir, write_atomically

if TYPE_CHECKING:
    from miniflow.events import Event, RunResult

PathLike: TypeAlias = str | os.PathLike[str]
FlowLike: TypeAlias = str | os.PathLike[str] | Flow | Mapping[str, Any]
"""A flow's name in the flows directory, a flow file's path, a `Flow`, or a mapping that has the form of a flow file."""

DEFAULT_FLOWS_DIR = "./flows"
DEFAULT_TASKS_DIR = "./tasks"
DEFAULT_OUTPUT_DIR = "./miniflow_output"
DEFAULT_GRACE_S = 5.0


class PlanOptions(TypedDict, total=False):
    """The keyword arguments of `plan_flow`; `running.run_flow` says what they mean."""

    params: Mapping[str, Any] | None
    keep_going: bool
    python: str | None
    flows_dir: PathLike
    tasks_dir: PathLike
    output_dir: PathLike


def load_flow(flow: FlowLike, *, flows_dir: PathLike = DEFAULT_FLOWS_DIR, tasks_dir: PathLike = DEFAULT_TASKS_DIR) -> Flow:
    """Return a flow, checked, its scripts included.

    Raises:
        FlowError: With every problem found.
    """
    if isinstance(flow, Flow | Mapping):
        mapping = flow_to_mapping(flow) if isinstance(flow, Flow) else flow
        return flow_from_mapping(mapping, library.script_check(Path(tasks_dir)))
    path = Path(flow) if isinstance(flow, os.PathLike) else library.find_flow_file(flow, Path(flows_dir))
    return library.load_flow_file(path, Path(tasks_dir))


def plan_flow(
    flow: FlowLike,
    *,
    params: Mapping[str, Any] | None = None,
    keep_going: bool = False,
    python: str | None = None,
    flows_dir: PathLike = DEFAULT_FLOWS_DIR,
    tasks_dir: PathLike = DEFAULT_TASKS_DIR,
    output_dir: PathLike = DEFAULT_OUTPUT_DIR,
) -> Plan:
    """Return what a run of the flow would do.

    Raises:
        FlowError: The flow is wrong.
        ParamsError: The parameters do not fit it.
    """
    loaded = load_flow(flow, flows_dir=flows_dir, tasks_dir=tasks_dir)
    place = Place(
        tasks_dir=_absolute(tasks_dir, "the tasks directory"),
        output_dir=_absolute(output_dir, "the output directory"),
        work_dir=_absolute(".", "the current directory"),
        python=python or default_python(os.environ),
    )
    return make_plan(loaded, params, place, keep_going=keep_going)


def write_script(plan: Plan) -> Path:
    """Write the canonical bash script of a plan to `<output-dir>/<flow>.sh`, for the user alone; return its path.

    Raises:
        OutputError: It cannot be written.
    """
    output_dir = Path(plan.place.output_dir)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the output directory {output_dir}: {error.strerror}") from None
    path = output_dir / f"{plan.flow}.sh"
    # It holds the values of variables and parameters, some of which may be secrets.
    write_atomically(path, render_script(plan).encode(), mode=0o700)
    return path


def default_python(environ: Mapping[str, str]) -> str:
    """Return the interpreter of tasks that name none: `MINIFLOW_PYTHON`, an activated environment's, or our own."""
    if named := environ.get("MINIFLOW_PYTHON"):
        return os.path.abspath(named) if "/" in named else named
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if prefix := environ.get(variable):
            candidate = os.path.join(os.path.abspath(prefix), "bin", "python3")
            if os.access(candidate, os.X_OK):
                return candidate
    return sys.executable or "python3"


def _absolute(path: PathLike, what: str) -> str:
    try:
        absolute = os.path.abspath(path)
    except FileNotFoundError:
        raise UsageError("the current directory is not there any more") from None
    try:
        absolute.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{what} has a name that is not UTF-8: {absolute!a}") from None
    if "\0" in absolute:
        raise UsageError(f"{what} has a name with a NUL character")
    return absolute


def check_parallel(parallel: object) -> int:
    """Return the worker limit.

    Raises:
        UsageError: It is no whole number from 1.
    """
    if not isinstance(parallel, int) or isinstance(parallel, bool) or parallel < 1:
        raise UsageError(f"parallel must be a whole number from 1, not {parallel!r}")
    return parallel


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
        return sorted({library.flow_name(path) for path in library.flow_files(self.flows_dir)})

    def execute_flow(
        self,
        name: FlowLike,
        params: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        *,
        parallel: int = 1,
        keep_going: bool = False,
        on_event: Callable[[Event], object] | None = None,
        python: str | None = None,
        grace: float = DEFAULT_GRACE_S,
    ) -> Path:
        """Run a flow to its end, or with `dry_run` only write its script; return the path of the script.

        The arguments are those of `run_flow`. The script of a run is the copy in its run directory.

        Raises:
            RunFailed: A task failed; `result` says how each ended.
            FlowError, ParamsError, UsageError, OutputError: As `run_flow`; UsageError also inside a running event loop.
        """
        flows_dir, tasks_dir, output_dir = self.flows_dir, self.tasks_dir, self.output_dir
        if dry_run:
            check_parallel(parallel)
            return write_script(
                plan_flow(
                    name,
                    params=params,
                    keep_going=keep_going,
                    python=python,
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
                on_event=on_event,
                python=python,
                grace=grace,
                flows_dir=flows_dir,
                tasks_dir=tasks_dir,
                output_dir=output_dir,
            )

        result = anyio.run(run)
        if result.state != "succeeded":
            raise RunFailed(result)
        return RunDir(result.run_dir).script


def _refuse_inside_event_loop() -> None:
    import sniffio

    with contextlib.suppress(sniffio.AsyncLibraryNotFoundError):
        library_name = sniffio.current_async_library()
        raise UsageError(
            f"execute_flow blocks, and this thread runs an event loop ({library_name}):"
            " use `result = await miniflow.run_flow(...)` instead"
        )
