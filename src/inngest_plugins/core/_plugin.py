"""The base class of every plugin."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

import inngest

from ._entry import ListEntry
from ._errors import HookDefinitionError
from ._hook_names import HOOKS, Hook, check_hook, check_layer, check_no_misspelt_hook, check_traits
from ._layers import Layer

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ._call import Call
    from ._outcome import Outcome
    from ._send import Send
    from ._stack import Stack
    from ._step import Step


class StackEntry(ListEntry):
    """What may stand in a stack: a `Plugin` or a `Hooks`.

    Attributes:
        layer: where in the stack it sits.
        fail_open: True: an exception in a hook is logged and the run goes on unchanged. False: it
            fails the run. None, the default: only `Layer.OBSERVE` fails open.
        secret_payloads: a trait that other plugins of the stack respect: payloads must not reach
            third parties in the clear. Encryption sets it.
        name: shown in logs, errors and timelines.
    """

    layer: Layer = Layer.CONTEXT
    fail_open: bool | None = None
    secret_payloads: bool = False
    name: str = ""

    def fails_open(self) -> bool:
        """Tell whether an exception in one of its hooks leaves the run unharmed."""
        return self.layer is Layer.OBSERVE if self.fail_open is None else self.fail_open

    def hook_functions(self) -> Mapping[str, Sequence[Hook]]:
        """Return the functions to call for each hook; hooks that do nothing are left out."""
        raise TypeError(f"{type(self).__name__} must derive from Plugin or Hooks")

    def diagnose(self, stack: Stack) -> Iterable[str]:
        """Tell `inngest-plugins doctor` what is unsafe or pointless in this stack.

        Args:
            stack: the stack this entry is part of.

        Returns:
            One sentence for each finding.
        """
        del stack
        return ()

    def diagnose_functions(self, functions: Sequence[inngest.Function[Any]]) -> Iterable[str]:
        """Tell `inngest-plugins doctor` which options name functions that the app does not have.

        Args:
            functions: all functions of the app.

        Returns:
            One sentence for each finding.
        """
        del functions
        return ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class Plugin(StackEntry):
    """A set of hooks around every request of every run.

    Override what you need; each hook may be `def` or `async def`, and one that is not overridden
    costs nothing. One plugin object serves all runs at once: keep per-call data under a `CallKey`
    on the call, never on the plugin.

    Example:
        ```python
        class Timing(Plugin):
            layer = Layer.OBSERVE

            @contextlib.contextmanager
            def around_step(self, call, step):
                started = time.perf_counter()
                yield
                call.logger.info("%s took %.3f s", step.id, time.perf_counter() - started)

        client = inngest.Inngest(app_id="shop", middleware=[Timing()])
        ```

    Raises:
        HookDefinitionError: at class definition, for a misspelt hook, a wrong signature, or an
            unknown layer.
    """

    _overridden: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = _kebab(cls.__name__).removesuffix("-plugin")
        for name, value in list(cls.__dict__.items()):
            if name in HOOKS:
                static = isinstance(value, staticmethod)
                function = (
                    value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
                )
                check_hook(cls.__qualname__, name, function, bound=static)
            elif not name.startswith("_") and isinstance(value, _FUNCTIONS):
                check_no_misspelt_hook(cls.__qualname__, name)
        check_layer(cls.__qualname__, cls.layer)
        cls._overridden = frozenset(
            name for name in HOOKS if getattr(cls, name) is not getattr(Plugin, name)
        )

    def hook_functions(self) -> Mapping[str, Sequence[Hook]]:
        """Return the overridden hooks, bound to this plugin."""
        return {name: (getattr(self, name),) for name in HOOKS if name in self._overridden}

    def on_register(self, client: inngest.Inngest) -> Awaitable[None] | None:
        """Called once, before the plugin's first request or send with this client.

        Args:
            client: the client whose list, or whose function's list, the plugin stands in.
        """

    def transform_input(self, call: Call) -> Awaitable[None] | None:
        """Called when a request has arrived, before replay.

        May change `call.event`, `call.events`, `call.memos`, and what `ctx` offers
        (`call.provide`).

        Args:
            call: this request.
        """

    def before_memoization(self, call: Call) -> Awaitable[None] | None:
        """Called just before the function starts replaying.

        Args:
            call: this request.
        """

    def after_memoization(self, call: Call) -> Awaitable[None] | None:
        """Called when all memoized steps have been replayed; at once when there are none.

        Args:
            call: this request.
        """

    def before_execution(self, call: Call) -> Awaitable[None] | None:
        """Called when new code is about to run, right after `after_memoization`.

        Args:
            call: this request.
        """

    def transform_step_input(self, call: Call, step: Step) -> Awaitable[None] | None:
        """Called when a step's arguments are about to leave for the engine.

        That is the data of an invoke, the expression of a wait, the request of an AI inference;
        in `group.parallel` too, and never on replay. An exception is raised where the step was
        called. May change `step.input`.

        Args:
            call: this request.
            step: the step; `step.input` holds the arguments as they are on the wire.
        """

    def around_step(
        self, call: Call, step: Step
    ) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
        """Return a context manager that is held open while a step's handler really runs.

        Never called for a replayed step. The context manager sees the exception that user code
        raised; it can neither swallow nor replace it.

        Args:
            call: this request.
            step: the step that runs.
        """
        return contextlib.nullcontext()

    def after_execution(self, call: Call) -> Awaitable[None] | None:
        """Called when new code has run, whether it returned, raised or was interrupted by a step.

        Args:
            call: this request.
        """

    def transform_output(self, call: Call, outcome: Outcome) -> Awaitable[None] | None:
        """Called when a step or the function produced a value or an error.

        May change `outcome.output` and `outcome.error`. Not called when a request only plans,
        sleeps, waits or invokes.

        Args:
            call: this request.
            outcome: what ended, and how.
        """

    def before_response(self, call: Call) -> Awaitable[None] | None:
        """Called last, before the answer goes to the engine.

        Also called when the request was cancelled and nobody will read the answer.

        Args:
            call: this request.
        """

    def before_send_events(self, send: Send) -> Awaitable[None] | None:
        """Called when events are about to leave through `client.send` or `step.send_event`.

        An exception is raised where the events were sent, and nothing is sent. May change
        `send.events`.

        Args:
            send: the events, as copies of the caller's.
        """

    def after_send_events(self, send: Send) -> Awaitable[None] | None:
        """Called when events have been sent, or could not be.

        An exception is logged and never raised: the events are out, and a retry would send them
        twice.

        Args:
            send: the events, with `send.ids` or `send.error`.
        """


_FUNCTIONS: tuple[type, ...] = (type(check_hook), staticmethod, classmethod)


def _kebab(class_name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", class_name).lower()


class Hooks(StackEntry):
    """Custom hooks without a class: decorate functions, sync or async, several for a hook.

    Args:
        name: shown in logs, errors and timelines.
        layer: where in the stack the hooks sit.
        fail_open: True to log exceptions instead of failing the run; by default only
            `Layer.OBSERVE` fails open.

    Example:
        ```python
        audit = Hooks("audit")

        @audit.after_execution
        def log(call):
            call.logger.info("ran %s", call.function_id)

        client = inngest.Inngest(app_id="shop", middleware=[audit])
        ```

    Raises:
        HookDefinitionError: a name that is no text, an unknown layer or policy, or a function
            that cannot serve as the hook.
    """

    def __init__(
        self, name: str, *, layer: Layer = Layer.CONTEXT, fail_open: bool | None = None
    ) -> None:
        check_traits(f"Hooks({name!r})", name, layer, fail_open)
        self.name = name
        self.layer = layer
        self.fail_open = fail_open
        self._functions: dict[str, list[Hook]] = {}

    def hook_functions(self) -> Mapping[str, Sequence[Hook]]:
        """Return the decorated functions in the order in which they were decorated."""
        return self._functions

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in HOOKS:
            check_no_misspelt_hook(f"Hooks({self.name!r})", name)
            raise AttributeError(f"Hooks({self.name!r}) has no hook {name!r}")
        return _Decorator(self._functions, f"Hooks({self.name!r})", name)

    if TYPE_CHECKING:
        # Spelled out for type checkers and editors; at run time `__getattr__` serves them all.
        _F = Callable[..., Any]

        def on_register(self, function: _F, /) -> _F: ...
        def transform_input(self, function: _F, /) -> _F: ...
        def before_memoization(self, function: _F, /) -> _F: ...
        def after_memoization(self, function: _F, /) -> _F: ...
        def before_execution(self, function: _F, /) -> _F: ...
        def transform_step_input(self, function: _F, /) -> _F: ...
        def around_step(self, function: _F, /) -> _F: ...
        def after_execution(self, function: _F, /) -> _F: ...
        def transform_output(self, function: _F, /) -> _F: ...
        def before_response(self, function: _F, /) -> _F: ...
        def before_send_events(self, function: _F, /) -> _F: ...
        def after_send_events(self, function: _F, /) -> _F: ...


class _Decorator:
    """`hooks.<hook>`: registers the function it decorates and hands it back unchanged."""

    def __init__(self, functions: dict[str, list[Hook]], owner: str, name: str) -> None:
        self._functions = functions
        self._owner = owner
        self._name = name

    def __call__(self, function: Hook | None = None) -> Hook:
        if function is None:
            raise HookDefinitionError(
                f"{self._owner}.{self._name} decorates a function as it is: write "
                f"@...{self._name} without parentheses"
            )
        check_hook(self._owner, self._name, function, bound=True)
        self._functions.setdefault(self._name, []).append(function)
        return function
