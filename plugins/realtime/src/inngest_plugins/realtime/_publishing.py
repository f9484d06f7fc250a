"""`publish`: sends a message once in a run, in order, and never blocks the event loop."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import inngest

from inngest_plugins.core import (
    Call,
    CallKey,
    Phase,
    RealtimeConnection,
    RealtimeError,
    Stack,
    TypedJsonError,
    class_name,
)

from ._channels import ChannelTopic
from ._errors import MessageTypeError, PublishContextError, SecretMessageError

T = TypeVar("T")

_logger = logging.getLogger("inngest_plugins.realtime")

MAX_BYTES: Final = 512 * 1024
"""The server cuts longer messages off (`MaxStreamingMessageSizeBytes`)."""

_AFTER_FAILURE_SECONDS: Final = 1.0
"""How long a request tries to send a message after one has failed."""


@dataclass(frozen=True, slots=True)
class Options:
    """The plugin's options.

    Attributes:
        strict: whether a message that could not be published is an error.
        timeout: seconds that one try may take.
    """

    strict: bool = False
    timeout: float = 5.0


@dataclass(slots=True)
class RunMessages:
    """What one request publishes: one message after the other.

    Attributes:
        options: the plugin's.
        turn: makes the tasks of an async function take turns, in the order of their calls.
        lock: the same for threads.
        has_failed: whether a message of this request was lost.
    """

    options: Options = field(default_factory=Options)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    lock: threading.Lock = field(default_factory=threading.Lock)
    has_failed: bool = False


MESSAGES: Final = CallKey[RunMessages]("realtime.messages")


@dataclass(frozen=True, slots=True)
class Message:
    """A checked message, ready to be sent."""

    client: inngest.Inngest
    call: Call | None
    topic: ChannelTopic[Any]
    data: Any
    strict: bool
    messages: RunMessages

    def send(self) -> None:
        """Publish it; a failure is logged once a request, or raised."""
        messages, options = self.messages, self.messages.options
        if messages.has_failed:
            timeout, attempts = min(options.timeout, _AFTER_FAILURE_SECONDS), 1
        else:
            timeout, attempts = options.timeout, 2
        connection = RealtimeConnection(self.client, timeout=timeout, attempts=attempts)
        run_id = None if self.call is None else self.call.run_id
        try:
            connection.publish_sync(
                self.topic.channel.name, self.topic.name, self.data, run_id=run_id
            )
        except RealtimeError as err:
            if self.strict:
                raise
            if not messages.has_failed:
                messages.has_failed = True
                _logger.warning(
                    "subscribers missed a message: %s. %s is not affected; further failures of "
                    "this request are not logged",
                    err,
                    "The program" if run_id is None else f"Run {run_id}",
                )
        else:
            messages.has_failed = False


async def publish(
    topic: ChannelTopic[T],
    data: T,
    *,
    client: inngest.Inngest | None = None,
    durable: bool = False,
    strict: bool | None = None,
    step_id: str | None = None,
) -> None:
    """Publish a message.

    In a function's body it is published when the code is new, and not again on replay; in a step
    as often as the step runs. It returns when the engine has taken it, so messages stay in order.

    Args:
        topic: a topic of a channel, such as `OrderChannel(order_id=42).progress`.
        data: of the topic's type.
        client: whose engine; None for that of the current run.
        durable: publish it as a step of its own: once in the run, also when the run is retried.
        strict: whether a message that cannot be published is an error; None as the plugin says.
            A durable one always is: the engine tries the step again.
        step_id: the step's id, for `durable`; "publish <topic>" otherwise.

    Raises:
        MessageTypeError: the data does not fit the topic's type, is not JSON or is too large.
        SecretMessageError: the stack keeps payloads secret, and the topic is not `plaintext`.
        PublishContextError: outside of a run without `client`; `durable` elsewhere than in the
            body of an async function; `topic` or `client` is none.
        RealtimeError: the engine did not take it (`strict`).
    """
    call = Call.current()
    if durable:
        own = _body_of(call, is_async=True)
        message = _message(topic, data, client, own, strict=True)
        step: Any = own.ctx.step
        await step.run(step_id or f"publish {topic.name}", _handler(message))
        return
    if is_replay(call):
        return
    message = _message(topic, data, client, call, strict=strict)
    async with message.messages.turn:
        await asyncio.to_thread(message.send)


def publish_sync(
    topic: ChannelTopic[T],
    data: T,
    *,
    client: inngest.Inngest | None = None,
    durable: bool = False,
    strict: bool | None = None,
    step_id: str | None = None,
) -> None:
    """Publish a message from a sync function, or from a thread; see `publish`.

    Raises:
        PublishContextError: on an event loop, which it would block: await `publish` there.
    """
    if _on_event_loop():
        raise PublishContextError(
            f"publish_sync({topic!r}) on an event loop, which it would block: await publish(...)"
        )
    call = Call.current()
    if durable:
        own = _body_of(call, is_async=False)
        message = _message(topic, data, client, own, strict=True)
        step: Any = own.ctx.step
        step.run(step_id or f"publish {topic.name}", message.send)
        return
    if is_replay(call):
        return
    message = _message(topic, data, client, call, strict=strict)
    with message.messages.lock:
        message.send()


def is_replay(call: Call | None) -> bool:
    """Return whether an earlier request has already run this place of the function's body.

    A request with a target step is one too: an earlier request has reached the group.
    """
    if call is None or not call.in_body:
        return False
    return call.phase is Phase.REPLAYING or call.target is not None


def _handler(message: Message) -> Any:
    async def handler() -> None:
        async with message.messages.turn:
            await asyncio.to_thread(message.send)

    return handler


def _body_of(call: Call | None, *, is_async: bool) -> Call:
    if call is None or not call.in_body:
        raise PublishContextError(
            "publish(durable=True) is a step of its own: use it in a function's body, not in a "
            "step, in a hook or outside of a run"
        )
    if call.is_async is not is_async:
        named = "publish" if call.is_async else "publish_sync"
        raise PublishContextError(f"in this function a durable message is published by {named}")
    return call


def _message(
    topic: ChannelTopic[Any],
    data: object,
    client: inngest.Inngest | None,
    call: Call | None,
    *,
    strict: bool | None,
) -> Message:
    if not isinstance(topic, ChannelTopic):
        raise PublishContextError(
            "publish(topic, data) takes a topic of a channel, as in "
            f"OrderChannel(order_id=42).progress, not {type(topic).__name__}"
        )
    if client is None:
        if call is None:
            raise PublishContextError(
                f"publish({topic!r}) outside of a run, or in an app without plugins: pass "
                "client=..., and for functions add RealtimePlugin() to middleware=[...]"
            )
        client = call.client
    given: object = client
    if not isinstance(given, inngest.Inngest):
        raise PublishContextError(
            f"publish(client=...) is an inngest.Inngest client, not {class_name(given)}"
        )
    stack = call.stack if call is not None else Stack.of(client)
    if stack.secret_payloads and not topic.topic.plaintext:
        raise SecretMessageError(
            f"{topic!r}: this stack keeps payloads secret, and the engine and every subscriber "
            "would read the message. Topic(..., plaintext=True) allows it"
        )
    try:
        written = topic.topic.json.write(data, mask_keys=stack.secret_payloads)
    except TypedJsonError as err:
        raise MessageTypeError(f"a message for {topic!r} does not fit its type: {err}") from None
    size = len(json.dumps(written, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_BYTES:
        raise MessageTypeError(
            f"a message for {topic!r} has {size} bytes, and the engine cuts off what is longer "
            f"than {MAX_BYTES}: publish less, or a link to the data"
        )
    messages = _messages_of(call)
    return Message(
        client,
        call,
        topic,
        written,
        messages.options.strict if strict is None else strict,
        messages,
    )


def _messages_of(call: Call | None) -> RunMessages:
    if call is None:
        return RunMessages()
    found = call.get(MESSAGES)
    if found is None:
        found = call[MESSAGES] = RunMessages()
    return found


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
