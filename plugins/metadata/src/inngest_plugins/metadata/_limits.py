"""What the engine accepts, checked before anything is recorded."""

from __future__ import annotations

import dataclasses
import re
from functools import lru_cache
from typing import Final

from ._errors import MetadataKeyError, MetadataLimitError
from ._paths import Path, render, top_level

DEFAULT_KIND: Final = "default"
_PREFIX: Final = "userland."
_RUN_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes. The defaults are those of the Inngest server.

    Attributes:
        scope_bytes: one kind of metadata of one scope (the run, or one step): the sum over its
            top-level keys of the key's and the rendered value's length (server:
            `MaxMetadataSpanSize`).
        run_bytes: all scopes and kinds of a run together (server: `MaxRunMetadataSize`). The
            server also counts what later updates have replaced, so it may refuse earlier.
        key_bytes: a top-level key.
        kind_bytes: a kind, with its `userland.` prefix (server: `MaxKindLength`).
    """

    scope_bytes: int = 64 * 1024
    run_bytes: int = 1024 * 1024
    key_bytes: int = 256
    kind_bytes: int = 128

    def too_large(self, key: str, what: str, limit: int) -> MetadataLimitError:
        """Return the error for a write that makes something too large."""
        return MetadataLimitError(
            f"metadata {key}: with this value {what} would exceed {limit} bytes; "
            "delete keys, record less, or store the data elsewhere and record where"
        )


@lru_cache(maxsize=4096)
def check_key(path: Path, limit: int) -> None:
    """Refuse a top-level key of more than `limit` bytes.

    Raises:
        MetadataKeyError: it is longer.
    """
    length = len(top_level(path).encode())
    if length > limit:
        raise MetadataKeyError(
            f"metadata key {render(path)[:40]!r}...: {length} bytes, the limit is {limit}"
        )


@lru_cache(maxsize=256)
def wire_kind(kind: str, limit: int) -> str:
    """Return a kind as the engine knows it: `userland.` and the name.

    Raises:
        MetadataKeyError: the kind is empty, belongs to Inngest (`inngest.*`) or is too long.
    """
    name = kind.removeprefix(_PREFIX)
    if not name:
        raise MetadataKeyError("a metadata kind must not be empty")
    if name.startswith("inngest."):
        raise MetadataKeyError(
            f"metadata kind {kind!r}: kinds that start with 'inngest.' are Inngest's own"
        )
    wire = _PREFIX + name
    if len(wire.encode()) > limit:
        raise MetadataKeyError(
            f"metadata kind {kind[:40]!r}...: {len(wire.encode())} bytes with its prefix, "
            f"the limit is {limit}"
        )
    return wire


def check_run_id(run_id: str) -> str:
    """Return a run id that is safe in a URL.

    Raises:
        MetadataKeyError: it is no ULID.
    """
    if _RUN_ID.fullmatch(run_id) is None:
        raise MetadataKeyError(
            "metadata: a run id is a ULID, 26 characters of Crockford's base 32; "
            f"this one has {len(run_id)} characters"
        )
    return run_id


def checked_limits(owner: str, limits: object, timeout: object) -> Limits:
    """Return the limits to keep, once both options are what they should be.

    Args:
        owner: the class whose options they are.
        limits: a `Limits`, or None for the server's.
        timeout: seconds.

    Raises:
        TypeError: `limits` are no `Limits`.
        ValueError: `timeout` is no positive number.
    """
    if not isinstance(limits, Limits | None):
        raise TypeError(
            f"{owner}(limits=...) takes Limits(...) or None, not {type(limits).__name__}"
        )
    if not isinstance(timeout, int | float) or timeout <= 0:
        raise ValueError(f"{owner}(timeout={timeout!r}) must be a number of seconds above 0")
    return limits or Limits()
