"""What the shell completes: the names of flows, tasks and runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from miniflow.errors import MiniFlowError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def complete_flow(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of flows; files, where a path is being typed."""
    from click.shell_completion import CompletionItem

    from miniflow.completion import flow_names

    if "/" in incomplete or incomplete.startswith(("~", ".")):
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in flow_names(incomplete, ctx.find_root().params["flows_dir"])]


def typed_flow(ctx: click.Context) -> str | None:
    """Return the FLOW of a command line that is being typed."""
    # click stops reading at an option that still lacks its value, and leaves the arguments as they are.
    flow = ctx.params.get("flow") or next(iter(ctx.args), None) or ctx.params.get("resume")
    return flow if isinstance(flow, str) else None


def complete_task(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the ids of the tasks of the flow that stands on the command line."""
    from click.shell_completion import CompletionItem

    from miniflow.completion import task_ids

    given = ctx.params.get(str(parameter.name)) or ()
    found = task_ids(incomplete, typed_flow(ctx), ctx.find_root().params["flows_dir"], given)
    return [CompletionItem(task_id, help=description or None) for task_id, description in found]


def run_ids_of_flow(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the id of a run, the newest first; nothing where there is none, or the flow is not known."""
    from miniflow.resume import LATEST, run_ids

    flow = typed_flow(ctx)
    if flow is None:
        return []
    try:
        found = run_ids(Path(os.path.expanduser(ctx.find_root().params["output_dir"])), flow)
    except MiniFlowError:  # running the command will say it, and not in the midst of the user's words
        found = []
    return [name for name in (LATEST, *reversed(found)) if name.startswith(incomplete)]
