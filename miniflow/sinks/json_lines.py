"""Events → JSON, one object a line: the one place where the format of a line is written.

A structlog logger of our own renders them: built here and configured explicitly, so that an application's own structlog stays
as it is. Lines of output come as a chunk: what they have in common is rendered once, and all of their text is encoded at once,
as the encoding of each line apart would cost ten times as much as reading it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from miniflow.events import Event
from miniflow.sinks import Item


class Rendered(msgspec.Struct, frozen=True):
    """What comes of an item."""

    item: Item
    fields: Mapping[str, Any]
    """The object that its event is; of a chunk, one without a message."""
    lines: bytes | bytearray


_MOST_KEPT = 64
"""Events whose rendering is kept; more than are ever told together."""

_encoder = msgspec.json.Encoder()
_NO_MESSAGE = b'"message":""'

_STAND_IN = "\x7f"
"""Stands for a newline while text is encoded, as it stays what it is: a newline becomes `\\n`, which may also be what comes of
a backslash before an n. Hardly anybody prints it, and no name has it."""


class JsonRenderer:
    """Renders events as bytes, each ended by a newline.

    What was rendered last is kept: the record and standard output are given the same items, and each is rendered once.
    """

    def __init__(self) -> None:
        self._log: _EventLog = structlog.wrap_logger(
            None, processors=[_encode], wrapper_class=_EventLog, context_class=dict
        ).bind()
        self._kept: dict[int, Rendered] = {}
        """By the identity of the item."""
        self._has_chunk = False

    def render_item(self, item: Item) -> Rendered:
        """Return all that is known of an event, or of a chunk of output."""
        known = self._kept.get(id(item))
        if known is not None:
            return known
        if self._has_chunk or len(self._kept) == _MOST_KEPT:  # a chunk is large, and the last of those told together
            self._kept.clear()
        self._has_chunk = not isinstance(item, Event)
        event = item if isinstance(item, Event) else item.template
        fields = event.to_dict()
        line = self._log.render(event.name, fields)
        rendered = Rendered(item, fields, line if isinstance(item, Event) else _with_messages(line, item.text))
        self._kept[id(item)] = rendered
        return rendered


class _EventLog(structlog.BoundLoggerBase):
    """A logger that returns what its processors make of an event."""

    def render(self, name: str, fields: dict[str, Any]) -> bytes:
        (rendered,), _ = self._process_event(fields["level"], name, fields)
        line: bytes = rendered
        return line


def _encode(_: Any, __: str, event_dict: structlog.typing.EventDict) -> bytes:
    return _encoder.encode(event_dict) + b"\n"


def _with_messages(line: bytes, text: str) -> bytes | bytearray:
    """Return a line without a message once for each of many: the lines of a text."""
    before, _, after = line.partition(_NO_MESSAGE)  # no key or value before the message has quotes in it
    before += _NO_MESSAGE[:-2]
    if _STAND_IN in text:
        return b"".join([before + _encoder.encode(message) + after for message in text.split("\n")])
    # In place: a chunk is large enough for each copy to count.
    rendered = bytearray(before)
    _encoder.encode_into(text.replace("\n", _STAND_IN), rendered, len(before))
    rendered += after
    return rendered.replace(_STAND_IN.encode(), b'"' + after + before + b'"')
