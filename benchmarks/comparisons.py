"""MiniFlow beside the floor and other runners on one workload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.contenders import Contender, check_every_task_runs
from benchmarks.measure import cpu_beyond_us, ratios, rounds, spread
from benchmarks.report import Result, seconds, with_ends
from benchmarks.workloads import Workload


def compare(workload: Workload, contenders: Sequence[Contender], folder: Path, count: int) -> Result:
    """Run a workload `count` times by every contender that can; the first of them is what the others are measured by.

    Raises:
        BenchmarkError: One has failed, or has not run every task.
    """
    prepared = {}
    for contender in contenders:
        if not contender.can_run(workload):
            continue
        place = folder / contender.name
        place.mkdir()
        check_every_task_runs(contender, workload, place)
        prepared[contender.name] = contender.prepare(workload, place)
    if workload.shortest_s:
        rounds({name: one.run for name, one in prepared.items()}, 1)  # who learns from earlier runs has had one
    samples = rounds({name: one.run for name, one in prepared.items()}, count)

    base = next(iter(samples))
    columns = ["", "wall, s", f"÷ {base}", "between", "CPU, s", f"CPU per task beyond {base}, µs"]
    columns += ["M lines/s"] if workload.lines else []
    columns += ["÷ shortest possible"] if workload.shortest_s else []
    remarks = [f"{len(workload.tasks):,} tasks, {workload.parallel} at a time; rounds: {count}."]
    rows = []
    figures = {}
    for name, own in samples.items():
        wall = spread([sample.wall_s for sample in own])
        cpu = spread([sample.cpu_s for sample in own])
        ratio = ratios(own, samples[base])
        beyond = cpu_beyond_us(own, samples[base], len(workload.tasks))
        million_lines_s = workload.lines / wall.median / 1e6
        row = [name, seconds(wall), *with_ends(ratio), seconds(cpu), f"{beyond.median:.0f}"]
        row += [f"{million_lines_s:.2f}"] if workload.lines else []
        row += [f"{wall.median / workload.shortest_s:.2f}"] if workload.shortest_s else []
        rows.append(row)
        if name != "miniflow":
            continue
        if workload.lines:
            figures[f"{workload.name}-{workload.lines}"] = million_lines_s
            apart = workload.lines / spread([sample.own_s for sample in own if sample.own_s]).median / 1e6
            remarks.append(f"MiniFlow from its first event to its last, without start and loading: {apart:.2f} M lines/s.")
        elif base == "floor":
            figures[f"{workload.name}-{len(workload.tasks)}"] = beyond.median if workload.name == "spawn" else ratio.median
    if workload.shortest_s:
        remarks.append(f"The longest path, or all work shared evenly, takes {workload.shortest_s:.2f} s.")
    raw = {name: [asdict(sample) for sample in own] for name, own in samples.items()}
    return Result(workload.name, workload.question, columns, rows, remarks, raw, figures)
