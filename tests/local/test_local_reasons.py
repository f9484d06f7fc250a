"""Why a run failed, in words for people, which do not go over the wire."""

from __future__ import annotations

import json
import logging
import typing

import inngest
import pytest

from inngest_plugins.core import Hooks, Outcome
from inngest_plugins.local import LocalEngine, LocalEngineError, Run

pytestmark = pytest.mark.anyio
GO = inngest.Event(name="go", data={"card": "4242"})


def make_client(**options: typing.Any) -> inngest.Inngest:
    """A client for one engine."""
    return inngest.Inngest(app_id="shop", is_production=False, **options)


async def run_step(
    error: Exception, retries: int, client: inngest.Inngest | None = None, *, caught: bool = False
) -> Run:
    """Run a function whose only step raises."""
    client = client or make_client()

    @client.create_function(fn_id="pay", retries=retries, trigger=inngest.TriggerEvent(event="go"))
    async def pay(ctx: inngest.Context) -> None:
        async def charge() -> None:
            raise error

        try:
            await ctx.step.run("charge", charge)
        except inngest.StepError:
            if caught:
                raise inngest.NonRetriableError("no money") from None
            raise

    async with LocalEngine(client, [pay], retry_interval=1) as engine:
        return await engine.run(GO)


@pytest.mark.parametrize(
    ("error", "retries", "caught", "reason"),
    [
        (ValueError("no"), 4, False, "step 'charge' failed 5 times: ValueError: no"),
        (ValueError("no"), 0, False, "step 'charge' failed: ValueError: no"),
        (
            inngest.NonRetriableError("no"),
            4,
            False,
            "is not retriable: NonRetriableError: no",
        ),
        (ValueError("no"), 1, True, "is not retriable: NonRetriableError: no money"),
    ],
)
async def test_the_reason_says_whether_a_step_was_retried(
    error: Exception, retries: int, caught: bool, reason: str
) -> None:
    """Only an error that forbids retries is called not retriable; a step names its attempts."""
    run = await run_step(error, retries, caught=caught)
    assert run.reason == reason
    assert str(run.timeline()[-1]).endswith(f"Failed: {reason}")


async def test_a_step_is_found_by_an_encrypted_error_too() -> None:
    """An encrypted message differs each time; the step that failed is told of all the same."""
    count = iter(range(100))
    seal = Hooks("seal")

    @seal.transform_output
    def hide(call: typing.Any, outcome: Outcome) -> None:
        sealed = json.dumps({"__ENCRYPTED__": True, "data": str(next(count))})
        if outcome.step is not None:
            outcome.error = ValueError(sealed)
        elif outcome.error is not None:
            outcome.error = inngest.StepError(sealed, "ValueError", None)

    run = await run_step(ValueError("4242"), 1, make_client(middleware=[seal]))
    assert run.reason.startswith("step 'charge' failed 2 times: ValueError: {")


def serve_asgi(error: Exception) -> typing.Any:
    """An ASGI app that raises."""

    async def app(scope: object, receive: object, send: object) -> None:
        raise error

    return lambda client, functions: app


def serve_wsgi(error: Exception) -> typing.Any:
    """A WSGI app that raises."""

    def app(environ: object, start_response: object) -> typing.Any:
        raise error

    return lambda client, functions: app


@pytest.mark.parametrize("serve", [serve_asgi, serve_wsgi])
@pytest.mark.parametrize(
    ("error", "text"),
    [(LookupError("first\nsecond"), "LookupError: first"), (KeyError(), "KeyError")],
)
async def test_an_app_that_raises_at_registration_is_told(
    serve: typing.Any, error: Exception, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error of the engine names the exception; its traceback is logged for who asks for it."""
    client = make_client()

    @client.create_function(fn_id="f", trigger=inngest.TriggerEvent(event="go"))
    async def f(ctx: inngest.Context) -> None: ...

    caplog.set_level(logging.DEBUG, "inngest_plugins.local")
    with pytest.raises(LocalEngineError) as caught:
        async with LocalEngine(client, [f], serve=serve(error)):
            raise AssertionError("opened")
    why = f"it raised {text} (logging at level DEBUG shows where)"
    assert str(caught.value) == f"the app did not register its functions: {why}"
    records = [r for r in caplog.records if r.name == "inngest_plugins.local"]
    assert [record.levelno for record in records] == [logging.DEBUG]
    assert "Traceback" in caplog.text


async def test_a_trigger_that_is_none_is_named_without_its_value() -> None:
    """Pydantic's report is told place by place, without the input that it quotes."""
    client = make_client()

    class Wrong:
        def __repr__(self) -> str:
            return "<card 4242>"

    wrong: typing.Any = Wrong()

    @client.create_function(fn_id="f", trigger=wrong)
    async def f(ctx: inngest.Context) -> None: ...

    with pytest.raises(LocalEngineError, match=r"validation errors? for .*triggers\.0\.") as caught:
        async with LocalEngine(client, [f]):
            raise AssertionError("opened")
    assert "card 4242" not in str(caught.value)
    assert "input_value" not in str(caught.value)
    assert "\n" not in str(caught.value)
