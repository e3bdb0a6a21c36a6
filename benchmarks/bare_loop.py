"""Runs commands by the system calls that MiniFlow makes for a task, and writes as much, in one loop without anything else.

    python bare_loop.py LIMIT ARGUMENTS OUTPUT INTERPRETER SCRIPT

It is the least that a runner in Python costs that starts a task in a session of its own, with two pipes and a pidfd, and
records its start and its end: no dependencies, no retries, no time limits, nothing that goes wrong, nobody who survives it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

MOST_UNTOLD = 16
TO_GROUP = 4  # PIDFD_SIGNAL_PROCESS_GROUP
DEFAULTED = tuple(sorted(map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})))


class Loop:
    """The runs of one command with many arguments."""

    def __init__(self, command: list[str], output: Path) -> None:
        self._command = command
        self._encode = msgspec.json.Encoder().encode
        self._env = dict(os.environb)
        self._epoll = select.epoll()
        self._running: dict[int, tuple[str, int, int, int]] = {}
        (output / "status").mkdir(parents=True)
        self._statuses = str(output / "status")
        self._journal = os.open(output / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._first_status = ""
        self._untold: list[bytes] = []
        self._ended: list[str] = []

    def run(self, arguments: list[str], limit: int) -> bool:
        """Run the command with each; return whether all have exited with 0."""
        succeeded = 0
        left = iter(arguments)
        for argument in islice(left, limit):
            self._start(argument)
        while self._running:
            found = self._epoll.poll(0)
            if not found:
                self._tell()
                found = self._epoll.poll()
            for descriptor, _ in found:
                if descriptor in self._running:
                    succeeded += self._end(descriptor, next(left, None)) == 0
        self._tell()
        return succeeded == len(arguments)

    def _start(self, argument: str) -> None:
        resource.getrlimit(resource.RLIMIT_NOFILE)
        os.stat(self._command[1])
        os.getcwd()
        os.access(".", os.X_OK)
        (stdout, their_stdout), (stderr, their_stderr) = os.pipe(), os.pipe()
        os.set_blocking(stdout, False)
        os.set_blocking(stderr, False)
        argv = [*self._command, argument]
        pid = os.posix_spawn(
            argv[0],
            argv,
            {**self._env, b"MINIFLOW_TASK_ID": argument.encode()},
            file_actions=[(os.POSIX_SPAWN_DUP2, their_stdout, 1), (os.POSIX_SPAWN_DUP2, their_stderr, 2)],
            setsid=True,
            setsigdef=DEFAULTED,
        )
        os.close(their_stdout)
        os.close(their_stderr)
        exit_fd = os.pidfd_open(pid)
        for descriptor in (stdout, stderr, exit_fd):
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)
        self._running[exit_fd] = argument, pid, stdout, stderr
        self._event("task.started", argument, pid=pid, argv=argv, start_time=time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def _end(self, exit_fd: int, following: str | None) -> int:
        argument, pid, stdout, stderr = self._running.pop(exit_fd)
        for descriptor in (stdout, stderr):
            os.read(descriptor, 65536)
        info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        assert info is not None, "its end was told"
        with contextlib.suppress(OSError):  # nobody is left; or it is refused, by an older system
            signal.pidfd_send_signal(exit_fd, signal.SIGTERM, None, TO_GROUP)
        for descriptor in (stdout, stderr, exit_fd):
            self._epoll.unregister(descriptor)
            os.close(descriptor)
        ended = {"state": "succeeded", "exit_status": 0, "reason": "exit", "duration_s": 0.012345, "attempts": 1}
        self._event("task.finished", argument, **ended)
        self._ended.append(argument)
        if following is not None:
            self._start(following)
        if len(self._untold) >= MOST_UNTOLD:
            self._tell()
        status: int = info.si_status
        return status

    def _event(self, name: str, argument: str, **more: Any) -> None:
        seconds, rest = divmod(time.time_ns(), 1_000_000_000)
        event = {
            "timestamp": f"2023-01-01T00:00:{seconds % 60:02d}.{rest // 1000:06d}Z",
            "level": "info",
            "event": name,
            "message": f"{argument} {name}",
            "flow": "benchmark",
            "run_id": "20230101T000000.000Z-000000",
            "task_id": argument,
            "attempt": 1,
            **more,
        }
        self._untold.append(self._encode(event) + b"\n")

    def _tell(self) -> None:
        lines = b"".join(self._untold)
        if lines:
            os.write(self._journal, lines)
            os.write(1, lines)
        for argument in self._ended:
            self._write_status(f"{self._statuses}/{argument}")
        self._untold.clear()
        self._ended.clear()

    def _write_status(self, path: str) -> None:
        if self._first_status:
            os.stat(self._first_status)
            os.link(self._first_status, path)
            return
        self._first_status = path
        with open(path, "w") as file:
            file.write("0\n")


def main() -> int:
    """Run them; return the exit status."""
    limit, arguments, output, interpreter, script = sys.argv[1:]
    os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
    loop = Loop([interpreter, script], Path(output))
    return 0 if loop.run(Path(arguments).read_text().split(), int(limit)) else 1


if __name__ == "__main__":
    sys.exit(main())
