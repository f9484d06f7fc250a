"""Exceptions whose own code runs while they are sealed: nothing of them leaves in the clear."""

from __future__ import annotations

import asyncio
import builtins
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import hypothesis
import hypothesis.strategies as st
import inngest
import pydantic
import pytest

from inngest_plugins.encryption import (
    DecryptionError,
    EncryptionError,
    EncryptionPlugin,
    Key,
    KeyRing,
    RejectedError,
)
from inngest_plugins.local import LocalEngine

if TYPE_CHECKING:
    from tests.encryption.conftest import App, MakeApp

CANARY = "card-4242-4242"
pytestmark = pytest.mark.anyio


class Odd(BaseException):
    """What no `except Exception` catches."""


class _Text(str):
    """A text with methods that quote the canary."""

    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> Any:
        raise LookupError(CANARY)

    def split(self, *_: Any, **__: Any) -> Any:
        raise LookupError(CANARY)

    def __add__(self, other: Any) -> Any:
        raise LookupError(CANARY)


def _raising(kind: type[BaseException]) -> Callable[..., Any]:
    def answer(*_: Any, **__: Any) -> Any:
        raise kind(CANARY)

    return answer


def _recursing(self: Any, *_: Any) -> Any:
    return str(self)


def _answering(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


ANSWERS: dict[str, Callable[..., Any]] = {
    "raises ValueError": _raising(ValueError),
    "raises BaseException": _raising(Odd),
    "raises CancelledError": _raising(asyncio.CancelledError),
    "raises EncryptionError": _raising(EncryptionError),
    "raises AttributeError": _raising(AttributeError),
    "recurses": _recursing,
    "no text": _answering(4242),
    "bytes": _answering(CANARY.encode()),
    "text": _answering(CANARY),
    "odd text": _answering(_Text(CANARY)),
    "surrogate": _answering(CANARY + "\ud800"),
    "a list": _answering([CANARY]),
    "a class": _answering(RejectedError),
    "an error": lambda *_, **__: ValueError(CANARY),
    "itself": lambda self, *_: self,
}
METHODS = ("__str__", "__repr__", "__format__", "__reduce__", "__dir__", "__eq__", "__bool__")
PROPERTIES = (
    "__cause__",
    "__class__",
    "__context__",
    "__dict__",
    "__module__",
    "__notes__",
    "__suppress_context__",
    "__traceback__",
    "args",
    "code",
    "exceptions",
    "include_stack",
    "is_retriable",
    "message",
    "name",
    "quiet",
    "retry_after",
    "stack",
    "written_here",
)
BASES: dict[str, Callable[[type], BaseException]] = {
    "Exception": lambda made: made(CANARY),
    "KeyError": lambda made: made(CANARY),
    "SyntaxError": lambda made: made(CANARY, (CANARY, 1, 2, CANARY)),
    "OSError": lambda made: made(2, CANARY, CANARY),
    "UnicodeDecodeError": lambda made: made("utf-8", CANARY.encode(), 0, 1, CANARY),
    "ImportError": lambda made: made(CANARY, name=CANARY, path=CANARY),
    "inngest.NonRetriableError": lambda made: made(CANARY),
    "inngest.RetryAfterError": lambda made: made(CANARY, 1000),
    "inngest.StepError": lambda made: made(CANARY, CANARY, CANARY),
    "DecryptionError": lambda made: made(CANARY),
    "RejectedError": lambda made: made(CANARY),
}
if hasattr(builtins, "ExceptionGroup"):
    BASES["ExceptionGroup"] = lambda made: made(CANARY, [ValueError(CANARY), KeyError(CANARY)])


def base_named(name: str) -> type[BaseException]:
    found: Any = (
        getattr(builtins, name, None)
        or {"DecryptionError": DecryptionError, "RejectedError": RejectedError}.get(name)
        or getattr(inngest, name.rpartition(".")[2])
    )
    kind: type[BaseException] = found
    return kind


def hostile(
    base: str,
    methods: dict[str, str],
    properties: dict[str, str],
    *,
    as_metaclass: bool = False,
    fallback: str | None = None,
) -> Exception:
    """Make an exception whose class answers as said, once it has been made."""
    kind = base_named(base)
    meta: Any = type
    if as_metaclass:
        meta = type(
            "Meta",
            (type,),
            {
                name: property(_raising(ValueError))
                for name in ("__name__", "__mro__", "__module__", "__flags__")
            },
        )
    error: Any = BASES[base](type("Declined", (kind,), {}))
    members: dict[str, Any] = {name: ANSWERS[answer] for name, answer in methods.items()}
    members.update({name: property(ANSWERS[answer]) for name, answer in properties.items()})
    if fallback is not None:
        members["__getattr__"] = ANSWERS[fallback]
    error.__class__ = meta("Declined", (kind,), members)
    raised: Exception = error
    return raised


class Sealed:
    """What the transform hooks of a plugin see of a call and an outcome, and no more."""

    app_id = "shop"
    function_id = "shop-f"
    local_id = "f"
    run_id = "run"
    handler_kind = "main"

    def __init__(self, error: Exception) -> None:
        self.step: Any = None
        self.error: Any = error
        self.raised: Any = error
        self.has_output = False
        self.output: Any = None
        self.is_retriable = True


def leaves(error: Exception) -> dict[str, Any]:
    """Return what the SDK makes of an error for the engine."""
    from inngest._internal.comm_lib.models import ErrorData

    return ErrorData.from_error(error).model_dump(mode="json")


hostile_errors = st.builds(
    hostile,
    st.sampled_from(sorted(BASES)),
    st.dictionaries(st.sampled_from(METHODS), st.sampled_from(sorted(ANSWERS)), max_size=3),
    st.dictionaries(st.sampled_from(PROPERTIES), st.sampled_from(sorted(ANSWERS)), max_size=4),
    as_metaclass=st.booleans(),
    fallback=st.none() | st.sampled_from(sorted(ANSWERS)),
)


@pytest.mark.timeout(300)
@hypothesis.given(error=hostile_errors, cause=st.none() | hostile_errors)
@hypothesis.settings(
    max_examples=400, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
def test_no_exception_class_leaves_anything_in_the_clear(
    error: Exception, cause: Exception | None
) -> None:
    """Whatever answers when an error or its cause is read, message and stack leave sealed."""
    plugin = EncryptionPlugin(KeyRing.generate())
    BaseException.__dict__["__cause__"].__set__(error, cause)
    outcome: Any = Sealed(error)
    assert plugin.transform_output(outcome, outcome) is None
    sent = leaves(outcome.error)
    assert CANARY not in json.dumps(sent)
    assert sent["name"] == "Declined"
    assert isinstance(plugin.decrypt_text(sent["message"]), str)
    if sent["stack"] is not None:
        plugin.decrypt_text(sent["stack"])


def raise_hostile(how: str) -> None:
    """Raise one of a few errors that are hostile in a way of their own."""
    if how == "str raises":
        raise hostile("Exception", {"__str__": "raises ValueError"}, {})
    if how == "own class":
        raise hostile("RejectedError", {}, {"__class__": "a class"})
    if how == "own error":
        raise RejectedError(CANARY)
    if how == "own in context":
        try:
            EncryptionPlugin(KeyRing.generate()).decrypt(
                EncryptionPlugin(KeyRing.generate()).encrypt(1)
            )
        except DecryptionError as refused:
            raise refused from ValueError(CANARY)
    if how == "pydantic":
        pydantic.TypeAdapter(int).validate_python(CANARY)
    if how == "http":
        error: Any = OSError(CANARY)
        error.code = 404
        raise error
    if how == "non-retriable":
        raise hostile("inngest.NonRetriableError", {"__str__": "raises ValueError"}, {})
    if how == "retry after":
        raise hostile(
            "inngest.RetryAfterError", {"__str__": "recurses"}, {"message": "raises ValueError"}
        )
    if how == "notes":
        noted: Any = ValueError("x")
        noted.__notes__ = [CANARY, _Text(CANARY), object()]
        raise noted
    if how == "group":
        kind = vars(builtins).get("ExceptionGroup", lambda text, _: ValueError(text))
        raise kind("several", [hostile("KeyError", {"__str__": "raises ValueError"}, {})])


NAMES = {
    "own error": "RejectedError",
    "own in context": "DecryptionError",
    "pydantic": "ValidationError",
    "http": "OSError",
    "notes": "ValueError",
    "group": "ExceptionGroup" if hasattr(builtins, "ExceptionGroup") else "ValueError",
}
HOWS = (
    "str raises",
    "own class",
    "own error",
    "own in context",
    "pydantic",
    "http",
    "non-retriable",
    "retry after",
    "notes",
    "group",
)


def declare(app: App, how: str, where: str, *, is_sync: bool) -> list[Any]:
    """Add a function that fails as said, and its failure handler; returns what that received."""
    received: list[Any] = []

    async def on_failure(ctx: Any) -> None:
        received.append(ctx.event.data["error"])

    def on_failure_sync(ctx: Any) -> None:
        received.append(ctx.event.data["error"])

    @app.function("f", "go", retries=1, on_failure=on_failure_sync if is_sync else on_failure)
    def f(ctx: Any) -> Any:
        return ctx.step.run("s", lambda: raise_hostile(how)) if where == "step" else body()

    def body() -> Any:
        raise_hostile(how)

    return received


def declare_async(app: App, how: str, where: str) -> list[Any]:
    """As `declare`, for an async function."""
    received: list[Any] = []

    async def on_failure(ctx: Any) -> None:
        received.append(ctx.event.data["error"])

    @app.function("f", "go", retries=1, on_failure=on_failure)
    async def f(ctx: Any) -> Any:
        if where == "step":
            await ctx.step.run("s", lambda: raise_hostile(how))
        raise_hostile(how)

    return received


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("where", ["step", "function"])
@pytest.mark.parametrize("how", HOWS)
async def test_runs_with_hostile_errors_leak_nothing(
    make_app: MakeApp,
    wire: Callable[[LocalEngine], str],
    caplog: pytest.LogCaptureFixture,
    how: str,
    where: str,
    is_sync: bool,
) -> None:
    """No attempt, failure event or log holds the canary, and the class stays the real one."""
    caplog.set_level(logging.DEBUG)
    app = make_app()
    received = declare(app, how, where, is_sync=True) if is_sync else declare_async(app, how, where)
    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go"), function="f")
        await engine.settle()
        text = wire(engine)
    assert run.status == "Failed"
    assert CANARY not in text
    assert "card-4" not in text
    assert CANARY not in caplog.text
    assert run.error is not None
    assert run.error["name"] == NAMES.get(how, "Declined")
    assert [error["name"] for error in received] == [NAMES.get(how, "Declined")]


async def test_what_this_plugin_says_itself_stays_readable(make_app: MakeApp) -> None:
    """Its own message leaves in the clear; the stack, which tells what was going on, does not."""
    app = make_app()

    @app.function("f", "go", retries=0)
    async def f(ctx: Any) -> Any:
        raise_hostile("own in context")

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go"))
    assert run.error is not None
    assert "is not in the key ring" in run.error["message"]
    assert CANARY in app.plugin.decrypt_text(run.error["stack"])


async def test_an_error_keeps_what_it_has_of_a_text(make_app: MakeApp) -> None:
    """An error whose text cannot be had is still told: class, place and frames."""
    app = make_app()

    @app.function("f", "go", retries=0)
    async def f(ctx: Any) -> Any:
        raise_hostile("str raises")

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go"))
    assert run.error is not None
    assert app.plugin.decrypt_text(run.error["message"]) == "<text unavailable>"
    assert "in raise_hostile" in app.plugin.decrypt_text(run.error["stack"])


class FailingProvider:
    """A key provider whose service goes away and says too much."""

    is_away = False
    key = Key.generate("k")

    def encryption_key(self) -> Any:
        if not self.is_away:
            return self.key
        raise ConnectionError(f"https://vault/?token={CANARY}")

    def decryption_key(self, key_id: str, wrapped: str | None) -> Any:
        return self.encryption_key()


@pytest.mark.parametrize("fails", [True, False])
async def test_what_a_key_service_says_does_not_leave(
    make_app: MakeApp, wire: Callable[[LocalEngine], str], fails: bool
) -> None:
    """When the key to seal with cannot be had, result and error give way to this plugin's words."""
    provider = FailingProvider()
    app = make_app(provider)

    @app.function("f", "go", retries=1)
    async def f(ctx: Any) -> Any:
        provider.is_away = True
        if fails:
            raise ValueError(CANARY)
        return CANARY

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go"))
        text = wire(engine)
    assert CANARY not in text
    assert run.error is not None
    assert run.error["name"] == "KeyServiceError"
    assert "failed with ConnectionError" in run.error["message"]
    assert len(run.requests) == 2
