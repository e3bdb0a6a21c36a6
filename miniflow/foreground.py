"""A run as the command line has it: signals, what is shown, exit status."""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack

import anyio
import anyio.abc

from miniflow.display import Display
from miniflow.errors import MiniFlowError, OutputError
from miniflow.events import LEVELS, Level
from miniflow.executors.spawn import own_descriptors
from miniflow.messages import complain, report
from miniflow.options import RunOptions
from miniflow.plan import DEFAULT_GRACE_S
from miniflow.prepare import DEFAULT_FLOWS_DIR
from miniflow.results import RunResult
from miniflow.rundir import RunDir
from miniflow.runner import unwrapped
from miniflow.running import OpenRun, open_shown
from miniflow.signals import StopSignals, die_by
from miniflow.sinks.json_lines import JsonRenderer
from miniflow.terminal import has_colors, is_movable

_GARBAGE_OBJECTS = 10_000
"""How many more there may be before Python looks which of them are garbage; of a run nearly none are."""

if TYPE_CHECKING:
    from miniflow.github_log import GithubLog
    from miniflow.lifeline import Lifeline
    from miniflow.live import LiveDisplay

LogFormat: TypeAlias = Literal["console", "json", "github"]
"""Lines for people, every event as JSON, lines for the log of GitHub Actions."""


def run_in_foreground(
    flow: str,
    *,
    log_format: LogFormat,
    level: Level,
    junit: Path | None = None,
    lifeline: Lifeline | None = None,
    **options: Unpack[RunOptions],
) -> int:
    """Run a flow and show it; return the exit status, unless a signal stopped it: then end by that signal.

    Args:
        flow: As of `run_flow`, like the options.
        log_format: What is shown.
        level: Events below it are not shown.
        junit: Where to write the run as JUnit XML when it is over, however it has ended.
        lifeline: Of a guardian that is there already.

    Raises:
        MiniFlowError: As `run_flow`.
    """
    _keep_memory()
    own_descriptors()
    renderer = JsonRenderer()
    display: Display | LiveDisplay | GithubLog
    is_live = log_format == "console" and is_movable(1, 2, os.environ)
    ending = partial(_ending, level=level, has_colors=has_colors(is_live, os.environ))
    if log_format == "github":
        from miniflow.github_log import GithubLog, find_places

        flows_dir = options.get("flows_dir", DEFAULT_FLOWS_DIR)
        display = GithubLog(level=level, find_places=lambda: find_places(flow, flows_dir, os.environ))
    elif is_live:
        from miniflow.live import LiveDisplay  # here, as most runs are read by programs, which should not wait for it

        display = LiveDisplay(level=level, has_colors=has_colors(True, os.environ), ending=ending)
    else:
        colors = has_colors(False, os.environ)
        display = Display(renderer, use_json=log_format == "json", level=level, has_colors=colors, ending=ending)
    foreground = _Foreground(renderer, display, options.get("grace", DEFAULT_GRACE_S))
    try:
        anyio.run(lambda: foreground.go(flow, lifeline, options), backend_options=_loop())
    finally:
        foreground.signals.end_by_the_next()
        is_told = foreground.run_dir is None or _tell(foreground.run_dir, junit, has_summary=log_format == "github")
    if foreground.stopped_by is not None:
        die_by(foreground.stopped_by)
    assert foreground.result is not None
    foreground.check_output()
    return (foreground.result.exit_status or 0) if is_told else 2


def _ending(run: OpenRun, *, level: Level, has_colors: bool) -> str:
    from miniflow.summary import Summary  # here: what it loads is needed only now, and not for programs

    try:
        columns = os.get_terminal_size(2).columns or None
    except OSError:
        columns = None  # it is none, or it is gone
    summary = Summary(run.plan, run.result, has_colors=has_colors, columns=columns)
    return summary.render(only_failures=LEVELS[level] > LEVELS["info"])


def _tell(run_dir: Path, junit: Path | None, *, has_summary: bool) -> bool:
    """Write what others wait for; return whether all that was asked for is there."""
    summary = os.environ.get("GITHUB_STEP_SUMMARY") if has_summary else None
    if junit is None and not summary:
        return True
    from miniflow.ci_files import append_step_summary, write_junit

    if summary:
        try:
            append_step_summary(RunDir(run_dir), Path(summary))
        except MiniFlowError as error:  # nobody has asked for it
            complain(f"warning: the step has no summary: {error}")
    try:
        if junit is not None:
            write_junit(RunDir(run_dir), junit)
    except MiniFlowError as error:  # not raised: there may be another error on its way
        report(error)
        return False
    return True


def _keep_memory() -> None:
    """Have the C library keep what is freed and soon needed again, as the buffers of each chunk of output.

    It gives large blocks back to the system as soon as they are free, until it has seen that they come and go; that is what it
    learns here. To be given them page by page anew costs a third of all that is done for a line.
    """
    bytes(1024 * 1024)


def _loop() -> dict[str, Any]:
    """Return the options of asyncio that say which event loop it is."""
    if sys.platform != "linux":
        return {}
    from miniflow.executors.loop import new_loop

    return {"loop_factory": new_loop}


class _Foreground:
    def __init__(self, renderer: JsonRenderer, display: Display | LiveDisplay | GithubLog, grace_s: float) -> None:
        self._renderer = renderer
        self._display = display
        self._patience_s = grace_s
        self._run: OpenRun | None = None
        self.signals = StopSignals()
        self.result: RunResult | None = None
        self.stopped_by: int | None = None

    async def go(self, flow: str, lifeline: Lifeline | None, options: RunOptions) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._stop_on_signal)
                async with open_shown(flow, self._display, self._renderer, lifeline, **options) as run:
                    gc.freeze()  # the plan stays to the end
                    gc.set_threshold(_GARBAGE_OBJECTS)
                    gc.enable()
                    self._run = run
                    if self.stopped_by is not None:
                        run.cancel(128 + self.stopped_by)
                    group.start_soon(self._hurry_after_timeout, run)
                    await self._display.show(run)
                self.result = run.result
                group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            raise unwrapped(errors) from None

    @property
    def run_dir(self) -> Path | None:
        """The run's directory, once it has one."""
        return self._run.run_dir if self._run is not None else None

    def check_output(self) -> None:
        """Raise an OutputError if standard output is incomplete, though somebody wanted it."""
        if self._display.error is not None:
            assert self.result is not None
            why = self._display.error.strerror
            raise OutputError(f"cannot write standard output: {why}; the run has {self.result.state}: {self.result.run_dir}")

    async def _stop_on_signal(self) -> None:
        while True:
            await anyio.wait_readable(self.signals)
            for number in self.signals.take():
                self._stop(number)

    def _stop(self, number: int) -> None:
        is_out_of_time = self._run is not None and self._run.is_out_of_time
        if self.stopped_by is None and not is_out_of_time:
            self.stopped_by = number
            if self._run is not None:
                self._run.cancel(128 + number)
            self._display.lose_patience(self._patience_s)
        elif self._run is not None:
            self._run.kill()
            self._display.lose_patience(0)
        else:
            die_by(number)  # nothing has been started yet

    async def _hurry_after_timeout(self, run: OpenRun) -> None:
        await run.wait_timeout()
        self._display.lose_patience(self._patience_s)
