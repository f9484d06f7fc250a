"""Work of a millisecond or so, done by many tasks at once without holding up their event loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable


class Turns:
    """Lets one task at a time do its piece of work, one in each round of the event loop.

    Capturing an exception takes about a millisecond, most of it for the stack's variables. When
    many runs fail together (a database is gone), the loop would otherwise do nothing else until
    all of them are captured.
    """

    def __init__(self) -> None:
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            weakref.WeakKeyDictionary()
        )

    async def take(self, work: Callable[[], None]) -> None:
        """Do the work when it is this task's turn.

        Args:
            work: called once, in this task; what it raises is raised here.
        """
        lock = self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            work()
            await asyncio.sleep(0)
