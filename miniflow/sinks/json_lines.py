"""Events → JSON, one object a line: the one place where the format of a line is written.

A structlog logger of our own renders them: built here and configured explicitly, so that an application's own structlog stays
as it is. Lines of output come as a chunk, through the same processors once, as the encoding of each line apart would cost ten
times as much as reading it.
"""

from __future__ import annotations

from typing import Any

import msgspec
import structlog

from miniflow.events import LEVELS, Event, Level
from miniflow.sinks import Item

# Keys that come first, in this order; then the event's own in theirs. The message stands where a reader of raw lines looks.
_BEFORE_MESSAGE = ("timestamp", "level", "event")


class JsonRenderer:
    """Renders events as bytes, each ended by a newline.

    Args:
        minimum: Events below this level render as nothing.
    """

    def __init__(self, minimum: Level = "debug") -> None:
        self._rendered = b""
        self._logger: Any = structlog.wrap_logger(
            self,  # the last processor's result comes to our own method `emit_rendered`, as of any logger
            processors=[structlog.processors.add_log_level, _contract_order, _encode],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[minimum]),
            context_class=dict,
            cache_logger_on_first_use=True,
        ).bind()

    def render(self, item: Item) -> bytes:
        """Return the lines of an event, or of a chunk of output."""
        event, lines = (item, None) if isinstance(item, Event) else (item.template, item.lines)
        fields = event.to_dict()
        del fields["event"], fields["level"]
        self._rendered = b""
        self._logger.log(LEVELS[event.level], event.name, lines=lines, **fields)
        return self._rendered

    def _keep(self, rendered: bytes) -> None:
        self._rendered = rendered

    # What structlog expects of a logger.
    debug = info = warning = error = _keep


def _contract_order(_: Any, __: str, event_dict: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**{key: event_dict[key] for key in (*_BEFORE_MESSAGE, "message")}, **event_dict}


_encoder = msgspec.json.Encoder()


def _encode(_: Any, __: str, event_dict: structlog.typing.EventDict) -> bytes:
    """Join what stands before the message, the message (or each of many), and what stands after it."""
    message, lines = event_dict.pop("message"), event_dict.pop("lines")
    before = _encoder.encode({key: event_dict.pop(key) for key in _BEFORE_MESSAGE})[:-1] + b',"message":'
    after = b"," + _encoder.encode(event_dict)[1:] + b"\n"
    encode = _encoder.encode
    if lines is None:
        return before + encode(message) + after
    return b"".join([before + encode(line) + after for line in lines])
