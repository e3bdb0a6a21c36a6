"""The process group that a child of ours leads: signalling it, and knowing when nobody is left of it."""

from __future__ import annotations

import os
import signal
import time

from miniflow.guardian import is_group_alive

LOOK_S = 0.02
LONGEST_LOOK_S = 0.5
"""How often to look for the living in a group, which takes a look at each process there is: first, and in the end."""

_TO_GROUP = 4
"""PIDFD_SIGNAL_PROCESS_GROUP, since Linux 6.9: a group is signalled by the descriptor of its leader, dead or alive."""
_takes_groups: bool | None = None
"""Whether this system knows that; None: nobody has asked."""


def _takes_groups_by(pidfd: int) -> bool:
    global _takes_groups
    if _takes_groups is None:
        try:
            signal.pidfd_send_signal(pidfd, 0, None, _TO_GROUP)
            _takes_groups = True
        except ProcessLookupError:  # somebody else has reaped it, and nobody is left
            _takes_groups = True
        except PermissionError:  # it runs as somebody else; or here is a sandbox
            return False
        except OSError:  # an old kernel
            _takes_groups = False
    return _takes_groups


class Group:
    """A group, from the start of its leader on.

    Args:
        pid: The leader's.
        pidfd: A descriptor of the leader that stays open as long as this is used, if there is one.
    """

    def __init__(self, pid: int, pidfd: int | None) -> None:
        self._pid = pid
        self._pidfd = pidfd if pidfd is not None and _takes_groups_by(pidfd) else None
        self._is_reaped = False
        self.may_have_members = True
        """Whether somebody may be in it, if only zombies."""
        self._is_alive = True
        """Whether somebody in it was no zombie, when that was looked at the last time."""
        self._look_at = 0.0
        self._pause_s = LOOK_S

    @property
    def outlives_its_number(self) -> bool:
        """Whether it can be signalled once its leader is reaped, and nobody else be hit.

        Where it is known by its number alone that may be anybody's by then, unless somebody else is left in it.
        """
        return self._pidfd is not None

    def signal(self, number: int) -> None:
        """Signal all that are in it; of a group whose leader was reaped, notice that nobody is."""
        try:
            if self._pidfd is None and not self._is_reaped:
                # Somebody else may have reaped the leader; then its id may be anybody's, and must not be signalled.
                os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            elif self._pidfd is None and not self._is_there():
                return
            self._send(number)
        except ProcessLookupError:
            self.may_have_members = self.may_have_members and not self._is_reaped
        except (ChildProcessError, PermissionError):
            # Nobody is left; or, on a system other than Linux, only a zombie.
            return

    def leader_was_reaped(self, *, by_us: bool) -> None:
        """Say that from now on others alone are left of it, and that its number may be anybody's if we have not reaped it."""
        self._is_reaped = True
        if not by_us and self._pidfd is None:
            self.may_have_members = False

    def is_left(self) -> bool:
        """Return whether somebody is left who has not ended, once the leader was reaped.

        Zombies do not count: whoever adopts them may take its time, or never reap them (the first process of many a container).
        """
        if not self._is_there():
            return False
        now = time.monotonic()
        if now >= self._look_at:
            self._is_alive = is_group_alive(self._pid)
            self._look_at = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_LOOK_S)
        return self._is_alive

    def _is_there(self) -> bool:
        """Return whether it has members, if only zombies."""
        if self.may_have_members:
            try:
                self._send(0)
            except ProcessLookupError:
                self.may_have_members = False
            except PermissionError:
                pass
        return self.may_have_members

    def _send(self, number: int) -> None:
        if self._pidfd is not None:
            signal.pidfd_send_signal(self._pidfd, number, None, _TO_GROUP)
        else:
            os.killpg(self._pid, number)
