"""Dataclasses, made for a command that starts often: what is used here of the standard library's, with the same result.

The standard library's `dataclass` loads `inspect` and all that needs, and compiles up to eight functions for a class: most of
the time that `miniflow list` once took. Here `__init__` alone is compiled; the rest is made of functions that are there. To
others the classes are dataclasses: `dataclasses.fields`, `replace` and `asdict` take instances, a dataclass may extend one.
"""

from __future__ import annotations

from _operator import attrgetter  # of `operator`, which has it from there, the rest takes long to load
from reprlib import recursive_repr

TYPE_CHECKING = False  # importing typing takes longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from dataclasses import dataclass, field, replace
    from typing import Any

__all__ = ["dataclass", "field", "replace"]

_OWN = "_own_fields"
_UNCOMPILED = 20
"""How many instances of a class are made without."""


class _Missing:
    """Stands for a default that there is not, or that a factory makes."""

    def __repr__(self) -> str:
        return "<factory>"


_MISSING: Any = _Missing()


class _Field:
    """What `field` says of one."""

    __slots__ = ("compare", "default", "default_factory", "repr", "type")

    def __init__(self, default: Any, default_factory: Any, in_repr: bool, compare: bool) -> None:
        self.default = default
        self.default_factory = default_factory
        self.repr = in_repr
        self.compare = compare
        self.type = ""

    def to_dataclasses(self) -> Any:
        """Return it as the module `dataclasses` has it."""
        import dataclasses

        given = {name: getattr(self, name) for name in ("default", "default_factory")}
        given = {name: value for name, value in given.items() if value is not _MISSING}
        return dataclasses.field(**given, repr=self.repr, compare=self.compare)


class _OfDataclasses:
    """An attribute by which the module `dataclasses` knows its classes; made of its own when it asks for it."""

    def __init__(self, name: str, fields: Mapping[str, _Field], frozen: bool) -> None:
        self._name = name
        self._fields = fields
        self._frozen = frozen

    def __get__(self, instance: object, owner: type) -> Any:
        import dataclasses

        fields = [(name, each.type, each.to_dataclasses()) for name, each in self._fields.items()]
        return getattr(dataclasses.make_dataclass(owner.__name__, fields, frozen=self._frozen), self._name)


def _field(
    *,
    default: Any = _MISSING,
    default_factory: Any = _MISSING,
    repr: bool = True,  # noqa: A002  the name it has in `dataclasses`
    compare: bool = True,
) -> Any:
    return _Field(default, default_factory, repr, compare)


def _replace(value: Any, /, **changes: Any) -> Any:
    return type(value)(**{**{name: getattr(value, name) for name in value.__match_args__}, **changes})


def _dataclass(*, slots: bool, frozen: bool = False) -> Callable[[type], Any]:
    assert slots, "others are not made here"

    def decorate(cls: type) -> Any:
        own: dict[str, _Field] = {}
        for name, annotation in cls.__annotations__.items():
            if not annotation.startswith("ClassVar["):
                default = cls.__dict__.get(name, _MISSING)
                own[name] = default if isinstance(default, _Field) else _field(default=default)
                own[name].type = annotation
        fields: dict[str, _Field] = {}
        for base in reversed(cls.__mro__[1:]):
            fields |= base.__dict__.get(_OWN, {})
        fields |= own
        body = {name: value for name, value in cls.__dict__.items() if name not in {*own, "__dict__", "__weakref__"}}
        body |= {_OWN: own, "__slots__": tuple(own), "__match_args__": tuple(fields), "__qualname__": cls.__qualname__}
        body |= {name: _OfDataclasses(name, fields, frozen) for name in ("__dataclass_fields__", "__dataclass_params__")}
        made: Any = type(cls)(cls.__name__, cls.__bases__, body)  # slots cannot be added to a class that is there
        made.__init__ = _Init(made, fields, frozen)
        _add_comparison(made, fields, frozen)
        _add_repr(made, fields)
        if frozen:
            _add_refusals(made, fields)
        made.__replace__ = _replace
        return made

    return decorate


class _Init:
    """A class's `__init__`, compiled when some of its instances were made, or when somebody looks at it.

    Most of the time that a class takes is that: as much as to make a hundred instances without. A command makes many instances
    of a few of its classes, one or two of others, and none of half of them.
    """

    def __init__(self, made: Any, fields: Mapping[str, _Field], frozen: bool) -> None:
        self._made = made
        self._fields = fields
        self._frozen = frozen
        self._uncompiled = _UNCOMPILED

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None or self._uncompiled == 0:
            return self._compiled().__get__(instance, owner)
        self._uncompiled -= 1
        return lambda *args, **named: self._fill(instance, args, named)

    def _compiled(self) -> Any:
        init = self._made.__init__ = _compiled_init(self._made, self._fields, self._frozen)
        return init

    def _fill(self, instance: object, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        given = dict(zip(self._fields, args, strict=False))
        is_sound = len(args) <= len(self._fields) and given.keys().isdisjoint(named) and self._fields.keys() >= named.keys()
        given.update(named)
        for name, each in self._fields.items():
            value = given.get(name, each.default)
            if value is _MISSING and each.default_factory is not _MISSING:
                value = each.default_factory()
            is_sound = is_sound and value is not _MISSING
            given[name] = value
        if not is_sound:
            self._compiled()(instance, *args, **named)  # which says what is wrong
            return
        for name in self._fields:
            getattr(self._made, name).__set__(instance, given[name])


def _compiled_init(made: Any, fields: Mapping[str, _Field], frozen: bool) -> Any:
    known: dict[str, Any] = {"_missing": _MISSING}
    parameters, made_new, assigned = [], [], []
    for name, each in fields.items():
        if each.default_factory is not _MISSING:
            known[f"_make_{name}"] = each.default_factory
            parameters.append(f"{name}=_missing")
            made_new.append(f" if {name} is _missing: {name} = _make_{name}()")
        elif each.default is not _MISSING:
            known[f"_default_{name}"] = each.default
            parameters.append(f"{name}=_default_{name}")
        else:
            parameters.append(name)
        assigned.append(f" self.{name} = {name}")
    lines = [*made_new, *assigned]
    if frozen and fields:
        # While it is made, it is of a class that is not frozen: a plain assignment takes a tenth of what a call takes.
        known |= {"_made": made, "_open": _not_frozen(made), "_become": object.__dict__["__class__"].__set__}
        known["_fill"] = _filler([getattr(made, name).__set__ for name in fields])
        extended = f" if self.__class__ is not _made: return _fill(self, {', '.join(fields)})"
        lines = [*made_new, extended, " _become(self, _open)", *assigned, " self.__class__ = _made"]
    exec(f"def __init__(self, {', '.join(parameters)}):\n" + "\n".join(lines or [" pass"]), known)  # noqa: S102  names of fields
    init = known["__init__"]
    init.__qualname__ = f"{made.__qualname__}.__init__"
    init.__module__ = made.__module__
    init.__annotations__ = {**{name: each.type for name, each in fields.items()}, "return": None}
    return init


def _filler(setters: Sequence[Callable[[object, Any], None]]) -> Callable[..., None]:
    def fill(self: Any, *values: Any) -> None:
        for set_field, value in zip(setters, values, strict=True):
            set_field(self, value)

    return fill


def _not_frozen(made: Any) -> Any:
    """Return a class that can be assigned to, and whose instances can become those of the other, as they are laid out alike."""
    # Both: C code sets attributes only of a class whose bases have neither of them changed.
    body = {"__slots__": made.__slots__, "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(made)(made.__name__, made.__bases__, body)


def _add_comparison(made: Any, fields: Mapping[str, _Field], frozen: bool) -> None:
    compared = [name for name, each in fields.items() if each.compare]
    values = attrgetter(*compared, "__class__")  # at least one name is needed, and two for a tuple

    def __eq__(self: Any, other: Any) -> Any:  # noqa: N807
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    made.__eq__ = __eq__
    made.__hash__ = __hash__ if frozen else None


def _add_repr(made: Any, fields: Mapping[str, _Field]) -> None:
    shown = [name for name, each in fields.items() if each.repr]

    @recursive_repr("...")
    def __repr__(self: Any) -> str:  # noqa: N807
        return f"{type(self).__qualname__}({', '.join([f'{name}={getattr(self, name)!r}' for name in shown])})"

    made.__repr__ = __repr__


def _add_refusals(made: Any, fields: Mapping[str, _Field]) -> None:
    def refuse(self: Any, what: str, name: str) -> None:
        if type(self) is made or name in fields:
            from dataclasses import FrozenInstanceError

            raise FrozenInstanceError(f"cannot {what} field {name!r}")

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807
        refuse(self, "assign to", name)
        super(made, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        refuse(self, "delete", name)
        super(made, self).__delattr__(name)

    # Copies and pickles set what they know by `setattr` otherwise.
    def __getstate__(self: Any) -> list[Any]:  # noqa: N807
        return [getattr(self, name) for name in fields]

    def __setstate__(self: Any, state: list[Any]) -> None:  # noqa: N807
        for name, value in zip(fields, state, strict=True):
            object.__setattr__(self, name, value)

    for method in (__setattr__, __delattr__, __getstate__, __setstate__):
        setattr(made, method.__name__, method)


if not TYPE_CHECKING:
    dataclass, field, replace = _dataclass, _field, _replace
