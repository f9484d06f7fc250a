"""What is refused, and what the errors tell."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, NewType

import inngest
import pytest
import svcs
from tests.bodies import handler_of

from inngest_plugins.core import MissingExtraError, PluginsError, RegistrationError, Stack
from inngest_plugins.injection import (
    AsyncServiceError,
    InjectedValueError,
    InjectionContextError,
    InjectionError,
    InjectionPlugin,
    UnregisteredServiceError,
    aget,
    get,
)
from inngest_plugins.local import LocalEngine

from .conftest import App, AsyncSession, Session, Settings

pytestmark = pytest.mark.anyio

Key = NewType("Key", str)


def test_outside_of_a_run() -> None:
    """There is nothing to ask, and the error says what to do."""
    with pytest.raises(InjectionContextError, match=r"get\(Session\) was called outside of a run"):
        get(Session)


async def test_outside_of_a_run_with_aget() -> None:
    """`aget` says the same."""
    with pytest.raises(InjectionContextError, match=r"aget\(Session, Key\).*outside of a run"):
        await aget(Session, Key)


async def test_nothing_asked_for() -> None:
    """Asking for no type is a mistake."""
    with pytest.raises(TypeError, match=r"get\(\) takes the types"):
        get()  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match=r"aget\(\) takes the types"):
        await aget()  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]


async def test_a_thread_without_the_context(app: App) -> None:
    """A bare thread has no run: the error says how to start one that has."""
    errors: list[BaseException] = []

    @app.body()
    async def fn(ctx: Any, step: Any) -> None:
        def ask() -> None:
            try:
                get(Session)
            except InjectionError as err:
                errors.append(err)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    await app.run()
    assert "copy_context" in str(errors[0])


@pytest.mark.parametrize("is_async", [True, False])
async def test_without_the_plugin(is_async: bool) -> None:
    """An app that forgot the plugin is told so, by function."""
    client = inngest.Inngest(app_id="app", is_production=False)
    other = inngest.Inngest(app_id="app", is_production=False, middleware=[_nothing()])
    for each in (client, other):
        seen: list[InjectionError] = []

        async def body(ctx: Any, step: Any, seen: list[InjectionError] = seen) -> None:
            try:
                get(Session)
            except InjectionError as err:
                seen.append(err)

        function = each.create_function(
            fn_id="fn", trigger=inngest.TriggerEvent(event="fn"), retries=0
        )(handler_of(body, is_async=is_async))
        async with LocalEngine(each, [function]) as engine:
            await engine.run(inngest.Event(name="fn"))
        with pytest.raises(InjectionContextError, match=r"'fn'.*add InjectionPlugin"):
            raise seen[0]


def _nothing() -> Any:
    from inngest_plugins.core import Hooks

    hooks = Hooks("nothing")

    @hooks.before_execution
    def nothing(call: Any) -> None: ...

    return hooks


async def _error(app: App, ask: Any) -> str:
    """Run a step that asks, and return what it raised, with its class's name."""

    @app.body()
    async def fn(ctx: Any, step: Any) -> None:
        async def work() -> None:
            await ask()

        await step.run("work", work)

    run = await app.run()
    assert run.status == "Failed"
    assert run.error is not None
    return f"{run.error['name']}: {run.error['message']}"


async def test_what_can_be_no_type_is_told(app: App) -> None:
    """A list of types, in the place of several types."""
    wanted: Any = [Key]

    async def ask() -> None:
        get(wanted)

    error = await _error(app, ask)
    assert error == (
        "UnregisteredServiceError: get() takes the types that services are registered for, and "
        "list can be none: give several as get(A, B)"
    )


async def test_an_unregistered_type_is_named(app: App) -> None:
    """With the step and the function that asked."""

    async def ask() -> None:
        get(Key)

    error = await _error(app, ask)
    assert error.startswith("UnregisteredServiceError: no service is registered for Key")
    assert "step 'work' of function 'fn'" in error
    assert "register_factory" in error


async def test_what_a_factory_lacks_is_named_with_what_needs_it(app: App) -> None:
    """A factory that asks for an unregistered type: both are named."""

    class Repository: ...

    def repository(container: svcs.Container) -> Repository:
        container.get(Key)
        return Repository()

    app.registry.register_factory(Repository, repository)

    async def ask() -> None:
        get(Repository)

    error = await _error(app, ask)
    assert "no service is registered for Key, which " in error
    assert "Repository needs," in error


async def test_an_async_factory_asked_for_by_sync_code(app: App) -> None:
    """The error says `aget` in an async function, and what else to do in a sync one."""

    async def ask() -> None:
        get(AsyncSession)

    error = await _error(app, ask)
    assert error.startswith("AsyncServiceError: AsyncSession")
    assert "step 'work' of function 'fn'" in error
    assert ("await aget(AsyncSession)" if app.is_async else "sync factory") in error
    assert app.count.opened == []


async def test_a_coroutine_factory_is_refused_without_a_coroutine_left_over(app: App) -> None:
    """Nothing is called that nobody would await: there is no warning either."""

    class Connection: ...

    async def connect() -> Connection:
        return Connection()

    app.registry.register_factory(Connection, connect)

    async def ask() -> None:
        with pytest.raises(AsyncServiceError):
            get(Connection)
        raise ValueError("asked")

    assert await _error(app, ask) == "ValueError: asked"


async def test_a_type_error_of_a_factory_is_its_own(app: App) -> None:
    """It is not taken for that of an async factory."""

    def broken() -> Any:
        raise TypeError("broken factory")

    app.registry.register_factory(Key, broken)

    async def ask() -> None:
        get(Key)

    assert await _error(app, ask) == "TypeError: broken factory"


RESULTS: dict[str, Callable[[Session], Any]] = {
    "itself": lambda s: s,
    "in a dict": lambda s: {"id": 1, "session": s},
    "in a list": lambda s: [1, [2, {"x": s}]],
}


@pytest.mark.parametrize("how", RESULTS)
async def test_an_injected_object_is_no_result_of_a_step(app: App, how: str) -> None:
    """It is refused by name and place, at once: no retry makes it better."""

    @app.body(retries=3)
    async def fn(ctx: Any, step: Any) -> None:
        async def work() -> Any:
            return RESULTS[how](get(Session))

        await step.run("work", work)

    run = await app.run()
    assert run.status == "Failed"
    assert run.error is not None
    assert run.error["name"] == "InjectedValueError"
    assert "result of step 'work' of function 'fn' holds an injected Session" in str(
        run.error["message"]
    )
    place = {"itself": "Session:", "in a dict": "['session']", "in a list": "[1][1]['x']"}[how]
    assert place in str(run.error["message"])
    assert run.steps["work"].attempts == 1
    assert app.count.leaked == 0


async def test_an_injected_object_is_no_result_of_a_function(app: App) -> None:
    """Neither one of the body, nor one that JSON could hold."""
    app.registry.register_value(dict, {"password": "secret"})

    @app.body()
    async def fn(ctx: Any, step: Any) -> Any:
        return {"config": get(dict)}

    run = await app.run()
    assert run.status == "Failed"
    assert run.error is not None
    assert "result of function 'fn' holds an injected dict at ['config']" in str(
        run.error["message"]
    )
    assert "secret" not in str(run.error)


async def test_plain_data_is_no_injected_object(app: App) -> None:
    """Text, numbers and None that equal an injected value are data."""
    app.registry.register_value(Key, "eu")
    app.registry.register_value(int, 1)
    app.registry.register_value(type(None), None)

    @app.body()
    async def fn(ctx: Any, step: Any) -> Any:
        async def work() -> Any:
            return [get(Key), get(int), get(type(None)), "eu", None]

        return await step.run("work", work)

    run = await app.run()
    assert run.output == ["eu", 1, None, "eu", None], run.reason


async def test_a_value_that_holds_itself_is_looked_through_once(app: App) -> None:
    """A cycle is refused by JSON, and does not hang the search."""

    @app.body()
    async def fn(ctx: Any, step: Any) -> Any:
        get(Settings)
        value: list[Any] = []
        value.append(value)
        return value

    assert (await app.run()).status == "Failed"


def test_two_in_one_list_are_refused() -> None:
    """Neither the same object twice nor two of them: which one would be asked?"""
    plugin = InjectionPlugin(svcs.Registry())
    for plugins in ((plugin, plugin), (plugin, InjectionPlugin(svcs.Registry()))):
        with pytest.raises(RegistrationError):
            Stack(*plugins)


def test_wrong_registry() -> None:
    """Something else than a registry is refused where the plugin is made."""
    wrongs: list[Any] = [None, {}, svcs.Registry, svcs.Container(svcs.Registry())]
    for wrong in wrongs:
        with pytest.raises(TypeError, match=r"InjectionPlugin\(registry\) is a svcs.Registry"):
            InjectionPlugin(wrong)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without svcs the plugin names the extra to install."""
    monkeypatch.setitem(sys.modules, "svcs", None)
    with pytest.raises(MissingExtraError, match=r"inngest-plugins\[injection\]"):
        InjectionPlugin(None)  # type: ignore[arg-type]


def test_one_base_for_every_error() -> None:
    """A user catches everything with one class."""
    for kind in (
        AsyncServiceError,
        InjectedValueError,
        InjectionContextError,
        UnregisteredServiceError,
    ):
        assert issubclass(kind, InjectionError)
        assert issubclass(kind, PluginsError)
