"""A terminal without a window: a pseudo-terminal, and what a screen would show of it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping

import pyte

from tests.conftest import Space

COMMANDS = re.compile(r"\x1b\[(?:[0-9;]*[AJm]|\?(?:25|2026)[hl])|\r")
"""All that MiniFlow has to say to a terminal."""


class Terminal:
    """A process that has a terminal as its standard output and standard error."""

    def __init__(
        self, space: Space, *args: str, columns: int = 100, rows: int = 30, env: Mapping[str, str] | None = None
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self.shown = b""
        """All that was written."""
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = pty.openpty()
        self._set_size(columns, rows)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "miniflow", "-o", str(space.output_dir), *args],
            cwd=space.path,
            env=space.environ({"TERM": "xterm-256color", **(env or {})}),
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """Make it larger or smaller."""
        self._set_size(columns, rows)
        self.screen.resize(rows, columns)

    def read(self) -> bool:
        """Read what was written meanwhile; return whether there was anything before the end."""
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other side is closed
            return False
        self.shown += data
        self._stream.feed(data)
        return bool(data)

    def until(self, is_so: Callable[[str], object]) -> str:
        """Read until the screen shows something; return what it shows then."""
        while not is_so(self.text):
            assert self.read(), self.text
        return self.text

    def end(self) -> int:
        """Read everything; return the exit status."""
        while self.read():
            pass
        os.close(self._ours)
        return self.process.wait()

    def read_all(self, read_bytes: int, pause_s: float = 0) -> None:
        """Read everything, by so many bytes at once, with pauses; the screen shows none of it, as that would take long."""
        shown = [self.shown]
        try:
            while data := os.read(self._ours, read_bytes):
                shown.append(data)
                time.sleep(pause_s)
        except OSError:  # the other side is closed
            pass
        os.close(self._ours)
        self.shown = b"".join(shown)

    def close(self) -> None:
        """Be gone, as a window is that somebody closes."""
        os.close(self._ours)

    @property
    def text(self) -> str:
        """What the screen shows: its lines, without the empty ones at its end."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def scrolled(self) -> str:
        """What the screen shows, and what has scrolled out of it."""
        above = ["".join(line[column].data for column in range(self.screen.columns)) for line in self.screen.history.top]
        return "\n".join(line.rstrip() for line in [*above, *self.screen.display]).rstrip()

    @property
    def written(self) -> str:
        """All lines that were written, without what is said to a terminal."""
        return COMMANDS.sub("", self.shown.decode())
