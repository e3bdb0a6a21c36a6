"""Each call of the operating system fails once, whichever it is: no false success, no orphan, no traceback, no hang.

The command runs in a process of its own (see `tests.faulty`) with its n-th call of one kind failing, for each kind and n.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.conftest import Space
from tests.faulty import ERRORS
from tests.judging import Faulty


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    server = Faulty(Space(tmp_path_factory.mktemp("faulty")))
    yield server
    server.close()


@pytest.fixture
def faulty(server: Faulty) -> Faulty:
    server.problems.clear()
    return server


CASES = [(kind, number) for kind, numbers in ERRORS.items() for number in numbers]


@pytest.mark.stress
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("flow", ["good", "bad", "quick"])
@pytest.mark.parametrize(("kind", "number"), CASES)
def test_every_call_may_fail(faulty: Faulty, flow: str, kind: str, number: int) -> None:
    index = 0
    while faulty.run(flow, kind, index, number):
        index += 1

    assert not faulty.problems, "\n".join(faulty.problems)


@pytest.mark.parametrize("kind", ["write", "link"])
def test_a_call_may_fail_that_records_an_end_while_the_next_task_runs(faulty: Faulty, kind: str) -> None:
    for index in range(4, 16, 3):
        faulty.run("quick", kind, index, errno.ENOSPC)

    assert not faulty.problems, "\n".join(faulty.problems)


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_one_call_in_many_may_fail(faulty: Faulty, kind: str, number: int) -> None:
    index, step = 0, 1
    while faulty.run("bad" if kind == "waitid" else "good", kind, index, number):
        index += step
        step *= 6

    assert not faulty.problems, "\n".join(faulty.problems)
