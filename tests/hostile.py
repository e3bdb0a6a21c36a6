"""Hypothesis strategies for text that a shell, a terminal or a careless program might take for something else."""

from __future__ import annotations

from hypothesis import strategies as st

FRAGMENTS = [
    *[
        "'",
        '"',
        "\\",
        "`",
        "$",
        "!",
        "*",
        "?",
        "~",
        "#",
        "&",
        "|",
        ";",
        "<",
        ">",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "^",
        "%",
        "=",
        ",",
    ],
    *[" ", "\n", "\t", "\r", "\v", "\x01", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\xa0"],
    *["-", "--", "-n", "-e", "--version", "+x", "@(a|b)", "%s%n", "\\n", "\\'", "\\\\", "a=b", "A=b", "1.0", "true", "null"],
    *[
        "$(touch canary)",
        "`touch canary`",
        "; touch canary;",
        "\ntouch canary\n",
        "' ; touch canary ; '",
        '" ; touch canary ; "',
    ],
    *[
        "$'\\''",
        "${x}",
        "${!x}",
        "$((1))",
        "<(touch canary)",
        ">canary",
        "&& touch canary #",
        "|| touch canary",
        "|touch canary",
    ],
    *["# shellcheck disable=all", "shellcheck source=/dev/null", "EOF", "}\n", "do", "done", "then", "if", "time", "function"],
    *["é", "日本", "🎈", "e\u0301", "‘", "’", "“", "”", "´", "–", "\u200b", "\x81\\", "表\\'"],
]

texts = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
).filter(lambda text: "{{" not in text)  # that would be a placeholder
"""Any text that an argument, a variable's value or a description may be."""

file_names = texts.map(lambda text: text.replace("/", "_").encode()[:60].decode(errors="ignore")).filter(
    lambda text: text not in ("", ".", "..") and "{{" not in text
)
"""Any name that a file or a directory may have."""

variable_names = st.one_of(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).map(lambda name: f"V_{name}"),
    st.sampled_from([
        *["IFS", "CDPATH", "TZ", "LC_ALL", "LANG", "POSIXLY_CORRECT", "SHELLOPTS", "BASHOPTS", "UID", "RANDOM", "SECONDS"],
        *["status", "log", "delay", "file", "id", "REPLY", "mf_task", "mf_command", "task", "env", "_x", "GREP_OPTIONS"],
    ]),
)  # fmt: skip
"""Names of variables, those among them that mean something to bash or to the script."""
