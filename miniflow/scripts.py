"""What the scripts of a plan hold: their SHA-256, from planning on, so that a change is noticed.

Only the file itself is looked at, not what it imports or reads.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from miniflow.files import tick_ns
from miniflow.values import dataclass

_Signature: TypeAlias = tuple[int, int, int, int, int]

_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Content:
    sha256: str | None
    """None if it could not be read."""
    signature: _Signature | None
    """What it looked like, if it can be known again by its looks."""


class Scripts:
    """The scripts of one run. Reads each when it is made.

    Args:
        tasks_dir: Where they are.
        names: Their paths in it; each is read once, however often it is named.
    """

    def __init__(self, tasks_dir: str, names: Iterable[str]) -> None:
        self._paths = {name: os.path.join(tasks_dir, name) for name in set(names)}
        self._contents = {name: self._read(name) for name in self._paths}
        self.planned: Mapping[str, str | None] = {name: content.sha256 for name, content in self._contents.items()}
        """The SHA-256 of each when this was made; None if it could not be read."""

    def unread_bytes(self, name: str) -> int | None:
        """Return how much there is to read before it is known what a script holds now; None: it is known. Quick."""
        try:
            stat = os.stat(self._paths[name])
        except OSError:
            return 0
        return None if _signature(stat) == self._contents[name].signature else stat.st_size

    def read(self, name: str) -> None:
        """Look again what a script holds."""
        self._contents[name] = self._read(name)

    def sha256(self, name: str) -> str | None:
        """Return what a script held when it was last read; None if it could not be."""
        return self._contents[name].sha256

    def _read(self, name: str) -> _Content:
        sha256 = hashlib.sha256()
        try:
            script = os.open(self._paths[name], os.O_RDONLY | os.O_CLOEXEC)
            try:
                before = os.fstat(script)
                began_ns = time.time_ns()
                while data := os.read(script, _READ_BYTES):
                    sha256.update(data)
                after = os.fstat(script)
            finally:
                os.close(script)
        except OSError:
            return _Content(None, None)
        if _signature(before) != _signature(after):
            return _Content(None, None)  # it is being written
        is_old = began_ns - max(before.st_mtime_ns, before.st_ctime_ns) > tick_ns(before)
        return _Content(sha256.hexdigest(), _signature(before) if is_old else None)


def _signature(stat: os.stat_result) -> _Signature:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
