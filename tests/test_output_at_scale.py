"""What tasks print, at scale and of every kind: nothing lost, nothing reordered within a stream, memory bounded.

The full amounts are behind the marker `stress`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from miniflow.lines import MAX_LINE_BYTES, LineSplitter
from tests.conftest import Space
from tests.terminals import Terminal

MIB = 1024 * 1024
GROWTH_MIB = 32

# Runs the command line, and writes the most memory that it had into a file.
MEASURED = """
import atexit, os
from miniflow.__main__ import main

def write():
    with open("/proc/self/status") as status, open(os.environ["PEAK"], "w") as file:
        file.write(next(line for line in status if line.startswith("VmHWM")).split()[1])

atexit.register(write)
main()
"""

# What a task and the test that judges it both make of a seed: chunks, and the stream of each.
CHUNKS = '''
import random


def chunks(seed, size):
    """Yield chunks of that many bytes in all, each with the descriptor that it is written to."""
    rng = random.Random(seed)
    while size > 0:
        kind = rng.randrange(10)
        length = rng.choice((1, 10, 1000, 5000, 70_000, 200_000))
        if kind < 6:
            data = rng.randbytes(length)
        elif kind < 8:
            data = ("aé日🎈\\0\\x1b[2J\\r\\x85\\u2028\\t\\\\xff" * length)[: length // 2 + 1].encode()[:length]
        elif kind < 9:
            data = b"x" * (2 * length)
        else:
            data = b"\\n" * min(length, 1000)
        data = data[:size]
        size -= len(data)
        yield rng.choice((1, 2)), data
'''
WRITES = """
import os, sys
for descriptor, data in chunks(int(sys.argv[1]), int(sys.argv[2])):
    while data:
        data = data[os.write(descriptor, data) :]
"""


def chunks(seed: int, size: int) -> Iterator[tuple[int, bytes]]:
    names: dict[str, Callable[[int, int], Iterator[tuple[int, bytes]]]] = {}
    exec(CHUNKS, names)  # noqa: S102  the text that the task runs
    return names["chunks"](seed, size)


def measured(space: Space, script: str, *args: object, log_format: str = "json") -> float:
    """Run a task through the command line; return the most memory that it had, in MiB."""
    space.script("task.py", script)
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "task.py", "args": [str(arg) for arg in args]}]})
    peak = space.path / "peak"
    process = subprocess.run(
        [sys.executable, "-c", MEASURED, "-o", str(space.output_dir), "run", "f", "--log-format", log_format],
        cwd=space.path,
        env=space.environ({"PEAK": str(peak)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return int(peak.read_text()) / 1024


class Growth:
    """How much more memory a task takes than one that prints a line."""

    def __init__(self, space: Space) -> None:
        self._small = {
            log_format: measured(space, "print('hello')", log_format=log_format) for log_format in ("json", "console")
        }

    def over_small(self, peak_mib: float, log_format: str) -> float:
        return peak_mib - self._small[log_format]

    def of(self, space: Space, script: str, *args: object, log_format: str = "json") -> float:
        """Run a task; return the growth in MiB."""
        return self.over_small(measured(space, script, *args, log_format=log_format), log_format)


@pytest.fixture(scope="module")
def growth(tmp_path_factory: pytest.TempPathFactory) -> Growth:
    return Growth(Space(tmp_path_factory.mktemp("small")))


def output(space: Space, task_id: str = "t") -> Iterator[dict[str, Any]]:
    """Yield the lines of output in the log of a task, as events."""
    with (space.latest("f") / f"logs/{task_id}.jsonl").open(encoding="utf-8", newline="\n") as log:
        for line in log:
            event = json.loads(line)
            if event["event"] == "task.output":
                yield event


def check_output(space: Space, printed: dict[str, bytes], task_id: str = "t") -> None:
    """See that the log holds what was printed to each stream, line by line, each long one in parts."""
    messages: dict[str, list[tuple[str, bool]]] = {stream: [] for stream in printed}
    for event in output(space, task_id):
        messages[event["stream"]].append((event["message"], event.get("partial", False)))
    for stream, data in printed.items():
        rest = iter(messages[stream])
        for line in data.removesuffix(b"\n").split(b"\n") if data else []:
            text = line.decode(errors="backslashreplace")
            if len(line) <= MAX_LINE_BYTES:
                assert next(rest) == (text, False)
                continue
            parts = []
            while sum(map(len, parts)) < len(text):
                part, is_partial = next(rest)
                assert is_partial
                parts.append(part)
            assert "".join(parts) == text
        assert next(rest, None) is None


# --- how much


def a_million_lines(space: Space, growth: Growth, count: int) -> None:
    grown = growth.of(space, "import sys\nfor n in range(int(sys.argv[1])): sys.stdout.write(f'line {n}\\n')", count)

    assert grown < GROWTH_MIB
    for n, event in enumerate(output(space)):
        assert event["message"] == f"line {n}"
    assert n == count - 1


def test_a_hundred_thousand_lines_are_recorded_one_by_one(space: Space, growth: Growth) -> None:
    a_million_lines(space, growth, 100_000)


@pytest.mark.stress
def test_a_million_lines_are_recorded_one_by_one(space: Space, growth: Growth) -> None:
    a_million_lines(space, growth, 1_000_000)


ONE_LINE = """
import os, sys
left = int(sys.argv[1])
data = b"0123456789" * 10_000
while left:
    left -= os.write(1, data[: min(left, len(data))])
"""


def one_line(space: Space, growth: Growth, size: int, log_format: str) -> None:
    grown = growth.of(space, ONE_LINE, size, log_format=log_format)

    assert grown < GROWTH_MIB
    recorded = 0
    for event in output(space):
        assert event["partial"]
        # Any of its digits says where it belongs.
        assert event["message"][0] == str(recorded % 10)
        recorded += len(event["message"])
    assert recorded == size


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_one_line_of_64_mib_takes_no_memory(space: Space, growth: Growth, log_format: str) -> None:
    one_line(space, growth, 64 * MIB, log_format)


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_one_line_of_1_gib_takes_no_memory(space: Space, growth: Growth) -> None:
    one_line(space, growth, 1024 * MIB, "json")


def random_bytes(space: Space, growth: Growth, size: int, log_format: str) -> None:
    grown = growth.of(space, CHUNKS + WRITES, 1, size, log_format=log_format)

    assert grown < GROWTH_MIB
    printed = {"stdout": bytearray(), "stderr": bytearray()}
    for descriptor, data in chunks(1, size):
        printed["stdout" if descriptor == 1 else "stderr"] += data
    check_output(space, {stream: bytes(data) for stream, data in printed.items()})


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_2_mb_of_random_bytes_are_recorded_to_the_byte(space: Space, growth: Growth, log_format: str) -> None:
    random_bytes(space, growth, 2_000_000, log_format)


@pytest.mark.stress
@pytest.mark.timeout(1200)
def test_100_mb_of_random_bytes_are_recorded_to_the_byte(space: Space, growth: Growth) -> None:
    random_bytes(space, growth, 100_000_000, "json")


def test_the_script_records_random_bytes_as_they_are(space: Space) -> None:
    size = 2_000_000
    space.script("task.py", CHUNKS + WRITES)
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "task.py", "args": ["2", str(size)]}]})
    assert space.miniflow("run", "f", "--dry-run").returncode == 0

    process = space.bash(space.output_dir / "f.sh")

    assert process.returncode == 0
    assert (space.latest("f") / "logs/t.log").read_bytes() == b"".join(data for _, data in chunks(2, size))


def test_lines_without_text_take_no_memory_though_as_events_they_are_long(space: Space, growth: Growth) -> None:
    grown = growth.of(space, "import sys; sys.stdout.write('\\n' * 200_000)")

    assert grown < GROWTH_MIB
    assert sum(1 for _ in output(space)) == 200_000


def test_a_hundred_thousand_writes_of_one_byte_are_one_line(space: Space) -> None:
    space.script("task.py", "import os\nfor _ in range(100_000): os.write(1, b'x')")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "task.py"}]})

    assert space.miniflow("run", "f").returncode == 0

    assert "".join(event["message"] for event in output(space)) == "x" * 100_000


def test_a_line_that_comes_byte_by_byte_is_not_copied_with_each(space: Space) -> None:
    splitter = LineSplitter()

    for _ in range(MAX_LINE_BYTES):
        assert splitter.feed(b"x") == []  # would take a minute for a thousand such lines

    assert splitter.feed(b"\n") == [("x" * MAX_LINE_BYTES, False)]


STANDS_STILL = """
import os, select
os.set_blocking(1, False)
poll = select.poll()
poll.register(1, select.POLLOUT)
left = 20_000_000
while left:
    if not poll.poll(500):  # nobody has read for so long
        open("still", "w").close()
        poll.poll()
    left -= os.write(1, b"0123456789" * min(400, left // 10))
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_reader_that_stands_still_slows_the_task_down_and_takes_no_memory(
    space: Space, growth: Growth, log_format: str
) -> None:
    space.script("task.py", STANDS_STILL)
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "task.py"}]})
    os.mkfifo(space.path / "still")
    peak = space.path / "peak"
    with subprocess.Popen(
        [sys.executable, "-c", MEASURED, "-o", str(space.output_dir), "run", "f", "--log-format", log_format],
        cwd=space.path,
        env=space.environ({"PEAK": str(peak)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        (space.path / "still").open("rb").close()  # waits until the task has opened it too

        shown = process.stdout.read()

    assert process.returncode == 0
    assert growth.over_small(int(peak.read_text()) / 1024, log_format) < GROWTH_MIB
    assert "".join(event["message"] for event in output(space)) == "0123456789" * 2_000_000
    if log_format == "json":
        assert sum(
            len(event["message"]) for event in map(json.loads, shown.splitlines()) if event["event"] == "task.output"
        ) == (20_000_000)
    else:
        assert shown.count(b"0") == 2_000_000


# --- of what kind

KINDS = {
    "NULs": b"a\0b\n\0\n\0",
    "invalid UTF-8": b"caf\xe9\n\xff\xfe\n\xc3\n\xf0\x9f\x8e\n",
    "surrogates as bytes": b"\xed\xa0\x80\xed\xb0\x80\n",
    "overlong": b"\xc0\x80\xe0\x80\xaf\n",
    "terminal commands": b"\x1b[2J\x1b]0;title\x07\x1bP$q\x1b\\\x9b31m\n",
    "no final newline": b"one\ntwo",
    "one newline": b"\n",
    "carriage returns": b"10%\r20%\r\n\r",
    "other ends of lines": "a\x85b\u2028c\u2029d\x0be\x0cf\x1cg\n".encode(),
    "a byte order mark": b"\xef\xbb\xbfa\n",
    "what looks like an event": b'{"event": "run.finished"}\n',
    "backslashes": b"\\xff \\n \\\\ \\u2028\n",
}


def test_bytes_of_any_kind_are_recorded_on_both_streams(space: Space) -> None:
    tasks = []
    for n, data in enumerate(KINDS.values()):
        space.script(f"{n}.py", f"import os\nos.write(1, {data!r})\nos.write(2, {data!r})")
        tasks.append({"id": f"t{n}", "script": f"{n}.py"})
    space.flow({"name": "f", "tasks": tasks})

    assert space.miniflow("run", "f", "--parallel", "4").returncode == 0

    for n, data in enumerate(KINDS.values()):
        check_output(space, {"stdout": data, "stderr": data}, f"t{n}")


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_nothing_that_acts_on_a_terminal_comes_there(space: Space, term: str) -> None:
    every = b"".join(KINDS.values()) + bytes(range(256)) + "".join(map(chr, range(0x80, 0x2100))).encode()
    space.script("task.py", f"import os\nfor stream in 1, 2: os.write(stream, {every!r})")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "task.py"}]})

    terminal = Terminal(space, "run", "f", env={"TERM": term})

    assert terminal.end() == 0
    text = terminal.written
    assert "t │ \\x1b[2J\\x1b]0;title\\x07\\x1bP$q\\x1b\\\\x9b31m\n" in text
    left = {character for character in text if not character.isprintable()} - {"\n", "\t"}
    assert not {character for character in left if ord(character) < 0xA0 or 0x2028 <= ord(character) <= 0x202E}


def test_two_streams_that_mix_keep_their_order_each(space: Space) -> None:
    rng = random.Random(1)  # noqa: S311
    order = [rng.choice((1, 2)) for _ in range(5000)]
    space.script("task.py", f"import os\nfor n, stream in enumerate({order}): os.write(stream, b'%d\\n' % n)")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "task.py"}]})

    assert space.miniflow("run", "f").returncode == 0

    for stream, descriptor in (("stdout", 1), ("stderr", 2)):
        recorded = [int(event["message"]) for event in output(space) if event["stream"] == stream]
        assert recorded == [n for n, chosen in enumerate(order) if chosen == descriptor]


def test_a_task_that_closes_one_stream_prints_on_to_the_other(space: Space) -> None:
    space.script("task.py", "import os; os.write(1, b'last\\n'); os.close(1); os.write(2, b'more\\n' * 30_000)")
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "task.py"}]})

    assert space.miniflow("run", "f").returncode == 0

    check_output(space, {"stdout": b"last\n", "stderr": b"more\n" * 30_000})


def test_what_a_process_that_holds_the_pipe_prints_before_the_task_ends_is_recorded(space: Space) -> None:
    child = "import os, time; os.write(1, b'from the child\\n'); open(os.environ['RECORDS'] + '/printed', 'w'); time.sleep(600)"
    space.script(
        "task.py",
        f"""
        import os, subprocess, sys
        os.mkfifo(os.environ["RECORDS"] + "/printed")
        subprocess.Popen([sys.executable, "-c", {child!r}])
        open(os.environ["RECORDS"] + "/printed").read()
        print("from the task")
        """,
    )
    space.flow({"name": "f", "tasks": [{"id": "t", "script": "task.py"}]})

    assert space.miniflow("run", "f").returncode == 0

    assert [event["message"] for event in output(space)] == ["from the child", "from the task"]


def test_the_log_of_one_task_is_its_own_whoever_prints_at_once(space: Space) -> None:
    space.script("task.sh", 'for ((i = 0; i < 500; i++)); do echo "$MINIFLOW_TASK_ID $i"; done')
    space.flow({"name": "f", "tasks": [{"id": f"t{n}", "script": "task.sh"} for n in range(8)]})

    assert space.miniflow("run", "f", "--parallel", "8").returncode == 0

    for n in range(8):
        log = Path(space.latest("f") / f"logs/t{n}.jsonl").read_text().splitlines()
        messages = [event["message"] for event in map(json.loads, log) if event["event"] == "task.output"]
        assert messages == [f"t{n} {i}" for i in range(500)]
