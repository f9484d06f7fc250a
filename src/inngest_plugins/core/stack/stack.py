"""The stack: plugins sorted by layer, with their hooks laid out for the calls."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import inngest

from inngest_plugins.core.base.errors import ArgumentError, RegistrationError
from inngest_plugins.core.base.hook_names import HOOKS, INBOUND, Hook, check_traits
from inngest_plugins.core.base.layers import Layer
from inngest_plugins.core.base.safe_text import class_name
from inngest_plugins.core.base.sync_async import new_portals

from .list_entry import ListEntry, stack_of

if TYPE_CHECKING:
    from .delivery import Delivery
    from .health import HealthCheck
    from .sealed_place import SealedPlace

SDK_LOOKUP_VARIABLE = "INNGEST_PLUGINS_SDK_MEMO_LOOKUP"
"""Set to 1 to leave replay to the SDK: its memo lookup, which is quadratic, and its futures."""

_TRUE = frozenset({"1", "true", "yes", "on"})


class StackEntry(ListEntry):
    """An entry of a stack: a `Plugin` or a `Hooks`.

    Attributes:
        layer: where in the stack it sits.
        fail_open: True: an exception in a hook is logged and the run goes on unchanged. False: it
            fails the run. None, the default: only `Layer.OBSERVE` fails open.
        secret_payloads: a trait that other plugins of the stack respect: payloads must not reach
            third parties in the clear. Encryption sets it.
        sealed_fields: a trait: top-level fields of an event's data that this entry makes
            unreadable to the engine; "*" stands for all of them.
        seals_outputs: a trait: whether it does so with what steps and functions return.
        name: shown in logs, errors and timelines.
        one_per_list: whether two objects of the class, or of classes that derive from it, are
            refused in one list, as the two could not work together.
        skips_memoized_steps: whether `step_reached` is not called for memoized steps, of which a
            long run replays many in each request.
        delivery: another way for the results of steps to reach the engine than as the answer that
            ends the request; None for a plugin that provides none.
    """

    layer: Layer = Layer.CONTEXT
    fail_open: bool | None = None
    secret_payloads: bool = False
    sealed_fields: Sequence[str] = ()
    seals_outputs: bool = False
    name: str = ""
    one_per_list: ClassVar[bool] = False
    skips_memoized_steps: ClassVar[bool] = False
    if TYPE_CHECKING:
        delivery: Delivery | None = None
    else:
        # Without an annotation at run time: a plugin that is a pydantic model would take it for a
        # field, of a type that pydantic does not know.
        delivery = None

    def fails_open(self) -> bool:
        """Return whether an exception in one of its hooks leaves the run unharmed."""
        return self.layer is Layer.OBSERVE if self.fail_open is None else self.fail_open

    def hook_functions(self) -> Mapping[str, Sequence[Hook]]:
        """Return the functions to call for each hook; hooks that do nothing are left out."""
        raise ArgumentError(f"{type(self).__name__} must derive from Plugin or Hooks")

    def open_sealed(self, value: Any, place: SealedPlace) -> Any:
        """Return the value that this entry sealed; any other value as it is.

        For tools on the machine that holds the keys: the embedded engine's reports, the test kit.
        Not a hook: it may be called at any time, and from any thread.

        Args:
            value: a stored value; it must not be changed.
            place: where it was found.

        Raises:
            Exception: it cannot be opened; the tool then shows it sealed.
        """
        del place
        return value

    def diagnose(self, stack: Stack) -> Iterable[str]:
        """Return what `inngest-plugins doctor` shows as unsafe or without effect in this stack.

        Args:
            stack: the stack this entry is part of.

        Returns:
            One sentence for each finding.
        """
        del stack
        return ()

    def diagnose_functions(self, functions: Sequence[inngest.Function[Any]]) -> Iterable[str]:
        """Return which options name functions that the app does not have, for `doctor`.

        Args:
            functions: all functions of the app.

        Returns:
            One sentence for each finding.
        """
        del functions
        return ()

    def diagnose_client(self, client: inngest.Inngest) -> Iterable[str]:
        """Return what this entry needs and the client does not have, for `doctor`.

        Args:
            client: the client on which this entry is registered.

        Returns:
            One sentence for each finding.
        """
        del client
        return ()

    def health_checks(self) -> Iterable[HealthCheck]:
        """Return the checks of `inngest-plugins doctor --health`.

        Returns:
            One check for each thing that this entry needs and that can be down.
        """
        return ()

    def override_service(self, service: Any, value: object) -> AbstractContextManager[None] | None:
        """Give user code another value where it asks for a service, for tests.

        Args:
            service: the type that user code asks for.
            value: what it gets instead.

        Returns:
            A context manager that holds the override, or None: this entry gives no services.
        """
        del service, value
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


@dataclass(eq=False, repr=False, slots=True)
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


class RunningHook:
    """The hook of a call or send that runs right now.

    Attributes:
        bound: the hook, or None.
        awaits: whether it is an `async def` hook, during which other tasks go on.
    """

    __slots__ = ("awaits", "bound")

    def __init__(self) -> None:
        self.bound: BoundHook | None = None
        self.awaits = False


class Stack(ListEntry):
    """Plugins in the order in which they work, outermost first.

    Plugins that stand in one `middleware=[...]` form a stack by themselves; build one explicitly to
    name it, to reuse it, or to have a mistake raised where it is built.

    Args:
        *entries: plugins, `Hooks`, or other stacks (which are merged in). They are sorted by layer;
            those of one layer keep the order in which they were given.

    Attributes:
        secret_payloads: whether a plugin of this stack keeps payloads secret from third parties.
        seals_outputs: whether a plugin makes what steps and functions return unreadable to the
            engine.
        hooks: the functions of each hook, in the order in which they are called.
        parts: the same, those of plugins at WIRE or further out first, then those further in.
        memoized_reached: the functions of `step_reached` that are called for memoized steps too.
        outer_count: how many plugins sit there; attachments are joined inside of them.
        sends: whether a plugin of this stack wants to see events leave.
        acts: whether a plugin of this stack does anything, by a hook or a delivery.
        delivery: the delivery that its last plugin provides which provides one, so that a
            function's own comes before its client's; None when none does.

    Raises:
        RegistrationError: the same plugin object is given twice, or two of a class of which a list
            takes one.
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
        _check_one_per_list(flat)
        for entry in flat:
            check_traits(repr(entry), entry.name, entry.layer, entry.fail_open)
        self._plugins = tuple(sorted(flat, key=lambda entry: entry.layer))
        self.hooks = _bind(self._plugins)
        self.memoized_reached = tuple(
            bound for bound in self.hooks["step_reached"] if not bound.owner.skips_memoized_steps
        )
        self.outer_count = outer = sum(entry.layer <= Layer.WIRE for entry in self._plugins)
        self.parts = {
            name: (
                tuple(bound for bound in hooks if bound.index < outer),
                tuple(bound for bound in hooks if bound.index >= outer),
            )
            for name, hooks in self.hooks.items()
        }
        self.secret_payloads = any(entry.secret_payloads for entry in self._plugins)
        provided = [entry.delivery for entry in flat if entry.delivery is not None]
        self.delivery = provided[-1] if provided else None
        self.seals_outputs = any(entry.seals_outputs for entry in self._plugins)
        self.sends = bool(self.hooks["before_send_events"] or self.hooks["after_send_events"])
        self.acts = self.delivery is not None or any(self.hooks.values())
        self.portals = functools.cache(new_portals)
        self.constant_time_memos = os.environ.get(SDK_LOOKUP_VARIABLE, "").lower() not in _TRUE

    @property
    def plugins(self) -> tuple[StackEntry, ...]:
        """The plugins, outermost first."""
        return self._plugins

    @property
    def observer_count(self) -> int:
        """How many plugins sit at OBSERVE."""
        return sum(entry.layer is Layer.OBSERVE for entry in self._plugins)

    def seals_field(self, field: str) -> bool:
        """Return whether a field of an event's data leaves unreadable to the engine.

        Args:
            field: name of the top-level field.
        """
        for entry in self._plugins:
            # A lone name is one name, not its letters.
            given = entry.sealed_fields
            if not {field, "*"}.isdisjoint([given] if isinstance(given, str) else given):
                return True
        return False

    @staticmethod
    def of(client: inngest.Inngest, function: inngest.Function[Any] | None = None) -> Stack:
        """Return the stack that a request of this client will use.

        Args:
            client: the client.
            function: a function whose own `middleware=[...]` is merged in, or None.

        Raises:
            RegistrationError: the plugins cannot work together as they were registered; or
                `client` is no client, or `function` no function of Inngest.
        """
        app: object = client
        own: object = function
        if not isinstance(app, inngest.Inngest) or not isinstance(own, inngest.Function | None):
            wrong = own if isinstance(app, inngest.Inngest) else app
            raise RegistrationError(
                "Stack.of(client, function) takes an inngest.Inngest client and a function of its "
                f"create_function, not {class_name(wrong)}"
            )
        stack: Stack = stack_of(client, function)
        return stack

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


def lone_class(entry: StackEntry) -> type[StackEntry] | None:
    """Return the class that said `one_per_list` for this entry; None if two may stand in a list."""
    if not entry.one_per_list:
        return None
    declared = (kind for kind in type(entry).__mro__ if vars(kind).get("one_per_list"))
    return next((kind for kind in reversed(list(declared)) if issubclass(kind, StackEntry)), None)


def _check_one_per_list(entries: list[StackEntry]) -> None:
    seen: dict[type[StackEntry], StackEntry] = {}
    for entry in entries:
        kind = lone_class(entry)
        if kind is None:
            continue
        if kind in seen:
            raise RegistrationError(
                f"two {kind.__name__} objects stand in one list: keep one of them. To give "
                "a function another one than the rest of the client, put it in the function's own "
                "middleware=[...], where it replaces the client's"
            )
        seen[kind] = entry


def _bind(plugins: tuple[StackEntry, ...]) -> dict[str, tuple[BoundHook, ...]]:
    """Return the functions of each hook in the order in which they are called."""
    bound: dict[str, list[BoundHook]] = {name: [] for name in HOOKS}
    for index, owner in enumerate(plugins):
        functions = owner.hook_functions()
        for name, hooks in bound.items():
            hooks.extend(
                BoundHook(function, index, owner, name, not owner.fails_open())
                for function in functions.get(name, ())
            )
    return {
        name: tuple(hooks if name in INBOUND else reversed(hooks)) for name, hooks in bound.items()
    }
