"""The base class of every plugin."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, ClassVar

import inngest

from inngest_plugins.core.base.errors import HookDefinitionError
from inngest_plugins.core.base.hook_names import (
    HOOKS,
    Hook,
    check_hook,
    check_layer,
    check_no_misspelt_hook,
)
from inngest_plugins.core.data.call import Call
from inngest_plugins.core.data.outcome import Outcome
from inngest_plugins.core.data.send import Send
from inngest_plugins.core.data.step import Answer, Step
from inngest_plugins.core.stack.stack import StackEntry


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
            unknown layer; when the plugin is registered, for a hook that was set on the object.
    """

    _overridden: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = _kebab(cls.__name__).removesuffix("-plugin")
        for name, value in list(cls.__dict__.items()):
            if not name.startswith("_") and isinstance(value, _FUNCTIONS) and name not in HOOKS:
                check_no_misspelt_hook(cls.__qualname__, name)
        for name in HOOKS:
            _check_definition(cls, name)
        _check_not_callable(cls)
        check_layer(cls.__qualname__, cls.layer)
        cls._overridden = frozenset(
            name for name in HOOKS if getattr(cls, name, None) is not getattr(Plugin, name)
        )

    def hook_functions(self) -> Mapping[str, Sequence[Hook]]:
        """Return the hooks of the class and those set on this object, bound to this plugin.

        Raises:
            HookDefinitionError: what was set on the object cannot serve as the hook.
        """
        own = getattr(self, "__dict__", {})
        found: dict[str, Sequence[Hook]] = {}
        for name in HOOKS:
            if name in own or name in self._overridden:
                # A partial is called as it is. Python 3.13 warns where one is looked up on an
                # object, and Python 3.14 would bind it.
                static = own[name] if name in own else _in_class(type(self), name)
                is_partial = isinstance(static, functools.partial)
                function: Hook = static if is_partial else getattr(self, name)
                if name in own or not inspect.ismethod(function):
                    check_hook(type(self).__qualname__, name, function, bound=True)
                found[name] = (function,)
        return found

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

    def step_reached(self, call: Call, step: Step) -> Awaitable[None] | None:
        """Called when the function has reached a step of any kind, memoized or not.

        Once for each step in a request, outermost plugin first; a plugin whose class sets
        `skips_memoized_steps` is not called for memoized ones. What it raises, the function sees
        raised where it called the step; a plugin that fails open is logged and ignored instead.

        Args:
            call: the request.
            step: the step; `step.status` says what becomes of it in this request, `step.input`
                is what the function asked for, in the clear.
        """

    def transform_memo(self, call: Call, step: Step) -> Awaitable[None] | None:
        """Called when the function has reached a memoized step and is about to get the result.

        Once for each such step in a request, in the order reached, outermost plugin first. Nothing
        is called for results that the function does not ask for.

        Args:
            call: the request.
            step: the step; assign `step.memo` to give the function another result.
        """

    def answer_step(self, call: Call, step: Step) -> Awaitable[Answer | None] | Answer | None:
        """Called when a step's handler is about to run; may give the result in its place.

        The outermost plugins are asked first, and the first answer is taken. Then neither the
        handler nor any `around_step` runs, and the outbound hooks see the answer as a result. With
        `Answer(handler=...)` that handler runs, and `around_step` around it.

        For what the engine does (a wait, a sleep, an invoke, an AI request) it is called whenever
        the function reaches the step, before `step_reached`. An answer makes it a "StepRun" of
        this app, to the engine and to all hooks. So it has to be answered again in later requests:
        in a group, where it is planned first, and when `step.status` is "memoized", where the
        value of the answer is not used.

        Args:
            call: the request.
            step: the step; `step.args` is what the handler would get.

        Returns:
            An `Answer`, or None to let the handler run.
        """
        return None

    def transform_step_input(self, call: Call, step: Step) -> Awaitable[None] | None:
        """Called when a step's arguments are about to leave for the engine.

        That is the data of an invoke, the expression of a wait, the request of an AI inference;
        in `group.parallel` too, and never on replay. Also what plugins send with steps, such as
        a deferral ("DeferAdd"). An exception is raised where the step was called. May change
        `step.input`.

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

    def step_delivered(self, call: Call, step: Step) -> Awaitable[None] | None:
        """Called when the engine has stored a step's result and the request goes on.

        Only where a plugin of the stack delivers results (`inngest_plugins.checkpoint`); otherwise
        a step's result ends the request, and `before_response` is the place for what is to be sent
        along with it. Runs innermost to outermost.

        Args:
            call: this request.
            step: the step; its outcome went through `transform_output` before.
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


def _in_class(cls: type, name: str) -> Any:
    return next(base.__dict__[name] for base in cls.__mro__ if name in base.__dict__)


def _check_definition(cls: type[Plugin], name: str) -> None:
    """Check a hook of a class, wherever in its bases it is defined.

    Raises:
        HookDefinitionError: it cannot serve as the hook, or a base behind `Plugin` defines it,
            where it would never be called.
    """
    owner = next(base for base in cls.__mro__ if name in base.__dict__)
    if owner is Plugin:
        after = cls.__mro__[cls.__mro__.index(Plugin) + 1 :]
        hidden = next((base for base in after if name in base.__dict__), None)
        if hidden is not None:
            raise HookDefinitionError(
                f"{cls.__qualname__}.{name} would never be called: Plugin stands before "
                f"{hidden.__qualname__}, which defines it. Write the bases the other way round: "
                f"class {cls.__name__}({hidden.__name__}, Plugin)"
            )
        return
    if owner is not cls and issubclass(owner, Plugin):
        return
    value = owner.__dict__[name]
    is_static = isinstance(value, staticmethod)
    function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    if not callable(function) and hasattr(type(function), "__get__"):
        # A slot or another descriptor: what it gives is checked when the object is registered.
        return
    # A partial or an object with `__call__` is not a method: it is called without the plugin.
    check_hook(
        cls.__qualname__,
        name,
        function,
        bound=(
            is_static
            or isinstance(function, functools.partial)
            or not hasattr(type(function), "__get__")
        ),
    )


def _check_not_callable(cls: type[Plugin]) -> None:
    if cls.__call__ is not Plugin.__call__:
        raise HookDefinitionError(
            f"{cls.__qualname__} defines __call__, by which the SDK takes a plugin into a request: "
            "give that method another name"
        )


_FUNCTIONS: tuple[type, ...] = (type(check_hook), staticmethod, classmethod)


def _kebab(class_name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", class_name).lower()
