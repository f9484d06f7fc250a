"""Waits for an answer from outside of the run: Pydantic AI's external events as Inngest events."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import inngest
from pydantic import JsonValue
from pydantic_ai.durable_exec import ExternalEventError, ExternalEventWaiter

from inngest_plugins.agents.steps.ids import AgentRun
from inngest_plugins.agents.steps.scheduler import scheduler_of
from inngest_plugins.core import Call

from .data import EventData, read_event

LONGEST = timedelta(days=365)
"""How long a wait without a timeout waits: the longest that the engine takes."""


class ExternalAnswer(EventData):
    """Data of the event that answers a question which an agent asked outside of its run.

    Attributes:
        token: the token that `ask` received.
        payload: the answer, as `wait_for_external_event` is to return it.
        failure: why there will be no answer; then `payload` means nothing.
    """

    readable = frozenset({"token"})

    token: str
    payload: Any = None
    failure: str | None = None


class EventWaiter(ExternalEventWaiter):
    """Waits with `step.wait_for_event`, for days if need be.

    Args:
        call: the request.
        run: the agent run, which gives the steps their ids.
        event: name of the event that answers.
    """

    def __init__(self, call: Call, run: AgentRun, event: str) -> None:
        self._call = call
        self._run = run
        self._event = event

    async def wait(
        self,
        name: str,
        *,
        ask: Callable[[str], Awaitable[JsonValue]],
        timeout: timedelta | None,
    ) -> JsonValue:
        """Ask in a step, and wait for the event that answers.

        The wait and the question leave together, so that no answer is too early.

        Raises:
            ExternalEventError: nobody answered in time, or the answer is a failure.
            inngest.NonRetriableError: the event is no `ExternalAnswer`.
        """
        ctx = self._call.ctx
        assert isinstance(ctx, inngest.Context)  # noqa: S101 - agents refuse sync functions
        step = ctx.step
        scheduler = scheduler_of(self._call)
        token_id, wait_id, ask_id = (
            self._run.step_id(f"external:{name}{part}") for part in (".token", "", ".ask")
        )

        async def new_token() -> str:
            return secrets.token_urlsafe(24)

        async def asked() -> JsonValue:
            answer = await ask(token)
            if answer is not None:
                # The wait has left already: it ends with this answer.
                await self._send(ExternalAnswer(token=token, payload=answer))
            return answer

        token = await scheduler.run(token_id, lambda: step.run(token_id, new_token))
        # Wait and question leave together, so that no answer is too early.
        event, answer = await asyncio.gather(
            scheduler.run(
                wait_id,
                lambda: step.wait_for_event(
                    wait_id,
                    event=self._event,
                    if_exp=f"async.data.token == '{token}'",
                    timeout=timeout or LONGEST,
                ),
            ),
            scheduler.run(ask_id, lambda: step.run(ask_id, asked)),
        )
        if answer is not None:
            given: JsonValue = answer
            return given
        if event is None:
            raise ExternalEventError(f"No answer came within {timeout or LONGEST}.")
        answered = read_event(ExternalAnswer, event, f"answers {name!r}")
        if answered.failure is not None:
            raise ExternalEventError(answered.failure)
        payload: JsonValue = answered.payload
        return payload

    async def _send(self, answer: ExternalAnswer) -> None:
        data = answer.event_data(secret=self._call.stack.secret_payloads)
        event = inngest.Event(name=self._event, data=data)
        await self._call.client.send(event)
