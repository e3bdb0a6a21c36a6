"""How a run is, on standard output: once, or as long as it goes on."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from miniflow.messages import complain
from miniflow.printing import is_unread, write
from miniflow.rundir import RunDir
from miniflow.sinks.console import harmless
from miniflow.status import live_lines, status_json, status_lines
from miniflow.terminal import has_colors
from miniflow.timeline import RunReader, Timeline, read_timeline

POLL_MS = 200
"""How often to look for more: the run does not know of us."""


def show_status(run_dir: RunDir, *, as_json: bool) -> None:
    """Show a run as it is now.

    Raises:
        MiniFlowError: It cannot be read.
    """
    run = read_timeline(run_dir)
    if as_json:
        _write(json.dumps(status_json(run), ensure_ascii=False, indent=1))
    else:
        _write_status(run)


def follow_status(run_dir: RunDir, *, as_json: bool) -> int:
    """Show a run until it has ended, or nobody looks any more; return its exit status, or 1 if its runner has died.

    On a terminal it is drawn again and again; else each event is a line.

    Raises:
        MiniFlowError: It cannot be read.
    """
    with RunReader(run_dir) as reader:
        if as_json:
            _follow(reader, lambda event: _write(json.dumps(event, ensure_ascii=False, separators=(",", ":"))))
        elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            _draw(reader)
            _write_status(reader.timeline())
        else:
            _follow(reader, lambda event: _write(_line(event)))
        if not reader.is_over:
            return 0  # who has closed the pipe has seen enough
        run = reader.timeline()
    if run.state == "interrupted":
        complain(f"run {run.run_id} was interrupted: its runner is gone, and it has no end")
    return 1 if run.exit_status is None else run.exit_status


def _follow(reader: RunReader, show: Callable[[Mapping[str, Any]], None]) -> None:
    while True:
        for event in reader.new_events():
            show(event)
        if reader.is_over or is_unread(POLL_MS):
            return


def _draw(reader: RunReader) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    class CursorStays(Console):
        """Ctrl-C ends us at once, and nobody would show the cursor again."""

        def show_cursor(self, show: bool = True) -> bool:
            return False

    colors = has_colors(True, os.environ)
    console = CursorStays(highlight=False, markup=False, no_color=not colors)
    drawing = Live(
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",  # it would end with dots in a style that nobody has asked for
    )
    with drawing as live:
        while True:
            began_s = time.monotonic()
            for _ in reader.new_events():
                pass
            if reader.is_over:
                return
            lines = live_lines(reader.timeline(), console.height, colors=colors)
            live.update(Text.from_ansi("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)
            took_ms = round((time.monotonic() - began_s) * 1000)
            if is_unread(max(POLL_MS, 3 * took_ms)):  # the terminal is gone; and a run of 100,000 tasks is drawn less often
                return


def _line(event: Mapping[str, Any]) -> str:
    """Return an event as a line for people."""
    mark = {"warning": "warning: ", "error": "error: "}.get(str(event.get("level")), "")
    return f"{mark}{harmless(str(event.get('message')))}"


def _write_status(run: Timeline) -> None:
    _write("\n".join(status_lines(run, colors=has_colors(sys.stdout.isatty(), os.environ))))


def _write(text: str) -> None:
    write(f"{text}\n".encode(errors="backslashreplace"))
