"""The hook protocol as data, and the checks that a hook is written correctly."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from .errors import HookDefinitionError
from .layers import Layer

Hook = Callable[..., Any]

HOOKS: Final[dict[str, tuple[str, ...]]] = {
    "on_register": ("client",),
    "transform_input": ("call",),
    "before_memoization": ("call",),
    "after_memoization": ("call",),
    "before_execution": ("call",),
    "step_reached": ("call", "step"),
    "transform_memo": ("call", "step"),
    "transform_step_input": ("call", "step"),
    "answer_step": ("call", "step"),
    "around_step": ("call", "step"),
    "after_execution": ("call",),
    "transform_output": ("call", "outcome"),
    "step_delivered": ("call", "step"),
    "before_response": ("call",),
    "before_send_events": ("send",),
    "after_send_events": ("send",),
}
"""Every hook with the arguments it is called with, in the order in which a request fires them."""

INBOUND: Final = frozenset(
    {
        "on_register",
        "transform_input",
        "before_memoization",
        "before_execution",
        "step_reached",
        "transform_memo",
        "answer_step",
        "around_step",
    }
)
"""Hooks that run outermost to innermost; all others run innermost to outermost."""

_HOOK_LIKE: Final = ("before_", "after_", "transform_", "around_", "answer_", "wrap_")
_CLOSE: Final = 0.8


def check_hook(owner: str, name: str, function: Hook, *, bound: bool) -> None:
    """Check that a function can serve as the hook `name`.

    Args:
        owner: the plugin's name, for the message.
        name: a key of `HOOKS`.
        function: the function as written in the class body, or as decorated.
        bound: whether `function` is free of `self` (a `Hooks` function, a static method).

    Raises:
        HookDefinitionError: says what is wrong with it and how it should be written.
    """
    expected = HOOKS[name]
    shown = ", ".join(expected if bound else ("self", *expected))
    if not callable(function):
        raise HookDefinitionError(f"{owner}.{name} is a hook and must be a method {name}({shown})")
    if name == "around_step":
        _check_context_manager(owner, name, function)
    elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise HookDefinitionError(
            f"{owner}.{name} is a generator, which only around_step may be built from: "
            f"write it as a plain def or async def {name}({shown})"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    count = len(expected) if bound else len(expected) + 1
    try:
        signature.bind(*range(count))
    except TypeError as err:
        raise HookDefinitionError(
            f"{owner}.{name}{signature} has the wrong signature ({err}): the hook is called as "
            f"{name}({', '.join(expected)}), so write it as {name}({shown})"
        ) from None


def _check_context_manager(owner: str, name: str, function: Hook) -> None:
    wrapped = inspect.unwrap(function) is not function
    if inspect.iscoroutinefunction(function):
        raise HookDefinitionError(
            f"{owner}.{name} is an async def, which returns a coroutine and not a context manager: "
            "decorate an async generator with @contextlib.asynccontextmanager instead"
        )
    if wrapped:
        return
    if inspect.isasyncgenfunction(function):
        raise HookDefinitionError(
            f"{owner}.{name} is an async generator: decorate it with "
            "@contextlib.asynccontextmanager"
        )
    if inspect.isgeneratorfunction(function):
        raise HookDefinitionError(
            f"{owner}.{name} is a generator: decorate it with @contextlib.contextmanager"
        )


def check_no_misspelt_hook(owner: str, name: str) -> None:
    """Refuse a public method that is named like a hook and is not one.

    Raises:
        HookDefinitionError: names the hook that was probably meant.
    """
    # Imported when it is used: only classes with methods of their own need it (`startup`).
    import difflib

    guess = difflib.get_close_matches(name, HOOKS, n=1, cutoff=_CLOSE)
    if not guess and not name.startswith(_HOOK_LIKE):
        return
    meant = f"did you mean {guess[0]}?" if guess else f"the hooks are {', '.join(HOOKS)}."
    raise HookDefinitionError(
        f"{owner}.{name} is not a hook: {meant} "
        "(A method of your own that is not a hook starts with an underscore.)"
    )


def check_layer(owner: str, layer: object) -> Layer:
    """Return the layer.

    Raises:
        HookDefinitionError: it is not a member of `Layer`.
    """
    if isinstance(layer, Layer):
        return layer
    known = ", ".join(f"Layer.{member.name}" for member in Layer)
    raise HookDefinitionError(f"{owner}.layer is {layer!r}, which is no layer: use one of {known}")


def check_traits(owner: str, name: object, layer: object, fail_open: object) -> None:
    """Refuse traits of a plugin that would be misread: the text "false" would count as True.

    Raises:
        HookDefinitionError: its name is not a text, or its layer or policy is unknown.
    """
    if not isinstance(name, str):
        raise HookDefinitionError(f"{owner}.name is {name!r}: it needs a text, for logs and errors")
    check_layer(owner, layer)
    if fail_open is not None and not isinstance(fail_open, bool):
        raise HookDefinitionError(
            f"{owner}.fail_open is {fail_open!r}: use True, False, or None for the layer's policy"
        )
