"""Bytes as they come out of a pipe → lines of text."""

from __future__ import annotations

MAX_LINE_BYTES = 64 * 1024
LEAST_PART_BYTES = MAX_LINE_BYTES - 3
"""Of a longer line all parts have so many bytes but the last, which has fewer: no character is cut in two."""
MAX_GROUP_LINES = 4096
"""Of lines that are given out together: as events they take far more room than they do here, if they are short."""


class LineSplitter:
    """Cuts the output of one stream into lines, in memory bounded by MAX_LINE_BYTES and what is fed at once.

    Lines are given out as one text, with a newline between each and the next: what is done to all of them alike takes no object
    a line. Bytes that are not UTF-8 become backslash escapes (`\\xff`). A longer line comes in parts of at most MAX_LINE_BYTES.
    """

    def __init__(self) -> None:
        self._rest = bytearray()  # of the line that has no end yet
        self._in_long_line = False

    def feed(self, data: bytes) -> list[tuple[str, bool]]:
        """Return the lines that are complete now, in order, as groups: the lines, and whether they are parts of a long one."""
        end = data.rfind(b"\n") + 1
        groups: list[tuple[str, bool]] = []
        if end:
            groups = self._split(b"".join((self._rest, memoryview(data)[: end - 1])))
            self._rest = bytearray(data[end:])
        else:
            self._rest += data  # in place: of a task that prints byte by byte, what is there is not copied each time
        if len(self._rest) > MAX_LINE_BYTES:
            parts, rest = _cut(bytes(self._rest))
            self._rest = bytearray(rest)
            self._in_long_line = True
            groups.append(("\n".join(parts), True))
        return groups

    def end(self) -> list[tuple[str, bool]]:
        """Return what is left when the stream has ended: a last line without its end."""
        rest, self._rest = bytes(self._rest), bytearray()
        long, self._in_long_line = self._in_long_line, False
        return [(_decode(rest), long)] if rest else []

    def _split(self, whole: bytes) -> list[tuple[str, bool]]:
        """Return the groups of lines that are there whole; the last without its newline."""
        groups: list[tuple[str, bool]] = []
        if self._in_long_line:
            # The end of a line whose beginning was given out.
            self._in_long_line = False
            last, newline, whole = whole.partition(b"\n")
            groups.append((_parts(last), True))
            if not newline:
                return groups
        if _has_long_line(whole):
            for line in whole.split(b"\n"):
                long = len(line) > MAX_LINE_BYTES
                groups.append((_parts(line) if long else _decode(line), long))
        elif len(whole) - len(whole.replace(b"\n", b"")) < MAX_GROUP_LINES:  # three times as fast as to count them
            groups.append((_decode(whole), False))
        else:
            lines = _decode(whole).split("\n")
            groups += [("\n".join(lines[n : n + MAX_GROUP_LINES]), False) for n in range(0, len(lines), MAX_GROUP_LINES)]
        return groups


def _has_long_line(whole: bytes) -> bool:
    """Return whether a line is longer than MAX_LINE_BYTES, without looking at each."""
    start = 0
    while len(whole) - start > MAX_LINE_BYTES:
        # From the beginning of one line to that of the last that can be reached.
        start = whole.rfind(b"\n", start, start + MAX_LINE_BYTES + 1) + 1
        if start == 0:
            return True
    return False


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _parts(line: bytes) -> str:
    """Return the last parts of a long line; where it is cut just so that none is shorter, an empty one ends it."""
    parts, rest = _cut(line)
    return "\n".join((*parts, _decode(rest), *([""] if len(rest) >= LEAST_PART_BYTES else [])))


def _cut(line: bytes) -> tuple[list[str], bytes]:
    """Return parts of at most MAX_LINE_BYTES, and a rest that is not longer; no character is cut in two."""
    parts = []
    start = 0
    while len(line) - start > MAX_LINE_BYTES:
        end = start + MAX_LINE_BYTES
        back = end
        while back > end - 4 and line[back] & 0b1100_0000 == 0b1000_0000:  # in the midst of a character
            back -= 1
        if line[back] & 0b1100_0000 == 0b1100_0000:
            end = back
        parts.append(_decode(line[start:end]))
        start = end
    return parts, line[start:]
