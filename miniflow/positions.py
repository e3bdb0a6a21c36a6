"""Where the tasks of a flow stand in its file."""

from __future__ import annotations

from collections.abc import Mapping

from miniflow.jsontext import Found, located
from miniflow.model import Flow


def task_positions(flow: Flow) -> Mapping[str, tuple[int, int]]:
    """Return the line and column of each task's id, as far as the flow was read from a text."""
    if flow.source is None:
        return {}
    ids = [Found(("tasks", n, "id"), task.id) for n, task in enumerate(flow.tasks)]
    placed = located(ids, flow.source.text, flow.source.file)
    return {
        place.message: (place.line, place.column) for place in placed if place.line is not None and place.column is not None
    }
