"""Values: dataclasses to everybody, made faster."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest

from miniflow import values


def classes(module: Any) -> tuple[Any, Any, Any, Any]:
    """Return the same classes, made by `dataclasses` or by ours."""

    @module.dataclass(frozen=True, slots=True)
    class Point:
        """A place."""

        x: int
        tags: Sequence[str] = ()
        env: Mapping[str, str] = module.field(default_factory=dict, repr=False)
        source: str | None = module.field(default=None, compare=False)

        kind: ClassVar[str] = "point"

        @property
        def double(self) -> int:
            return self.x * 2

    @module.dataclass(frozen=True, slots=True)
    class Named(Point):
        name: str = "origin"

        kind: ClassVar[str] = "named"

    @module.dataclass(slots=True)
    class Single:
        x: Any

    @module.dataclass(frozen=True, slots=True)
    class Empty:
        pass

    return Point, Named, Single, Empty


OURS, THEIRS = classes(values), classes(dataclasses)
Point, Named, Single, Empty = OURS


@pytest.mark.parametrize(("ours", "theirs"), [*zip(OURS, THEIRS, strict=True)], ids=lambda made: made.__qualname__)
def test_they_look_like_dataclasses_from_outside(ours: Any, theirs: Any) -> None:
    assert dataclasses.is_dataclass(ours)
    assert (ours.__slots__, ours.__match_args__) == (theirs.__slots__, theirs.__match_args__)
    assert (ours.__name__, ours.__qualname__, ours.__module__) == (theirs.__name__, theirs.__qualname__, theirs.__module__)
    arguments = [1] if ours.__slots__ else []
    assert repr(ours(*arguments)) == repr(theirs(*arguments))
    assert not hasattr(ours(*arguments), "__dict__")
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    for one, other in zip(dataclasses.fields(ours), dataclasses.fields(theirs), strict=True):
        facts = [(f.name, f.type, f.default, f.default_factory, f.repr, f.compare, f.hash, f.init) for f in (one, other)]
        assert facts[0] == facts[1]
    assert dataclasses.asdict(ours(*arguments)) == dataclasses.asdict(theirs(*arguments))


def test_the_first_instances_are_as_all_others() -> None:
    ours, theirs = classes(values)[1], classes(dataclasses)[1]
    for number in range(2 * values._UNCOMPILED):
        for arguments, named in [
            ((number,), {}),
            ((number, ("a",), {"A": "b"}, "there", "name"), {}),
            ((number, ("a",)), {"name": "n", "source": None}),
            ((), {"name": "n", "x": number}),
        ]:
            assert dataclasses.astuple(ours(*arguments, **named)) == dataclasses.astuple(theirs(*arguments, **named))
    first, second = (classes(values)[0](1) for _ in range(2))
    assert first.env is not second.env


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((), {}), ((1, 2, 3, 4, 5, 6), {}), ((1,), {"x": 2}), ((1,), {"z": 2}), ((), {"tags": ()})],
    ids=["missing", "too many", "twice", "unknown", "missing by name"],
)
def test_what_is_wrong_is_said_alike_of_the_first_instance_and_of_others(
    arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    ours, theirs = classes(values)[1], classes(dataclasses)[1]
    with pytest.raises(TypeError) as expected:
        theirs(*arguments, **named)
    for _ in range(2):
        with pytest.raises(TypeError, match=re.escape(str(expected.value))):
            ours(*arguments, **named)
    assert ours(1).x == 1


def test_fields_are_given_by_place_or_by_name_and_no_others() -> None:
    assert Named(1, ("a",), {}, None, "n") == Named(name="n", tags=("a",), x=1)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        Point()
    with pytest.raises(TypeError, match=r"Point.__init__\(\) got an unexpected keyword argument 'y'"):
        Point(1, y=2)


def test_what_a_factory_makes_is_made_for_each() -> None:
    assert Point(1).env == {}
    assert Point(1).env is not Point(1).env


def test_they_are_equal_by_what_is_compared_and_by_class() -> None:
    assert Point(1, source="a") == Point(1, source="b") != Point(2)
    assert Point(1) != Named(1)
    assert Single(1) == Single(1) != Single(2)
    assert Single(1) != 1
    assert Empty() == Empty() != Single(1)
    nan = float("nan")
    assert Single(nan) == Single(nan)  # as of tuples: what is the same is equal


def test_frozen_ones_have_a_hash_and_others_have_none() -> None:
    assert hash(Empty()) == hash(Empty())
    assert hash(Point(1, env=())) == hash(Point(1, env=(), source="x"))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Single(1))


@pytest.mark.parametrize("name", ["x", "name", "other"])
def test_frozen_ones_cannot_be_changed(name: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to field '{name}'"):
        setattr(Named(1), name, 2)
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot delete field '{name}'"):
        delattr(Named(1), name)


def test_others_can() -> None:
    single = Single(1)
    single.x = 2
    assert single == Single(2)


@pytest.mark.parametrize("replace", [dataclasses.replace, values.replace])
def test_one_can_be_made_of_another(replace: Any) -> None:
    assert replace(Named(1, ("a",)), x=2) == Named(2, ("a",))
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        replace(Point(1), y=2)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="copy.replace is of Python 3.13")
def test_copy_can_replace_as_well() -> None:
    assert copy.replace(Point(1), x=2) == Point(2)  # type: ignore[attr-defined, unused-ignore]


def test_they_can_be_copied_and_pickled() -> None:
    from miniflow import Flow, Problem, Task

    for value in (Problem("wrong", line=3), Flow(name="x", tasks=(Task(id="a", script="a.py", env={"A": "1"}),))):
        assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == copy.copy(value) == value  # noqa: S301


def test_they_can_be_matched() -> None:
    match Named(1, ("a",)):
        case Named(x, tags, name=name):
            assert (x, tags, name) == (1, ("a",), "origin")
        case _:
            pytest.fail("not matched")


def test_a_class_of_an_application_can_extend_one() -> None:
    class Extended(Named):  # type: ignore[misc, valid-type]
        def __init__(self, x: int) -> None:
            super().__init__(x, name="extended")
            self.y = x + 1

    extended = Extended(1)
    assert (type(extended), extended.x, extended.name, extended.y) == (Extended, 1, "extended", 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        extended.x = 2


def test_a_dataclass_of_an_application_can_extend_one() -> None:
    @dataclasses.dataclass(frozen=True)
    class Extended(Named):  # type: ignore[misc, valid-type]
        z: int = 0

    assert [field.name for field in dataclasses.fields(Extended)] == ["x", "tags", "env", "source", "name", "z"]
    assert Extended(1, z=2) == Extended(1, z=2) != Extended(1, z=3)
    assert dataclasses.replace(Extended(1), x=5, z=6).z == 6


def test_one_that_holds_itself_has_a_repr() -> None:
    single = Single(None)
    single.x = [single]
    assert repr(single).endswith("Single(x=[...])")


def test_dataclasses_is_not_loaded_for_them() -> None:
    program = "import sys, miniflow.model, miniflow.errors; print({'dataclasses', 'inspect'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-SIc", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == "set()"
