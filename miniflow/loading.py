"""Loading much, so that the thread that starts processes is not taken for one that computes.

Linux estimates how much of a processor a thread fills by how it went to its last sleeps, and lets that sink only when it sleeps
again without having had to wait for a processor in between (`util_est`). To load what a run takes is a tenth of a second
without a sleep, which counts as filling one; and the runner, whose tasks fill all processors, does have to wait. So it would
keep that name, and what it starts would be put on other processors, behind the tasks that run there, while its own idles: with
a thousand small tasks, two at a time on two processors, that took a tenth of the whole time.
"""

from __future__ import annotations

import threading
from importlib import import_module


def load(*modules: str) -> None:
    """Load modules, in a thread of their own.

    Raises:
        BaseException: Whatever loading one of them does.
    """
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for module in modules:
                import_module(module)
        except BaseException as error:  # raised below
            errors.append(error)

    thread = threading.Thread(target=work)
    try:
        thread.start()
    except RuntimeError:  # no more threads: then here
        work()
    else:
        thread.join()
    if errors:
        raise errors[0]
