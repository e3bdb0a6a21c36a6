"""Keeps the values of secrets out of what tasks print: bytes in, bytes out.

The script of a flow with secrets holds this text and runs it, so that it masks as the scheduler does: it stands alone, in a
Python that older ones read too.
"""

from __future__ import annotations

from collections.abc import Iterable

MASK = b"***"
MIN_CHARACTERS = 4
"""Shorter values are not masked: they would be found in half of all that is printed."""


def masked_texts(value: bytes) -> list[bytes]:
    """Return the texts that are masked for a secret: its value and, of a value with line breaks, each line as well."""
    # The line breaks around it are not masked: they end the lines of the output.
    texts = dict.fromkeys([value.strip(b"\r\n"), *value.splitlines()])
    return [text for text in texts if len(text.decode("utf-8", "surrogateescape")) >= MIN_CHARACTERS]


class Pattern:
    """A text to be masked."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        # After how many bytes it may begin again: fewer than its length if it can overlap itself.
        self._period = next(period for period in range(1, len(text) + 1) if text.startswith(text[period:]))

    def find(self, data: bytes) -> list[tuple[int, int]]:
        """Return where it begins and ends, in order. What overlaps is one: a row of 1000 stars holds 997 times four."""
        found = []
        period, rest = self._period, self.text[-self._period :]
        at = data.find(self.text)
        while at >= 0:
            end = at + len(self.text)
            while period < len(self.text) and data.startswith(rest, end):
                end += period
            found.append((at, end))
            at = data.find(self.text, end - len(self.text) + period)
        return found


def patterns(values: Iterable[bytes]) -> list[Pattern]:
    """Return what a masker looks for, given the values of all secrets."""
    return [Pattern(text) for text in dict.fromkeys(text for value in values for text in masked_texts(value))]


class Masker:
    """Masks texts in one stream, which comes in chunks: what comes out is the same however it is cut.

    Texts that overlap are masked as one. What may be the beginning of a text is held back until more comes, and nothing else.
    """

    def __init__(self, patterns: list[Pattern]) -> None:
        self._patterns = patterns
        self._held = b""
        self._masked = 0
        """How many bytes at the beginning of what is held are masked already."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be given out now."""
        data = self._held + chunk if self._held else chunk
        return self._mask(data, self._first_open(data))

    def end(self) -> bytes:
        """Return what is left when the stream has ended."""
        return self._mask(self._held, len(self._held))

    def _mask(self, data: bytes, end: int) -> bytes:
        """Return what comes before `end`, masked, and hold the rest back."""
        parts: list[bytes] = []
        masked = self._masked
        # A search for each text is faster than one with a regular expression.
        for start, stop in sorted(place for pattern in self._patterns for place in pattern.find(data)):
            if start >= end:
                break  # found again when the rest is known
            if start >= masked:
                parts += (data[masked:start], MASK)
            masked = max(masked, stop)
        parts.append(data[masked:end])
        self._held = data[end:]
        self._masked = max(masked - end, 0)
        return b"".join(parts)

    def _first_open(self, data: bytes) -> int:
        """Return where the first text begins that may go on in the next chunk; the end of the data if there is none."""
        first = len(data)
        for text in (pattern.text for pattern in self._patterns):
            at = data.find(text[:1], max(len(data) - len(text) + 1, 0), first)
            while at >= 0:
                if text.startswith(data[at:]):
                    first = at
                    break
                at = data.find(text[:1], at + 1, first)
        return first
