"""What `miniflow run` does with its options, whoever has read them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from miniflow.arguments import plan_options, read_parallel
from miniflow.commands import system_errors
from miniflow.errors import FlowError, OutputError, UsageError
from miniflow.lifeline import Lifeline
from miniflow.loading import load
from miniflow.prepare import plan_flow, write_script

if TYPE_CHECKING:
    from miniflow.events import Level
    from miniflow.foreground import LogFormat

NEEDED_DESCRIPTORS = 16


def launch(
    flow: str,
    directories: dict[str, str],
    level: str,
    *,
    echo: Callable[[object], object],
    dry_run: bool,
    parallel: str,
    resume: str | None,
    junit: str | None,
    log_format: str,
    **planning: Any,
) -> int:
    """Run a flow, or write its script; return the exit status.

    Args:
        flow: A name or a path.
        directories: `flows_dir`, `tasks_dir`, `output_dir`.
        level: The least that is shown.
        echo: Prints a line.
        dry_run: Write the script, and print its path.
        parallel: As it was typed, like all that follows.
        resume: A run, `latest`, or None.
        junit: Where to write JUnit XML.
        log_format: One of `simple.LOG_FORMATS`.
        planning: As of `arguments.plan_options`.

    Raises:
        MiniFlowError: As `run_flow`, or an option makes no sense.
    """
    options = plan_options(**planning) | directories
    limit = read_parallel(parallel)
    if dry_run:
        from miniflow.signals import Deferred

        if resume is not None:
            raise UsageError("a script runs every task: --dry-run and --resume do not go together")
        if junit is not None:
            raise UsageError("nothing runs that could be written of: --dry-run and --junit do not go together")
        with system_errors():
            plan = plan_flow(flow, **options)
            with Deferred():
                path = write_script(plan)
        relative = os.path.relpath(path)
        # One that begins with a dash would be an option of whoever is given it.
        echo(path if relative.startswith("..") else f"./{relative}" if relative.startswith("-") else relative)
        return 0
    if log_format == "auto":
        log_format = "console" if sys.stdout.isatty() else "github" if os.environ.get("GITHUB_ACTIONS") == "true" else "json"
    report_to = None
    if junit is not None:
        from miniflow.ci_files import check_junit

        if not junit:
            raise UsageError("--junit is empty; name a file, or leave the option away")
        check_junit(report_to := Path(junit))
    options |= {"parallel": limit, "resume": resume if resume is not None else False}
    _check_descriptors()
    lifeline = Lifeline()
    try:
        lifeline.open(os.path.basename(flow))  # so that the guardian is up by the time that tasks want the processors
        with hidden("rich"):  # half of our start would be structlog's, loading it for tracebacks that we never print
            load("asyncio", "miniflow.foreground")
        from miniflow.foreground import run_in_foreground

        with system_errors():
            return run_in_foreground(
                flow,
                log_format=cast("LogFormat", log_format),
                level=cast("Level", level),
                junit=report_to,
                lifeline=lifeline,
                **options,
            )
    except FlowError as error:
        if log_format == "github":
            from miniflow.findings import problem_commands

            for line in problem_commands(error.problems, None, os.environ):
                echo(line)
        raise
    finally:
        lifeline.close()


def _check_descriptors() -> None:
    """See that there is room for an event loop, one task and the record: without, asyncio fails with a traceback of its own.

    Raises:
        OutputError: There is none.
    """
    held: list[int] = []
    try:
        while len(held) < NEEDED_DESCRIPTORS:
            held.append(os.dup(2))
    except OSError as error:
        raise OutputError(f"a run needs {NEEDED_DESCRIPTORS} descriptors: {error.strerror}; raise `ulimit -n`") from None
    finally:
        for descriptor in held:
            os.close(descriptor)


@contextlib.contextmanager
def hidden(package: str) -> Iterator[None]:
    """Hide a package, unless it is loaded already, from those who would load it if it is there: they do without."""
    is_loaded = package in sys.modules
    if not is_loaded:
        sys.modules[package] = None  # type: ignore[assignment]  # which says that there is none
    try:
        yield
    finally:
        if not is_loaded:
            del sys.modules[package]
