"""The thread in which an engine works for tests that are not async."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import typing
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future

from anyio.from_thread import BlockingPortal

from inngest_plugins.local import LocalEngine, LocalEngineError
from inngest_plugins.local._foreign_code import CrashedError, isolated

T = typing.TypeVar("T")


class EngineThread:
    """An open engine in an event loop in a thread of its own.

    anyio's `start_blocking_portal` does not tell what ended its loop. An async function that calls
    ``sys.exit`` does: the SDK runs it in a task, and asyncio stops the loop for that at once.

    Args:
        engine: What is open as long as the thread lives.

    Raises:
        BaseException: What the engine raised when it was opened.
    """

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._opening: Future[BlockingPortal] = Future()
        self._ended_by: BaseException | None = None
        self._is_told = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)
        self._thread.start()
        self._portal = self._opening.result()

    def call(
        self, call: Callable[..., Coroutine[typing.Any, typing.Any, T]], *args: typing.Any
    ) -> T:
        """Await a call in the thread, and raise in this one what it raises.

        `pytest.fail()` and the like would end that thread instead of the test.

        Raises:
            BaseException: What the call raised, or what ended the loop.
        """
        try:
            result, error = self._portal.call(lambda: _outcome(call(*args)))
        except (CancelledError, RuntimeError):
            # The loop has ended, before the call or during it.
            self._thread.join()
            self._is_told = True
            raise self._ended_by or LocalEngineError("the engine has been closed") from None
        if error is not None:
            raise error
        return typing.cast("T", result)

    def close(self) -> None:
        """Close the engine and end the thread.

        Raises:
            BaseException: What the engine raised when it was closed, or what ended the loop, unless
                a call has raised it.
        """
        with contextlib.suppress(CancelledError, RuntimeError):
            self._portal.call(self._portal.stop, True)  # noqa: FBT003 - anyio's
        self._thread.join()
        if self._ended_by is not None and not self._is_told:
            raise self._ended_by

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:
            self._ended_by = error
            if not self._opening.done():
                self._opening.set_exception(error)

    async def _live(self) -> None:
        async with self._engine, BlockingPortal() as portal:
            self._opening.set_result(portal)
            await portal.sleep_until_stopped()


async def _outcome(
    call: Coroutine[typing.Any, typing.Any, T],
) -> tuple[T | None, BaseException | None]:
    """Await a call; a cancellation is the loop's, never one that the call raises itself."""
    try:
        return await isolated(call), None
    except asyncio.CancelledError:
        raise
    except CrashedError as error:
        return None, error.cause
    except BaseException as error:
        return None, error
