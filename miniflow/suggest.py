"""What somebody may have meant by a name that does not exist."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import lru_cache


def quoted(name: object) -> str:
    """Return the name in double quotes, on one line whatever is in it, and not longer than a line."""
    text = json.dumps(name, ensure_ascii=False, default=str)
    if len(text) > 100:
        text = text[:96] + '..."'
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return `; did you mean "fetch_data"?`, or nothing where no known name is near."""
    # Comparing with each of 100,000 names takes seconds: names of another first letter and length are left out then.
    if len(known) > 2000:
        known = [k for k in known if k[:1].lower() == name[:1].lower() and abs(len(k) - len(name)) <= 2][:2000]
    near = _nearest(name, tuple(known)) if len(name) <= 200 else None
    return f"; did you mean {quoted(near)}?" if near else ""


@lru_cache(64)  # a mistake that is made once is often made in every task
def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.6) or [k for k in known if k.lower() == name.lower()]
    return near[0] if near else None
