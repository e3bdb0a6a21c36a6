"""What a shell can offer for a word that is being typed.

A key press loads this: it reads flow files and nothing else, and says nothing about what is wrong with them, as its words would
end up in the midst of the user's own. Running the command will say it.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from miniflow.catalog import find_flow_file, flow_files, flow_name, load_flow_file
from miniflow.errors import MiniFlowError
from miniflow.model import ID_PATTERN


def flow_names(beginning: str, flows_dir: str) -> list[str]:
    """Return the names of the flows in a directory that begin so."""
    try:  # the shell passes on what is typed, the tilde too
        names = {flow_name(path) for path in flow_files(os.path.expanduser(flows_dir))}
    except MiniFlowError:
        return []
    return sorted(name for name in names if name.startswith(beginning) and ID_PATTERN.fullmatch(name))


def task_ids(beginning: str, flow: str | None, flows_dir: str, given: Collection[str] = ()) -> list[tuple[str, str]]:
    """Return the ids of a flow's tasks that begin so and are not given yet, in the flow's order, each with a few words."""
    if flow is None:
        return []
    try:
        tasks = load_flow_file(find_flow_file(os.path.expanduser(flow), os.path.expanduser(flows_dir))).tasks
    except MiniFlowError:
        return []
    return [
        (task.id, " ".join(task.description.split())[:60])
        for task in tasks
        if task.id.startswith(beginning) and task.id not in given
    ]
