"""The parts of payloads that are stored: what `store_fields` names, after `redact`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from inngest_plugins.core import ArgumentError, check_function, class_name

from ._errors import MirrorError

Place: TypeAlias = Literal["event", "output", "step"]
Redact: TypeAlias = Callable[[str, Any], Any]
_PLACES: Final = ("event", "output", "step")
_logger = logging.getLogger("inngest_plugins.mirror")


@dataclass(frozen=True)
class StoredFields:
    """The fields that `MirrorPlugin(store_fields=...)` names.

    Attributes:
        paths: place, keys below it, and the whole as the user wrote it.
        redact: returns the value to store in place of another.
        complained: the paths for which a failure of `redact` has been logged.
    """

    paths: tuple[tuple[str, tuple[str, ...], str], ...]
    redact: Redact | None
    complained: set[str] = field(default_factory=set[str], compare=False)

    def any_in(self, place: Place) -> bool:
        """Return whether anything of a place is stored."""
        return any(where == place for where, _, _ in self.paths)

    def of(self, place: Place, value: Any) -> dict[str, object]:
        """Return the fields of a payload that are stored, by path."""
        found: dict[str, object] = {}
        for where, keys, path in self.paths:
            if where == place and (held := _below(value, keys)) is not _NOTHING:
                try:
                    found[path] = held if self.redact is None else self.redact(path, held)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as err:
                    if path not in self.complained:
                        self.complained.add(path)
                        _logger.warning(
                            "MirrorPlugin: redact raised %s for %r: the field is not stored",
                            class_name(err),
                            path,
                        )
        return found


_NOTHING: Final = object()


def stored_fields(names: Iterable[str], redact: Redact | None) -> StoredFields:
    """Read the option `store_fields`.

    Raises:
        ArgumentError: it is no list of names, or `redact` no plain function.
        MirrorError: a name does not begin with a place.
    """
    given: object = names
    if isinstance(given, str):
        raise ArgumentError(f'MirrorPlugin(store_fields="{given}") is one string: give a list')
    if not isinstance(given, Iterable):
        raise ArgumentError(
            f"MirrorPlugin(store_fields=...) is a list of names, not {class_name(given)}"
        )
    if redact is not None:
        check_function("MirrorPlugin(redact=...)", redact, "a function of a field's name and value")
    paths: list[tuple[str, tuple[str, ...], str]] = []
    for name in names:
        place, *keys = str(name).split(".")
        if place not in _PLACES or "" in keys:
            raise MirrorError(
                f"MirrorPlugin(store_fields=...) has {name!r}: a field is named by where it is and "
                'the keys below, such as "event.order_id", "output.total" or "step.amount"'
            )
        paths.append((place, tuple(keys), name))
    return StoredFields(tuple(paths), redact)


def _below(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            return _NOTHING
        value = value[key]
    return value
