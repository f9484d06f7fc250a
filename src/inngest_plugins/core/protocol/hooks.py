"""Hooks without a class: functions decorated with the name of a hook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from inngest_plugins.core.base.errors import HookDefinitionError
from inngest_plugins.core.base.hook_names import (
    HOOKS,
    Hook,
    check_hook,
    check_no_misspelt_hook,
    check_traits,
)
from inngest_plugins.core.base.layers import Layer
from inngest_plugins.core.stack.stack import StackEntry

if TYPE_CHECKING:
    from .hook_types import (
        DecoratesAnswerHook,
        DecoratesAroundStepHook,
        DecoratesCallHook,
        DecoratesClientHook,
        DecoratesOutcomeHook,
        DecoratesSendHook,
        DecoratesStepHook,
    )


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
        HookDefinitionError: a name that is not a text, an unknown layer or policy, or a function
            that cannot serve as the hook.
    """

    def __init__(
        self, name: str, *, layer: Layer = Layer.CONTEXT, fail_open: bool | None = None
    ) -> None:
        check_traits(f"Hooks({name!r})", name, layer, fail_open)
        if not name.strip():
            raise HookDefinitionError("Hooks needs a name that is not empty, for logs and errors")
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
        on_register: DecoratesClientHook
        transform_input: DecoratesCallHook
        before_memoization: DecoratesCallHook
        after_memoization: DecoratesCallHook
        before_execution: DecoratesCallHook
        step_reached: DecoratesStepHook
        transform_memo: DecoratesStepHook
        transform_step_input: DecoratesStepHook
        answer_step: DecoratesAnswerHook
        around_step: DecoratesAroundStepHook
        after_execution: DecoratesCallHook
        transform_output: DecoratesOutcomeHook
        step_delivered: DecoratesStepHook
        before_response: DecoratesCallHook
        before_send_events: DecoratesSendHook
        after_send_events: DecoratesSendHook


class _Decorator:
    """`hooks.<hook>`: registers the function it decorates and returns it unchanged."""

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
