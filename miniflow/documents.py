"""JSON files with one very long member, `tasks`: text in parts, as the whole would take more memory than what it is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

_TASKS_IN_A_PART = 500


def document_parts(head: Mapping[str, Any], tasks: Mapping[str, Any] | Iterable[Any]) -> Iterator[bytes]:
    """Yield the text of the object that has the members of `head` (at least one), and `tasks`, each of which has one line."""
    import msgspec  # here, as the completion of run ids comes by this module, and writes nothing

    encode = msgspec.json.Encoder().encode
    lines: Iterator[bytes]
    if isinstance(tasks, Mapping):
        lines = (b"%b: %b" % (encode(task_id), encode(task)) for task_id, task in tasks.items())
        opening, closing = b"{", b"}"
    else:
        lines = map(encode, tasks)
        opening, closing = b"[", b"]"
    yield json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}").encode() + b',\n "tasks": ' + opening
    separator = b"\n  "
    while part := list(islice(lines, _TASKS_IN_A_PART)):
        yield separator + b",\n  ".join(part)
        separator = b",\n  "
    yield b"\n " + closing + b"\n}\n"
