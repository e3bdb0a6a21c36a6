"""What somebody may have meant by a name that does not exist."""

from __future__ import annotations

import json
from collections.abc import Collection


def quoted(name: object) -> str:
    """Return the name in double quotes, on one line whatever is in it, and not longer than a line."""
    text = json.dumps(name, ensure_ascii=False, default=str)
    return text if len(text) <= 100 else text[:96] + '..."'


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return `; did you mean "fetch_data"?`, or nothing where no known name is near."""
    from difflib import get_close_matches

    # Comparing with each of 100,000 names takes seconds: names of another first letter and length are left out then.
    if len(known) > 2000:
        known = [k for k in known if k[:1].lower() == name[:1].lower() and abs(len(k) - len(name)) <= 2][:2000]
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        near = [k for k in known if k.lower() == name.lower()][:1]
    return f"; did you mean {quoted(near[0])}?" if near else ""
