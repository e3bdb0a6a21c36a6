"""The group that a process leads: who is signalled, whether by a descriptor of its leader or by its number alone."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import miniflow
from miniflow.executors import group
from miniflow.executors.group import Group
from miniflow.guardian import read_stat
from tests.conftest import Space

LEADER = "sleep 1000 & echo $!; exit 0"
"""A leader that leaves a member behind, whose pid it prints."""


@pytest.fixture(params=["descriptor", "number"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By what a group is known here."""
    if request.param == "number":
        monkeypatch.setattr(group, "_takes_groups", False)
    else:
        with subprocess.Popen(["sleep", "1000"], start_new_session=True) as own:
            pidfd = os.pidfd_open(own.pid)
            monkeypatch.setattr(group, "_takes_groups", None)
            takes_groups = Group(own.pid, pidfd).outlives_its_number
            os.close(pidfd)
            own.kill()
        if not takes_groups:
            pytest.skip("this system signals no group by a descriptor")
    return str(request.param)


class Led:
    """A group whose leader has ended, and a member that is left of it."""

    def __init__(self) -> None:
        self._leader = subprocess.Popen(["sh", "-c", LEADER], stdout=subprocess.PIPE, start_new_session=True)
        assert self._leader.stdout is not None
        self.member = int(self._leader.stdout.readline())
        self._pidfd = os.pidfd_open(self._leader.pid)
        self._member_fd = os.pidfd_open(self.member)
        os.waitid(os.P_PID, self._leader.pid, os.WEXITED | os.WNOWAIT)
        self.group = Group(self._leader.pid, self._pidfd)

    def reap(self) -> None:
        os.waitid(os.P_PID, self._leader.pid, os.WEXITED)
        self._leader.returncode = 0

    def is_member_gone(self, wait_s: float) -> bool:
        """Whether it has ended, within so long."""
        return bool(select.select([self._member_fd], [], [], wait_s)[0])

    def close(self) -> None:
        signal.pidfd_send_signal(self._member_fd, signal.SIGKILL)
        os.close(self._pidfd)
        os.close(self._member_fd)
        assert self._leader.stdout is not None
        self._leader.stdout.close()
        if self._leader.returncode is None:
            self.reap()


@pytest.fixture
def led(way: str) -> Iterator[Led]:
    """A group, known in that way."""
    led = Led()
    assert led.group.outlives_its_number == (way == "descriptor")
    yield led
    led.close()


def test_whoever_is_left_is_signalled_before_the_leader_is_reaped(led: Led) -> None:
    led.group.signal(signal.SIGTERM)

    assert led.is_member_gone(30)


def test_whoever_is_left_is_signalled_once_the_leader_is_reaped(led: Led) -> None:
    led.reap()
    led.group.leader_was_reaped(by_us=True)
    assert led.group.is_left()

    led.group.signal(signal.SIGTERM)

    assert led.is_member_gone(30)
    assert led.group.may_have_members


def test_that_nobody_is_left_is_noticed(way: str) -> None:
    with subprocess.Popen(["true"], start_new_session=True) as leader:
        pidfd = os.pidfd_open(leader.pid)
        alone = Group(leader.pid, pidfd)
    alone.leader_was_reaped(by_us=True)
    assert alone.may_have_members  # nobody has looked

    alone.signal(signal.SIGTERM)
    if way == "number":
        alone.signal(signal.SIGTERM)

    assert not alone.may_have_members
    assert not alone.is_left()
    os.close(pidfd)


def test_nobody_is_signalled_by_a_number_that_may_be_anybodys(led: Led, way: str) -> None:
    led.reap()
    led.group.leader_was_reaped(by_us=False)

    led.group.signal(signal.SIGTERM)

    if way == "descriptor":
        assert led.is_member_gone(30)
    else:
        assert not led.group.may_have_members
        assert not led.is_member_gone(0.1)


def test_nobody_is_signalled_by_the_number_of_a_leader_that_somebody_else_has_reaped(led: Led, way: str) -> None:
    led.reap()  # and nobody says so

    led.group.signal(signal.SIGTERM)

    assert led.is_member_gone(30 if way == "descriptor" else 0.1) == (way == "descriptor")


@pytest.mark.parametrize(
    ("error", "outlives", "known"),
    [(errno.EINVAL, False, False), (errno.EPERM, False, None), (errno.ESRCH, True, True)],
    ids=["the system is too old", "it is forbidden for this one", "nobody is left"],
)
def test_whether_a_system_signals_groups_by_descriptors_is_seen_at_the_first(
    monkeypatch: pytest.MonkeyPatch, error: int, outlives: bool, known: bool | None
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(group, "_takes_groups", None)
    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)

    assert Group(os.getpid(), 0).outlives_its_number == outlives
    assert group._takes_groups is known


@pytest.mark.anyio
async def test_what_a_task_leaves_behind_ends_with_it(space: Space, tmp_path: Path, way: str) -> None:
    space.script(
        "leaves.py",
        "import subprocess, sys\n"
        "left = subprocess.Popen(['sleep', '1000'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(left.pid))\n",
    )
    flow = {"name": "leaving", "tasks": [{"id": "leaves", "script": "leaves.py"}]}

    with anyio.fail_after(60):
        result = await miniflow.run_flow(flow, **space.directories)

    assert result.state == "succeeded"
    stat = read_stat(int((tmp_path / "pid").read_text()))
    assert stat is None or not stat.is_alive
