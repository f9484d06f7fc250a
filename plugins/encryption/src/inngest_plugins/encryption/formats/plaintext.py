"""Writes values as JSON text and reads them back; no value changes on the way.

orjson is what makes encryption cheap, and it is generous: NaN and infinities become null, UUIDs
and Enum members become strings, integers beyond 64 bits come back as floats. A value that changed
unseen inside an encrypted payload is the worst kind of bug, so each value is proved to be plain
JSON before orjson may have it, and everything unusual takes a slower, exact path.

The proof has to cost less than the serialisation it guards, which rules out a walk in Python. It
is made by writing the value twice: ormsgpack has options to refuse what orjson converts (UUIDs,
Enum members), and refuses its raw fragments; orjson refuses what ormsgpack writes beyond JSON
(bytes, extension types); options of both refuse dataclasses, datetimes and subclasses. What both
write is made of builtin types only. What is left is NaN and the infinities, and those are read off
the MessagePack: a float is the byte 0xCB and eight big-endian bytes of IEEE 754, of which a
non-finite number has all eleven bits of the exponent set. The search below finds every such byte
run; a run that is not a float only sends the value down the exact path.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

import orjson
import ormsgpack
import pydantic_core

MAX_DEPTH: Final = 500
"""Nesting that is still written; json refuses near the interpreter's recursion limit (1000)."""

MAX_INTEGER_BITS: Final = 14_000
"""Python itself refuses to print integers of more than 4300 decimal digits."""

_STRICT: Final = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_PROVING: Final = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_FLOAT: Final = 0xCB
_EXPONENT_STARTS: Final = (0x7F, 0xFF)
_EXPONENT_ENDS: Final = 0xF0
_NONFINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]").search
_BYTES_PER_CANDIDATE: Final = 256
_LONGEST_KEY: Final = 40
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[A-Za-z_ -]*")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_prove: Final = ormsgpack.packb
_write: Final = orjson.dumps


class NotJsonError(Exception):
    """A value has no faithful JSON form.

    Attributes:
        path: where, as a JSON path from the value's root, such as `$.lines[3].at`.
        problem: what is there, without the value itself.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


def dump(value: Any) -> tuple[bytes, bool]:
    """Write a value as JSON.

    Tuples become arrays, as in every JSON library. Subclasses of str, int, float, dict, list and
    tuple are written as what they subclass.

    Returns:
        The text as UTF-8, and whether only an exact reader may read it (`load(..., exact=True)`):
        it holds integers beyond 64 bits, lone surrogates, or deep nesting.

    Raises:
        NotJsonError: for anything that JSON cannot carry faithfully, such as NaN, bytes, a
            datetime, or a key that is not a string.
    """
    try:
        proof = _prove(value, None, _PROVING)
        # `in` looks for one byte at memory speed; small values rarely hold it.
        if not ((0x7F in proof or 0xFF in proof) and _holds_nonfinite(proof)):
            del proof
            return _write(value, None, _STRICT), False
    except (TypeError, ValueError):
        pass
    return _dump_exactly(value), True


def load(text: bytes, *, exact: bool) -> Any:
    """Read what `dump` wrote.

    Raises:
        ValueError: it is not JSON.
    """
    if not exact:
        return orjson.loads(text)
    return json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)


def load_official(text: bytes, *, with_constants: bool) -> Any:
    """Read JSON that an official middleware wrote.

    Strict UTF-8, no byte order mark, integers of any size exact.

    Args:
        text: the plaintext.
        with_constants: whether `NaN` and `Infinity` are values. The official Python middleware
            writes them; TypeScript does not.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        # Lone surrogates and deep nesting are beyond the fast parser, constants are off.
        try:
            return json.loads(
                text.decode("utf-8"), parse_constant=None if with_constants else _refuse_constant
            )
        except RecursionError:
            raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _holds_nonfinite(proof: bytes) -> bool:
    """Return whether MessagePack may hold a float that is NaN or infinite."""
    # Jumping from one candidate to the next beats a pattern by far while they are rare, as they
    # are in everything but long lists of small negative integers.
    left = len(proof) // _BYTES_PER_CANDIDATE
    for start in _EXPONENT_STARTS:
        at = proof.find(start)
        while at >= 0:
            if proof[at - 1] == _FLOAT and at + 1 < len(proof) and proof[at + 1] >= _EXPONENT_ENDS:
                return True
            if left < 0:
                return _NONFINITE(proof) is not None
            left -= 1
            at = proof.find(start, at + 1)
    return False


def _dump_exactly(value: Any) -> bytes:
    for path, item, depth in _walk(value):
        problem = _problem_with(item, depth)
        if problem is not None:
            raise NotJsonError(path(), problem)
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def _problem_with(item: Any, depth: int) -> str | None:
    if depth > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH} levels, or containing itself"
    if item is None or isinstance(item, (str, list, tuple)):
        return None
    if isinstance(item, int):
        too_long = item.bit_length() > MAX_INTEGER_BITS
        return f"an integer of more than {MAX_INTEGER_BITS} bits" if too_long else None
    if isinstance(item, float):
        return None if math.isfinite(item) else "a float that is NaN or infinite"
    if isinstance(item, dict):
        for key in item:
            if not isinstance(key, str):
                return f"a dict with a key of type {_type_name(key)}; JSON has only string keys"
        return None
    return f"a value of type {_type_name(item)}, which is not JSON"


class _NthKey(int):
    """A key that reads as data and not as a name: its position, from 1."""


class _Path:
    """A JSON path that becomes text only when an error needs it.

    The error leaves in the clear. Dicts are often keyed by data (mail addresses, account numbers),
    so the path shows only keys that read as names; it shows others by their position.
    """

    __slots__ = ("_parent", "_step")

    def __init__(self, parent: _Path | None = None, step: object = "", position: int = 0) -> None:
        self._parent = parent
        shown = isinstance(step, int) or (
            type(step) is str and len(step) <= _LONGEST_KEY and _NAME.fullmatch(step)
        )
        self._step: Any = step if shown else _NthKey(position)

    def __call__(self) -> str:
        steps: list[str] = []
        path = self
        while path._parent is not None:
            steps.append(path_step(path._step))
            path = path._parent
        return "$" + "".join(reversed(steps))


def path_step(step: str | int) -> str:
    """Spell one step of a JSON path: `.name`, `["odd name"]`, or `[3]`."""
    if isinstance(step, int):
        return f"[key {step:d}]" if isinstance(step, _NthKey) else f"[{step:d}]"
    return f".{step}" if _IDENTIFIER.fullmatch(step) else f"[{json.dumps(step)}]"


def _walk(value: Any) -> Iterator[tuple[_Path, Any, int]]:
    pending = [(_Path(), value, 1)]
    while pending:
        path, item, depth = pending.pop()
        yield path, item, depth
        if isinstance(item, dict):
            pending.extend(
                (_Path(path, key if type(key) is str else "", position), held, depth + 1)
                for position, (key, held) in enumerate(item.items(), 1)
            )
        elif isinstance(item, (list, tuple)):
            pending.extend((_Path(path, index), held, depth + 1) for index, held in enumerate(item))


def _type_name(value: Any) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
