"""Spreads captures over rounds of the event loop, so that many failures do not block it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
import weakref
from collections.abc import Callable

import sentry_sdk
from sentry_sdk import scope as sentry_scope
from sentry_sdk.integrations.modules import ModulesIntegration


class OneAtATime:
    """Lets one task at a time do its piece of work, one in each round of the event loop.

    Capturing an exception takes about a millisecond, most of it for the stack's variables. When
    many runs fail together (a database is gone), the loop would otherwise do nothing else until
    all of them are captured.

    The first event of a process takes longer, as Sentry reads the metadata of all installed
    packages for it, a tenth of a second where there are 130. That is done in a thread.
    """

    def __init__(self) -> None:
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            weakref.WeakKeyDictionary()
        )
        self._prepared = False

    async def take(self, work: Callable[[], None]) -> None:
        """Do the work when it is this task's turn.

        Args:
            work: called once, in this task; what it raises is raised here.
        """
        lock = self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            if not self._prepared:
                self._prepared = True
                read = package_reader()
                if read is not None:
                    await _run_aside(read)
            work()
            await asyncio.sleep(0)


def package_reader() -> Callable[[], object] | None:
    """Return a function that makes Sentry read the list of installed packages, if it sends one.

    Sentry reads the list for the first event that is not a transaction, and keeps it. The only way
    to make it do so earlier is the event processor that adds the list to events.
    """
    if sentry_sdk.get_client().get_integration(ModulesIntegration) is None:
        return None
    for processor in sentry_scope.global_event_processors:
        if getattr(processor, "__module__", None) == ModulesIntegration.__module__:
            return functools.partial(processor, {}, {})
    return None


async def _run_aside(work: Callable[[], object]) -> None:
    """Do work in a new thread: all threads of a pool may be busy."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    context = contextvars.copy_context()

    def run() -> None:
        # Ignore errors: they come again for the first event, where Sentry handles them. The loop
        # may be closed by now, if the request was cancelled.
        with contextlib.suppress(Exception):
            context.run(work)
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="inngest-plugins-sentry-packages", daemon=True).start()
    await done.wait()
