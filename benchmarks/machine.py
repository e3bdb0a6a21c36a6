"""Where and with what something was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import ROOT, Contender


def machine(folder: Path) -> dict[str, Any]:
    """Return what the figures depend on: processors, kernel, memory, what the temporary files are on, and the load."""
    return {
        "cpu": _after(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()}",
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "file_system": _file_system(folder),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def versions(contenders: Sequence[Contender]) -> dict[str, str]:
    """Return the versions of Python, of what MiniFlow needs, and of the contenders that are there."""
    found = {"python": platform.python_version(), "commit": _commit()}
    found |= {name: importlib.metadata.version(name) for name in ("anyio", "click", "msgspec", "structlog")}
    return found | {contender.name: contender.version() for contender in contenders if "," not in contender.name}


def _commit() -> str:
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "unknown"
    return said.stdout.strip() or "unknown"


def _file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on."""
    device = os.stat(folder).st_dev
    for line in _lines(Path("/proc/self/mountinfo")):
        fields = line.split()
        if fields[2] == f"{os.major(device)}:{os.minor(device)}":
            return fields[fields.index("-") + 1]
    return "unknown"


def _after(path: Path, key: str) -> str:
    return next((line.partition(":")[2].strip() for line in _lines(path) if line.startswith(key)), "")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
