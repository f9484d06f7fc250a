"""What all requests of a function have in common, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import inngest

from inngest_plugins.core import Call, Plugin
from inngest_plugins.otel.base import attributes as names
from inngest_plugins.otel.requests.code import code_of

Labels = Mapping[str, str]

MAX_LABELS: Final = 256
"""The most sets of metric attributes that are kept for a function."""


class Profile:
    """A function as its requests' spans and measurements describe it.

    Attributes:
        stack: the stack that this holds for.
        span_name: name of the requests' spans.
        span_attributes: attributes that all of these spans have.
        others: names of the hooks that some other plugin of the stack has.
        secret: whether a plugin of the stack keeps payloads secret.
    """

    __slots__ = (
        "_common",
        "_labels",
        "others",
        "secret",
        "span_attributes",
        "span_name",
        "stack",
    )

    def __init__(self, call: Call, observer: Plugin) -> None:
        self.stack = call.stack
        self.secret = call.stack.secret_payloads
        self.span_name = f"run {call.function_id}"
        self._common = {
            names.APP_ID: call.app_id,
            names.FUNCTION_ID: call.function_id,
            names.HANDLER: call.handler_kind,
        }
        self.span_attributes: dict[str, str | int] = {
            "messaging.system": "inngest",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "faas.name": call.function_id,
            **self._common,
            **code_of(call),
        }
        self.others = frozenset(
            hook
            for entry in call.stack.plugins
            if entry is not observer
            for hook, functions in entry.hook_functions().items()
            if functions
        )
        self._labels: dict[tuple[str, ...], Labels] = {(): self._common}

    def labels(self, *pairs: str) -> Labels:
        """Return the attributes of a measurement: those of the function, and some more.

        Args:
            *pairs: names and values in turn. The values must come from a small set.
        """
        found = self._labels.get(pairs)
        if found is None:
            found = {**self._common, **dict(zip(pairs[::2], pairs[1::2], strict=True))}
            if len(self._labels) < MAX_LABELS:
                self._labels[pairs] = found
        return found


class Profiles:
    """The profiles of the functions that are alive.

    Args:
        observer: the plugin, which is not one of the others.
    """

    __slots__ = ("_known", "_observer")

    def __init__(self, observer: Plugin) -> None:
        self._observer = observer
        self._known: WeakKeyDictionary[inngest.Function[Any], dict[str, Profile]] = (
            WeakKeyDictionary()
        )

    def of(self, call: Call) -> Profile:
        """Return the profile of the function and the handler that a request is for."""
        of_function = self._known.get(call.function)
        if of_function is None:
            of_function = self._known[call.function] = {}
        profile = of_function.get(call.handler_kind)
        if profile is None or profile.stack is not call.stack:
            profile = of_function[call.handler_kind] = Profile(call, self._observer)
        return profile
