"""From the entries of `middleware=[...]` to the stack of a request."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import inngest

from . import _sdk
from ._entry import ListEntry, class_in_list
from ._plugin import StackEntry
from ._stack import Stack


@dataclass(frozen=True)
class Composition:
    """What the lists of a client and of a function come to.

    Attributes:
        middleware: the entries it was made from; it is made anew when they change.
        stack: the plugins among them.
        lead: the first of them in the client's list, whose place the stack takes there.
    """

    middleware: tuple[Any, ...]
    stack: Stack
    lead: StackEntry | Stack | None


# Caches, not state: what they hold follows from the lists, and goes when the client or function
# goes.
_of_client: weakref.WeakKeyDictionary[inngest.Inngest, Composition] = weakref.WeakKeyDictionary()
_of_function: weakref.WeakKeyDictionary[inngest.Function[Any], tuple[Composition, Composition]] = (
    weakref.WeakKeyDictionary()
)
_met: weakref.WeakKeyDictionary[inngest.Inngest, set[int]] = weakref.WeakKeyDictionary()
_meeting = threading.Lock()


def compose(client: inngest.Inngest, function: inngest.Function[Any] | None = None) -> Composition:
    """Return the composition for requests of `function`, or for sends outside of a run.

    Raises:
        RegistrationError: the plugins cannot work together as they were registered.
    """
    composed = _of_client.get(client)
    if composed is None or not _same(composed.middleware, client.middleware):
        composed = _of_client[client] = _composed(client.middleware)
    if function is None:
        return composed
    own = _sdk.middleware_of(function)
    if not own:
        return composed
    cached = _of_function.get(function)
    if cached is not None and cached[0] is composed and _same(cached[1].middleware, own):
        return cached[1]
    merged = Composition(tuple(own), Stack(composed.stack, *_entries(own)), composed.lead)
    _of_function[function] = (composed, merged)
    return merged


def leads(entry: ListEntry, client: inngest.Inngest) -> bool:
    """Tell whether an entry is the one of the client's list that carries the whole stack.

    That is the first of the list; the others are inert, so that each costs no more than the SDK's
    own loop.
    """
    try:
        return compose(client).lead is entry
    except Exception:
        return False


def unmet(client: inngest.Inngest, stack: Stack) -> Sequence[StackEntry]:
    """Return the plugins of the stack that have not met this client; from now on they have."""
    with _meeting:
        met = _met.setdefault(client, set())
        new = [plugin for plugin in stack.plugins if id(plugin) not in met]
        met.update(id(plugin) for plugin in new)
    return new


def forget(client: inngest.Inngest, plugin: StackEntry) -> None:
    """Let a plugin meet the client once more: it could not register."""
    with _meeting:
        _met.get(client, set()).discard(id(plugin))


def _composed(middleware: Sequence[Any]) -> Composition:
    entries = _entries(middleware)
    for entry in entries:
        entry.forget_client()
    return Composition(tuple(middleware), Stack(*entries), entries[0] if entries else None)


def _entries(middleware: Sequence[Any]) -> list[StackEntry | Stack]:
    for entry in middleware:
        if isinstance(entry, type) and issubclass(entry, ListEntry):
            raise class_in_list(entry)
    return [entry for entry in middleware if isinstance(entry, (StackEntry, Stack))]


def _same(kept: tuple[Any, ...], now: Sequence[Any]) -> bool:
    # Tuples compare by identity first, and neither plugins nor classes define an equality.
    return kept == tuple(now)
