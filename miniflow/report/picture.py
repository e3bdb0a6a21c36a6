"""The graph of a run, drawn in layers, each task in its state and leading to its row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from miniflow.drawing.svg import DrawnTask, graph_svg
from miniflow.report.markup import Html, element
from miniflow.report.words import ending, link, shown_count, shown_duration, state_of

if TYPE_CHECKING:
    from miniflow.timeline import TaskTimeline, Timeline

MOST_TASKS = 1000
"""Of more, the drawing would be larger than all else on the page, and nobody could follow an edge in it."""
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def picture(timeline: Timeline) -> Html:
    """Return the drawing, or why there is none."""
    tasks = timeline.tasks
    if len(tasks) > MOST_TASKS:
        said = f"{shown_count(len(tasks), 'task')} are too many to be drawn; in the table stands what each depends on."
        return element("p", said, class_="muted")
    place = {task.id: number for number, task in enumerate(tasks)}
    drawn = [_drawn(task, place) for task in tasks]
    svg = graph_svg(
        drawn,
        title=f"Graph of {timeline.flow}",
        description="Each task stands below those that it depends on, or to their right, and leads to its row in the table.",
        critical_path=[place[task_id] for task_id in timeline.critical_path if task_id in place],
    )
    skip = element("a", "Skip the graph", href="#timeline", class_="skip")
    drawing = element("div", Html(svg), class_="drawing", role="region", aria_label="Graph of the tasks", tabindex=0)
    return Html(skip + drawing)


def styles(html: Html) -> list[str]:
    """Return the style sheets that stand in a drawing."""
    return _STYLE.findall(html)


def _drawn(task: TaskTimeline, place: dict[str, int]) -> DrawnTask:
    upstream = [place[other] for other in task.depends_on if other in place]
    said = [shown_duration(task.duration_s) if task.attempts else None, ending(task)]
    state = "succeeded" if task.reused_from else state_of(task)
    return DrawnTask(task.id, upstream, state, "\n".join(filter(None, said)), link(task.id))
