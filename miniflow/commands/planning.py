"""The options that decide what is planned, of every command that plans a flow."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

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
        default="5s",
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
    """Give a command the options; `plan_options` reads what they are given."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def plan_options(
    *,
    params: str | None,
    keep_going: bool,
    only: tuple[str, ...],
    from_: tuple[str, ...],
    until: tuple[str, ...],
    grace: str,
    timeout: str | None,
    python: str | None,
) -> dict[str, Any]:
    """Return what the options were given as the arguments of `plan_flow`.

    Raises:
        UsageError, ParamsError: One of them makes no sense.
    """
    from miniflow.arguments import read_params, read_seconds

    return {
        "params": read_params(params) if params is not None else None,
        "keep_going": keep_going,
        "only": only or None,
        "from_": from_ or None,
        "until": until or None,
        "grace": read_seconds("--grace", grace),
        "timeout": read_seconds("--timeout", timeout, least=0.001) if timeout is not None else None,
        "python": os.path.abspath(python) if python and "/" in python else python,
    }
