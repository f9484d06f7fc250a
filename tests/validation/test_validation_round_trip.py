"""What `new` and `coerce` write is read back as it was, or refused; secrets in full or never."""

import dataclasses
import datetime
import enum
import functools
import math
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import inngest
import pytest
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    computed_field,
    field_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from inngest_plugins.core import Stack
from inngest_plugins.encryption import EncryptionPlugin, KeyRing
from inngest_plugins.local import LocalEngine
from inngest_plugins.validation import EventType, SchemaError, ValidationFailed, ValidationPlugin

CARD = "4242-4242"


class Pay(BaseModel):
    card: SecretStr
    pin: SecretBytes = SecretBytes(b"0000")
    limit: Secret[int] = Secret[int](5)


@dataclasses.dataclass
class PayData:
    card: SecretStr


class PayTyped(TypedDict):
    card: SecretStr


class Nested(BaseModel):
    by: dict[str, list[Pay]] = {}
    card: SecretStr | None = None
    several: set[SecretStr] = set()


Cards = RootModel[dict[str, SecretStr]]
PAY = Pay(card=SecretStr(CARD))


class Level(enum.Enum):
    LOW = 1


class Sub(Pay):
    extra: int = 1


class Rounded(BaseModel):
    at: Annotated[float, PlainSerializer(lambda value: round(value, 1))]


class Excluded(BaseModel):
    a: int = 0
    internal: str = Field(default="", exclude=True)


class Unwritten(BaseModel):
    a: int = Field(exclude=True)


class Serialized(BaseModel):
    a: int

    @field_serializer("a")
    def hide(self, value: int) -> int:
        return value // 10


class Aliased(BaseModel):
    a: int = Field(default=1, validation_alias="A", serialization_alias="AA")


class Base64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64")
    raw: bytes


class Loose(BaseModel):
    any: Any = None


@dataclasses.dataclass(eq=False)
class Point:
    x: float


class Strings(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    x: float


class Hostile(BaseModel):
    a: int = Field(default=0, exclude=True)

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Whole(BaseModel):
    """All that survives, in one model."""

    model_config = ConfigDict(extra="allow")

    at: datetime.datetime
    price: Decimal
    ids: set[UUID]
    raw: bytes
    level: Level
    pair: tuple[int, str]
    ratio: float
    days: datetime.timedelta
    point: Point
    by: dict[int, str]
    _seen: list[int] = PrivateAttr(default_factory=list)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> float:
        return self.ratio * 2

    @functools.cached_property
    def triple(self) -> float:
        return self.ratio * 3


class TestNew:
    @pytest.mark.parametrize(
        ("value", "pointer"),
        [
            (Rounded(at=0.123), "/at"),
            (Excluded(internal="x"), "/internal"),
            (Hostile(a=1), "/a"),
            (Serialized(a=12), "/a"),
            (Aliased(A=3), "/a"),  # type: ignore[call-arg]
            (Base64(raw=b"x"), "/raw"),
            (Loose(any=datetime.datetime(2026, 1, 1)), "/any"),
            (Loose(any={"a": {1, 2}}), "/any/a"),
            (Loose(any=SecretStr(CARD)), "/any"),
            (Loose(any=b"x"), "/any"),
            (Loose(any=math.nan), "/any"),
            (Loose(any={"a": [1, -math.inf]}), "/any/a/1"),
            (Point(math.inf), "/x"),
            (Point(math.nan), "/x"),
            (Strings(x=math.inf), "/x"),
        ],
    )
    def test_what_is_not_read_back_equal_is_refused(self, value: Any, pointer: str) -> None:
        """The failure names the first place that the JSON form does not say."""
        with pytest.raises(ValidationFailed, match="round_trip") as caught:
            EventType[Any]("e", type(value)).new(value)
        assert caught.value.errors[0].pointer == pointer
        assert CARD not in str(caught.value)

    def test_a_subclass_loses_its_own_fields(self) -> None:
        """An object of a subclass is refused when the event's type would drop some of it."""
        kind = EventType("e", Excluded)

        class More(Excluded):
            more: int = 0

        class Same(Excluded):
            pass

        with pytest.raises(ValidationFailed, match="/more: round_trip"):
            kind.new(More(more=1))
        assert kind.new(Same(a=2)).data == {"a": 2}

    def test_all_kinds_of_values_survive(self) -> None:
        """Types that JSON does not have are written and read back; private attributes are not."""
        whole = Whole.model_validate(
            {
                "at": "2026-01-01T00:00:00.123456+02:00",
                "price": "0.10",
                "ids": ["12345678-1234-5678-1234-567812345678"],
                "raw": "text",
                "level": 1,
                "pair": [1, "a"],
                "ratio": 0.1 + 0.2,
                "days": "PT0.1S",
                "point": {"x": 1.5},
                "by": {"7": "seven"},
                "more": {"any": [1, None]},
            }
        )
        whole._seen.append(1)
        assert whole.triple > 0
        kind = EventType("e", Whole)
        read = kind.parse(kind.new(whole))
        assert (read.at, read.price, read.ids) == (whole.at, whole.price, whole.ids)
        assert read.ratio == whole.ratio
        assert read.model_extra == whole.model_extra
        assert kind.new(kind.new(whole).data).data == kind.new(whole).data


class TestSecretsAreRefused:
    @pytest.mark.parametrize(
        ("schema", "value"),
        [
            (Pay, PAY),
            (PayData, PayData(SecretStr(CARD))),
            (PayTyped, PayTyped(card=SecretStr(CARD))),
            (Pay, {"card": CARD}),
            (Nested, Nested(by={"a": [PAY]})),
            (Nested, Nested(several={SecretStr(CARD)})),
            (
                RootModel[dict[str, SecretStr]],
                RootModel[dict[str, SecretStr]]({"a": SecretStr(CARD)}),
            ),
        ],
    )
    def test_by_new(self, schema: Any, value: Any) -> None:
        """No stars and no secret: the failure names the way out."""
        with pytest.raises(ValidationFailed, match='secrets="encrypted"') as caught:
            EventType[Any]("shop/pay", schema).new(value)
        assert caught.value.errors[0].rule == "secret"
        assert CARD not in str(caught.value)

    def test_a_secret_that_is_not_there_is_none(self) -> None:
        """An optional secret that is None is written as null."""
        kind = EventType("e", Nested)
        assert kind.new(Nested()).data == {"by": {}, "card": None, "several": []}

    @pytest.mark.parametrize("schema", [Pay, PayData, PayTyped, Nested, list[Pay]])
    def test_by_coerce_when_the_plugin_is_built(self, schema: Any) -> None:
        """With coerce the plugin is refused, by the event (or the output) and the field."""
        ValidationPlugin(outputs={"f": schema})
        with pytest.raises(SchemaError, match=r"output of function f.*card: it is a secret"):
            ValidationPlugin(outputs={"f": schema}, coerce=True)
        with pytest.raises(SchemaError, match=r"output of step s of function f.*card.*secret"):
            ValidationPlugin(steps={("f", "s"): schema}, coerce=True)
        if schema != list[Pay]:
            ValidationPlugin([EventType[Any]("shop/pay", schema)])
            with pytest.raises(SchemaError, match=r"event shop/pay: .*card.*secret"):
                ValidationPlugin([EventType[Any]("shop/pay", schema)], coerce=True)

    @pytest.mark.parametrize(
        ("schema", "told"),
        [
            (Aliased, r"/AA: .*read from A only"),
            (list[Aliased], r"/\*/AA"),
            (Unwritten, r"/a: .*exclude=True"),
        ],
    )
    def test_other_lossy_fields_are_refused_when_built(self, schema: Any, told: str) -> None:
        """A field that is written under a name it is not read from, or needed and not written."""
        ValidationPlugin(outputs={"f": schema})
        with pytest.raises(SchemaError, match=told):
            ValidationPlugin(outputs={"f": schema}, coerce=True)

    def test_aliases_that_are_read_are_taken(self) -> None:
        """An alias, one of several choices, or the name with populate_by_name."""

        class Fine(BaseModel):
            model_config = ConfigDict(populate_by_name=True)
            a: int = Field(alias="A")
            b: int = Field(validation_alias=AliasChoices("B", "b"))
            c: int = Field(validation_alias="C")
            d: int = Field(default=1, exclude=True)

        ValidationPlugin([EventType("e", Fine)], coerce=True)
        kind = EventType("e", Fine)
        assert kind.new({"A": 1, "B": 2, "C": 3}).data == {"A": 1, "b": 2, "c": 3}

    def test_an_unknown_policy_is_refused(self) -> None:
        """A policy that does not exist is an error that names those that do."""
        wrong: Any = "clear"
        for build in (
            lambda: EventType("e", Pay, secrets=wrong),
            lambda: ValidationPlugin(secrets=wrong),
        ):
            with pytest.raises(ValueError, match='"refuse" or "encrypted"'):
                build()


async def sent(client: inngest.Inngest, event: inngest.Event, *, is_async: bool) -> None:
    if is_async:
        await client.send(event)
    else:
        client.send_sync(event)


@pytest.mark.anyio
@pytest.mark.parametrize("is_async", [True, False])
class TestSecretsAreCarried:
    @pytest.mark.parametrize("coerce", [True, False])
    async def test_in_full_where_the_field_is_encrypted(self, is_async: bool, coerce: bool) -> None:
        """An event, an invoke, a step and an output arrive in full; the engine sees none of it."""
        pay = EventType("shop/pay", Pay, secrets="encrypted")
        client = inngest.Inngest(
            app_id="shop",
            is_production=False,
            middleware=[
                EncryptionPlugin(KeyRing.generate(), event_fields="*"),
                ValidationPlugin(
                    [pay],
                    outputs={"caller": Pay},
                    steps={("caller", "load"): Pay},
                    coerce=coerce,
                    secrets="encrypted",
                ),
            ],
        )
        plain = {"card": CARD, "pin": "0000", "limit": 5}
        seen: list[str] = []

        @client.create_function(fn_id="callee", trigger=pay.trigger())
        async def callee(ctx: inngest.Context) -> None:
            seen.append(pay.parse(ctx.event).card.get_secret_value())

        @client.create_function(fn_id="caller", trigger=inngest.TriggerEvent(event="start"))
        async def caller(ctx: inngest.Context) -> Any:
            async def load() -> Any:
                return plain

            await ctx.step.send_event("send", pay.new(PAY))
            await ctx.step.invoke("invoke", function=callee, data=pay.new(PAY).data)
            loaded = await ctx.step.run("load", load)
            assert loaded == plain
            return loaded

        @client.create_function(fn_id="caller", trigger=inngest.TriggerEvent(event="start"))
        def caller_sync(ctx: inngest.ContextSync) -> Any:
            ctx.step.send_event("send", pay.new(PAY))
            ctx.step.invoke("invoke", function=callee, data=pay.new(PAY).data)
            loaded = ctx.step.run("load", lambda: plain)
            assert loaded == plain
            return loaded

        async with LocalEngine(client, [caller if is_async else caller_sync, callee]) as engine:
            run = await engine.run(inngest.Event(name="start"))
            await engine.settle()
        assert run.status == "Completed", run.error
        assert seen == [CARD, CARD]
        for each in engine.runs:
            stored = (each.output, each.events_sent, [step.value for step in each.steps.values()])
            assert CARD not in repr(stored)
            assert "****" not in repr(stored)

    @pytest.mark.parametrize("outgoing", [True, False])
    @pytest.mark.parametrize("plugins", ["none", "other field", "decrypt only", "unregistered"])
    async def test_nothing_leaves_where_it_is_not_encrypted(
        self, is_async: bool, plugins: str, outgoing: bool
    ) -> None:
        """The send fails, whether the plugin knows the event type or only the event."""
        pay = EventType("shop/pay", Pay, secrets="encrypted")
        keys = KeyRing.generate()
        middleware: dict[str, list[Any]] = {
            "none": [],
            "other field": [EncryptionPlugin(keys, event_fields=("pin", "limit"))],
            "decrypt only": [EncryptionPlugin(keys, event_fields="*", decrypt_only=True)],
            "unregistered": [],
        }
        events = [] if plugins == "unregistered" else [pay]
        client = inngest.Inngest(
            app_id="shop",
            is_production=False,
            event_api_base_url="http://127.0.0.1:9",
            middleware=[*middleware[plugins], ValidationPlugin(events, outgoing=outgoing)],
        )
        event = pay.new(PAY)
        assert CARD not in repr(event)
        with pytest.raises(ValidationFailed, match="secret") as caught:
            await sent(client, event, is_async=is_async)
        assert CARD not in str(caught.value)

    async def test_nothing_leaves_through_a_client_without_the_plugin(self, is_async: bool) -> None:
        """The SDK itself cannot send such an event."""
        client = inngest.Inngest(
            app_id="shop", is_production=False, event_api_base_url="http://127.0.0.1:9"
        )
        event = EventType("shop/pay", Pay, secrets="encrypted").new(PAY)
        with pytest.raises(ValidationFailed, match="a client with a ValidationPlugin"):
            await sent(client, event, is_async=is_async)

    async def test_an_output_with_a_secret_needs_encryption(self, is_async: bool) -> None:
        """A step and a function that return a secret fail where nothing encrypts outputs."""
        client = inngest.Inngest(
            app_id="shop",
            is_production=False,
            middleware=[ValidationPlugin(outputs={"f": Pay}, secrets="encrypted")],
        )
        create: Any = client.create_function(
            fn_id="f", trigger=inngest.TriggerEvent(event="start"), retries=0
        )

        async def body(ctx: inngest.Context) -> Any:
            return {"card": CARD}

        def body_sync(ctx: inngest.ContextSync) -> Any:
            return {"card": CARD}

        async with LocalEngine(client, [create(body if is_async else body_sync)]) as engine:
            run = await engine.run(inngest.Event(name="start"))
        assert run.status == "Failed"
        assert "secret: expected a plugin that encrypts outputs" in str(run.error)
        assert CARD not in str(run.error)


def test_the_doctor_names_secrets_that_nothing_encrypts() -> None:
    """Before anything is sent, `doctor` tells which fields would be refused."""
    plugin = ValidationPlugin([EventType("shop/pay", PayData, secrets="encrypted")])
    (finding,) = plugin.diagnose(Stack(plugin))
    assert "shop/pay" in finding
    assert "'card'" in finding
    encryption = EncryptionPlugin(KeyRing.generate(), event_fields=("card",))
    assert list(plugin.diagnose(Stack(encryption, plugin))) == []


@pydantic_dataclass
class Told:
    a: int


def test_dataclasses_survive() -> None:
    """A dataclass of pydantic's is written and read back."""
    kind = EventType("e", Told)
    assert kind.parse(kind.new(Told(a=1))) == Told(a=1)
