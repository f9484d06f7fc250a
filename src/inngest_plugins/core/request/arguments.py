"""The arguments that the function gives its steps, for plugins that answer them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inngest_plugins.core.sdk import door


class StepArguments:
    """Keeps the arguments of a tool of `ctx.step` until its step is reported.

    The SDK reports a step without the arguments of its handler. It reports it before it awaits
    anything, so that one place to note them is enough.

    Args:
        ctx: the context of the request.
        is_async: whether the function is.
    """

    __slots__ = ("_given", "_is_async")

    def __init__(self, ctx: door.AnyContext, *, is_async: bool) -> None:
        self._is_async = is_async
        self._given: tuple[Any, ...] | None = None
        for name, arguments in _ARGUMENTS.items():
            door.replace_tool(ctx, name, self._noting(arguments))

    def take(self) -> tuple[Any, ...]:
        """Return the arguments of the step that is being reported."""
        given, self._given = self._given, None
        return given or ()

    def _noting(self, arguments: Callable[..., tuple[Any, ...]]) -> Callable[[Any], Any]:
        def wrap(original: Any) -> Any:
            async def tool_async(*args: Any, **options: Any) -> Any:
                inner = self._note(arguments, args, options)
                try:
                    return await original(*args, **options)
                finally:
                    self._forget(inner=inner)

            def tool(*args: Any, **options: Any) -> Any:
                inner = self._note(arguments, args, options)
                try:
                    return original(*args, **options)
                finally:
                    self._forget(inner=inner)

            return tool_async if self._is_async else tool

        return wrap

    def _note(
        self, arguments: Callable[..., tuple[Any, ...]], args: Any, options: dict[str, Any]
    ) -> bool:
        """Note a tool's arguments; return whether another tool that uses it has noted its own."""
        if self._given is not None:
            return True
        try:
            self._given = arguments(*args, **options)
        except TypeError:
            # The SDK's tool says better what is wrong with the call.
            self._given = ()
        return False

    def _forget(self, *, inner: bool) -> None:
        if not inner:
            self._given = None


def _of_run(
    step_id: str, handler: object, *args: Any, output_type: object = None
) -> tuple[Any, ...]:
    del step_id, handler, output_type
    return args


def _of_send_event(step_id: str, events: Any) -> tuple[Any, ...]:
    del step_id
    return (events if isinstance(events, list) else [events],)


def _of_sleep(step_id: str, duration: Any) -> tuple[Any, ...]:
    del step_id
    return (duration,)


def _of_sleep_until(step_id: str, until: Any) -> tuple[Any, ...]:
    del step_id
    return (until,)


_ARGUMENTS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "run": _of_run,
    "send_event": _of_send_event,
    "sleep": _of_sleep,
    "sleep_until": _of_sleep_until,
}
