"""What a page is made of: a run as it is recorded, and what was read besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from miniflow.values import dataclass

if TYPE_CHECKING:
    from miniflow.tails import Tail
    from miniflow.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Log:
    """A task's log, as far as the page shows it."""

    tail: Tail
    href: str
    """Where the page finds the whole log, relative to itself and quoted as in a URL."""


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a page says."""

    timeline: Timeline
    logs: Mapping[str, Log]
    """By task, where there is one."""
    again: Mapping[str, str]
    """For each task that failed: what runs it again by hand."""
    made_at: str
    """When this was read: RFC 3339, in UTC."""
    version: str
    """Of MiniFlow."""
    has_plan: bool = True
    """Whether a new run can go on from it: from one of the bash script none can."""
