"""Telling the branches of a `group.parallel` apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import inngest

from inngest_plugins.core import Call

from ._territory import Territory


def follow_branches(call: Call, territory: Territory) -> None:
    """Report the groups and branches that this request's function enters.

    `ctx.group` is this request's own object, so that a method set on it is seen by the function
    and by nothing else.

    Args:
        call: the request.
        territory: what to report to.
    """
    group: Any = call.ctx.group
    original = group.parallel
    group.parallel = (
        _parallel_async(original, territory) if call.is_async else _parallel(original, territory)
    )


def _parallel_async(original: Callable[..., Any], territory: Territory) -> Callable[..., Any]:
    async def parallel(
        callables: Any, parallel_mode: inngest.ParallelMode = inngest.ParallelMode.WAIT
    ) -> Any:
        with territory.group(race=parallel_mode is inngest.ParallelMode.RACE) as branch:

            def followed(function: Callable[[], Any]) -> Callable[[], Any]:
                async def run() -> Any:
                    with branch():
                        return await function()

                return run

            return await original(tuple(map(followed, callables)), parallel_mode)

    return parallel


def _parallel(original: Callable[..., Any], territory: Territory) -> Callable[..., Any]:
    def parallel(
        callables: Any, parallel_mode: inngest.ParallelMode = inngest.ParallelMode.WAIT
    ) -> Any:
        with territory.group(race=parallel_mode is inngest.ParallelMode.RACE) as branch:

            def followed(function: Callable[[], Any]) -> Callable[[], Any]:
                def run() -> Any:
                    with branch():
                        return function()

                return run

            return original(tuple(map(followed, callables)), parallel_mode)

    return parallel
