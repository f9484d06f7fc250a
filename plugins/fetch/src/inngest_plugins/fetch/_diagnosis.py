"""Findings of `inngest-plugins doctor` about the transports of an app."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from weakref import WeakKeyDictionary

from inngest_plugins.core import Stack, diagnose_with

from ._options import PAYLOADS, Options

_AT_THE_ENGINE: Final = WeakKeyDictionary[object, Options]()


def remember(transport: object, options: Options) -> None:
    """Remember a transport whose requests the engine makes, for as long as it is there."""
    if options.where == "engine":
        _AT_THE_ENGINE[transport] = options


def _diagnose(stack: Stack) -> Iterator[str]:
    if not stack.secret_payloads:
        return
    for transport, options in list(_AT_THE_ENGINE.items()):
        owner = type(transport).__name__
        if PAYLOADS in options.engine_may_see:
            yield (
                f'{owner}(where="engine", engine_may_see=["{PAYLOADS}"]) shows the engine its '
                "requests and responses, although this stack keeps payloads secret from it"
            )
        else:
            yield (
                f'{owner}(where="engine") is refused where payloads are kept secret: use '
                f'where="app", or allow it by name with engine_may_see=["{PAYLOADS}"]'
            )


diagnose_with("fetch", _diagnose)
