"""Runs commands and measures them: interleaved rounds, and ratios within a round.

Whatever slows the machine for a while slows all contenders of a round, so the ratio of two of one round says more than that of
two averages. Nothing here judges: there is no time limit, and no time that is too long.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class BenchmarkError(Exception):
    """Something that was to be measured has not done what it was to do."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One command from its start to its end."""

    wall_s: float
    cpu_s: float
    """User and system time of its process and of all that it has waited for, and so on down."""
    own_s: float | None = None
    """How long the run took by its own account, where it tells."""
    memory_mb: float | None = None
    """The most that its own process has used, where it tells."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Several figures of one thing."""

    median: float
    least: float
    most: float


def spread(figures: Sequence[float]) -> Spread:
    """Return the middle and the ends of some figures."""
    return Spread(statistics.median(figures), min(figures), max(figures))


def run(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: Path | None = None, terminal: int | None = None
) -> Sample:
    """Run a command to its end; what it prints goes nowhere, or to a terminal.

    Raises:
        BenchmarkError: It did not exit with 0.
    """
    with tempfile.TemporaryFile() as errors, open(stdin or os.devnull, "rb") as source:
        began = time.perf_counter()
        stdout, stderr = (subprocess.DEVNULL, errors) if terminal is None else (terminal, terminal)
        process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=source, stdout=stdout, stderr=stderr)
        try:
            # Not `process.wait`: only this tells of the resources of one child, whatever else has been measured before.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # Ctrl-C, or SIGTERM: see `__main__`
            process.terminate()
            process.wait()
            raise
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            said = errors.read()[-2000:].decode(errors="replace")
            raise BenchmarkError(f"{' '.join(argv)} has ended with {process.returncode}:\n{said}")
    return Sample(wall_s, usage.ru_utime + usage.ru_stime)


def rounds(contenders: Mapping[str, Callable[[], Sample]], count: int) -> dict[str, list[Sample]]:
    """Measure every contender once a round; each round begins with another one. Return the samples of each, by round."""
    names = list(contenders)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(count):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            samples[name].append(contenders[name]())
    return samples


def ratios(samples: Sequence[Sample], base: Sequence[Sample]) -> Spread:
    """Return the spread of wall times as multiples of those of the base in the same round."""
    return spread([sample.wall_s / other.wall_s for sample, other in zip(samples, base, strict=True)])


def cpu_beyond_us(samples: Sequence[Sample], base: Sequence[Sample], tasks: int) -> Spread:
    """Return the spread of the CPU time per task beyond that of the base in the same round, in microseconds."""
    return spread([(sample.cpu_s - other.cpu_s) / tasks * 1e6 for sample, other in zip(samples, base, strict=True)])
