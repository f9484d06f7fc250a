"""The request's span says where the function is written."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import inngest
import pytest
from tests.otel.test_otel_traces import post

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.otel.conftest import Exported, Telemetry

pytestmark = pytest.mark.anyio
ORDER = inngest.TriggerEvent(event="shop/order")
FILE_PATH, NAME, LINE = "code.file.path", "code.function.name", "code.line.number"


def logged(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A decorator as applications have them."""

    @functools.wraps(function)
    async def wrapper(*args: Any) -> None:
        await function(*args)

    return wrapper


async def plain(ctx: inngest.Context) -> None:
    """A handler."""


@logged
async def decorated(ctx: inngest.Context) -> None:
    """A handler behind a decorator."""


async def configured(rate: int, ctx: inngest.Context) -> None:
    """A handler with an argument bound beforehand."""


class Handler:
    """A handler that is an object's method."""

    async def handle(self, ctx: inngest.Context) -> None:
        """Do nothing."""


def line_of(function: Any) -> int:
    """First line of a function."""
    line: int = function.__code__.co_firstlineno
    return line


def code_of(span: Exported) -> tuple[object, object, object]:
    """The three attributes of a span."""
    return tuple(span.attributes.get(name) for name in (NAME, FILE_PATH, LINE))  # type: ignore[return-value]


WRAPPED: Any = decorated


@pytest.mark.parametrize(
    ("handler", "name", "line"),
    [
        (plain, "plain", line_of(plain)),
        (decorated, "decorated", line_of(WRAPPED.__wrapped__)),
        (functools.partial(configured, 3), "configured", line_of(configured)),
        (Handler().handle, "Handler.handle", line_of(Handler.handle)),
    ],
)
async def test_the_users_own_code_is_named(
    telemetry: Telemetry, handler: Any, name: str, line: int
) -> None:
    """Decorators, partials and methods lead to what the user wrote, file and line."""
    client = telemetry.client()
    function = client.create_function(fn_id="f", trigger=ORDER)(handler)

    await post(client, function, {})

    assert code_of(telemetry.one("run shop-f")) == (f"{__name__}.{name}", __file__, line)


async def test_the_failure_handler_has_its_own_code(telemetry: Telemetry) -> None:
    """Requests of the failure handler name that, not the function that failed."""
    client = telemetry.client()

    @client.create_function(fn_id="f", trigger=ORDER, retries=0, on_failure=plain)
    async def function(ctx: inngest.Context) -> None:
        raise ValueError("broken")

    await telemetry.run(client, function)

    failed, handled = telemetry.named("run shop-f")
    assert failed.attributes[NAME] == (
        f"{__name__}.test_the_failure_handler_has_its_own_code.<locals>.function"
    )
    assert code_of(handled) == (f"{__name__}.plain", __file__, line_of(plain))


class Called:
    """A handler that is an object."""

    def __call__(self, ctx: inngest.ContextSync) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("handler", "name"), [(Called(), f"{__name__}.Called.__call__"), (bool, None)]
)
async def test_what_has_no_code_of_its_own_is_not_guessed_at(
    telemetry: Telemetry, handler: Any, name: str | None
) -> None:
    """A callable object is named by its class; one that is not written in Python is not named."""
    client = telemetry.client()
    function = client.create_function(fn_id="f", trigger=ORDER)(handler)

    assert (await post(client, function, {})).status_code == 200

    assert code_of(telemetry.one("run shop-f"))[0] == name
