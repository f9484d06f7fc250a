"""JSON values as Python objects: their depth, copies, exact form, and comparison."""

from __future__ import annotations

import copy
import dataclasses
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from .schema import Rejection, pointer_to

# Only these are walked into: no engine reads any other container as JSON.
_CONTAINERS = (dict, list, tuple)


def deeper_than(value: object, limit: int) -> bool:
    """Whether a JSON value nests more than `limit` containers."""
    return exceeds(value, depth=limit)


def exceeds(value: object, *, depth: int, members: int = sys.maxsize) -> bool:
    """Whether a JSON value nests too deeply, or holds too many members in all its containers.

    Takes time linear in the value and no stack, so it is safe where a validator is not.
    """
    level: list[Any] = [value] if isinstance(value, _CONTAINERS) else []
    count = 0
    for _ in range(depth + 1):
        below: list[Any] = []
        for node in level:
            count += len(node)
            inside: Iterable[Any] = node.values() if isinstance(node, dict) else node
            below.extend([each for each in inside if isinstance(each, _CONTAINERS)])
        if count > members:
            return True
        if not below:
            return False
        level = below
    return True


_IMMUTABLE = frozenset({bool, bytes, float, int, str, type(None)})


def detached(value: Any) -> Any:
    """A deep copy of a value, so that nothing done to the copy shows in the original.

    Raises:
        Rejection: It cannot be copied, or nests too deeply.
    """
    try:
        return _detached(value)
    except RecursionError:
        rejection = Rejection.of("depth", "less nesting")
    except Exception as error:
        rejection = Rejection.of(
            "copy", f"a value that can be copied (copying it raised {type(error).__name__})"
        )
    raise rejection


def _detached(value: Any) -> Any:
    # Faster than one `copy.deepcopy`: row "Pydantic, validator", benchmarks/validation.py.
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    if kind is dict:
        return {key: _detached(each) for key, each in value.items()}
    if kind is list:
        return [_detached(each) for each in value]
    return copy.deepcopy(value)


def written_form(data: Mapping[str, Any]) -> Any:
    """An event's data as the SDK writes it: by pydantic's rules for JSON.

    Where these fail it is the data itself, which then is refused as no JSON.
    """
    try:
        return to_jsonable_python(data)
    except Exception:
        return data


_SCALARS = frozenset({bool, float, int, str, type(None)})


def is_plain(value: object) -> bool:
    """Whether a value is what reading JSON gives: no subclasses, tuples or other keys than str."""
    todo: list[Any] = [[value]]
    seen: set[int] = set()
    for node in todo:
        if id(node) in seen:
            # A value may contain itself; the engine then finds it too deep.
            continue
        seen.add(id(node))
        if type(node) is dict:
            if not all(type(key) is str for key in node):
                return False
            members: Iterable[Any] = node.values()
        else:
            members = node
        for each in members:
            kind = type(each)
            if kind in _SCALARS:
                continue
            if kind is not dict and kind is not list:
                return False
            todo.append(each)
    return True


def json_form(value: object, declared: Collection[str] | None = None) -> Any:
    """What writing a value as JSON and reading it again gives.

    As `json` writes them: a subclass of `str`, `int` or `float` (numpy.float64) as what it is one
    of, a tuple as an array, keys that are numbers as texts; and an enum as its value.

    Args:
        value: The value; it is returned itself where it is plain.
        declared: Property names that a message may show; None for all.

    Raises:
        Rejection: Some of it is not a JSON value, or it nests too deeply.
    """
    if is_plain(value):
        return value
    try:
        return _form(value, (), declared)
    except RecursionError:
        rejection = Rejection.of("depth", "less nesting")
    raise rejection


def _form(value: Any, path: tuple[str | int, ...], declared: Collection[str] | None) -> Any:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Enum) and not isinstance(value, str | int | float):
        return _form(value.value, path, declared)
    # Not str(value) and so on, which a subclass may have redefined.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {
            name: _form(each, (*path, name), declared)
            for name, each in ((_key(key, path, declared), each) for key, each in value.items())
        }
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return [_form(each, (*path, index), declared) for index, each in enumerate(items)]
    raise Rejection.of(
        "json",
        f"a JSON value, not an object of class {_class_of(value)}",
        pointer_to(path, declared),
    )


def _key(key: Any, path: tuple[str | int, ...], declared: Collection[str] | None) -> str:
    if isinstance(key, Enum) and not isinstance(key, str | int | float):
        key = key.value
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, int):
        return int.__repr__(key)
    if isinstance(key, float):
        return float.__repr__(key)
    raise Rejection.of(
        "json",
        f"a text as key, not an object of class {_class_of(key)}",
        pointer_to(path, declared),
    )


def _class_of(value: object) -> str:
    return type(value).__name__[:64]


Path = tuple["str | int", ...]

_MISSING = object()


def not_finite(value: object) -> Path | None:
    """The place of a NaN or an infinity, which JSON cannot say, in what JSON is written from."""
    todo: list[tuple[Path, Any]] = [((), value)]
    while todo:
        path, node = todo.pop()
        if isinstance(node, float):
            if not math.isfinite(node):
                return path
        elif isinstance(node, dict):
            members = cast("dict[object, Any]", node)
            todo.extend(((*path, _name(key)), each) for key, each in members.items())
        elif isinstance(node, list):
            items: list[Any] = node
            todo.extend(((*path, index), each) for index, each in enumerate(items))
    return None


def difference(original: object, read: object) -> Path | None:
    """The first place where a value that was read from a JSON form is not the original's.

    Models and dataclasses are compared field by field, not by their own `==`. Private
    attributes and fields declared with `compare=False` are no part of the comparison; a list
    equals the tuple with its items, as JSON has only arrays.

    Returns:
        The path of names and indexes; None when the two are equal.
    """
    todo: list[tuple[Path, object, object]] = [((), original, read)]
    while todo:
        path, mine, theirs = todo.pop()
        members = _members(mine, theirs)
        if members is None:
            if not _equal(mine, theirs):
                return path
            continue
        for key, one, other in members:
            if other is _MISSING:
                return (*path, key)
            todo.append(((*path, key), one, other))
    return None


def _members(mine: object, theirs: object) -> Iterator[tuple[str | int, object, object]] | None:
    """The members of two values side by side; None where they are compared as a whole."""
    if isinstance(mine, BaseModel) and isinstance(theirs, BaseModel):
        return _fields(mine, theirs)
    if dataclasses.is_dataclass(mine) and dataclasses.is_dataclass(theirs):
        return _side_by_side(_attributes(mine), _attributes(theirs))
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        return _side_by_side(cast("Any", mine), cast("Any", theirs))
    if isinstance(mine, list | tuple) and isinstance(theirs, list | tuple):
        return _side_by_side(
            dict(enumerate(cast("Sequence[object]", mine))),
            dict(enumerate(cast("Sequence[object]", theirs))),
        )
    return None


def _fields(mine: BaseModel, theirs: BaseModel) -> Iterator[tuple[str | int, object, object]]:
    names = type(mine).model_fields
    # A model may have been built without validation, and lack fields.
    one = {name: mine.__dict__[name] for name in names if name in mine.__dict__}
    other = {name: theirs.__dict__[name] for name in one if name in theirs.__dict__}
    yield from _side_by_side(
        {**one, **(mine.model_extra or {})}, {**other, **(theirs.model_extra or {})}
    )


def _attributes(value: Any) -> dict[str, object]:
    return {
        each.name: getattr(value, each.name, _MISSING)
        for each in dataclasses.fields(value)
        if each.compare
    }


def _side_by_side(
    mine: Mapping[Any, object], theirs: Mapping[Any, object]
) -> Iterator[tuple[str | int, object, object]]:
    for key, each in mine.items():
        yield _name(key), each, theirs.get(key, _MISSING)
    for key in theirs:
        if key not in mine:
            yield _name(key), _MISSING, _MISSING


def _name(key: object) -> str | int:
    return key if isinstance(key, str | int) else str(type(key).__name__)


def _equal(mine: Any, theirs: Any) -> bool:
    if mine is theirs:
        return True
    try:
        if is_secret(mine):
            return is_secret(theirs) and bool(mine.get_secret_value() == theirs.get_secret_value())
        if type(mine) is type(theirs) and _compares_by_identity(type(mine)):
            return difference(vars(mine), vars(theirs)) is None
        verdict = mine == theirs
        # Arrays compare item by item.
        return bool(verdict.all() if hasattr(verdict, "all") else verdict)
    except Exception:
        return False


def _compares_by_identity(kind: Any) -> bool:
    return bool(kind.__eq__ is object.__eq__)


def is_secret(value: object) -> bool:
    """Whether a value is a `SecretStr` or another secret of Pydantic."""
    return callable(getattr(type(value), "get_secret_value", None))


def revealed(json_form: Any, python_form: Any) -> Any:
    """A JSON form with its secrets in full.

    Args:
        json_form: The JSON form, in which secrets are stars.
        python_form: The same value as plain Python objects, in which secrets are objects.

    Raises:
        Exception: A secret is not a JSON value.
    """
    if is_secret(python_form):
        return to_jsonable_python(python_form.get_secret_value())
    if isinstance(json_form, dict) and isinstance(python_form, Mapping):
        pairs = zip(
            json_form.items(),
            python_form.items(),
            strict=True,
        )
        return {
            revealed(key, python_key): revealed(each, python_each)
            for (key, each), (python_key, python_each) in pairs
        }
    if isinstance(json_form, list) and isinstance(python_form, list | tuple):
        pairs_of_items = zip(json_form, cast("Sequence[Any]", python_form), strict=True)
        return [revealed(each, python_each) for each, python_each in pairs_of_items]
    if isinstance(json_form, list) and isinstance(python_form, set | frozenset):
        # A set has no order, so the two cannot be paired; a set of secrets needs no pairing.
        items = list(cast("set[Any]", python_form))
        if all(is_secret(each) for each in items):
            return [revealed(None, each) for each in items]
    return cast("Any", json_form)
