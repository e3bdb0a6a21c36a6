"""A run before its first event: where plan, executor and sinks are put together."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Unpack

import anyio
import anyio.to_thread

from miniflow.bash import script_parts
from miniflow.errors import OutputError, ParamsError, UsageError
from miniflow.executors import Executor
from miniflow.executors.local import LocalExecutor
from miniflow.files import write_atomically
from miniflow.history import earlier_durations
from miniflow.lifeline import Lifeline
from miniflow.model import Flow
from miniflow.observer import Reader
from miniflow.options import PlanOptions
from miniflow.plan import Plan
from miniflow.prepare import (
    DEFAULT_FLOWS_DIR,
    DEFAULT_TASKS_DIR,
    FlowLike,
    check_parallel,
    load_flow,
    output_directory,
    plan_loaded,
    require_secrets,
)
from miniflow.results import RunResult
from miniflow.resume import LATEST, ResumedRun, find_run
from miniflow.reuse import OldRun, TakenOver, plan_document, take_over
from miniflow.rundir import RunDir, create_run_dir
from miniflow.runner import RunSetup, new_scheduler, run_plan
from miniflow.scheduler import Scheduler
from miniflow.scripts import Scripts
from miniflow.sinks import Sink
from miniflow.sinks.json_lines import JsonRenderer
from miniflow.sinks.run_directory import RunDirectorySink
from miniflow.values import dataclass


@dataclass(slots=True)
class Prepared:
    """A run with all that it needs, before its first event."""

    plan: Plan
    run_dir: RunDir
    recorder: RunDirectorySink
    executor: Executor
    lifeline: Lifeline
    sinks: Sequence[Sink]
    parallel: int
    scripts: Scripts
    resumed: ResumedRun | None
    taken_over: TakenOver | None
    scheduler: Scheduler

    @property
    def result(self) -> RunResult:
        """How the run ended or, while it goes on, what is known of it."""
        return self.recorder.record.result(self.plan.flow, self.run_dir)

    async def go(
        self,
        scope: anyio.CancelScope,
        reader: Reader | None = None,
        exit_status_if_cancelled: Callable[[], int] = lambda: 130,
        on_timeout: Callable[[], object] = lambda: None,
    ) -> None:
        """Run it to its end; the arguments are those of `RunSetup`."""
        setup = RunSetup(
            run_id=self.run_dir.run_id,
            run_dir=str(self.run_dir.path),
            executor=self.executor,
            sinks=[self.recorder, *self.sinks],
            environ=dict(os.environ),
            scope=scope,
            parallel=self.parallel,
            exit_status_if_cancelled=exit_status_if_cancelled,
            on_timeout=on_timeout,
            reader=reader,
            scripts=self.scripts,
            taken_over=self.taken_over,
            scheduler=self.scheduler,
        )
        try:
            await run_plan(self.plan, setup)
        finally:
            self.executor.close()
            self.lifeline.close()
            self.recorder.close()
            if self.resumed is not None:
                self.resumed.close()


async def prepare_run(
    flow: FlowLike,
    sinks: Sequence[Sink],
    renderer: JsonRenderer,
    lifeline: Lifeline | None = None,
    *,
    parallel: int = 1,
    resume: bool | str = False,
    **options: Unpack[PlanOptions],
) -> Prepared:
    """Load and plan a flow, and make its run directory.

    Args:
        flow: As of `run_flow`, like the options.
        sinks: Told after the record.
        renderer: What the record is rendered by.
        lifeline: Of a guardian that is there already; closed when the run is over. Else the run has one of its own.
    """
    check_parallel(parallel)
    if not isinstance(resume, bool | str):
        raise UsageError(f"resume must be True, or the id of a run, not {resume!r}")

    lifeline = lifeline or Lifeline()
    lock = threading.Lock()
    is_given_up = False
    closing: list[Callable[[], None]] = []

    def prepare() -> Prepared:
        flows_dir, tasks_dir = options.get("flows_dir", DEFAULT_FLOWS_DIR), options.get("tasks_dir", DEFAULT_TASKS_DIR)
        loaded = load_flow(flow, flows_dir=flows_dir, tasks_dir=tasks_dir)
        with contextlib.ExitStack() as on_error:
            resumed = None
            if resume is not False:
                output_dir = Path(output_directory(options))
                resumed = ResumedRun(find_run(output_dir, loaded.name, LATEST if resume is True else resume))
                on_error.callback(resumed.close)
            plan = plan_loaded(loaded, options) if resumed is None else _plan_resumed(loaded, options, resumed.old)
            del loaded  # it has all of a large file's text
            require_secrets(plan, os.environ)
            lifeline.open(plan.flow)  # before the rest, so that it starts while we do that
            scripts = Scripts(plan.place.tasks_dir, [task.script for task in plan.tasks])
            taken_over = None
            if resumed is not None:
                taken_over = take_over(plan, scripts.planned, resumed.old)
                resumed.end_leftovers(plan.grace_s)
            durations_s = {}
            if 1 < parallel < len(plan.tasks):  # otherwise nobody has to wait for a slot, or it is not for us to say who
                durations_s = earlier_durations(Path(plan.place.output_dir), plan.flow, [task.id for task in plan.tasks])
            scheduler = new_scheduler(plan, parallel, taken_over, durations_s)
            run_dir = create_run_dir(Path(plan.place.output_dir), plan.flow)
            recorder = RunDirectorySink(run_dir, renderer)  # locked before anybody can come upon it by `latest`
            on_error.callback(recorder.close)
            write_atomically(run_dir.plan, plan_document(plan, scripts.planned, taken_over))
            write_atomically(run_dir.script, script_parts(plan), mode=0o700)
            run_dir.become_latest()
            on_error.pop_all()
        closing.append(recorder.close)
        if resumed is not None:
            closing.append(resumed.close)
        if is_given_up:
            let_go()
        executor = LocalExecutor(lifeline)
        return Prepared(plan, run_dir, recorder, executor, lifeline, sinks, parallel, scripts, resumed, taken_over, scheduler)

    def let_go() -> None:
        """Leave a run whose journal is empty: whoever reads it finds that it was interrupted.

        An asyncio loop that shuts down gives up what it awaits, while the thread goes on: it may be done with the run or not.
        """
        nonlocal is_given_up
        with lock:
            is_given_up = True
            lifeline.close()
            for close in closing:
                close()

    with contextlib.ExitStack() as undo:
        undo.callback(let_go)
        # Reading and planning a large flow takes longer than an event loop should be kept.
        try:
            prepared = await anyio.to_thread.run_sync(prepare)
        except RuntimeError as error:
            if str(error) != "can't start new thread":
                raise
            raise OutputError("cannot start a thread; raise `ulimit -u`, or the container's limit") from error
        undo.pop_all()
        return prepared


def _plan_resumed(flow: Flow, options: PlanOptions, old: OldRun) -> Plan:
    """Return the plan of a run that resumes another, whose parameters it has unless it is given some."""
    if options.get("params") is not None:
        return plan_loaded(flow, options)
    try:
        return plan_loaded(flow, {**options, "params": old.given_params})
    except ParamsError as error:
        # Whoever resumes has given none of them, and the flow may have changed.
        raise ParamsError(
            f"{error}\nparams: they are those that run {old.run_id} was given; to resume it with others, give them"
            " (with {}: the flow's defaults)"
        ) from None
