"""One app with everything in it, once in async functions and once in sync ones.

Its payloads are canaries (`composition_secrets`) wherever user code can put a value.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import inngest
import pydantic
from tests.bodies import Body, handler_of, parallel
from tests.composition.composition_secrets import secret
from tests.composition.composition_uses import (
    make_judge,
    publish_in_step,
    use_in_body,
    use_in_step,
)

WAIT = datetime.timedelta(hours=1)
EVENT = "shop/order.placed"


class Sealed(pydantic.BaseModel):
    """What an order keeps to itself."""

    card: str
    lines: list[str] = []


class Order(pydantic.BaseModel):
    """The data of the trigger event."""

    order: str
    encrypted: Sealed
    mood: str = "fine"


ORDER_SCHEMA = Order
CHILD_SCHEMA = {
    "type": "object",
    "properties": {"encrypted": {"type": "object", "required": ["card"]}},
    "required": ["encrypted"],
}
ANSWER_SCHEMA = {
    "type": "object",
    "properties": {"order": {"type": "string"}, "encrypted": {"type": "string"}},
    "required": ["order", "encrypted"],
}


class CardError(Exception):
    """What user code raises, with a payload in its text."""


def order(mood: str = "fine", number: str = "o-1") -> inngest.Event:
    """The event that starts the main function."""
    data: Any = {
        "order": number,
        "encrypted": {"card": secret("event"), "lines": [secret("event-list")]},
        "mood": mood,
    }
    return inngest.Event(name=EVENT, data=data)


class App:
    """Functions of one client; every body is an `async def body(ctx, step)`.

    Args:
        client_plugins: for `middleware=` of the client.
        function_plugins: for `middleware=` of every function.
        is_async: whether the functions are async.
    """

    def __init__(
        self,
        client_plugins: Sequence[Any] = (),
        function_plugins: Sequence[Any] = (),
        *,
        is_async: bool = True,
        app_id: str = "shop",
    ) -> None:
        self.is_async = is_async
        self.client = inngest.Inngest(
            app_id=app_id, is_production=False, middleware=list(client_plugins)
        )
        self._function_plugins = list(function_plugins)
        self.functions: list[inngest.Function[Any]] = []
        self.ran: list[str] = []
        self.judge = make_judge(
            self.client, is_async=is_async, middleware=list(function_plugins), retries=0
        )
        assert self.judge.function is not None
        self.functions.append(self.judge.function)

    def function(
        self,
        body: Body,
        fn_id: str,
        event: str,
        *,
        on_failure: Body | None = None,
        **options: Any,
    ) -> inngest.Function[Any]:
        """Register a body."""
        is_async = self.is_async
        made = self.client.create_function(
            fn_id=fn_id,
            trigger=inngest.TriggerEvent(event=event),
            on_failure=None if on_failure is None else handler_of(on_failure, is_async=is_async),
            middleware=list(self._function_plugins),
            **options,
        )(handler_of(body, is_async=is_async))
        self.functions.append(made)
        return made

    def noting(self, name: str, value: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
        """A step's handler that notes that it ran."""

        async def handler() -> Any:
            self.ran.append(name)
            use_in_step(name)
            await publish_in_step(name, is_async=self.is_async)
            return value

        return handler


def whole_app(*args: Any, **kwargs: Any) -> App:
    """An app that uses every tool; what happens is up to the trigger event's `mood`.

    Moods: "fine"; "flaky" (a step fails once), "step" (a step fails for good and is not caught),
    "caught" (and is), "raise" (the function raises on every attempt), "final" (it raises a
    `NonRetriableError`), "child" (an invoked function fails).
    """
    app = App(*args, **kwargs)
    tries = itertools.count()

    async def child(ctx: Any, step: Any) -> Any:
        card = ctx.event.data["encrypted"]["card"]
        kept = await step.run("keep", app.noting("keep", {"kept": card}))
        if ctx.event.data.get("mood") == "child":
            raise CardError(f"no child for {card}")
        return {"child": kept["kept"], "own": secret("child-output")}

    child_fn = app.function(child, "child", "shop/child", retries=0)

    async def answer(ctx: Any, step: Any) -> Any:
        data: Any = {"order": ctx.event.data["order"], "encrypted": secret("answer")}
        await step.send_event("reply", inngest.Event(name="shop/answered", data=data))
        return secret("answer-output")

    app.function(answer, "answer", "shop/asked")

    async def main(ctx: Any, step: Any) -> Any:
        data = ctx.event.data
        mood, card = data["mood"], data["encrypted"]["card"]
        use_in_body(app.judge, data["order"])
        first = await step.run("first", app.noting("first", {"step": secret("step"), "card": card}))

        async def risky() -> str:
            app.ran.append("risky")
            if mood in ("step", "caught") or (mood == "flaky" and next(tries) == 0):
                raise CardError(f"refused {secret('step-error')} {card}")
            return secret("risky")

        try:
            risked = await step.run("risky", risky)
        except inngest.StepError as error:
            if mood != "caught":
                raise
            risked = f"caught {error.message}"
        await step.sleep("nap", datetime.timedelta(minutes=5))
        sides = await parallel(
            ctx,
            lambda: step.run("left", app.noting("left", secret("left"))),
            lambda: step.run("right", app.noting("right", [secret("right"), 1, None])),
        )
        asked: Any = {"order": data["order"], "encrypted": {"question": secret("asked")}}
        children = await parallel(
            ctx,
            lambda: step.invoke(
                "one",
                function=child_fn,
                data={"encrypted": {"card": secret("invoke-1")}, "mood": mood},
            ),
            lambda: step.invoke(
                "two", function=child_fn, data={"encrypted": {"card": secret("invoke-2")}}
            ),
        )
        alone = await step.invoke(
            "three", function=child_fn, data={"encrypted": {"card": secret("invoke-3")}}
        )
        _, answered = await parallel(
            ctx,
            lambda: step.send_event("ask", inngest.Event(name="shop/asked", data=asked)),
            lambda: step.wait_for_event(
                "answer",
                event="shop/answered",
                if_exp="event.data.order == async.data.order",
                timeout=WAIT,
            ),
        )
        if mood == "raise":
            raise CardError(f"the end of {secret('function-error')} {card}")
        if mood == "final":
            raise inngest.NonRetriableError(f"final {secret('final-error')} {card}")
        return {
            "card": card,
            "first": first,
            "risked": risked,
            "sides": list(sides),
            "children": list(children),
            "alone": alone,
            "answered": None if answered is None else answered.data["encrypted"],
            "own": secret("output"),
        }

    async def failed(ctx: Any, step: Any) -> Any:
        data: Any = ctx.event.data
        card = data["event"]["data"]["encrypted"]["card"]
        message = data["error"]["message"]
        told = await step.run("tell", app.noting("tell", f"{card} {message}"))
        return {"told": told}

    app.function(main, "fulfil", EVENT, retries=1, on_failure=failed)

    async def batch(ctx: Any, step: Any) -> Any:
        cards = [event.data["encrypted"] for event in ctx.events]
        return await step.run("all", app.noting("all", sorted(cards)))

    app.function(
        batch,
        "batch",
        "shop/scanned",
        batch_events=inngest.Batch(max_size=3, timeout=datetime.timedelta(seconds=5)),
    )
    return app


def scans() -> list[inngest.Event]:
    """The events of one batch."""
    return [
        inngest.Event(name="shop/scanned", data={"encrypted": secret(f"batch-{n}")})
        for n in range(3)
    ]


def small_app(*args: Any, **kwargs: Any) -> App:
    """A cheap app: two steps, of which one fails once, and a parallel group with an invoke."""
    app = App(*args, **kwargs)
    tries = itertools.count()

    async def child(ctx: Any, step: Any) -> Any:
        return {"child": ctx.event.data["encrypted"]["card"]}

    child_fn = app.function(child, "child", "shop/child", retries=0)

    async def main(ctx: Any, step: Any) -> Any:
        card = ctx.event.data["encrypted"]["card"]
        use_in_body(app.judge, ctx.event.data["order"])

        async def flaky() -> Any:
            use_in_step("flaky")
            if next(tries) == 0:
                raise CardError(secret("step-error"))
            return card

        await step.run("begin", app.noting("begin", secret("step")))
        first = await step.run("flaky", flaky)
        data: Any = {"order": "o", "encrypted": secret("answer")}
        invoked, noted, _ = await parallel(
            ctx,
            lambda: step.invoke("one", function=child_fn, data={"encrypted": {"card": first}}),
            lambda: step.run("note", app.noting("note", secret("step"))),
            lambda: step.send_event("say", inngest.Event(name="shop/answered", data=data)),
        )
        return {"first": first, "invoked": invoked, "noted": noted}

    app.function(main, "fulfil", EVENT, retries=1)
    return app


def tiny_app(*args: Any, **kwargs: Any) -> App:
    """The cheapest app that fires every hook: a step that fails once, and an event in a group."""
    app = App(*args, **kwargs)
    tries = itertools.count()

    async def main(ctx: Any, step: Any) -> Any:
        card = ctx.event.data["encrypted"]["card"]

        use_in_body(app.judge, ctx.event.data["order"])

        async def flaky() -> Any:
            use_in_step("flaky")
            if next(tries) == 0:
                raise CardError(secret("step-error"))
            return card

        data: Any = {"order": "o", "encrypted": secret("answer")}
        first = await step.run("flaky", flaky)
        await step.send_event("say", inngest.Event(name="shop/answered", data=data))
        return {"first": first}

    app.function(main, "fulfil", EVENT, retries=1)
    return app
