"""What a type checker makes of channels and deferrals: checked, not run."""

from __future__ import annotations

import inngest
import pydantic
from typing_extensions import assert_type

from inngest_plugins.defer import DeferredFunction, defer, deferred_function
from inngest_plugins.realtime import Channel, ChannelTopic, Message, Topic, publish, subscribe


class Progress(pydantic.BaseModel):
    done: int


class OrderChannel(Channel, name="order:{order_id}"):
    progress = Topic(Progress)
    log = Topic(str)


async def channels(client: inngest.Inngest) -> None:
    order = OrderChannel(order_id=1)
    assert_type(order.progress, ChannelTopic[Progress])
    assert_type(OrderChannel.log, Topic[str])
    await publish(order.progress, Progress(done=1))
    await publish(order.log, 1)  # type: ignore[misc] # pyright: ignore[reportArgumentType]
    async for message in subscribe(order.progress, client=client):
        assert_type(message, Message[Progress])
        assert_type(message.data.done, int)


def deferrals(client: inngest.Inngest) -> None:
    judge = deferred_function(client, fn_id="judge", schema=Progress)
    assert_type(judge, DeferredFunction[Progress])
    defer("a", judge, Progress(done=1))
    defer("b", judge, 1)  # type: ignore[misc] # pyright: ignore[reportCallIssue, reportArgumentType]
