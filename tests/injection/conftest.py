"""Services that count how often they are opened and closed, and apps that use them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import inngest
import pytest
import svcs
from tests.bodies import Body, handler_of

from inngest_plugins.core import StackEntry
from inngest_plugins.injection import InjectionPlugin
from inngest_plugins.local import LocalEngine, Run


class Session:
    """A service that has to be closed."""

    def __init__(self) -> None:
        self.is_open = True


class AsyncSession(Session):
    """One that is opened by async code."""


class Settings:
    """An app's value."""

    region = "eu"


class Count:
    """What was opened and closed, in order."""

    def __init__(self) -> None:
        self.opened: list[Session] = []
        self.closed: list[Session] = []
        self.errors: list[BaseException | None] = []
        self.log: list[str] = []
        self.lock = threading.Lock()

    def open(self, session: Session) -> None:
        with self.lock:
            self.opened.append(session)
            self.log.append("open")

    def close(self, session: Session) -> None:
        with self.lock:
            assert session.is_open
            session.is_open = False
            self.closed.append(session)
            self.log.append("close")

    @property
    def leaked(self) -> int:
        return len(self.opened) - len(self.closed)


class App:
    """A client with the plugin, and its functions."""

    def __init__(self, *plugins: StackEntry, is_async: bool = True) -> None:
        self.is_async = is_async
        self.count = Count()
        self.registry = svcs.Registry()
        self.registry.register_factory(Session, self._session)
        self.registry.register_factory(AsyncSession, self._async_session)
        self.registry.register_value(Settings, Settings())
        self.plugin = InjectionPlugin(self.registry)
        self.client = inngest.Inngest(
            app_id="app", is_production=False, middleware=[*plugins, self.plugin]
        )
        self.functions: list[inngest.Function[Any]] = []

    def _session(self) -> Iterator[Session]:
        session = Session()
        self.count.open(session)
        yield session
        self.count.close(session)

    async def _async_session(self) -> AsyncIterator[AsyncSession]:
        session = AsyncSession()
        self.count.open(session)
        yield session
        self.count.close(session)

    def function(self, fn_id: str = "fn", **options: Any) -> Callable[[Any], Any]:
        """Register a handler, triggered by the event of its id."""

        def register(handler: Any) -> Any:
            options.setdefault("trigger", inngest.TriggerEvent(event=fn_id))
            options.setdefault("retries", 0)
            function = self.client.create_function(fn_id=fn_id, **options)(handler)
            self.functions.append(function)
            return function

        return register

    def body(self, fn_id: str = "fn", **options: Any) -> Callable[[Body], Any]:
        """Register a body that runs as an async or a sync function."""
        return lambda body: self.function(fn_id, **options)(
            handler_of(body, is_async=self.is_async)
        )

    @contextlib.asynccontextmanager
    async def engine(self, **options: Any) -> AsyncIterator[LocalEngine]:
        options.setdefault("retry_interval", 0.01)
        async with LocalEngine(self.client, self.functions, **options) as engine:
            yield engine

    async def run(self, name: str = "fn", **data: Any) -> Run:
        async with self.engine() as engine:
            run = await engine.run(inngest.Event(name=name, data=data), function=name)
            await engine.settle()
            return run


@pytest.fixture(params=[True, False], ids=["async", "sync"])
def app(request: pytest.FixtureRequest) -> App:
    """An app of async functions, and one of sync functions."""
    return App(is_async=request.param)


@pytest.fixture
def async_app() -> App:
    """An app of async functions."""
    return App()


@pytest.fixture
def make_app() -> type[App]:
    """Apps with other plugins."""
    return App
