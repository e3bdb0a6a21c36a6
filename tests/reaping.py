"""Hosts that reap the children of others, and so take exit statuses that are MiniFlow's to know."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def reaping_thread() -> Iterator[None]:
    def reap() -> None:
        while not stop.is_set():
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                os.sched_yield()

    stop = threading.Event()
    thread = threading.Thread(target=reap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def reaping_handler() -> Iterator[None]:
    def reap(number: int, frame: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    before = signal.signal(signal.SIGCHLD, reap)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)
