"""What it costs to draw what runs below what tasks print: the same run on a terminal that can be drawn on, and on another."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from benchmarks.contenders import MiniFlow, Prepared
from benchmarks.measure import Sample, ratios, rounds, spread
from benchmarks.report import Result, seconds, with_ends
from benchmarks.workloads import Workload

ROWS, COLUMNS = 50, 120
_PLAIN = {"plain": {"TERM": "dumb", "NO_COLOR": "1"}, "plain, in colours": {"TERM": "dumb", "FORCE_COLOR": "1"}}
_DRAWN = {
    "drawn": {"TERM": "xterm-256color", "NO_COLOR": "1"},
    "drawn, in colours": {"TERM": "xterm-256color", "FORCE_COLOR": "1"},
}


def drawing(workload: Workload, folder: Path, count: int) -> Result:
    """Time a run that prints a lot, with and without what is drawn below the lines."""
    prepared = MiniFlow().prepare(workload, folder)
    ways = {}
    for name, variables in (_PLAIN | _DRAWN).items():
        inherited = {key: value for key, value in prepared.env.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
        ways[name] = partial(_on_a_terminal, replace(prepared, env={**inherited, **variables}))
    samples = rounds(ways, count)
    rows = []
    figures = {}
    for (plain, drawn), figure in zip(zip(_PLAIN, _DRAWN, strict=True), ("drawing", "drawing in colours"), strict=True):
        for name in (plain, drawn):
            wall, cpu = (spread([getattr(sample, what) for sample in samples[name]]) for what in ("wall_s", "cpu_s"))
            ratio = ratios(samples[name], samples[plain])
            rows.append([name, seconds(wall), *with_ends(ratio, 3), seconds(cpu)])
            figures[figure] = ratio.median
    return Result(
        "drawing",
        f"What does it cost to draw what runs, below {workload.lines:,} lines of 100 bytes of 8 tasks on a terminal?",
        ("", "wall, s", "÷ the same lines, plain", "between", "CPU, s"),
        rows,
        [f"{ROWS} rows, {COLUMNS} columns; whoever reads the terminal throws all of it away; rounds: {count}."],
        {name: [asdict(sample) for sample in own] for name, own in samples.items()},
        figures,
    )


def _on_a_terminal(prepared: Prepared) -> Sample:
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    reader = subprocess.Popen(["cat"], stdin=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(ours)
    try:
        return prepared.run(theirs)
    finally:
        os.close(theirs)
        reader.wait()  # a terminal has no end, but an error where nobody writes to it any more
