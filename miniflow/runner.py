"""Runs a plan: scheduler + executor + reporter. The only event loop code besides the executors.

    drive ──actions──► attempts (one coroutine a slot) ──stimuli──► drive

A slot whose attempt has ended tells the scheduler itself, and goes on with what it is given to do: between the end of one
process and the start of the next lies no turn of the event loop, and that the one has ended is recorded once the other runs,
unless the other might look for it. All else is for `drive`. When the run is cancelled, or its record cannot be written, the
attempts end their processes and `drive` goes on, shielded, until the scheduler has seen every task end: then the record is
complete, and only then does the cancellation go on.
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
    End,
    EndState,
    Finish,
    NotStarted,
    RetryDue,
    Start,
    Stimulus,
    Stop,
    Wait,
)
from miniflow.errors import MiniFlowError
from miniflow.executors import Attempt, Executor, encoded
from miniflow.graph import longest_path_first
from miniflow.interrupts import uninterrupted
from miniflow.masking import patterns
from miniflow.observer import AttemptObserver, OutputSettings, Reader
from miniflow.plan import Plan
from miniflow.reporter import Reporter
from miniflow.results import Outcome
from miniflow.reuse import TakenOver
from miniflow.scheduler import Scheduler
from miniflow.scripts import Scripts
from miniflow.sinks import Sink
from miniflow.values import dataclass, field

_MAX_QUICK_BYTES = 1024 * 1024  # what is read in less time than starting a process takes
_CHECKPOINT_EVERY = 100  # actions: skipping 100,000 tasks must not keep the event loop from everybody else
_FEW = 4  # actions that a slot performs itself


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
    scope: anyio.CancelScope
    """Around the run: what it is cancelled by. Whatever lies between them is cancelled with the run's own tasks alone."""
    parallel: int = 1
    exit_status_if_cancelled: Callable[[], int] = lambda: 130
    on_timeout: Callable[[], object] = lambda: None
    """Called when the run has taken longer than its timeout, before anything is stopped for that."""
    reader: Reader | None = None
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


def _encoded(env: Mapping[str, str]) -> dict[bytes, bytes]:
    return {encoded(name): encoded(value) for name, value in env.items()}


class _Run:
    """One run of a plan, from its first event to its last."""

    def __init__(self, plan: Plan, setup: RunSetup) -> None:
        self._plan = plan
        self._setup = setup
        self._scheduler = setup.scheduler or new_scheduler(plan, setup.parallel, setup.taken_over)
        # No memory object stream: what it has handed to a task that is cancelled in the same moment is lost.
        self._stimuli: deque[Stimulus] = deque()
        self._has_stimuli = anyio.Event()
        self._new_event = type(self._has_stimuli)  # `anyio.Event` finds out each time anew what kind of loop it is in
        self._actions: deque[Action] = deque()
        self._has_ended = False
        self._is_stopping = False
        self._is_out_of_time = False
        self.interrupt: BaseException | None = None
        """A KeyboardInterrupt or SystemExit that has come out of anywhere: raised when nothing runs any more."""
        self._going = 0
        """How many tasks of the run's there are, `drive` among them."""
        self._alarm = anyio.CancelScope()
        """Around the wait for the end of the run's time."""
        self._catches_up = False
        """Whether `_catch_up` is going to be called."""
        self._launching: deque[Start] = deque()
        """Attempts that no coroutine has begun with."""
        self._idle: set[anyio.Event] = set()
        """What wakes each of the coroutines that wait for their next attempt."""
        secrets = patterns(os.fsencode(setup.environ.get(name, "")) for name in plan.secret_env)
        self._reporter = Reporter(plan, setup.run_id, setup.sinks, secrets, setup.scripts, setup.taken_over)
        self._output = OutputSettings(plan.flow, setup.run_id, secrets, self._reporter.emit, setup.reader)
        environ = {
            "PYTHONUNBUFFERED": "1",
            **setup.environ,
            "MINIFLOW_FLOW": plan.flow,
            "MINIFLOW_RUN_ID": setup.run_id,
            "MINIFLOW_RUN_DIR": setup.run_dir,
            "MINIFLOW_PARAMS": plan.params_json,
        }
        self._base_env = _encoded(environ)
        self._run_mark = encoded(f"MINIFLOW_RUN_ID={setup.run_id}")

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
            self._reporter.run_started(self._setup.parallel)
            self._actions += self._scheduler.handle(Begin())
            if self._plan.timeout_s is not None:
                self.start_soon(group, self._stop_after, self._plan.timeout_s, group)
            await self._work(group)
            self._alarm.cancel()
        except BaseException as error:
            # Cancelled, or a sink cannot go on. The attempts are cancelled too, and each reports its end to us.
            was_cancelled = isinstance(error, anyio.get_cancelled_exc_class())
            if isinstance(error, Exception) and not was_cancelled:
                self._reporter.keep(error)
            elif isinstance(error, KeyboardInterrupt | SystemExit):
                self.interrupt = self.interrupt or error  # it may have come while the scheduler was told of an end
            group.cancel_scope.cancel()
            self._is_stopping = self._reporter.keeps_errors = True
            self._reporter.catch_up()
            self._actions += self._scheduler.handle(Stop("timeout" if self._is_out_of_time else "stopped"))
            self._launch_no_more()
            await self._work_to_the_end(group)
            if self._reporter.error is None or not was_cancelled:
                raise
        if self._reporter.error is not None:
            raise self._reporter.error

    async def _stop_after(self, timeout_s: float, group: anyio.abc.TaskGroup) -> None:
        with self._alarm:
            await anyio.sleep(max(0, timeout_s - (time.monotonic() - self._reporter.began_at)))
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
            while not (self._stimuli or self._actions):
                if self.interrupt is not None and self._going - len(self._idle) == 1:
                    raise self.interrupt  # somebody has gone without a word, and nobody is left to say one
                self._has_stimuli = self._new_event()
                await self._has_stimuli.wait()
            if not self._actions:
                self._actions += self._scheduler.handle(self._stimuli.popleft())

    def _go_on(self, group: anyio.abc.TaskGroup) -> None:
        """Do what follows from the end of an attempt, in its slot, if that is little and nobody else is at it."""
        if self._actions or len(self._stimuli) != 1 or self._is_stopping:
            self._has_stimuli.set()
            return
        actions = self._scheduler.handle(self._stimuli.popleft())
        if self._setup.parallel > 1 and len(actions) == 2:
            finish, start = actions
            if isinstance(finish, Finish) and isinstance(start, Start):
                upstream = self._plan.tasks[start.task].upstream
                if finish.task not in upstream and self._reporter.has_told_ends(upstream):
                    self._reporter.finish_late(finish)
                    self._launching.append(start)
                    return
        self._actions += actions
        if len(actions) > _FEW or type(actions[-1]) is End:
            self._has_stimuli.set()
            return
        is_free = True
        while self._actions:
            action = self._actions.popleft()
            if is_free and type(action) is Start:
                self._launching.append(action)  # for this slot, which looks there next
                is_free = False
            else:
                self._perform(action, group)

    def _tell(self, stimulus: Stimulus) -> None:
        self._stimuli.append(stimulus)
        self._has_stimuli.set()

    def _perform(self, action: Action, group: anyio.abc.TaskGroup) -> None:
        if isinstance(action, Start):
            if self._is_stopping:
                self._tell(NotStarted(action.task))
                return
            self._launching.append(action)  # first: if the rest cannot be told, it is given up with the others there
            self._reporter.catch_up()  # what it starts may look for that
            if self._idle:
                self._idle.pop().set()
            else:
                self.start_soon(group, self._run_attempts, group)
        elif isinstance(action, End):
            self._end(action.state)
        else:
            self._reporter.report(action)
            if isinstance(action, Wait) and not self._is_stopping:
                self.start_soon(group, self._wait_to_retry, action.task, action.delay_s)

    def _end(self, state: EndState) -> None:
        self._has_ended = True
        for wake in self._idle:
            wake.set()
        exit_status = {"succeeded": 0, "failed": 1, "cancelled": self._setup.exit_status_if_cancelled()}[state]
        self._reporter.run_finished(state, exit_status, is_out_of_time=self._is_out_of_time)

    async def _run_attempts(self, group: anyio.abc.TaskGroup) -> None:
        """Run one attempt after the other; to make a coroutine for each would take several times as long as to wake one."""
        while not self._has_ended:
            if self._launching:
                start = self._launching.popleft()
                await self._attempt(start.task, start.attempt, group)
                continue
            wake = self._new_event()
            self._idle.add(wake)
            try:
                await wake.wait()
            finally:
                self._idle.discard(wake)

    async def _attempt(self, task: int, number: int, group: anyio.abc.TaskGroup) -> None:
        planned = self._plan.tasks[task]
        observer: AttemptObserver | None = None
        try:
            try:
                argv = self._plan.argv(planned)
                on_started = partial(self._started, group, task, number, tuple(argv))
                observer = AttemptObserver(self._output, planned.id, number, on_started, self._reporter.catch_up)
                task_id = planned.id.encode()
                env = self._base_env | _encoded(planned.env) if planned.env else self._base_env.copy()
                env[b"MINIFLOW_TASK_ID"] = task_id
                env[b"MINIFLOW_ATTEMPT"] = b"%d" % number
                marks = (self._run_mark, b"MINIFLOW_TASK_ID=" + task_id)
                attempt = Attempt(argv, env, self._plan.cwd(planned), planned.timeout_s, self._plan.grace_s, marks)
                if self._setup.reader is not None and not self._setup.reader.has_room:
                    self._reporter.catch_up()
                    await self._setup.reader.wait_for_room()
                if self._setup.scripts is not None:
                    unread_bytes = self._setup.scripts.unread_bytes(planned.script)
                    if unread_bytes is not None:
                        await self._read_script(self._setup.scripts, planned.script, unread_bytes)
                if self._is_cancelled(group):
                    self._reporter.catch_up()
                    await anyio.lowlevel.checkpoint_if_cancelled()
                # Between this and the start of the process nothing is awaited: after a cancellation nothing starts.
                await self._setup.executor.run(attempt, observer)
            finally:
                outcome = observer.outcome if observer is not None else None
                if outcome is not None and outcome.exit_status == 0 and self._reporter.has_lost_output(planned.id):
                    outcome = Outcome(1, "lost", error="its output could not be written")
                self._stimuli.append(NotStarted(task) if outcome is None else AttemptEnded(task, outcome))
            if outcome is None or outcome.reason == "spawn":
                self._reporter.catch_up()
                self._has_stimuli.set()  # nothing may have been awaited: others must have their turn
            else:
                self._go_on(group)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, anyio.get_cancelled_exc_class()):
                self._reporter.keep(error)
            group.cancel_scope.cancel()  # before its end is told: by that nothing more may start
            self._has_stimuli.set()
            raise

    def _started(
        self, group: anyio.abc.TaskGroup, task: int, number: int, argv: tuple[str, ...], pid: int, start_time: int | None
    ) -> None:
        """Note that an attempt has started: told at once, or when others whose end was seen meanwhile were followed too."""
        self._reporter.start_late(task, number, argv, pid, start_time)
        if not self._catches_up:
            self._catches_up = self._setup.executor.before_waiting(partial(self._catch_up, group))
        if not self._catches_up or self._reporter.has_much_late:
            self._reporter.catch_up()

    def _catch_up(self, group: anyio.abc.TaskGroup) -> None:
        self._catches_up = False
        try:
            self._reporter.catch_up()
        except BaseException as error:  # there is nobody above us whom it concerns
            if isinstance(error, Exception):
                self._reporter.keep(error)
            else:
                self.interrupt = self.interrupt or error
            group.cancel_scope.cancel()
            self._has_stimuli.set()

    def _is_cancelled(self, group: anyio.abc.TaskGroup) -> bool:
        # `anyio.current_effective_deadline` says it as well, in more time than all other decisions about a task take.
        return group.cancel_scope.cancel_called or self._setup.scope.cancel_called

    async def _read_script(self, scripts: Scripts, name: str, size: int) -> None:
        """Notice that a script is not what it was when the run was planned: no later run may take the task for unchanged."""
        if size > _MAX_QUICK_BYTES:
            self._reporter.catch_up()
            await anyio.to_thread.run_sync(scripts.read, name)
        else:
            scripts.read(name)

    async def _wait_to_retry(self, task: int, delay_s: float) -> None:
        await anyio.sleep(delay_s)
        self._tell(RetryDue(task))
