"""The Python API: where flows, plans, executors and sinks are put together."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

from miniflow import library
from miniflow.bash import render_script
from miniflow.errors import OutputError, RunFailed, UsageError
from miniflow.model import Flow
from miniflow.parse import flow_from_mapping, flow_to_mapping
from miniflow.plan import Place, Plan, make_plan
from miniflow.rundir import RunDir, create_run_dir, write_atomically

if TYPE_CHECKING:
    from miniflow.events import Event, RunResult
    from miniflow.sinks import Item, Sink
    from miniflow.sinks.feed import Feed
    from miniflow.sinks.run_directory import RunDirectorySink

PathLike: TypeAlias = str | os.PathLike[str]
FlowLike: TypeAlias = str | os.PathLike[str] | Flow | Mapping[str, Any]
"""A flow's name in the flows directory, a flow file's path, a `Flow`, or a mapping that has the form of a flow file."""

DEFAULT_FLOWS_DIR = "./flows"
DEFAULT_TASKS_DIR = "./tasks"
DEFAULT_OUTPUT_DIR = "./miniflow_output"
DEFAULT_GRACE_S = 5.0


def load_flow(
    flow: FlowLike, *, flows_dir: PathLike = DEFAULT_FLOWS_DIR, tasks_dir: PathLike = DEFAULT_TASKS_DIR
) -> Flow:
    """Return a flow, checked, its scripts included.

    Raises:
        FlowError: With every problem found.
    """
    if isinstance(flow, Flow | Mapping):
        mapping = flow_to_mapping(flow) if isinstance(flow, Flow) else flow
        return flow_from_mapping(mapping, library.script_check(Path(tasks_dir)))
    if isinstance(flow, os.PathLike):
        path = Path(flow)
    else:
        path = library.find_flow_file(flow, Path(flows_dir))
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
    """Return the interpreter of tasks that name none: `MINIFLOW_PYTHON`, an activated environment's, or the one that runs us."""
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


class Run:
    """A run that is going on: an asynchronous iterator of its events, and its result once it is over."""

    def __init__(self, plan: Plan, run_dir: RunDir, feed: Feed, recorder: RunDirectorySink) -> None:
        self.plan = plan
        self.exit_status_if_cancelled = 130
        self._run_dir = run_dir
        self._feed = feed
        self._recorder = recorder

    @property
    def run_dir(self) -> Path:
        """The run's directory."""
        return self._run_dir.path

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self._run_dir.run_id

    @property
    def result(self) -> RunResult:
        """How the run ended or, while it goes on, what is known of it."""
        return self._recorder.record.result(self.plan.flow, self._run_dir)

    async def __aiter__(self) -> AsyncIterator[Event]:
        from miniflow.events import Event  # noqa: PLC0415

        while items := await self.take():
            for item in items:
                if isinstance(item, Event):
                    yield item
                else:
                    for event in item.events():
                        yield event

    async def take(self) -> list[Item]:
        """Wait for what comes next; return all there is, lines of output in chunks, or nothing when the run is over."""
        return await self._feed.take()


class RunOptions(TypedDict, total=False):
    """The keyword arguments of everything that runs a flow; `run_flow` says what they mean."""

    parallel: int
    params: Mapping[str, Any] | None
    keep_going: bool
    python: str | None
    grace: float
    flows_dir: PathLike
    tasks_dir: PathLike
    output_dir: PathLike


async def run_flow(
    flow: FlowLike,
    *,
    parallel: int = 1,
    params: Mapping[str, Any] | None = None,
    keep_going: bool = False,
    on_event: Callable[[Event], object] | None = None,
    python: str | None = None,
    grace: float = DEFAULT_GRACE_S,
    flows_dir: PathLike = DEFAULT_FLOWS_DIR,
    tasks_dir: PathLike = DEFAULT_TASKS_DIR,
    output_dir: PathLike = DEFAULT_OUTPUT_DIR,
) -> RunResult:
    """Run a flow, and return how it ended: a failed task is a result, not an exception.

    Works under asyncio and trio, any number of times at once. Installs no signal handlers and configures no logging.

    Args:
        flow: A name in `flows_dir`, a path, a `Flow`, or a mapping that has the form of a flow file.
        parallel: How many attempts may run at once. With 1, tasks run in the script's order.
        params: Override the flow's defaults.
        keep_going: Whether tasks that do not depend on a failed one start after it has failed.
        on_event: Called with each event, in the event loop: be quick. What it raises stops the run, and is raised here.
        python: The interpreter of tasks that name none; see `default_python`.
        grace: Seconds between SIGTERM and SIGKILL when an attempt is timed out or cancelled.
        flows_dir: Where flows are looked up by name.
        tasks_dir: Where the scripts are.
        output_dir: Where the run directory is made.

    Raises:
        FlowError, ParamsError, UsageError: Before anything has started.
        OutputError: The run cannot be recorded; it was stopped.

    When cancelled, every process is stopped and every status recorded before the cancellation goes on.
    """
    from miniflow.runner import CallbackSink  # noqa: PLC0415

    prepared = await _prepare(
        flow,
        [CallbackSink(on_event)] if on_event is not None else [],
        parallel=parallel,
        params=params,
        keep_going=keep_going,
        python=python,
        grace=grace,
        flows_dir=flows_dir,
        tasks_dir=tasks_dir,
        output_dir=output_dir,
    )
    await prepared.go()
    return prepared.result


@contextlib.asynccontextmanager
async def open_run(flow: FlowLike, **options: Unpack[RunOptions]) -> AsyncIterator[Run]:
    """Run a flow while the block runs: `async with open_run("x") as run: async for event in run: ...`, then `run.result`.

    A reader that is slow slows the tasks' output down. Leaving the block before the run is over cancels it: every process is
    ended and every status recorded before the block is left. Options and errors are those of `run_flow`.
    """
    import anyio  # noqa: PLC0415

    from miniflow.runner import unwrapped  # noqa: PLC0415
    from miniflow.sinks.feed import Feed  # noqa: PLC0415

    feed = Feed()
    prepared = await _prepare(flow, [feed], **options)
    run = Run(prepared, feed)

    async def go() -> None:
        try:
            await prepared.go(feed.wait_for_room, lambda: run.exit_status_if_cancelled)
        finally:
            feed.close()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(go)
            try:
                yield run
            finally:
                if run.result.state == "running":
                    feed.close()  # nobody reads any more
                    group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        raise unwrapped(errors) from None


class Run:
    """A run that is going on: an asynchronous iterator of its events, and its result once it is over."""

    def __init__(self, prepared: _Prepared, feed: Feed) -> None:
        self.exit_status_if_cancelled = 130
        """What a run that is cancelled is recorded to exit with: 128 + the signal that was the cause."""
        self._prepared = prepared
        self._feed = feed

    @property
    def plan(self) -> Plan:
        """What is run."""
        return self._prepared.plan

    @property
    def run_dir(self) -> Path:
        """The run's directory."""
        return self._prepared.run_dir.path

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self._prepared.run_dir.run_id

    @property
    def result(self) -> RunResult:
        """How the run ended or, while it goes on, what is known of it."""
        return self._prepared.result

    async def __aiter__(self) -> AsyncIterator[Event]:
        from miniflow.events import Event  # noqa: PLC0415

        while items := await self.take():
            for item in items:
                if isinstance(item, Event):
                    yield item
                else:
                    for event in item.events():
                        yield event

    async def take(self) -> list[Item]:
        """Wait for what comes next; return all there is, lines of output in chunks, or nothing when the run is over."""
        return await self._feed.take()


@dataclass(slots=True)
class _Prepared:
    """A run with all that it needs, before its first event."""

    plan: Plan
    run_dir: RunDir
    recorder: RunDirectorySink
    sinks: Sequence[Sink]
    parallel: int
    grace_s: float

    @property
    def result(self) -> RunResult:
        return self.recorder.record.result(self.plan.flow, self.run_dir)

    async def go(
        self,
        wait_for_room: Callable[[], Awaitable[None]] | None = None,
        exit_status_if_cancelled: Callable[[], int] = lambda: 130,
    ) -> None:
        from miniflow.executors.local import LocalExecutor  # noqa: PLC0415
        from miniflow.runner import RunSetup, run_plan  # noqa: PLC0415

        setup = RunSetup(
            run_id=self.run_dir.run_id,
            run_dir=str(self.run_dir.path),
            executor=LocalExecutor(),
            sinks=[self.recorder, *self.sinks],
            environ=dict(os.environ),
            parallel=self.parallel,
            grace_s=self.grace_s,
            exit_status_if_cancelled=exit_status_if_cancelled,
            wait_for_room=wait_for_room,
        )
        try:
            await run_plan(self.plan, setup)
        finally:
            self.recorder.close()


async def _prepare(flow: FlowLike, sinks: Sequence[Sink], **options: Unpack[RunOptions]) -> _Prepared:
    import anyio.to_thread  # noqa: PLC0415

    parallel = check_parallel(options.pop("parallel", 1))
    grace_s = options.pop("grace", DEFAULT_GRACE_S)
    if not 0 <= grace_s < float("inf"):
        raise UsageError(f"grace must be a number of seconds from 0, not {grace_s}")

    def prepare() -> _Prepared:
        from miniflow.sinks.run_directory import RunDirectorySink  # noqa: PLC0415

        plan = plan_flow(flow, **options)
        run_dir = create_run_dir(Path(plan.place.output_dir), plan.flow)
        write_atomically(run_dir.plan, json.dumps(plan.to_json(), ensure_ascii=False, indent=1).encode() + b"\n")
        write_atomically(run_dir.script, render_script(plan).encode(), mode=0o700)
        return _Prepared(plan, run_dir, RunDirectorySink(run_dir), sinks, parallel, grace_s)

    # Reading and planning a large flow takes longer than an event loop should be kept.
    return await anyio.to_thread.run_sync(prepare)


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
        import anyio  # noqa: PLC0415

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
    import sniffio  # noqa: PLC0415

    with contextlib.suppress(sniffio.AsyncLibraryNotFoundError):
        library_name = sniffio.current_async_library()
        raise UsageError(
            f"execute_flow blocks, and this thread runs an event loop ({library_name}):"
            " use `result = await miniflow.run_flow(...)` instead"
        )
