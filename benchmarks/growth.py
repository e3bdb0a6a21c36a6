"""How MiniFlow's cost grows with the number of tasks: for each of them, it should not."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.contenders import Contender, Floor, MiniFlow
from benchmarks.measure import cpu_beyond_us, rounds, spread
from benchmarks.report import Result, seconds
from benchmarks.workloads import growing

ONE_ROUND_FROM = 100_000


def grow(sizes: Sequence[int], floor: Floor | None, folder: Path, count: int) -> Result:
    """Run graphs of several sizes, of tasks that do nothing."""
    contenders: list[Contender] = [MiniFlow(notes_memory=True)]
    contenders += [floor] if floor else []
    rows, raw, figures = [], {}, {}
    for size in sizes:
        place = folder / str(size)
        prepared = {}
        for contender in contenders:
            (place / contender.name).mkdir(parents=True)
            prepared[contender.name] = contender.prepare(growing(size), place / contender.name)
        samples = rounds({name: one.run for name, one in prepared.items()}, 1 if size >= ONE_ROUND_FROM else count)
        shutil.rmtree(place)
        ours = samples["miniflow"]
        wall = spread([sample.wall_s for sample in ours])
        cpu = spread([sample.cpu_s for sample in ours])
        memory = spread([sample.memory_mb for sample in ours if sample.memory_mb])
        beyond = f"{cpu_beyond_us(ours, samples['floor'], size).median:.0f}" if floor else ""
        per_task = [f"{figure.median / size * 1000:.2f}" for figure in (wall, cpu)]
        rows.append([f"{size:,}", seconds(wall), *per_task, beyond, f"{memory.median:.0f}"])
        raw[str(size)] = {name: [asdict(sample) for sample in own] for name, own in samples.items()}
        figures[f"memory-{size}"] = memory.median
    return Result(
        "growth",
        "How does cost grow with the number of tasks?",
        ("tasks", "wall, s", "wall per task, ms", "CPU per task, ms", "of it beyond the floor, µs", "memory, MB"),
        rows,
        [f"Layers of `true`, 2 at a time; rounds: {count}, from {ONE_ROUND_FROM:,} tasks on 1."],
        raw,
        figures,
    )
