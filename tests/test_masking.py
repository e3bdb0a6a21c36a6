"""The masker: no secret comes out of it, nothing else is changed, however the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniflow.masking import Masker, Pattern, masked_texts


def masked(texts: list[bytes], *chunks: bytes) -> bytes:
    masker = Masker([*map(Pattern, texts)])
    return b"".join([*map(masker.feed, chunks), masker.end()])


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """Secrets that share beginnings and overlap, and a stream that is full of them and of parts of them, in chunks."""
    texts = draw(st.lists(st.text("ab\n", min_size=4, max_size=9).map(str.encode), min_size=1, max_size=4))
    whole = draw(st.sampled_from(texts))
    pieces = st.sampled_from([*texts, *(text[:-1] for text in texts), whole[1:]]) | st.text("abx\n\xff", max_size=3).map(
        lambda text: text.encode("latin-1")
    )
    data = b"".join(draw(st.lists(pieces, max_size=8)))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=10)))
    return texts, [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(streams())
def test_no_secret_comes_out_however_the_stream_is_cut(stream: tuple[list[bytes], list[bytes]]) -> None:
    texts, chunks = stream

    result = masked(texts, *chunks)

    assert result == masked(texts, b"".join(chunks))
    assert not [text for text in texts if text in result]


@given(streams())
def test_nothing_but_secrets_is_masked(stream: tuple[list[bytes], list[bytes]]) -> None:
    texts, chunks = stream
    data = b"".join(chunks)
    covered = bytearray(len(data))
    for text in texts:
        for start in range(len(data) - len(text) + 1):
            if data.startswith(text, start):
                covered[start : start + len(text)] = b"\1" * len(text)

    assert masked(texts, *chunks).replace(b"***", b"") == bytes(
        byte for byte, hit in zip(data, covered, strict=True) if not hit
    )


@given(streams())
def test_no_secret_comes_out_byte_by_byte(stream: tuple[list[bytes], list[bytes]]) -> None:
    texts, chunks = stream
    data = b"".join(chunks)

    assert masked(texts, *(data[at : at + 1] for at in range(len(data)))) == masked(texts, data)


@pytest.mark.stress
@pytest.mark.timeout(600)
@settings(max_examples=5_000, derandomize=False)
@given(streams())
def test_no_secret_comes_out_of_many_streams(stream: tuple[list[bytes], list[bytes]]) -> None:
    test_no_secret_comes_out_however_the_stream_is_cut.hypothesis.inner_test(stream)
    test_nothing_but_secrets_is_masked.hypothesis.inner_test(stream)


def test_only_what_may_be_the_beginning_of_a_secret_is_held_back() -> None:
    masker = Masker([Pattern(b"sesame"), Pattern(b"secret")])

    assert masker.feed(b"Password: ") == b"Password: "
    assert masker.feed(b"open se") == b"open "
    assert masker.feed(b"sa") == b""
    assert masker.feed(b"m?") == b"sesam?"
    assert masker.feed(b"a sec") == b"a "
    assert masker.end() == b"sec"


def test_the_longest_secret_counts() -> None:
    assert masked([b"pass", b"password"], b"password, pass, passwor") == b"***, ***, ***wor"


def test_secrets_that_overlap_leave_no_part_of_either() -> None:
    assert masked([b"abcdef", b"efghij"], b"<abcde", b"fghi", b"j>") == b"<***>"


def test_bytes_that_are_no_text_pass_through() -> None:
    data = bytes(range(256)) * 3
    assert masked([b"\x00\xff\xfe\x80"], data, b"\x00\xff", b"\xfe\x80") == data + b"***"


def test_a_value_of_fewer_than_four_characters_is_not_masked() -> None:
    assert masked_texts(b"abc") == []
    assert masked_texts("äöü".encode()) == []
    assert masked_texts("äöüß".encode()) == ["äöüß".encode()]
    assert masked_texts(b"\xff\xfe\xfd") == []


def test_a_value_with_line_breaks_is_masked_as_a_whole_and_line_by_line() -> None:
    key = b"-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\r\nab=\n-----END KEY-----\n"
    texts = masked_texts(key)

    assert masked(texts, b"key: " + key) == b"key: ***\n"
    assert masked(texts, b"  MIIEpAIBAAKCAQEA\n  ab=\n") == b"  ***\n  ab=\n"
