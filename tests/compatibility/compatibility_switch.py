"""Two generations of workers of one app, and an engine that calls now one, now the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastapi
import inngest
import inngest.fast_api

from inngest_plugins.core import answered_by
from inngest_plugins.local import LocalEngine, Run, VirtualClock

Build = Callable[[inngest.Inngest], list[inngest.Function[Any]]]
Turn = Callable[[int], bool]
"""Given the number of a call, from 0: whether a new worker answers it."""

TURNS: dict[str, Turn] = {
    "old": lambda number: False,
    "new": lambda number: True,
    "old then new": lambda number: number >= 3,
    "new then old": lambda number: number < 3,
    "old, new, old ...": lambda number: number % 2 == 1,
    "new, old, new ...": lambda number: number % 2 == 0,
}


async def run_on_both(
    build: Build,
    old: list[Any],
    new: list[Any],
    turn: Turn,
    event: inngest.Event,
    *,
    sender_is_new: bool | None = None,
) -> tuple[Run, list[Run]]:
    """Run an event on workers with the middleware `old` and workers with `new`.

    Args:
        build: makes the functions; the main one is first.
        old: middleware of the old workers.
        new: middleware of the new ones.
        turn: who answers which call.
        event: starts the first function.
        sender_is_new: who sends the event; by default whoever answers the first call.

    Returns:
        The run of the first function, and all runs.
    """
    apps: dict[bool, Any] = {}
    clients: dict[bool, inngest.Inngest] = {}
    functions: dict[bool, list[inngest.Function[Any]]] = {}
    for is_new, middleware in ((False, old), (True, new)):
        client = inngest.Inngest(app_id="shop", is_production=False, middleware=middleware)
        clients[is_new], functions[is_new] = client, build(client)
        apps[is_new] = fastapi.FastAPI()
        inngest.fast_api.serve(apps[is_new], client, functions[is_new])
    calls = 0

    async def switch(scope: Any, receive: Any, send: Any) -> None:
        nonlocal calls
        chosen = sender
        if scope["method"] == "POST":
            chosen, calls = turn(calls), calls + 1
        await apps[chosen](scope, receive, send)

    sender = turn(0) if sender_is_new is None else sender_is_new
    engine = LocalEngine(
        clients[sender], functions[sender], clock=VirtualClock(0), serve=lambda *_: switch
    )
    async with engine:
        with answered_by(clients[not sender], engine.transport, engine.transport):
            run = await engine.run(event, function=functions[sender][0].id, timeout=200)
            await engine.settle(60)
    return run, engine.runs
