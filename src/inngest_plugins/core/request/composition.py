"""From the entries of `middleware=[...]` to the stack of a request."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import inngest

from inngest_plugins.core.protocol.plugin import Plugin
from inngest_plugins.core.sdk import door
from inngest_plugins.core.stack.list_entry import ListEntry, class_in_list
from inngest_plugins.core.stack.stack import Stack, StackEntry, lone_class


@dataclass(eq=False, repr=False, slots=True)
class Composition:
    """The middleware lists of a client and of a function, combined.

    Attributes:
        middleware: the entries it was made from; it is made anew when they change.
        stack: the plugins among them.
    """

    middleware: tuple[Any, ...]
    stack: Stack


# Caches, not state: what they hold follows from the lists, and goes when the client or function
# goes.
_of_client: weakref.WeakKeyDictionary[inngest.Inngest, Composition] = weakref.WeakKeyDictionary()
_of_function: weakref.WeakKeyDictionary[inngest.Function[Any], tuple[Composition, Composition]] = (
    weakref.WeakKeyDictionary()
)


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
    own = door.middleware_of(function)
    if not own:
        return composed
    cached = _of_function.get(function)
    if cached is not None and cached[0] is composed and _same(cached[1].middleware, own):
        return cached[1]
    stack = _with_own(composed.stack, Stack(*_entries(own)))
    merged = Composition(tuple(own), stack)
    _of_function[function] = (composed, merged)
    return merged


def replaced(client: Stack, own: Stack) -> tuple[StackEntry, ...]:
    """Return the client's plugins that a function's own plugins replace.

    A plugin in a function's list replaces the client's of exactly the same class and name: "this
    default there, another one here". Where both are meant, give one another `name`. Of what may
    stand only once in a list, a derived class replaces too. `Hooks` objects are all of one class
    and replace nothing.
    """
    own_kinds = {_kind(entry) for entry in own.plugins if isinstance(entry, Plugin)}
    kept = {id(entry) for entry in own.plugins}
    return tuple(
        entry for entry in client.plugins if _kind(entry) in own_kinds and id(entry) not in kept
    )


def _kind(entry: StackEntry) -> tuple[type[StackEntry], str]:
    lone = lone_class(entry)
    return (type(entry), entry.name) if lone is None else (lone, "")


def _with_own(client: Stack, own: Stack) -> Stack:
    gone = {id(entry) for entry in replaced(client, own)}
    return Stack(*(entry for entry in client.plugins if id(entry) not in gone), *own.plugins)


def leads(entry: ListEntry, client: inngest.Inngest) -> bool:
    """Return whether an entry is the one of the client's list that carries the whole stack.

    That is the first of the list; the others are inert.
    """
    for other in client.middleware:
        if isinstance(other, ListEntry):
            return other is entry
    return False


def _composed(middleware: Sequence[Any]) -> Composition:
    return Composition(tuple(middleware), Stack(*_entries(middleware)))


def _entries(middleware: Sequence[Any]) -> list[StackEntry | Stack]:
    for entry in middleware:
        if isinstance(entry, type) and issubclass(entry, ListEntry):
            raise class_in_list(entry)
    return [entry for entry in middleware if isinstance(entry, (StackEntry, Stack))]


def _same(kept: tuple[Any, ...], now: Sequence[Any]) -> bool:
    # By identity: a plugin may be a dataclass with an equality of its own.
    return len(kept) == len(now) and all(map(operator.is_, kept, now))
