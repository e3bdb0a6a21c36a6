"""Where MiniFlow's own time goes: by which of its functions spends it, and by whose code."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import ROOT, MiniFlow, environment
from benchmarks.report import Result
from benchmarks.workloads import Workload

_LEAST_SHARE = 0.01
"""What is less is left out."""


def profile(workload: Workload, folder: Path, *options: str) -> Result:
    """Run a workload once, sampled; `options` are of `miniflow run`."""
    measured = _sample(workload, folder, options)
    stacks = [(int(count), stack) for count, *stack in measured["stacks"]]
    ticks = sum(count for count, _ in stacks)
    ours: dict[str, Counter[str]] = defaultdict(Counter)
    whose: Counter[str] = Counter()
    for count, stack in stacks:
        module, function = _place(stack)
        ours[module][function] += count
        whose[_whose(stack)] += count
    cpu_s = measured["user_s"] + measured["system_s"]
    unit, scale = ("ns per line", 1e9 / workload.lines) if workload.lines else ("µs per task", 1e6 / len(workload.tasks))

    def cost(count: int) -> str:
        return f"{cpu_s * count / ticks * scale:.0f}"

    rows = []
    for module, functions in sorted(ours.items(), key=lambda item: -item[1].total()):
        if (count := functions.total()) / ticks >= _LEAST_SHARE:
            dearest = (f"{name} {cost(some)}" for name, some in functions.most_common(4) if name and some / ticks >= 0.005)
            rows.append([module, f"{count / ticks:.0%}", cost(count), ", ".join(dearest)])
    shares = ", ".join(f"{name} {count / ticks:.0%}" for name, count in whose.most_common() if count / ticks >= _LEAST_SHARE)
    took = f"{measured['user_s']:.2f} s user and {measured['system_s']:.2f} s system"
    return Result(
        f"profile-{workload.name}",
        f"{workload.question.rstrip('?')}: what does MiniFlow's own process spend its time on?",
        ("module, with all that it calls outside MiniFlow", "share", unit, "of that"),
        rows,
        [f"{took} for {len(workload.tasks):,} tasks; {ticks:,} ticks.", f"By whose code ran: {shares}."],
        measured,
    )


def imports(folder: Path, count: int) -> Result:
    """Measure what each package costs to import until a flow has run."""
    (folder / "flows").mkdir()
    (folder / "tasks").mkdir()
    (folder / "tasks" / "task.py").touch()
    (folder / "flows" / "one.json").write_text('{"name": "one", "tasks": [{"id": "t", "script": "task.py"}]}')
    samples = [_import_times(folder) for _ in range(count)]
    ms = {package: statistics.median(sample.get(package, (0, 0))[1] for sample in samples) / 1000 for package in samples[0]}
    total = sum(ms.values())
    rows = [
        [package, str(samples[0][package][0]), f"{ms[package]:.1f}", f"{ms[package] / total:.0%}"]
        for package in sorted(ms, key=lambda package: -ms[package])
        if ms[package] / total >= _LEAST_SHARE
    ]
    modules = sum(number for number, _ in samples[0].values())
    return Result(
        "profile-imports",
        "What does `miniflow run` import, and how long does that take?",
        ("package", "modules", "ms", "share"),
        rows,
        [f"{modules} modules in {total:.0f} ms, as the interpreter measures them one by one; rounds: {count}."],
        {"imports": samples},
    )


def _import_times(folder: Path) -> dict[str, tuple[int, int]]:
    """Return for each package how many modules of it were imported, and the microseconds that took without what they import."""
    said = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "miniflow", "run", "one"],
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, tuple[int, int]] = {}
    for line in said.stderr.splitlines():
        if match := re.fullmatch(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)", line):
            package = match[2].partition(".")[0]
            modules, own_us = found.get(package, (0, 0))
            found[package] = (modules + 1, own_us + int(match[1]))
    return found


def _sample(workload: Workload, folder: Path, options: Sequence[str]) -> dict[str, Any]:
    prepared = MiniFlow().prepare(workload, folder)
    file = folder / "samples.json"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.sampler", str(file), *prepared.argv[2:], *options],
        cwd=folder,
        env={**prepared.env, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    measured: dict[str, Any] = json.loads(file.read_text())
    return measured


def _place(stack: list[str]) -> tuple[str, str]:
    """Return the innermost module and function of MiniFlow on a stack, or what else it was."""
    if whole := _whole(stack):
        return whole, ""
    for place in stack:
        module, _, function = place.partition(":")
        if module.startswith("miniflow."):
            # Without comprehensions, and what dataclasses generate.
            return module.removeprefix("miniflow."), re.sub(r"\.<\w+>|__create_fn__\.<locals>\.", "", function)
    return f"({_whose(stack)})", ""


def _whose(stack: list[str]) -> str:
    """Return whose code ran."""
    return _whole(stack) or stack[0].partition(":")[0].partition(".")[0]


def _whole(stack: list[str]) -> str | None:
    """Return what a stack is for as a whole, whoever's functions are on it."""
    if stack[0].endswith(":_collecting"):
        return "(garbage collection)"
    if any(place.startswith("importlib.") for place in stack):
        return "(imports)"
    return None
