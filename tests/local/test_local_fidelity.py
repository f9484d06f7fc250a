"""What the real server was seen to do beyond the recorded exchanges."""

from __future__ import annotations

import datetime
import json
import typing

import fastapi
import httpx
import inngest
import inngest.fast_api
import pytest

from inngest_plugins.local import LocalEngine, Run
from inngest_plugins.local.wire.ids import seeded_ulid
from inngest_plugins.local.wire.protocol import decode

Json = typing.Any
pytestmark = pytest.mark.anyio
days = datetime.timedelta


class App:
    """A client, its functions, and a listener that keeps what the engine tells of runs' ends."""

    def __init__(self) -> None:
        self.client = inngest.Inngest(app_id="shop", is_production=False)
        self.functions: list[inngest.Function[typing.Any]] = []
        self.ends: list[dict[str, Json]] = []
        self.listen("finished")

    def add(
        self, name: str, body: typing.Callable[[inngest.Context], Json], **more: Json
    ) -> inngest.Function[typing.Any]:
        """A function that an event of its own name triggers."""
        trigger = more.pop("trigger", inngest.TriggerEvent(event=f"shop/{name}"))

        @self.client.create_function(fn_id=name, trigger=trigger, **more)
        async def function(ctx: inngest.Context) -> Json:
            return await body(ctx)

        self.functions.append(function)
        return function

    def listen(self, what: str) -> None:
        """Keep the data of the engine's own events."""

        async def keep(ctx: inngest.Context) -> None:
            self.ends.append(dict(ctx.event.data))

        event = f"inngest/function.{what}"
        self.add(f"on-{what}", keep, trigger=inngest.TriggerEvent(event=event))

    async def run(self, name: str, data: Json = None, **options: Json) -> Run:
        """Run one function, and everything that follows."""
        async with LocalEngine(self.client, self.functions, retry_interval=1, **options) as engine:
            run = await engine.run(
                inngest.Event(name=f"shop/{name}", data=data or {}), function=name, timeout=200
            )
            await engine.settle(timeout=200)
            return run


def step(value: Json) -> typing.Callable[[], typing.Awaitable[Json]]:
    """A step that returns a value."""

    async def handler() -> Json:
        return value

    return handler


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9007199254740993", 9007199254740992),
        ("12345678901234567890", 12345678901234567000),
        ("-9007199254740993", -9007199254740992),
        ("123456789012345678901234567890", 1.2345678901234568e29),
        ("12345678901234567890.0", 12345678901234567000),
        ("9007199254740991", 9007199254740991),
        ("1.0", 1),
        ("1e21", 1e21),
        ("1e3", 1000),
    ],
)
async def test_numbers_are_doubles(text: str, value: float) -> None:
    """Numbers come back as a double's shortest digits, as ECMAScript writes them."""
    assert decode(text) == value
    assert type(decode(text)) is type(value)


async def test_number_beyond_every_double_is_kept() -> None:
    """An integer that no double can hold does not turn into an infinity."""
    assert decode("1" + "0" * 400) == 10**400


async def test_events_and_memos_hold_doubles() -> None:
    """Big integers are rounded on their way through the engine, not in the function's output."""
    app = App()

    async def body(ctx: inngest.Context) -> Json:
        return [ctx.event.data["n"], await ctx.step.run("s", step(2**53 + 1)), 2**53 + 1]

    app.add("big", body)
    run = await app.run("big", {"n": 2**53 + 1})
    assert run.output == [2**53, 2**53, 2**53 + 1]
    assert [end["result"] for end in app.ends] == [[2**53, 2**53, 2**53]]


FAILURES: list[tuple[str, typing.Callable[[inngest.Context], Json], str, str]] = [
    (
        "sleep",
        lambda ctx: ctx.step.sleep("s", days(400)),
        "InngestErrTimeoutTooLong",
        "ends more than one year in the future; sleeps may last at most one year.",
    ),
    (
        "wait",
        lambda ctx: ctx.step.wait_for_event("w", event="e", timeout=days(399)),
        "InngestErrTimeoutTooLong",
        (
            'The wait-for-event timeout "57w" expires more than one year in the future; '
            "timeouts may last at most one year."
        ),
    ),
    (
        "if",
        lambda ctx: ctx.step.wait_for_event("w", event="e", if_exp="<", timeout=1000),
        "InvalidExpression",
        "Wait for event If expression failed to compile",
    ),
]


@pytest.mark.parametrize(
    ("name", "body", "label", "message"), FAILURES, ids=[case[0] for case in FAILURES]
)
async def test_failures_of_the_engines_own_making(
    name: str, body: typing.Callable[[inngest.Context], Json], label: str, message: str
) -> None:
    """Such a failure's result is a JSON text, and that text is the message of its error."""
    app = App()
    app.add(name, body)
    run = await app.run(name)
    assert run.error is not None
    assert run.error["name"] == label
    assert len(run.requests) == 1
    (end,) = app.ends
    told = json.loads(end["result"])["error"]
    assert (told["name"], told["error"]) == (label, f"{label}: {told['message']}")
    assert told["message"].endswith(message)
    assert end["error"] == {"error": label, "message": end["result"], "name": "Error"}
    assert "<" not in end["result"]


async def test_an_answer_that_is_too_big_is_an_error_of_the_engine() -> None:
    """A step's output over 4 MiB fails the attempt, and the error names the step."""
    app = App()
    app.add("big", lambda ctx: ctx.step.run("s", step("x" * 4_300_000)), retries=1)
    run = await app.run("big")
    assert [request.attempt for request in run.requests] == [0, 1]
    assert [request.request["version"] for request in run.requests] == [-1, -1]
    (end,) = app.ends
    label = end["error"]["error"]
    assert label.startswith("error validating generator opcode a0f1490a20d0211c997b44bc357e1972")
    assert end["error"] == {"error": label, "message": end["result"], "name": "Error"}
    assert json.loads(end["result"]) == {
        "error": {"error": label, "name": "Error", "message": label}
    }


async def test_error_without_a_message_gets_the_status() -> None:
    """``function.failed`` fills an empty message."""
    app = App()

    async def body(ctx: inngest.Context) -> None:
        raise ValueError

    app.add("f", body, retries=0)
    await app.run("f")
    (end,) = app.ends
    assert end["error"]["message"] == "invalid status code: 500"
    assert (end["error"]["name"], end["result"]["message"]) == ("ValueError", "")


async def test_app_that_fails_before_the_sdk() -> None:
    """An answer that is not the SDK's is told with its body."""
    app = App()
    app.add("f", lambda ctx: ctx.step.run("s", step(1)), retries=0)

    def serve(client: inngest.Inngest, functions: list[inngest.Function[Json]]) -> fastapi.FastAPI:
        served = fastapi.FastAPI()

        @served.middleware("http")
        async def gateway(
            request: fastapi.Request,
            call_next: typing.Callable[[fastapi.Request], typing.Awaitable[fastapi.Response]],
        ) -> fastapi.Response:
            if request.query_params.get("fnId") == "shop-f":
                return fastapi.Response("b" * 9000, 502, media_type="text/plain")
            return await call_next(request)

        inngest.fast_api.serve(served, client, functions)
        return served

    run = await app.run("f", serve=serve)
    (end,) = app.ends
    message = "Your server returned HTTP 502 before the SDK responded."
    assert end["error"]["error"] == end["error"]["message"] == message
    assert end["error"]["name"] == "Server returned a fatal error"
    assert end["error"]["stack"] == end["result"]["stack"]
    assert "Upstream response (text/plain; charset=utf-8):\nbbb" in end["error"]["stack"]
    assert end["error"]["stack"].endswith("b\n\u2026 (truncated)")
    assert run.error is not None
    assert run.error["message"] == message


async def test_output_that_is_not_json_is_told_as_text() -> None:
    """``function.finished`` cannot carry NaN, so it carries its text."""
    app = App()

    async def body(ctx: inngest.Context) -> Json:
        return [float("nan")]

    app.add("f", body)
    await app.run("f")
    assert [end["result"] for end in app.ends] == ["[NaN]"]


async def test_unknown_function_is_found_out_after_the_group_has_begun() -> None:
    """Invoking what does not exist beside other steps disturbs none of them."""
    app = App()

    async def body(ctx: inngest.Context) -> Json:
        async def missing() -> str:
            try:
                await ctx.step.invoke_by_id("i", function_id="nope")
            except inngest.StepError as error:
                return error.message
            return ""

        return await ctx.group.parallel(
            (missing, lambda: ctx.step.run("a", step(1)), lambda: ctx.step.run("b", step(2)))
        )

    app.add("f", body)
    run = await app.run("f")
    assert run.output == ["could not find function with ID: shop-nope", 1, 2]
    assert [request.target is None for request in run.requests] == [True, False, False, True]
    missing, end = app.ends
    assert missing == {
        "correlation_id": f"{run.id}.{run.steps['i'].hashed_id}",
        "error": {"message": "could not find function with ID: shop-nope", "name": "Error"},
        "function_id": "",
        "run_id": "",
    }
    assert end["run_id"] == run.id


async def test_invocation_is_an_event_for_everybody() -> None:
    """``inngest/function.invoked`` starts the functions that listen to it, and may last long."""
    app = App()
    app.listen("invoked")

    async def child(ctx: inngest.Context) -> str:
        await ctx.step.sleep("s", days(300))
        return "late"

    invoked = app.add("child", child)

    async def body(ctx: inngest.Context) -> Json:
        return await ctx.step.invoke("i", function=invoked, data={"n": 1}, timeout=days(400))

    app.add("f", body)
    run = await app.run("f")
    assert [end["_inngest"]["fn_id"] for end in app.ends if "n" in end] == ["shop-child"]
    # Whoever that event started and ends first gives the answer.
    assert run.status == "Completed"
    assert run.output is None


async def test_idempotency_key_that_is_unknown_or_false_limits_nothing() -> None:
    """Only a key that an event has starts a single run; null is such a key."""
    app = App()

    async def body(ctx: inngest.Context) -> Json:
        return ctx.event.data["i"]

    app.add("f", body, idempotency="event.data.k")
    async with LocalEngine(app.client, app.functions) as engine:
        keys: list[dict[str, Json]] = [
            {},
            {},
            {"k": False},
            {"k": False},
            {"k": None},
            {"k": None},
            {"k": 1},
            {"k": 1},
        ]
        for i, data in enumerate(keys):
            await engine.send(inngest.Event(name="shop/f", data={"i": i, **data}))
        await engine.settle()
        runs = [run.output for run in engine.runs if run.function_id == "shop-f"]
    assert runs == [0, 1, 2, 3, 4, 6]


async def test_event_that_is_sent_twice_with_one_seed_is_one_event() -> None:
    """A request that repeats its seed repeats its events' ids, and starts nothing again."""
    app = App()

    async def body(ctx: inngest.Context) -> Json:
        return ctx.event.id

    app.add("f", body)
    headers = {"x-inngest-event-id-seed": "1763700000000,AAECAwQFBgcICQ=="}
    async with LocalEngine(app.client, app.functions) as engine:
        async with httpx.AsyncClient(transport=engine.transport, base_url="http://e") as http:
            events = [{"name": "shop/f"}, {"name": "shop/f"}]
            first = (await http.post("/e/key", json=events, headers=headers)).json()["ids"]
            again = (await http.post("/e/key", json=events, headers=headers)).json()["ids"]
        await engine.settle()
        runs = [run for run in engine.runs if run.function_id == "shop-f"]
    # The first of the two fields makes up for what an event does not have.
    assert [(end["event"]["data"], end["events"][0]["data"]) for end in app.ends] == [
        ({}, None)
    ] * 2
    assert first == again == [run.output for run in runs]
    assert first[0] != first[1]
    assert runs[0].events[0]["data"] is None


@pytest.mark.parametrize(
    "seed", ["", "1", "x,AAECAwQFBgcICQ==", "0,AAECAwQFBgcICQ==", "1,AAEC", "1,?"]
)
async def test_seed_that_is_none_is_not_used(seed: str) -> None:
    """A malformed seed is as good as none."""
    assert seeded_ulid(seed, 1) is None


async def test_seed_makes_the_servers_id() -> None:
    """The position of the event is added to the last four bytes of the seed."""
    entropy = bytes(range(10))
    made = seeded_ulid("1763700000000,AAECAwQFBgcICQ==", 2)
    assert made is not None
    number = (1763700000000 << 80) + int.from_bytes(entropy, "big") + 2
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    assert made == "".join(alphabet[number >> shift & 31] for shift in range(125, -5, -5))


async def test_events_that_are_too_big_are_left_to_the_api() -> None:
    """A request over 4 MiB has no memos and no list of events; the app fetches both."""
    app = App()

    async def body(ctx: inngest.Context) -> Json:
        return [len(ctx.events), len(str(ctx.event.data["x"])), await ctx.step.run("s", step(1))]

    app.add("f", body)
    run = await app.run("f", {"x": "y" * 2_500_000})
    assert run.output == [1, 2_500_000, 1]
    for request in run.requests:
        sent = request.request
        assert (sent["use_api"], sent["ctx"]["use_api"]) == (True, True)
        assert (sent["events"], sent["steps"]) == ([], {})
