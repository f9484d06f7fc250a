"""The stack: plugins sorted by layer, with their hooks laid out for the calls."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import inngest
from anyio.from_thread import BlockingPortalProvider

from ._entry import ListEntry
from ._errors import RegistrationError
from ._hook_names import HOOKS, INBOUND, Hook, check_traits
from ._layers import Layer
from ._plugin import StackEntry

SDK_LOOKUP_VARIABLE = "INNGEST_PLUGINS_SDK_MEMO_LOOKUP"
"""Set to 1 to leave replay to the SDK: its memo lookup, which is quadratic, and its futures."""

_TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True)
class BoundHook:
    """One hook of one plugin, as the dispatch loops need it.

    Attributes:
        function: what to call.
        index: position of the owner in the stack, 0 the outermost.
        owner: the plugin.
        hook: name of the hook.
        closed: whether an exception fails the run.
    """

    function: Hook
    index: int
    owner: StackEntry
    hook: str
    closed: bool


class Stack(ListEntry):
    """Plugins in the order in which they work, outermost first.

    Plugins that stand in one `middleware=[...]` form a stack by themselves; build one explicitly to
    name it, to reuse it, or to have a mistake raised where it is built.

    Args:
        *entries: plugins, `Hooks`, or other stacks (which are merged in). They are sorted by layer;
            those of one layer keep the order in which they were given.

    Attributes:
        secret_payloads: whether a plugin of this stack keeps payloads secret from third parties.
        sends: whether a plugin of this stack wants to see events leave.

    Raises:
        RegistrationError: the same plugin object is given twice.
        HookDefinitionError: a plugin object's `layer` is none.

    Example:
        ```python
        stack = Stack(SentryPlugin(), EncryptionPlugin(keys), audit)
        client = inngest.Inngest(app_id="shop", middleware=[stack])
        ```
    """

    def __init__(self, *entries: StackEntry | Stack) -> None:
        flat: list[StackEntry] = []
        for entry in entries:
            if isinstance(entry, Stack):
                flat.extend(entry.plugins)
            elif isinstance(entry, StackEntry):
                flat.append(entry)
            else:
                raise RegistrationError(
                    f"a Stack holds plugins, not {type(entry).__name__}: "
                    + (
                        "make an object of the class, with parentheses"
                        if isinstance(entry, type)
                        else "ordinary middleware goes beside it in middleware=[...]"
                    )
                )
        _check_unique(flat)
        for entry in flat:
            check_traits(repr(entry), entry.name, entry.layer, entry.fail_open)
        self._plugins = tuple(sorted(flat, key=lambda entry: entry.layer))
        self._hooks = {name: _bind(name, self._plugins) for name in HOOKS}
        self._outer = outer = sum(entry.layer <= Layer.WIRE for entry in self._plugins)
        self._parts = {
            name: (
                tuple(bound for bound in hooks if bound.index < outer),
                tuple(bound for bound in hooks if bound.index >= outer),
            )
            for name, hooks in self._hooks.items()
        }
        self.secret_payloads = any(entry.secret_payloads for entry in self._plugins)
        self.sends = bool(self._hooks["before_send_events"] or self._hooks["after_send_events"])
        self.portals = BlockingPortalProvider()
        self.constant_time_memos = os.environ.get(SDK_LOOKUP_VARIABLE, "").lower() not in _TRUE

    @property
    def plugins(self) -> tuple[StackEntry, ...]:
        """The plugins, outermost first."""
        return self._plugins

    @property
    def observer_count(self) -> int:
        """How many plugins sit at OBSERVE."""
        return sum(entry.layer is Layer.OBSERVE for entry in self._plugins)

    @property
    def outer_count(self) -> int:
        """How many plugins sit at WIRE or further out; attachments are joined inside of them."""
        return self._outer

    def parts(self, name: str) -> tuple[tuple[BoundHook, ...], tuple[BoundHook, ...]]:
        """Return the functions of a hook at WIRE or further out, and those further in."""
        return self._parts[name]

    def hooks(self, name: str) -> tuple[BoundHook, ...]:
        """Return the functions of a hook in the order in which they are called."""
        return self._hooks[name]

    @staticmethod
    def of(client: inngest.Inngest, function: inngest.Function[Any] | None = None) -> Stack:
        """Return the stack that a request of this client will use.

        Args:
            client: the client.
            function: a function whose own `middleware=[...]` is merged in, or None.

        Raises:
            RegistrationError: the plugins cannot work together as they were registered.
        """
        from ._composition import compose

        return compose(client, function).stack

    def __iter__(self) -> Iterator[StackEntry]:
        return iter(self._plugins)

    def __len__(self) -> int:
        return len(self._plugins)

    def __repr__(self) -> str:
        return f"Stack({', '.join(entry.name for entry in self._plugins)})"


def _check_unique(entries: list[StackEntry]) -> None:
    seen: set[int] = set()
    for entry in entries:
        if id(entry) in seen:
            raise RegistrationError(
                f"plugin {entry.name!r} ({type(entry).__name__}) is registered twice: the same "
                "object stands in the list, or in the lists of the client and of a function, more "
                "than once. Remove one of them, or make two objects if two are meant"
            )
        seen.add(id(entry))


def _bind(name: str, plugins: tuple[StackEntry, ...]) -> tuple[BoundHook, ...]:
    bound = [
        BoundHook(function, index, owner, name, not owner.fails_open())
        for index, owner in enumerate(plugins)
        for function in owner.hook_functions().get(name, ())
    ]
    return tuple(bound if name in INBOUND else reversed(bound))
