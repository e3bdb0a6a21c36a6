"""What a notebook shows of values: of a result a table of its tasks and the graph, of a flow its graph.

`RunResult` and `Flow` come here when they are shown (Jupyter and others look for `_repr_html_`), and not before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from miniflow.drawing.flowgraph import graph_of, rounded
from miniflow.drawing.markup import MARKS, colour, escaped, palette
from miniflow.drawing.svg import DrawnTask, graph_svg
from miniflow.errors import MiniFlowError
from miniflow.model import Flow
from miniflow.planfile import RecordedTask, read_plan
from miniflow.results import RunResult, TaskResult, TaskState
from miniflow.rundir import RunDir

MOST_DRAWN = 500
"""So many tasks are drawn: what is shown becomes part of the notebook."""
MOST_ROWS = 200

_SCOPE = ".miniflow-shown"
_NOT_STARTED: TaskState = "pending"


def flow_html(flow: Flow) -> str | None:
    """Return a flow's description and graph; None if it cannot be drawn, as one that has not been checked may have cycles."""
    graph = graph_of(flow, {})
    if graph is None:
        return None
    tasks = [
        DrawnTask(task.id, needed, detail=task.description) for task, needed in zip(flow.tasks, graph.upstream, strict=True)
    ]
    head = f"<p><strong>{escaped(flow.name)}</strong>{f' {escaped(flow.version)}' if flow.version else ''}</p>"
    about = f"<p>{escaped(flow.description)}</p>" if flow.description else ""
    return _page([head, about, *_graph(tasks, f"flow {flow.name}", "\n".join(graph.summary()))])


def result_html(result: RunResult) -> str:
    """Return a table of the tasks of a run, and their graph.

    What they depend on is in the run directory; if it is gone, or cannot be read, the table is all.
    """
    try:
        plan = read_plan(RunDir(result.run_dir))
    except MiniFlowError:  # the result is whole without it
        plan = None
    planned = plan.tasks if plan is not None and {task.id for task in plan.tasks} >= set(result.tasks) else ()
    tasks = [result.tasks.get(task.id) or TaskResult(task.id, _NOT_STARTED) for task in planned] or list(result.tasks.values())
    return _page([*_head(result), _table(tasks), *_drawn(result, planned, tasks)])


def _head(result: RunResult) -> Iterator[str]:
    took = f" in {rounded(result.duration)}" if result.duration is not None else ""
    status = f", exit status {result.exit_status}" if result.exit_status is not None else ""
    yield f"<p><strong>{escaped(result.flow)}</strong> {_state(result.state)}{took}{status}</p>"
    if result.error:
        yield f"<p>{escaped(result.error)}</p>"
    resumed = f", resumed from {escaped(result.resumed_from)}" if result.resumed_from else ""
    yield f'<p class="muted">{escaped(result.run_dir)}{resumed}</p>'


def _table(tasks: Sequence[TaskResult]) -> str:
    """Return the table; of many tasks those that have not succeeded are shown first."""
    shown = tasks
    if len(tasks) > MOST_ROWS:
        shown = sorted(tasks, key=lambda task: task.state in ("succeeded", _NOT_STARTED))[:MOST_ROWS]
    rows = [_row(task) for task in shown]
    if len(shown) < len(tasks):
        rows.append(f'<tr><td colspan="6" class="muted">and {len(tasks) - len(shown)} more</td></tr>')
    heads = "".join(
        f'<th scope="col">{name}</th>' for name in ("task", "state", "exit status", "attempts", "duration", "reason")
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(task: TaskResult) -> str:
    why = [task.reason if task.reason != "exit" else None, task.signal, task.error, task.reused_from]
    cells = [
        "" if task.exit_status is None else str(task.exit_status),
        str(task.attempts or ""),
        "" if task.duration is None else rounded(task.duration),
    ]
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    reason = escaped(" ".join(str(part) for part in why if part))
    return f'<tr><th scope="row">{escaped(task.id)}</th><td>{_state(task.state)}</td>{numbers}<td>{reason}</td></tr>'


def _state(state: str) -> str:
    return f'<span class="{escaped(state)}">{MARKS.get(state, "")} {escaped(state)}</span>'


def _drawn(result: RunResult, planned: Sequence[RecordedTask], tasks: Sequence[TaskResult]) -> Iterator[str]:
    index = {task.id: number for number, task in enumerate(planned)}
    drawn = [
        DrawnTask(
            task.id,
            [index[other] for other in task.depends_on if other in index],
            ended.state,
            rounded(ended.duration) if ended.duration is not None else "",
        )
        for task, ended in zip(planned, tasks, strict=False)
    ]
    if drawn:
        yield from _graph(drawn, f"run {result.run_id} of flow {result.flow}", f"{len(drawn)} tasks")


def _graph(tasks: Sequence[DrawnTask], title: str, description: str) -> Iterator[str]:
    if len(tasks) > MOST_DRAWN:
        yield f'<p class="muted">The graph of {len(tasks)} tasks is not drawn here: see `miniflow graph`.</p>'
    else:
        yield f'<div class="graph">{graph_svg(tasks, title=title, description=description)}</div>'


def _page(parts: Sequence[str]) -> str:
    ground = f"{colour('text', 'color')};{colour('background', 'background')}"
    rules = {
        "": f"font:13px/1.4 system-ui,sans-serif;padding:8px 12px;{ground}",
        " p": "margin:0 0 6px",
        " .muted": colour("muted", "color"),
        " .graph": "overflow:auto;max-height:40em",
        " table": "border-collapse:collapse;margin:6px 0;font-size:13px",
        " :is(th,td)": "text-align:left;padding:2px 14px 2px 0;background:none;border:0;border-bottom:1px solid;"
        + colour("line", "border-color"),
        " td.number": "text-align:right;font-variant-numeric:tabular-nums",
        **{f" .{state}": f"white-space:nowrap;{colour(state, 'color')}" for state in MARKS},
    }
    style = palette(_SCOPE) + "".join(f"{_SCOPE}{selector}{{{rule}}}" for selector, rule in rules.items())
    return f'<div class="miniflow-shown"><style>{style}</style>{"".join(parts)}</div>'
