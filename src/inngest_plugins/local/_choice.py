"""Finds the function that a caller means by events or by a name."""

from __future__ import annotations

import typing
from collections.abc import Mapping

import inngest

from ._errors import LocalEngineError
from .executor.events import Router
from .functions.config import FunctionConfig

FunctionRef = str | inngest.Function[typing.Any]
"""A function: itself or its id, with or without the app's."""


class Chooser:
    """Finds functions.

    Args:
        app_id: The app.
        functions: By full id.
        router: Knows what events start.
    """

    def __init__(
        self, app_id: str, functions: Mapping[str, FunctionConfig], router: Router
    ) -> None:
        self._app_id = app_id
        self._functions = functions
        self._router = router

    def of_events(self, events: list[inngest.Event], function: FunctionRef | None) -> str:
        """The full id of the function whose run the caller waits for.

        Raises:
            LocalEngineError: The events start no run, or several and ``function`` does not say
                which one is meant.
        """
        router = self._router
        names = ", ".join(sorted({repr(event.name) for event in events}))
        if not events:
            raise LocalEngineError("engine.run() was given no events")
        started: list[FunctionConfig] = []
        for event in events:
            for config in router.triggered_by({"name": event.name, "data": dict(event.data)}):
                if config.batch is None or config not in started:
                    started.append(config)
        ids = sorted({config.id for config in started})
        if function is not None:
            wanted = self._function_id(function)
            if wanted not in ids:
                raise LocalEngineError(
                    f"event {names} does not start function {wanted!r}; it starts "
                    + (", ".join(map(repr, ids)) or "none")
                )
            started = [config for config in started if config.id == wanted]
        elif not ids:
            known = sorted(
                {str(t.event) for fn in self._functions.values() for t in fn.triggers if t.event}
            )
            raise LocalEngineError(
                f"event {names} starts no run; the functions listen to "
                + (", ".join(map(repr, known)) or "no event")
            )
        elif len(ids) > 1:
            raise LocalEngineError(
                f"event {names} starts several functions: {', '.join(map(repr, ids))}; say which "
                "run to wait for with engine.run(..., function=...), or use send() and settle()"
            )
        if len(started) > 1:
            raise LocalEngineError(
                f"{len(events)} events start {len(started)} runs of {started[0].id!r}; use send() "
                "and settle() to wait for all of them"
            )
        return started[0].id

    def _function_id(self, function: FunctionRef) -> str:
        full = function if isinstance(function, str) else function.id
        for candidate in (full, f"{self._app_id}-{full}"):
            if candidate in self._functions:
                return candidate
        raise LocalEngineError(
            f"no function {full!r}; there are {', '.join(map(repr, sorted(self._functions)))}"
        )

    def cron_function(self, function: FunctionRef | None) -> FunctionConfig:
        """The function whose cron the caller fires.

        Raises:
            LocalEngineError: There is none.
        """
        if function is None:
            raise LocalEngineError("engine.run() needs an event, or a cron function to fire")
        config = self._functions[self._function_id(function)]
        if config.cron is None:
            raise LocalEngineError(f"function {config.id!r} has no cron trigger: give an event")
        return config
