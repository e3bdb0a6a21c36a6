"""Runs MiniFlow's command line, and notes what it is doing at every tick of its own CPU time.

    python -m benchmarks.sampler FILE ARGUMENTS OF MINIFLOW ...

A tick is a signal of the interval timer that counts the CPU time of this process alone, its children not included. A tracer
(cProfile) makes every call dearer, and small functions look large; this changes next to nothing, but knows only what a few
hundred ticks or more can tell.
"""

from __future__ import annotations

import atexit
import gc
import json
import resource
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

TICK_S = 0.001
"""Wished for; the kernel rounds it up to a tick of its own."""
_WAITING = ("threading", "queue", "select", "selectors")


def _collecting(phase: str, info: dict[str, Any]) -> None:
    """Garbage collection lets no signal through; one that came meanwhile is handled here."""


def _stack(frame: FrameType | None) -> tuple[str, ...]:
    """Return where a frame is, as `module:function`, the innermost first."""
    found = []
    while frame is not None:
        found.append(f"{frame.f_globals.get('__name__', '?')}:{frame.f_code.co_qualname}")
        frame = frame.f_back
    return tuple(found)


def main() -> None:
    """Sample what the arguments tell."""
    path, *arguments = sys.argv[1:]
    stacks: Counter[tuple[str, ...]] = Counter()

    def tick(number: int, frame: FrameType | None) -> None:
        stack = _stack(frame)
        if stack and stack[0].partition(":")[0] in _WAITING:
            # Only the main thread hears of the tick. If it waits, another one works.
            others = [other for ident, other in sys._current_frames().items() if ident != threading.get_ident()]
            busy = [other for other in map(_stack, others) if other[0].partition(":")[0] not in _WAITING]
            stack = busy[0] if busy else stack
        stacks[stack] += 1

    def write() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        lines = [[count, *stack] for stack, count in stacks.items()]
        measured = {"user_s": usage.ru_utime, "system_s": usage.ru_stime, "stacks": lines}
        Path(path).write_text(json.dumps(measured))

    gc.callbacks.append(_collecting)
    atexit.register(write)
    signal.signal(signal.SIGPROF, tick)
    signal.setitimer(signal.ITIMER_PROF, TICK_S, TICK_S)
    sys.argv = ["miniflow", *arguments]
    from miniflow.__main__ import main as miniflow

    miniflow()


if __name__ == "__main__":
    main()
