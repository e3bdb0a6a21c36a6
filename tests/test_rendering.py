"""How events become lines, as JSON and for people: lines of output that come together look as if each had come alone."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miniflow.events import OutputChunk, TaskFinished, TaskOutput
from miniflow.lines import LineSplitter
from miniflow.sinks.console import for_people
from miniflow.sinks.json_lines import JsonRenderer

AT_NS = 1_700_000_000_123_456_789

# What JSON escapes, what stands for something while it is encoded, and what a terminal may take for a command.
SPECIAL = ["\\", "\\n", "\\\\n", '"', '","', "\x7f", "\x00", "\r", "\t", "\x1b[2J", "\u2028", "é", "🎈", "\\x7f", "/"]
texts = st.lists(st.one_of(st.just("\n"), st.sampled_from(SPECIAL), st.text(max_size=5)), max_size=20).map("".join)


def chunk(text: str, *, partial: bool = False) -> OutputChunk:
    return OutputChunk(TaskOutput(AT_NS, "f", "r", "a", 1, "stdout", "", partial), text)


@given(texts, st.booleans())
def test_as_json_the_lines_of_a_chunk_are_what_each_would_be_alone(text: str, partial: bool) -> None:
    together = chunk(text, partial=partial)

    rendered = JsonRenderer().render_item(together).lines

    assert rendered == b"".join(JsonRenderer().render_item(event).lines for event in together.events())


@given(texts)
def test_as_json_each_line_says_what_its_event_is(text: str) -> None:
    together = chunk(text)

    lines = JsonRenderer().render_item(together).lines.removesuffix(b"\n").split(b"\n")

    assert [list(json.loads(line).items()) for line in lines] == [list(event.to_dict().items()) for event in together.events()]


@given(texts)
def test_for_people_the_lines_of_a_chunk_are_what_each_would_be_alone(text: str) -> None:
    assert for_people(chunk(text))[0] == "".join(for_people(event)[0] for event in chunk(text).events())


@given(st.binary(max_size=200))
def test_whatever_bytes_are_printed_they_become_lines_of_json(data: bytes) -> None:
    splitter = LineSplitter()
    groups = [*splitter.feed(data), *splitter.end()]

    rendered = b"".join(JsonRenderer().render_item(chunk(text)).lines for text, _ in groups)

    messages = [json.loads(line)["message"] for line in rendered.splitlines()]
    assert messages == data.removesuffix(b"\n").decode(errors="backslashreplace").split("\n") if data else messages == []


def test_an_event_that_is_equal_to_the_last_one_but_for_its_time_is_rendered_for_itself() -> None:
    renderer = JsonRenderer()
    first, second = (TaskOutput(AT_NS + n, "f", "r", "a", 1, "stdout", "x") for n in (0, 1_000))

    assert renderer.render_item(first).lines != renderer.render_item(second).lines
    assert renderer.render_item(second).lines == JsonRenderer().render_item(second).lines


@pytest.mark.parametrize(("state", "level"), [("succeeded", "info"), ("cancelled", "warning"), ("failed", "error")])
def test_a_task_that_failed_is_an_error_and_one_that_was_stopped_a_warning(
    state: Literal["succeeded", "cancelled", "failed"], level: str
) -> None:
    event = TaskFinished(AT_NS, "f", "r", "a", 1, state, 1, "exit", None, None, 0.5, 1)

    assert json.loads(JsonRenderer().render_item(event).lines)["level"] == level
