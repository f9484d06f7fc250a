"""What user code does with the plugins that it has: usage, services, deferrals, messages."""

from __future__ import annotations

import contextlib
from typing import Any

import inngest
import pydantic
from tests.composition.composition_secrets import secret

from inngest_plugins.ai import Price, UsageContextError, usage
from inngest_plugins.defer import DeferContextError, DeferredFunction, defer, deferred_function
from inngest_plugins.injection import InjectionContextError, get
from inngest_plugins.metadata import MetadataContextError, metadata
from inngest_plugins.mirror import log
from inngest_plugins.realtime import (
    Channel,
    ChannelTopic,
    PublishContextError,
    SecretMessageError,
    Topic,
    publish,
    publish_sync,
)

MODEL = "house-model"
PRICE = Price(input="0.40", output="1.60")
INPUT_TOKENS, OUTPUT_TOKENS = 3, 5


class Till:
    """An injected service with a payload in it."""

    def __init__(self) -> None:
        self.cash = secret("service")


class Verdict(pydantic.BaseModel):
    """What is deferred."""

    order: str
    encrypted: str


def use_in_step(name: str) -> None:
    """Use every plugin that is there, in a step."""
    with contextlib.suppress(MetadataContextError):
        metadata.set("last", name)
        metadata.increment("steps", 1)
    with contextlib.suppress(UsageContextError):
        usage.record(model=MODEL, input_tokens=INPUT_TOKENS, output_tokens=OUTPUT_TOKENS)
    with contextlib.suppress(InjectionContextError):
        assert get(Till) is get(Till)
    log(f"ran {name}")


class ShopChannel(Channel, name="shop"):
    """Where steps say that they ran: a topic that is open to all, and one that is not."""

    ran = Topic(str, plaintext=True)
    payloads = Topic(str)


async def publish_in_step(name: str, *, is_async: bool) -> None:
    """Publish a name that anyone may read, and a payload that nobody may.

    Args:
        name: of the step.
        is_async: whether the function is async. A running event loop does not tell: a sync
            function that Tornado serves runs in its loop's thread.
    """
    await _publish(ShopChannel().ran, name, is_async=is_async)
    with contextlib.suppress(SecretMessageError):
        await _publish(ShopChannel().payloads, secret("realtime"), is_async=is_async)


async def _publish(topic: ChannelTopic[str], message: str, *, is_async: bool) -> None:
    with contextlib.suppress(PublishContextError):
        if is_async:
            await publish(topic, message)
        else:
            publish_sync(topic, message)


def make_judge(
    client: inngest.Inngest, *, is_async: bool, **options: Any
) -> DeferredFunction[Verdict]:
    """A deferred function that returns what it was deferred with."""
    judge = deferred_function(client, fn_id="judge", schema=Verdict, **options)
    if is_async:

        async def judge_order(ctx: inngest.Context, verdict: Verdict) -> str:
            return verdict.encrypted

        judge(judge_order)
    else:

        def judge_order_sync(ctx: inngest.ContextSync, verdict: Verdict) -> str:
            return verdict.encrypted

        judge(judge_order_sync)
    return judge


def use_in_body(judge: DeferredFunction[Verdict], order: str) -> None:
    """Use every plugin that is there, in a function's body, which is replayed."""
    with contextlib.suppress(MetadataContextError):
        metadata.set("order", order)
    with contextlib.suppress(DeferContextError):
        defer("quality", judge, Verdict(order=order, encrypted=secret("deferred")))
    with contextlib.suppress(InjectionContextError):
        get(Till)
    log("replayed")
