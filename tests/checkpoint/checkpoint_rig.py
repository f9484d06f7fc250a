"""Apps that checkpoint, the embedded engine, and faults on the way between them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import inngest
from tests.core.core_protocol import make_client, make_function
from tests.silent_server import silent_server

from inngest_plugins.core import Call, Outcome, Plugin, Step, answered_by
from inngest_plugins.local import LocalEngine, Run, VirtualClock

EVENT = "shop/test"
ASYNC, SYNC = "fastapi-async", "fastapi-pool"


class Recorder(Plugin):
    """Notes what every step and function came to, and which steps were delivered."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str | None, str]] = []
        self.delivered: list[str] = []

    def transform_output(self, call: Call, outcome: Outcome) -> None:
        name = None if outcome.step is None else f"{outcome.step.id}:{outcome.step.index}"
        how = "ok" if outcome.error is None else type(outcome.error).__name__
        self.outcomes.append((name, how))

    def step_delivered(self, call: Call, step: Step) -> None:
        self.delivered.append(step.id)


@dataclass
class Calls:
    """The checkpoint calls that an app made.

    Attributes:
        sent: the step ids of each call, in order.
        answered: the status of each answer; None where none came.
        limits: for how many seconds each call would have waited for its reply.
    """

    sent: list[list[str]] = field(default_factory=list[list[str]])
    answered: list[int | None] = field(default_factory=list[int | None])
    limits: list[float] = field(default_factory=list[float])


Decide = Callable[[int], str | int | None]
"""Given the number of a checkpoint call: a status to answer, None to pass, or a fault's name.

"refuse": the connection fails. "lose": the call is stored, and its answer lost. "late": it is
stored, and the answer comes after the client's time limit. "silent": it is not stored, and there is
no answer. "gone": the run is not found.
"""


@contextlib.contextmanager
def between(client: inngest.Inngest, decide: Decide = lambda number: None) -> Iterator[Calls]:
    """Stand between an app and the engine that has been opened for it; see `Decide`."""
    http: Any = client._http_client
    engine_sync, engine_async = http._http_client_sync, http._http_client
    calls = Calls()

    def before(request: httpx.Request) -> str | int | None:
        if "/v1/checkpoint/" not in request.url.path:
            return None
        number = len(calls.sent)
        steps = json.loads(request.content)["steps"]
        calls.sent.append([step["displayName"] for step in steps])
        decision = decide(number)
        if decision == "refuse":
            calls.answered.append(None)
            raise httpx.ConnectError("refused", request=request)
        return decision

    def after(
        request: httpx.Request, decision: str | int | None, answer: httpx.Response
    ) -> httpx.Response:
        if "/v1/checkpoint/" in request.url.path:
            calls.answered.append(None if decision == "lose" else answer.status_code)
        if decision == "lose":
            raise httpx.ReadTimeout("lost", request=request)
        return answer

    def unanswered(request: httpx.Request) -> httpx.Request:
        """The request for a server that never answers, with the time limits of the call."""
        calls.answered.append(None)
        calls.limits.append(request.extensions["timeout"]["read"])
        return httpx.Request("GET", f"http://127.0.0.1:{port}/", extensions=request.extensions)

    def handle(request: httpx.Request) -> httpx.Response:
        decision = before(request)
        if _is_injected(decision):
            return after(request, decision, _injected(decision))
        answer = None if decision == "silent" else _copy(engine_sync.send(_again(request)))
        if answer is None or decision == "late":
            with httpx.HTTPTransport() as transport:
                return transport.handle_request(unanswered(request))
        return after(request, decision, answer)

    async def handle_async(request: httpx.Request) -> httpx.Response:
        decision = before(request)
        if _is_injected(decision):
            return after(request, decision, _injected(decision))
        answer = None if decision == "silent" else _copy(await engine_async.send(_again(request)))
        if answer is None or decision == "late":
            async with httpx.AsyncHTTPTransport() as transport:
                return await transport.handle_async_request(unanswered(request))
        return after(request, decision, answer)

    with (
        silent_server() as port,
        answered_by(client, httpx.MockTransport(handle_async), httpx.MockTransport(handle)),
    ):
        yield calls


def _is_injected(decision: str | int | None) -> bool:
    return decision == "gone" or isinstance(decision, int)


def _injected(decision: str | int | None) -> httpx.Response:
    if decision == 404:
        # Whoever does not know the call.
        return httpx.Response(404, text="404 page not found")
    if isinstance(decision, int):
        return httpx.Response(decision, json={"error": "injected"})
    return httpx.Response(404, json={"error": "run not found in state store"})


def _again(request: httpx.Request) -> httpx.Request:
    return httpx.Request(
        request.method, request.url, headers=request.headers, content=request.content
    )


def _copy(response: httpx.Response) -> httpx.Response:
    return httpx.Response(response.status_code, content=response.content, headers=response.headers)


@dataclass
class Played:
    """A run, and what was seen of it."""

    run: Run
    recorder: Recorder
    calls: Calls

    @property
    def requests(self) -> int:
        """How many requests it took."""
        return len(self.run.requests)


async def play(
    setting: str,
    body: Callable[[Any], Any],
    *plugins: Any,
    decide: Decide = lambda number: None,
    beside: Callable[[inngest.Inngest], Sequence[inngest.Function[Any]]] = lambda client: (),
    data: dict[str, Any] | None = None,
    engine_options: dict[str, Any] | None = None,
    **options: Any,
) -> Played:
    """Run a body once on the embedded engine, async or sync as the setting says."""
    recorder = Recorder()
    client = make_client(*plugins, recorder)
    functions = [make_function(setting, client, body, **options), *beside(client)]
    engine = LocalEngine(client, functions, clock=VirtualClock(), **(engine_options or {}))
    async with engine:
        with between(client, decide) as calls:
            run = await engine.run(
                inngest.Event(name=EVENT, data=data or {}), function=functions[0]
            )
    return Played(run, recorder, calls)
