"""The flows directory and the tasks directory: which flows there are, and whether their scripts are in order."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from functools import cache
from itertools import islice

from miniflow.errors import MAX_SHOWN_PROBLEMS, FlowError, Problem, UnknownFlowError
from miniflow.jsontext import decode_utf8
from miniflow.model import Flow
from miniflow.parse import FlowText, ScriptCheck
from miniflow.suggest import did_you_mean, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    AnyPath: TypeAlias = str | os.PathLike[str]

MAX_FLOW_BYTES = 1024 * 1024 * 1024
MAX_SUGGESTED_SCRIPTS = 10_000
# Why a file cannot be looked at if there is none; whatever else it is, the file may be there.
NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})


def flow_files(flows_dir: AnyPath) -> list[str]:
    """Return the paths of the flow files of a directory, by name.

    Raises:
        FlowError: The directory cannot be read.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(tidy(os.fspath(flows_dir))) if entry.name.endswith(".json"))
    except FileNotFoundError:
        raise FlowError([Problem("no such directory; set it with --flows-dir", file=shown(flows_dir))]) from None
    except (OSError, ValueError) as error:
        raise FlowError([Problem(f"cannot read the flows directory: {_reason(error)}", file=shown(flows_dir))]) from None
    return [tidy(os.path.join(flows_dir, name)) for name in names if not name.startswith(".")]


def load_flow_file(path: AnyPath, check_script: ScriptCheck | None = None) -> Flow:
    """Return the flow of a file.

    Raises:
        FlowError: With every problem found.
    """
    return FlowText(_read(path), shown(path), check_script).flow()


def load_named_flow(name: str, flows_dir: AnyPath, check_script: ScriptCheck | None = None) -> Flow:
    """Return the flow of `find_flow_file`; the usual file, which may be large, is read once.

    Raises:
        FlowError: With every problem found.
    """
    path, text = _find(name, flows_dir, check_script)
    return load_flow_file(path, check_script) if text is None else text.flow()


def find_flow_file(name: str, flows_dir: AnyPath) -> str:
    """Return the file of a flow: `name` is a path, the name of a file in the flows directory, or the name of a flow in it.

    Raises:
        UnknownFlowError: There is none.
        FlowError: There is more than one.
    """
    return _find(name, flows_dir)[0]


def _find(name: str, flows_dir: AnyPath, check_script: ScriptCheck | None = None) -> tuple[str, FlowText | None]:
    """Return the file of a flow and, if it has been read for that, what is in it."""
    if "/" in name or name.endswith(".json"):
        for path in [name] if "/" in name else [name, os.path.join(flows_dir, name)]:
            if _may_be_there(tidy(path)):
                return tidy(path), None
        raise UnknownFlowError([Problem("no such file", file=shown(name))])
    files = flow_files(flows_dir)
    # Usually a flow's file is called like the flow; only otherwise do all have to be read.
    usual = tidy(os.path.join(flows_dir, f"{name}.json"))
    if usual in files:
        text = _flow_text(usual, check_script)
        if text is not None and text.name == name:
            return usual, text
    names = {path: flow_name(path) for path in files}
    found = [path for path in files if names[path] == name] or [path for path in files if path == usual]
    if len(found) == 1:
        return found[0], None
    if found:
        both = " and ".join(shown(path) for path in found)
        raise FlowError([Problem(f"two files hold a flow named {quoted(name)}: {both}; say which by its path")])
    known = sorted({*names.values(), *(stem(path) for path in files)})
    hint = did_you_mean(name, known)
    if not hint:
        hint = f"; there are {', '.join(known[:20])}" if known else "; the directory holds no flow"
    raise UnknownFlowError([Problem(f"no flow {quoted(name)} in {shown(flows_dir)}{hint}")])


def flow_name(path: str) -> str:
    """Return the name a flow file gives its flow; the file's own name where it cannot be read as one."""
    text = _flow_text(path)
    return stem(path) if text is None or text.name is None else text.name


def _flow_text(path: str, check_script: ScriptCheck | None = None) -> FlowText | None:
    """Return what is in a file; None if it cannot be read as JSON."""
    try:
        return FlowText(_read(path), shown(path), check_script)
    except FlowError:
        return None


def stem(path: str) -> str:
    """Return a file's own name, without `.json`."""
    return os.path.basename(path).removesuffix(".json")


def tidy(path: str) -> str:
    """Return a path without what means nothing in it, as `pathlib` writes it, which takes long to load."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(parts) or "."


def script_check(tasks_dir: AnyPath) -> ScriptCheck:
    """Return the check of scripts in a tasks directory, which must be there."""
    root = os.path.realpath(tasks_dir)
    hints = iter(range(MAX_SHOWN_PROBLEMS))  # so many are shown

    @cache  # the folder is walked once, and only for a hint
    def scripts() -> list[str]:
        return list(islice(_scripts(root), MAX_SUGGESTED_SCRIPTS))

    @cache  # a file with something wrong in it is read twice; what counts is how often a hint is shown
    def hint(script: str) -> str:
        return did_you_mean(script, scripts()) if next(hints, None) is not None else ""

    def check(script: str) -> str | None:
        path = os.path.join(root, script)
        try:
            if os.path.commonpath([root, os.path.realpath(path)]) != root:
                return f"{quoted(script)} is a link to outside the tasks directory"
            mode = os.stat(path).st_mode
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in NOT_THERE:
                return f"{quoted(script)} cannot be read: {_reason(error)}"
            return f"no script {quoted(script)} in {shown(tasks_dir)}{hint(script)}"
        if not stat.S_ISREG(mode):
            return f"{quoted(script)} is no file"
        if not os.access(path, os.R_OK):
            return f"{quoted(script)} cannot be read"
        if not script.endswith((".py", ".sh")) and not os.access(path, os.X_OK):
            return f"{quoted(script)} is neither .py nor .sh, and not executable; chmod +x it"
        return None

    return check


def _scripts(root: str) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root)


def shown(path: AnyPath) -> str:
    """Return a path as messages show it: as it is, but on one line and without what would act on a terminal."""
    text = tidy(os.fspath(path))
    return text if text.isprintable() else quoted(text)


def _may_be_there(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        pass  # reading it will say what is wrong
    return True


def tasks_dir_problem(tasks_dir: AnyPath) -> Problem | None:
    """Return what is wrong with the directory of the scripts; None if it is there."""
    try:
        if stat.S_ISDIR(os.stat(tasks_dir).st_mode):
            return None
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        return Problem(f"cannot read the tasks directory: {_reason(error)}", file=shown(tasks_dir))
    return Problem("no such directory; set it with --tasks-dir", file=shown(tasks_dir))


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError):  # said by each version of Python in words of its own
        return "a NUL character, or half of a surrogate pair, in its name"
    return getattr(error, "strerror", None) or str(error)


def read_flow_file(path: AnyPath) -> bytes:
    """Return the content of a flow file.

    Raises:
        FlowError: It is no file, or cannot be read.
    """
    try:
        # Not a FIFO or a device: they would wait, or never end.
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise FlowError([Problem("is no file", file=shown(path))])
        if status.st_size > MAX_FLOW_BYTES:
            raise FlowError([Problem("is larger than 1 GiB", file=shown(path))])
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise FlowError([Problem(f"cannot be read: {_reason(error)}", file=shown(path))]) from None


def _read(path: AnyPath) -> str:
    return decode_utf8(read_flow_file(path), shown(path))
