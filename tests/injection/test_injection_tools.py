"""Overrides in the test kit, and health checks in the doctor."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import inngest
import pytest
import svcs

from inngest_plugins.cli import main
from inngest_plugins.injection import InjectionPlugin, get
from inngest_plugins.testing import Harness, UnknownServiceError

from .conftest import App, AsyncSession, Session

pytestmark = pytest.mark.anyio


async def test_override_gives_the_fake_and_opens_nothing(
    app: App, inngest_engine: type[Harness]
) -> None:
    """In body and steps, also for an async factory; afterwards the real one is back."""
    fake = AsyncSession()

    @app.body()
    async def fn(ctx: Any, step: Any) -> list[bool]:
        async def work() -> bool:
            return get(AsyncSession) is fake

        return [get(AsyncSession) is fake, await step.run("work", work)]

    @app.body("plain")
    async def plain(ctx: Any, step: Any) -> bool:
        return get(Session).is_open

    async with inngest_engine(app.client, app.functions) as engine:
        with engine.override(AsyncSession, fake):
            run = await engine.run(inngest.Event(name="fn"))
        assert run.output == [True, True], run.reason
        assert app.count.opened == []
        assert (await engine.run(inngest.Event(name="plain"))).output is True
        assert len(app.count.opened) == 1
        assert (await engine.run(inngest.Event(name="fn"))).status == "Failed"


def test_override_in_a_sync_test(make_app: type[App], inngest_engine: type[Harness]) -> None:
    """`with` works as `async with`, and the innermost override counts."""
    app = make_app(is_async=False)
    outer, inner = Session(), Session()
    seen: list[Session] = []

    @app.body()
    async def fn(ctx: Any, step: Any) -> None:
        seen.append(get(Session))

    with inngest_engine(app.client, app.functions) as engine, engine.override(Session, outer):
        with engine.override(Session, inner):
            engine.run_sync(inngest.Event(name="fn"))
        engine.run_sync(inngest.Event(name="fn"))
    assert [each is inner for each in seen] == [True, False]
    assert seen[1] is outer


async def test_override_reaches_what_factories_ask_for(
    app: App, inngest_engine: type[Harness]
) -> None:
    """A real repository on a fake session; a function's own plugin is overridden, too."""

    class Repository:
        def __init__(self, session: Session) -> None:
            self.session = session

    def repository(container: svcs.Container) -> Repository:
        return Repository(container.get(Session))

    fake = Session()
    own = svcs.Registry()
    own.register_factory(Repository, repository)

    @app.body(middleware=[InjectionPlugin(own)])
    async def fn(ctx: Any, step: Any) -> bool:
        return get(Repository).session is fake

    async with inngest_engine(app.client, app.functions) as engine:
        with engine.override(Session, fake):
            assert (await engine.run(inngest.Event(name="fn"))).output is True


async def test_override_without_the_plugin(inngest_engine: type[Harness]) -> None:
    """An override that could have no effect is an error."""
    client = inngest.Inngest(app_id="app", is_production=False)

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="fn"))
    async def fn(ctx: inngest.Context) -> None: ...

    async with inngest_engine(client, fn) as engine:
        with (
            pytest.raises(UnknownServiceError, match=r"override\(Session\) has no effect"),
            engine.override(Session, Session()),
        ):
            raise AssertionError("never reached")


HEALTH = """
import inngest, svcs
from inngest_plugins.injection import InjectionPlugin

class Database: ...
class Cache: ...
class Queue: ...

closed = []

def open_database():
    yield Database()
    closed.append("database")

async def open_cache():
    yield Cache()
    closed.append("cache")

def ping_database(database): ...
async def ping_cache(cache):
    {cache}

registry = svcs.Registry()
registry.register_factory(Database, open_database, ping=ping_database)
registry.register_factory(Cache, open_cache, ping=ping_cache)
registry.register_value(Queue, Queue())
plugin = InjectionPlugin(registry)
client = inngest.Inngest(app_id="d", middleware=[plugin])

@client.create_function(fn_id="one", trigger=inngest.TriggerEvent(event="x"))
async def one(ctx): ...
"""


@pytest.fixture
def doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Run the doctor on an app whose cache answers its ping so."""
    monkeypatch.setenv("INNGEST_DEV", "1")

    def run(cache: str, *options: str) -> tuple[int, str]:
        path = tmp_path / f"health_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(textwrap.dedent(HEALTH.format(cache=cache)))
        code = main(["doctor", str(path), *options])
        return code, capsys.readouterr().out

    return run


def test_the_doctor_asks_the_pings(doctor: Any) -> None:
    """Each service with a ping is opened, asked and closed; what is down fails the command."""
    code, out = doctor("return None", "--health")
    assert code == 0
    assert "up    " in out
    assert ".Database  plugin injection" in out
    assert ".Cache  plugin injection" in out
    assert "Queue" not in out

    code, out = doctor("raise ConnectionError('refused')", "--health")
    assert code == 1
    assert "down  " in out
    assert "ConnectionError: refused" in out


def test_the_doctor_s_json_has_the_pings(doctor: Any) -> None:
    """The same as data; without --health nothing is asked."""
    code, out = doctor("raise ConnectionError('refused')", "--health", "--json")
    answer = json.loads(out)
    assert code == 1
    assert answer["ok"] is False
    assert [(one["plugin"], one["error"]) for one in answer["health"]] == [
        ("injection", ""),
        ("injection", "ConnectionError: refused"),
    ]
    code, out = doctor("raise ConnectionError('refused')", "--json")
    assert code == 0
    assert "health" not in json.loads(out)


async def test_a_health_check_closes_what_it_opened(app: App) -> None:
    """Also when the ping fails."""

    def fails(session: Session) -> None:
        raise ConnectionError("refused")

    app.registry.register_factory(Session, app._session, ping=fails)
    (check,) = app.plugin.health_checks()
    with pytest.raises(ConnectionError):
        await check.check()
    assert app.count.log == ["open", "close"]
