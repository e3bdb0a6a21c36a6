"""Texts that are compared as a whole: one file for many cases, each under a line with its name.

`MINIFLOW_REWRITE_GOLDEN=1 pytest -n 0 tests/test_x.py` writes the file anew; review the difference as code.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

REWRITE = bool(os.environ.get("MINIFLOW_REWRITE_GOLDEN"))
_HEADING = re.compile(r"^=== (.*) ===\n", re.MULTILINE)


class GoldenTexts:
    """The texts of a file in `tests/golden`, by the names of their cases."""

    def __init__(self, name: str) -> None:
        self._path = Path(__file__).parent / "golden" / name
        parts = _HEADING.split(self._path.read_text()) if self._path.exists() else [""]
        self._texts = {name: text.removesuffix("\n") for name, text in zip(parts[1::2], parts[2::2], strict=True)}

    def check(self, name: str, text: str) -> None:
        """See that a case's text is that of the file, or write it there."""
        if REWRITE:
            self._texts[name] = text
            self._path.write_text("".join(f"=== {case} ===\n{known}\n" for case, known in self._texts.items()))
        assert text == self._texts.get(name)
