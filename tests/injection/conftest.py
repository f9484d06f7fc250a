"""Services that count how often they are opened and closed, and apps that use them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import pytest
import svcs
import tests.app

from inngest_plugins.core import StackEntry
from inngest_plugins.injection import InjectionPlugin


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


class App(tests.app.App):
    """An app with the plugin, and services that count."""

    defaults: ClassVar[dict[str, Any]] = {"retries": 0}

    def __init__(self, *plugins: StackEntry, is_async: bool = True) -> None:
        self.count = Count()
        self.registry = svcs.Registry()
        self.registry.register_factory(Session, self._session)
        self.registry.register_factory(AsyncSession, self._async_session)
        self.registry.register_value(Settings, Settings())
        self.plugin = InjectionPlugin(self.registry)
        super().__init__(*plugins, self.plugin, is_async=is_async)

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
