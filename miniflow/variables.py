"""Environment variables that a flow names, and the secrets among them: their grammar, and where their values may not stand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from miniflow.jsontext import Found, Path
from miniflow.kinds import describe
from miniflow.masking import masked_texts
from miniflow.suggest import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

SecretTexts: TypeAlias = Sequence[tuple[str, str]]
"""Names of secrets, each with a text that gives it away."""


def variable_name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a variable, if something is."""
    if name.isascii() and name.isidentifier():
        return None
    return f"{quoted(name)} is no name of a variable: letters, digits and _ alone, the first no digit"


def secret_env_problems(value: Any, at: Path, envs: Mapping[str, Collection[str]]) -> Iterator[Found]:
    """Yield what is wrong with a `secret_env`.

    Args:
        value: As it stands in the flow file.
        at: Where.
        envs: The variables that `env` sets, by whose it is: they would override the caller's.
    """
    if not isinstance(value, (str, list)):
        yield Found(at, f"must be an array of names of variables, not {describe(value)}")
        return
    seen = set()
    for position, name in enumerate([value] if isinstance(value, str) else value):
        path = (*at, position)
        if not isinstance(name, str):
            yield Found(path, f"must be the name of a variable, not {describe(name)}")
        elif problem := variable_name_problem(name):
            yield Found(path, problem)
        elif name.startswith("MINIFLOW_"):
            yield Found(path, f"{name} is no secret: variables of that beginning are MiniFlow's own")
        elif name in seen:
            yield Found(path, f"{name} stands twice in one list")
        else:
            seen.add(name)
            for whose in (whose for whose, env in envs.items() if name in env):
                yield Found(path, f'{name} is set by "env" of {whose}, which would override the secret; take one of them away')


def secret_texts(names: Iterable[str], environ: Mapping[str, str]) -> SecretTexts:
    """Return what gives the secrets of these names away."""
    texts = []
    for name in names:
        found = masked_texts(environ.get(name, "").encode("utf-8", "surrogateescape"))
        texts += [(name, text.decode("utf-8", "surrogateescape")) for text in found]
    return texts


def exposure(text: str, secrets: SecretTexts) -> str | None:
    """Return what is wrong with a text that is to stand in a plan: it holds a secret."""
    name = next((name for name, secret in secrets if secret in text), None)
    if name is None:
        return None
    return (
        f"holds the value of {name}, a secret, which would then stand in the plan and in the script;"
        " let the task read it from its environment"
    )


def missing_secrets(wanted: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    """Return what is wrong if a secret has no value.

    Args:
        wanted: Names of secrets, and who needs each; nothing of one that nobody needs.
        environ: The caller's environment.
    """
    missing = [f"{name} ({who})" for name, who in wanted.items() if who and not environ.get(name)]
    return f"{NO_VALUE} {', '.join(missing)}; {EXPORT_IT}" if missing else None


NO_VALUE = "not set, or empty:"
EXPORT_IT = "the flow takes such secrets (secret_env) from its caller's environment: export them, and start again"
