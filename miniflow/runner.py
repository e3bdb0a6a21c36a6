"""Runs a plan: scheduler + executor + sinks. The only event loop code besides the executors.

    drive ──actions──► attempts (one coroutine a slot) ──stimuli──► drive

`drive` alone calls the scheduler. When the run is cancelled, or its record cannot be written, the attempts end their processes
and `drive` goes on, shielded, until the scheduler has seen every task end: then the record is complete, and only then does the
cancellation go on.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from miniflow.actions import (
    Action,
    AttemptEnded,
    Begin,
    Cancel,
    End,
    EndState,
    Finish,
    NotStarted,
    RetryDue,
    Reuse,
    Skip,
    Start,
    Stimulus,
    Stop,
    Wait,
)
from miniflow.durations import format_duration
from miniflow.errors import MiniFlowError, OutputError
from miniflow.events import (
    OutputChunk,
    RunFinished,
    RunStarted,
    TaskCancelled,
    TaskFinished,
    TaskRetrying,
    TaskReused,
    TaskSkipped,
    TaskStarted,
)
from miniflow.executors import Attempt, Executor
from miniflow.graph import longest_path_first
from miniflow.interrupts import uninterrupted
from miniflow.masking import Masker, patterns
from miniflow.observer import AttemptObserver, OutputSettings
from miniflow.plan import Plan
from miniflow.results import Outcome
from miniflow.reuse import TakenOver
from miniflow.scheduler import Scheduler
from miniflow.scripts import Scripts
from miniflow.sinks import Item, Sink
from miniflow.values import dataclass, field

_MAX_QUICK_BYTES = 1024 * 1024  # what is read in less time than starting a process takes
_CHECKPOINT_EVERY = 100  # actions: skipping 100,000 tasks must not keep the event loop from everybody else


@dataclass(frozen=True, slots=True)
class RunSetup:
    """What a run is made of, besides its plan."""

    run_id: str
    run_dir: str
    executor: Executor
    sinks: Sequence[Sink]
    """Told in this order. A sink that raises ends the run."""
    environ: Mapping[str, str] = field(repr=False)
    """What tasks inherit."""
    parallel: int = 1
    exit_status_if_cancelled: Callable[[], int] = lambda: 130
    on_timeout: Callable[[], object] = lambda: None
    """Called when the run has taken longer than its timeout, before anything is stopped for that."""
    wait_for_room: Callable[[], Awaitable[None]] | None = None
    """Awaited before each attempt and after each chunk of its output: back-pressure."""
    scripts: Scripts | None = None
    """What the tasks' scripts held when the run was planned."""
    taken_over: TakenOver | None = None
    """Of the run that this one resumes."""
    scheduler: Scheduler | None = None
    """`new_scheduler`, made where it keeps no event loop waiting; None: make one."""


def new_scheduler(
    plan: Plan, parallel: int, taken_over: TakenOver | None, durations_s: Mapping[str, float] | None = None
) -> Scheduler:
    """Return the scheduler of a run that has not begun. Of a large flow that takes a while.

    Args:
        plan: What is to be run.
        parallel: How many attempts at once. With 1, tasks start in the script's order, else the longest remaining path first.
        taken_over: Of the run that it resumes.
        durations_s: How long tasks took before. One that nothing is known of counts for a second.
    """
    if parallel == 1:
        order = plan.order()
    else:
        known = durations_s or {}
        order = longest_path_first([task.upstream for task in plan.tasks], [known.get(task.id, 1.0) for task in plan.tasks])
    return Scheduler(
        plan.tasks,
        limit=parallel,
        order=order,
        keep_going=plan.keep_going,
        reusable=taken_over.reused if taken_over else (),
    )


async def run_plan(plan: Plan, setup: RunSetup) -> None:
    """Run all tasks of a plan, and tell the sinks.

    When cancelled, ends all processes and tells the sinks how every task ended before the cancellation goes on.

    Raises:
        MiniFlowError, or whatever a sink raises: The run was stopped for it.
    """
    run = _Run(plan, setup)
    error: BaseException | None = None
    try:
        # The work is done in a child of this task group, never here: under asyncio a second `Task.cancel()` interrupts
        # whatever the task itself awaits, shielded or not, but not its children.
        async with anyio.create_task_group() as group:
            run.start_soon(group, run.drive, group)
    except BaseExceptionGroup as errors:
        error = unwrapped(errors)
    error = run.interrupt or error
    if error is not None:
        raise error  # here, as it keeps its cause so


def unwrapped(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one exception of a group that matters: groups are for those who have started tasks, our callers have not."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [errors]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending[:0] = error.exceptions
        else:
            leaves.append(error)
    return next((leaf for leaf in leaves if not isinstance(leaf, MiniFlowError)), leaves[0])


class _Run:
    """One run of a plan, from its first event to its last."""

    def __init__(self, plan: Plan, setup: RunSetup) -> None:
        self._plan = plan
        self._setup = setup
        self.taken_over = setup.taken_over
        self._scheduler = setup.scheduler or new_scheduler(plan, setup.parallel, setup.taken_over)
        # No memory object stream: what it has handed to a task that is cancelled in the same moment is lost.
        self._stimuli: deque[Stimulus] = deque()
        self._has_stimuli = anyio.Event()
        self._actions: deque[Action] = deque()
        self._has_ended = False
        self._is_stopping = False
        self._is_out_of_time = False
        self._error: Exception | None = None
        """What the run has failed for, beyond its tasks: it cannot be recorded, or somebody who was told raised."""
        self.interrupt: BaseException | None = None
        """A KeyboardInterrupt or SystemExit that has come out of anywhere: raised when nothing runs any more."""
        self._going = 0
        """How many tasks of the run's there are, `drive` among them."""
        self._alarm = anyio.CancelScope()
        """Around the wait for the end of the run's time."""
        self._launching: deque[Start] = deque()
        """Attempts that no coroutine has begun with."""
        self._idle: set[anyio.Event] = set()
        """What wakes each of the coroutines that wait for their next attempt."""
        self._sinks = list(setup.sinks)
        self._began_at = time.monotonic()
        self.secrets = patterns(os.fsencode(setup.environ.get(name, "")) for name in plan.secret_env)
        self._output = OutputSettings(plan.flow, setup.run_id, self.secrets, self.emit, setup.wait_for_room)
        self._first_start: dict[int, float] = {}
        self._lost_output: set[str] = set()
        """Tasks whose output has not been recorded whole: they have not succeeded."""
        self._counts = {"succeeded": 0, "failed": 0, "skipped": 0, "cancelled": 0}
        self._reused = 0
        self._base_env = {
            **setup.environ,
            "MINIFLOW_FLOW": plan.flow,
            "MINIFLOW_RUN_ID": setup.run_id,
            "MINIFLOW_RUN_DIR": setup.run_dir,
            "MINIFLOW_PARAMS": plan.params_json,
        }
        self._base_env.setdefault("PYTHONUNBUFFERED", "1")
        self._run_mark = f"MINIFLOW_RUN_ID={setup.run_id}"

    def start_soon(self, group: anyio.abc.TaskGroup, function: Callable[..., Awaitable[None]], *args: object) -> None:
        """Start a task of the run's."""
        self._going += 1
        group.start_soon(uninterrupted(self._to_its_end), group, function, args)

    async def _to_its_end(
        self, group: anyio.abc.TaskGroup, function: Callable[..., Awaitable[None]], args: Sequence[object]
    ) -> None:
        try:
            await function(*args)
        except (KeyboardInterrupt, SystemExit) as error:
            # From here it would end an asyncio loop at once, and from each task that waits for this one once more: the loop
            # would never come to its end, nor would threads that wait for that.
            self.interrupt = self.interrupt or error
            group.cancel_scope.cancel()
        finally:
            self._going -= 1
            self._has_stimuli.set()

    async def drive(self, group: anyio.abc.TaskGroup) -> None:
        """Feed the scheduler, and do what it says, until every task has ended."""
        try:
            self.emit(
                RunStarted(
                    *self._now(),
                    len(self._plan.tasks),
                    self._setup.parallel,
                    self._plan.keep_going,
                    tuple(self._plan.params),
                    self.taken_over.run_id if self.taken_over else None,
                )
            )
            self._actions += self._scheduler.handle(Begin())
            if self._plan.timeout_s is not None:
                self.start_soon(group, self._stop_after, self._plan.timeout_s, group)
            await self._work(group)
            self._alarm.cancel()
        except BaseException as error:
            # Cancelled, or a sink cannot go on. The attempts are cancelled too, and each reports its end to us.
            was_cancelled = isinstance(error, anyio.get_cancelled_exc_class())
            if isinstance(error, Exception) and not was_cancelled:
                self._error = self._error or error
            elif isinstance(error, KeyboardInterrupt | SystemExit):
                self.interrupt = self.interrupt or error  # it may have come while the scheduler was told of an end
            group.cancel_scope.cancel()
            self._is_stopping = True
            self._actions += self._scheduler.handle(Stop("timeout" if self._is_out_of_time else "stopped"))
            self._launch_no_more()
            await self._work_to_the_end(group)
            if self._error is None or not was_cancelled:
                raise
        if self._error is not None:
            raise self._error

    async def _stop_after(self, timeout_s: float, group: anyio.abc.TaskGroup) -> None:
        with self._alarm:
            await anyio.sleep(max(0, timeout_s - (time.monotonic() - self._began_at)))
            if not (self._has_ended or self._is_stopping):
                self._is_out_of_time = True
                self._setup.on_timeout()
                # The group's own scope: unlike a cancellation from outside, this one ends with the group.
                group.cancel_scope.cancel()

    async def _work_to_the_end(self, group: anyio.abc.TaskGroup) -> None:
        while not self._has_ended:
            try:
                with anyio.CancelScope(shield=True):  # its end is the end of the attempts, and they have deadlines
                    await self._work(group)
            except anyio.get_cancelled_exc_class():
                # An asyncio loop that shuts down cancels each of its tasks for itself, shielded or not. It does so to the
                # attempts too, which then end their processes at once; the cancellation we are here for goes on after that.
                self._launch_no_more()

    def _launch_no_more(self) -> None:
        """Give up the attempts that have not begun: where a loop shuts down they never will, and elsewhere they end at once."""
        while self._launching:
            self._tell(NotStarted(self._launching.popleft().task))

    async def _work(self, group: anyio.abc.TaskGroup) -> None:
        done = 0
        while True:
            while self._actions:
                action = self._actions.popleft()
                self._perform(action, group)
                done += 1
                # One process at most is started before others have their turn: here, or where we wait below.
                is_start = type(action) is Start and (self._actions or self._stimuli)
                if is_start or done % _CHECKPOINT_EVERY == 0:
                    await anyio.lowlevel.checkpoint()
            if self._has_ended:
                return
            while not self._stimuli:
                if self.interrupt is not None and self._going - len(self._idle) == 1:
                    raise self.interrupt  # somebody has gone without a word, and nobody is left to say one
                self._has_stimuli = anyio.Event()
                await self._has_stimuli.wait()
            self._actions += self._scheduler.handle(self._stimuli.popleft())

    def _tell(self, stimulus: Stimulus) -> None:
        self._stimuli.append(stimulus)
        self._has_stimuli.set()

    def _perform(self, action: Action, group: anyio.abc.TaskGroup) -> None:
        match action:
            case Start(task):
                if self._is_stopping:
                    self._tell(NotStarted(task))
                else:
                    self._launching.append(action)
                    if self._idle:
                        self._idle.pop().set()
                    else:
                        self.start_soon(group, self._run_attempts, group)
            case Wait(task, attempt, delay_s, outcome):
                self.emit(
                    TaskRetrying(
                        *self._now(),
                        self._id(task),
                        attempt,
                        delay_s,
                        outcome.exit_status,
                        outcome.reason,
                        outcome.signal,
                    )
                )
                if not self._is_stopping:
                    self.start_soon(group, self._wait_to_retry, task, delay_s)
            case Finish(task, attempt, state, outcome):
                self._finish(task, attempt, state, outcome)
            case Reuse(task):
                assert self.taken_over is not None
                self._counts["succeeded"] += 1
                self._reused += 1
                self.emit(TaskReused(*self._now(), self._id(task), self.taken_over.reused[task]))
            case Skip(task, reason):
                self._counts["skipped"] += 1
                self.emit(TaskSkipped(*self._now(), self._id(task), reason))
            case Cancel(task, reason):
                self._counts["cancelled"] += 1
                self.emit(TaskCancelled(*self._now(), self._id(task), reason))
            case End(state):
                self._end(state)

    def _end(self, state: EndState) -> None:
        self._has_ended = True
        for wake in self._idle:
            wake.set()
        exit_status = {"succeeded": 0, "failed": 1, "cancelled": self._setup.exit_status_if_cancelled()}[state]
        error = None
        if self._error is not None:
            state, exit_status, error = "failed", 2, self._masked(str(self._error)) or type(self._error).__name__
        elif state == "cancelled" and self._is_out_of_time:
            assert self._plan.timeout_s is not None
            state, exit_status = "failed", 124
            error = f"it took longer than its timeout of {format_duration(self._plan.timeout_s)}"
        duration_s = round(time.monotonic() - self._began_at, 6)
        self.emit(RunFinished(*self._now(), state, exit_status, duration_s, dict(self._counts), error, self._reused))

    def _masked(self, text: str) -> str:
        """Return the words of somebody else, who may have a secret in them."""
        if not self.secrets:
            return text
        masker = Masker(self.secrets)
        return os.fsdecode(masker.feed(text.encode("utf-8", "surrogateescape")) + masker.end())

    def _finish(self, task: int, attempt: int, state: EndState, outcome: Outcome) -> None:
        self._counts[state] += 1
        now = time.monotonic()
        duration_s = round(now - self._first_start.pop(task, now), 6)
        self.emit(
            TaskFinished(
                *self._now(),
                self._id(task),
                attempt,
                state,
                outcome.exit_status,
                outcome.reason,
                outcome.signal,
                outcome.error and self._masked(outcome.error),
                duration_s,
                attempt,
            )
        )

    async def _run_attempts(self, group: anyio.abc.TaskGroup) -> None:
        """Run one attempt after the other; to make a coroutine for each would take several times as long as to wake one."""
        while not self._has_ended:
            if self._launching:
                start = self._launching.popleft()
                await self._attempt(start.task, start.attempt, group)
                continue
            wake = anyio.Event()
            self._idle.add(wake)
            try:
                await wake.wait()
            finally:
                self._idle.discard(wake)

    async def _attempt(self, task: int, number: int, group: anyio.abc.TaskGroup) -> None:
        planned = self._plan.tasks[task]
        argv = self._plan.argv(planned)
        observer = AttemptObserver(self._output, planned.id, number, partial(self._started, task, number, tuple(argv)))
        env = {**self._base_env, **planned.env, "MINIFLOW_TASK_ID": planned.id, "MINIFLOW_ATTEMPT": str(number)}
        marks = (self._run_mark, f"MINIFLOW_TASK_ID={planned.id}")
        attempt = Attempt(argv, env, self._plan.cwd(planned), planned.timeout_s, self._plan.grace_s, marks)
        try:
            await observer.wait_for_room()
            await self._look_at_script(planned.script)
            await self._setup.executor.run(attempt, observer)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, anyio.get_cancelled_exc_class()):
                self._error = self._error or error
            group.cancel_scope.cancel()  # before its end is told: by that nothing more may start
            raise
        finally:
            outcome = observer.outcome
            if outcome is not None and outcome.exit_status == 0 and planned.id in self._lost_output:
                outcome = Outcome(1, "lost", error="its output could not be written")
            self._tell(NotStarted(task) if outcome is None else AttemptEnded(task, outcome))

    async def _look_at_script(self, name: str) -> None:
        """Notice that a script is not what it was when the run was planned: no later run may take the task for unchanged."""
        scripts = self._setup.scripts
        size = scripts.unread_bytes(name) if scripts is not None else None
        if scripts is None or size is None:
            return
        if size > _MAX_QUICK_BYTES:
            await anyio.to_thread.run_sync(scripts.read, name)
        else:
            scripts.read(name)

    def _started(self, task: int, attempt: int, argv: tuple[str, ...], pid: int, start_time: int | None) -> None:
        self._first_start.setdefault(task, time.monotonic())
        planned, scripts = self._plan.tasks[task], self._setup.scripts
        sha256 = scripts.sha256(planned.script) if scripts else None
        self.emit(
            TaskStarted(
                *self._now(),
                planned.id,
                attempt,
                pid,
                argv,
                start_time,
                self.taken_over.reasons[task] if self.taken_over and attempt == 1 else None,
                scripts is not None and sha256 != scripts.planned[planned.script],
                sha256,
            )
        )

    async def _wait_to_retry(self, task: int, delay_s: float) -> None:
        await anyio.sleep(delay_s)
        self._tell(RetryDue(task))

    def _id(self, task: int) -> str:
        return self._plan.tasks[task].id

    def _now(self) -> tuple[int, str, str]:
        return time.time_ns(), self._plan.flow, self._setup.run_id

    def emit(self, item: Item) -> None:
        """Tell every sink; the exception of one that raises ends the run.

        It is told nothing more, unless it is an OutputError: who cannot write a log may still be able to write a status.
        """
        first_error: BaseException | None = None
        for sink in list(self._sinks):
            try:
                sink.emit(item)
            except BaseException as error:  # raised below, once all the others have been told
                if not isinstance(error, OutputError):
                    self._sinks.remove(sink)
                elif isinstance(item, OutputChunk):
                    self._lost_output.add(item.template.task_id)
                first_error = first_error or error
        if first_error is None:
            return
        if not self._is_stopping or not isinstance(first_error, Exception):
            raise first_error
        self._error = self._error or first_error  # raised once the rest of the record is complete
