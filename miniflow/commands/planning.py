"""The options that decide what is planned, of every command that plans a flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from miniflow.simple import RUN_DEFAULTS

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "-p",
        "--params",
        metavar="PARAMS",
        help="Parameters, which override the flow's defaults: a JSON object, the path of a file that holds one, or - for"
        " standard input.",
    ),
    click.option(
        "--keep-going",
        is_flag=True,
        envvar="MINIFLOW_KEEP_GOING",
        show_envvar=True,
        help="After a failure, go on with all that does not depend on it.",
    ),
    click.option(
        "--only",
        metavar="ID",
        multiple=True,
        help="Run this task; repeat it for more. What it depends on besides counts as done.",
    ),
    click.option(
        "--from",
        "from_",
        metavar="ID",
        multiple=True,
        help="Run this task and all downstream of it; repeatable.",
    ),
    click.option(
        "--until",
        metavar="ID",
        multiple=True,
        help="Run this task and all upstream of it; repeatable. With --from: what lies between.",
    ),
    click.option(
        "--grace",
        metavar="DURATION",
        envvar="MINIFLOW_GRACE",
        default=RUN_DEFAULTS["grace"],
        show_default=True,
        show_envvar=True,
        help="Between SIGTERM and SIGKILL for a task that is timed out or stopped: seconds, or a text like 500ms or 1m30s.",
    ),
    click.option(
        "--timeout",
        metavar="DURATION",
        envvar="MINIFLOW_TIMEOUT",
        show_envvar=True,
        help="For the whole run: then nothing more starts, what runs is ended, and the exit status is 124.",
    ),
    click.option(
        "--python",
        metavar="PYTHON",
        help="The interpreter of tasks that name none. Default: MINIFLOW_PYTHON, else that of an activated environment, else"
        " the one that runs miniflow.",
    ),
)


def planning_options(function: _Function) -> _Function:
    """Give a command the options; `arguments.plan_options` reads what they are given."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
