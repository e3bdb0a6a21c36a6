"""A program that runs the command line and sends itself a signal at a chosen instant.

    python instants.py REPORT INSTANT SIGNALS ARGUMENT...

An instant is a line of MiniFlow's own code when it is first reached. INSTANT is a number; `exit`, when Python has nothing left
to do but to take itself down; or `forkN`: each N-th of all, in a child that has only the signal and its consequences before it.
SIGNALS are the signals' numbers with commas between them: a second one comes one instant after the first.

REPORT gets one JSON object: `instants`, how many there were; `ends`, for each child its exit status; `whole`, the instants that
cannot be left to a child, as they are in the midst of writing a file; `loaded`, the modules that were loaded before Ctrl-C had
its default; `sent`, how many of the signals were sent.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import signal
import sys

report, instant, numbers = sys.argv[1], sys.argv[2], [int(number) for number in sys.argv[3].split(",")]
sys.argv[:4] = ["miniflow"]
sys.path.pop(0)
fork_every = int(instant.removeprefix("fork")) if instant.startswith("fork") else 0

main_pid = os.getpid()
spec = importlib.util.find_spec("miniflow")  # which does not load it
package = os.path.join(*spec.submodule_search_locations, "")  # not its name alone: the folder of a clone may have that, too
seen = set()
count = 0
ends = {}
whole = []
loaded = None
sent = 0


def write_report():
    if os.getpid() == main_pid:
        with open(report, "w") as file:
            json.dump({"instants": count, "ends": ends, "whole": whole, "loaded": loaded, "sent": sent}, file)


def send():
    global sent
    os.kill(os.getpid(), numbers[sent])
    sent += 1


def reach(frame):
    global count, loaded
    place = (frame.f_code.co_filename, frame.f_lineno)
    if place in seen:
        return
    seen.add(place)
    if loaded is None:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            return  # what cannot be helped: see `loaded`
        loaded = sorted(set(sys.modules) - modules_at_first)
    count += 1
    if fork_every:
        fork()
    elif sent < len(numbers) and count >= int(instant):
        send()


def fork():
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if numbers[0] in blocked:
        whole.append(count)
        return
    if count % fork_every:
        return
    child = os.fork()
    if child == 0:
        sys.settrace(None)
        os.kill(os.getpid(), numbers[0])
        return
    ends[count] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def trace(frame, event, argument):
    if not frame.f_code.co_filename.startswith(package) or os.getpid() != main_pid:
        return None
    if event == "line":
        reach(frame)
    return trace


atexit.register(write_report)
if instant == "exit":
    atexit.register(lambda: send() if os.getpid() == main_pid else None)

import runpy  # noqa: E402
import threading  # noqa: E402

modules_at_first = set(sys.modules)
if instant != "exit":
    threading.settrace(trace)
    sys.settrace(trace)
runpy.run_module("miniflow", run_name="__main__", alter_sys=True)
