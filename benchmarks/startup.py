"""How long the commands take that do nothing but start."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.contenders import LAUNCHER, ROOT, environment, executable
from benchmarks.measure import ratios, rounds, run, spread
from benchmarks.report import Result, with_ends


def start_up(folder: Path, count: int) -> Result:
    """Time `miniflow --version` and `miniflow list` beside an interpreter that does nothing."""
    launcher = executable(folder / "miniflow", LAUNCHER)
    (folder / "flows").symlink_to(ROOT / "flows")  # where they are looked for, as in a project of one's own
    commands = {"python -c pass": [sys.executable, "-c", "pass"]}
    commands |= {f"miniflow {what}": [sys.executable, launcher, *what.split()] for what in ("--version", "list", "run --help")}
    contenders = {name: partial(run, argv, cwd=folder, env=environment()) for name, argv in commands.items()}
    rounds(contenders, 1)  # byte code is compiled once
    samples = rounds(contenders, count)
    base = samples["python -c pass"]
    rows = []
    for name, own in samples.items():
        wall = spread([sample.wall_s * 1000 for sample in own])
        cpu = spread([sample.cpu_s * 1000 for sample in own])
        rows.append([name, f"{wall.median:.1f}", *with_ends(ratios(own, base)), f"{cpu.median:.1f}"])
    return Result(
        "startup",
        "What does it cost to ask MiniFlow anything?",
        ("", "ms", "÷ python -c pass", "between", "CPU, ms"),
        rows,
        [f"{count} rounds; `list` reads the {len(list((ROOT / 'flows').glob('*.json')))} flows of this repository."],
        {name: [asdict(sample) for sample in own] for name, own in samples.items()},
        {
            "version": ratios(samples["miniflow --version"], base).median,
            "list": ratios(samples["miniflow list"], base).median,
        },
    )
