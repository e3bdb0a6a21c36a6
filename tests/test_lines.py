"""From the bytes of a pipe to lines of text: nothing lost, nothing split wrongly, memory bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniflow import lines
from miniflow.lines import LEAST_PART_BYTES, MAX_LINE_BYTES, LineSplitter

Line = tuple[str, bool]


def split(*chunks: bytes) -> list[Line]:
    """Return all lines of a stream that comes in these chunks, each with whether it is a part."""
    splitter = LineSplitter()
    groups = [group for chunk in chunks for group in splitter.feed(chunk)]
    groups += splitter.end()
    return [(line, partial) for text, partial in groups for line in text.split("\n")]


@pytest.fixture
def short_lines(monkeypatch: pytest.MonkeyPatch) -> int:
    """Lower the limit so that lines beyond it are cheap to make."""
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 8)
    return 8


pieces = st.one_of(
    st.binary(max_size=6),
    st.text(max_size=4).map(lambda text: text.encode()),
    st.sampled_from([b"\n", b"\r\n", b"\n\n", b"x" * 20, "é€😀".encode() * 4, b"\xff" * 9, b"\xf0\x9f\x98", b"\xe2\x82"]),
)
streams = st.lists(pieces, max_size=12).map(b"".join)


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@given(streams, st.lists(st.integers(0, 10_000), max_size=10))
def test_the_chunks_that_bytes_come_in_make_no_difference(data: bytes, cuts: list[int]) -> None:
    assert split(*chunked(data, cuts)) == split(data)


@given(streams)
def test_lines_are_what_stands_between_the_ends_of_lines(data: bytes) -> None:
    expected = data.decode("utf-8", "backslashreplace").split("\n")
    if expected[-1] == "":
        expected.pop()  # the last line has its end

    assert split(data) == [(line, False) for line in expected]


@given(streams, st.lists(st.integers(0, 10_000), max_size=10))
def test_long_lines_come_in_parts_and_nothing_of_them_is_lost(data: bytes, cuts: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "MAX_LINE_BYTES", 8)
        result = split(*chunked(data, cuts))
        assert result == split(data)

    # Put together again, line by line: a part belongs to the line before it as long as that line is not whole.
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    rest = list(result)
    for raw in expected:
        whole = raw.decode("utf-8", "backslashreplace")
        if len(raw) <= 8:
            assert rest.pop(0) == (whole, False)
            continue
        joined = ""
        while joined != whole:
            text, partial = rest.pop(0)
            assert partial
            assert text
            joined += text
            assert whole.startswith(joined)
    assert rest == []


@given(st.text(alphabet="aé€😀", min_size=9, max_size=40))
def test_no_character_is_cut_in_two(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "MAX_LINE_BYTES", 8)
        parts = [line for line, _ in split(text.encode() + b"\n")]

    assert "".join(parts) == text
    assert all(len(part.encode()) <= 8 for part in parts)


def test_a_line_is_given_out_as_soon_as_its_end_is_there() -> None:
    splitter = LineSplitter()

    assert splitter.feed(b"one\ntw") == [("one", False)]
    assert splitter.feed(b"o") == []
    assert splitter.feed(b"\n") == [("two", False)]
    assert splitter.end() == []


def test_a_last_line_without_its_end_is_a_line() -> None:
    assert split(b"one\ntwo") == [("one", False), ("two", False)]


def test_empty_lines_are_lines() -> None:
    assert split(b"\n\na\n\n") == [("", False), ("", False), ("a", False), ("", False)]


def test_only_a_newline_ends_a_line() -> None:
    text = "a\rb\x0bc\x0cd\x1ce\x85f\u2028g\u2029h"

    assert split(text.encode()) == [(text, False)]


def test_bytes_that_are_no_utf8_become_escapes() -> None:
    assert split(b"caf\xe9 \xff\x00 ok\n") == [("caf\\xe9 \\xff\x00 ok", False)]


def test_a_character_whose_bytes_come_apart_stays_one() -> None:
    euro = "€".encode()

    assert split(euro[:1], euro[1:2], euro[2:]) == [("€", False)]


def test_a_line_of_exactly_the_limit_is_whole_and_one_byte_more_is_two_parts() -> None:
    assert split(b"x" * MAX_LINE_BYTES + b"\n") == [("x" * MAX_LINE_BYTES, False)]
    assert split(b"x" * (MAX_LINE_BYTES + 1) + b"\n") == [("x" * MAX_LINE_BYTES, True), ("x", True)]


def test_after_a_long_line_lines_are_whole_again(short_lines: int) -> None:
    assert split(b"x" * 9, b"yz\nshort\n") == [("x" * 8, True), ("xyz", True), ("short", False)]


def test_a_long_line_without_an_end_is_all_parts(short_lines: int) -> None:
    assert split(b"x" * 17) == [("x" * 8, True), ("x" * 8, True), ("x", True)]


def test_no_more_is_kept_back_than_one_part() -> None:
    splitter = LineSplitter()
    given_out = 0
    for _ in range(64):
        given_out += sum(len(text) for text, _ in splitter.feed(b"x" * 10_000))

        assert len(splitter._rest) <= MAX_LINE_BYTES

    assert given_out + sum(len(text) for text, _ in splitter.end()) == 640_000


@pytest.mark.parametrize("size", [LEAST_PART_BYTES - 1, LEAST_PART_BYTES, MAX_LINE_BYTES])
@pytest.mark.parametrize("together", [True, False])
def test_the_last_part_of_a_long_line_is_shorter_than_the_others(size: int, together: bool) -> None:
    data = b"x" * (MAX_LINE_BYTES + size) + b"\n"
    splitter = LineSplitter()
    groups = splitter.feed(data) if together else [*splitter.feed(data[:-1]), *splitter.feed(data[-1:])]

    parts = [part for text, partial in groups for part in text.split("\n") if partial]
    assert list(map(len, parts)) == [MAX_LINE_BYTES, size, *([0] if size >= LEAST_PART_BYTES else [])]
