"""Checking changes nothing: whatever code a schema runs, payloads stay as they were."""

import contextlib
import copy
import dataclasses
import datetime
from collections.abc import Callable
from typing import Annotated, Any

import inngest
import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    RootModel,
    Tag,
    TypeAdapter,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import core_schema
from typing_extensions import TypedDict

from inngest_plugins.local import LocalEngine
from inngest_plugins.validation import EventType, ValidationFailed, ValidationPlugin
from inngest_plugins.validation.schemas.core_schema import runs_user_code


def spoil(value: Any) -> Any:
    """Edit a value in every place a validator can reach."""
    if isinstance(value, dict):
        for each in value.values():
            spoil(each)
        value["spoilt"] = True
        value.pop("euros", None)
    elif isinstance(value, list):
        for each in value:
            spoil(each)
        value.append("spoilt")
    return value


class Before(BaseModel):
    cents: int = 0
    inner: Any = None

    @model_validator(mode="before")
    @classmethod
    def convert(cls, data: Any) -> Any:
        data["cents"] = data.pop("euros") * 100
        return spoil(data)


class FieldBefore(BaseModel):
    inner: Any

    @field_validator("inner", mode="before")
    @classmethod
    def convert(cls, value: Any) -> Any:
        return spoil(value)


class PostInit(BaseModel):
    inner: Any

    def model_post_init(self, context: Any, /) -> None:
        spoil(self.inner)


class After(BaseModel):
    inner: Any

    @model_validator(mode="after")
    def convert(self) -> "After":
        spoil(self.inner)
        return self


class CustomInit(BaseModel):
    inner: Any

    def __init__(self, **data: Any) -> None:
        spoil(data["inner"])
        super().__init__(**data)


class Factory(BaseModel):
    inner: Any
    more: int = Field(default_factory=lambda data: len(spoil(data["inner"])))


@dataclasses.dataclass
class Plain:
    euros: int
    inner: Any

    def __post_init__(self) -> None:
        spoil(self.inner)


@pydantic_dataclass
class Rich:
    euros: int
    inner: Any

    def __post_init__(self) -> None:
        spoil(self.inner)


class Typed(TypedDict):
    inner: Annotated[Any, BeforeValidator(spoil)]


class Rooted(RootModel[dict[str, Annotated[Any, AfterValidator(spoil)]]]):
    pass


class Custom:
    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> Any:
        return core_schema.no_info_plain_validator_function(spoil)


def wrapped(value: Any, handler: Callable[[Any], Any]) -> Any:
    return handler(spoil(value))


def tag_of(value: Any) -> str:
    spoil(value)
    return "a"


Tagged = Annotated[
    Annotated[dict[str, Any], Tag("a")] | Annotated[int, Tag("b")], Discriminator(tag_of)
]

SCHEMAS: list[Any] = [
    Before,
    FieldBefore,
    PostInit,
    After,
    CustomInit,
    Factory,
    Plain,
    Rich,
    Typed,
    Rooted,
    Custom,
    Annotated[dict[str, Any], WrapValidator(wrapped)],
    Annotated[dict[str, Any], PlainValidator(spoil)],
    Tagged,
    TypeAdapter(Before),
    TypeAdapter(Annotated[dict[str, Any], BeforeValidator(spoil)]),
]
NAMES = [getattr(each, "__name__", type(each).__name__) for each in SCHEMAS]
ADAPTERS = [each if isinstance(each, TypeAdapter) else TypeAdapter(each) for each in SCHEMAS]
DATA: dict[str, Any] = {"euros": 3, "inner": {"list": [1, {"deep": [2]}]}}


def client_with(plugin: ValidationPlugin) -> inngest.Inngest:
    return inngest.Inngest(app_id="shop", is_production=False, middleware=[plugin])


@pytest.mark.parametrize("schema", SCHEMAS, ids=NAMES)
class TestOutsideARun:
    def test_parse_leaves_its_argument_alone(self, schema: Any) -> None:
        """The event that was parsed, bare or not, holds what it held."""
        kind = EventType[Any]("e", schema)
        event = inngest.Event(name="e", data=copy.deepcopy(DATA))
        kind.parse(event)
        assert event.data == DATA
        bare = {"name": "e", "data": copy.deepcopy(DATA)}
        kind.parse(bare)
        assert bare == {"name": "e", "data": DATA}

    def test_new_leaves_its_argument_alone(self, schema: Any) -> None:
        """The caller's mapping is what it was, also where the type refuses its own JSON form."""
        given = copy.deepcopy(DATA)
        with contextlib.suppress(ValidationFailed):
            EventType[Any]("e", schema).new(given)
        assert given == DATA


def _of_the_sender(data: dict[str, Any]) -> dict[str, Any]:
    """The data without what the engine adds to an invoke."""
    return {key: value for key, value in data.items() if key != "_inngest"}


@pytest.mark.anyio
@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("schema", [Before, PostInit, Rich, Custom])
async def test_a_run_carries_what_was_sent(schema: Any, is_async: bool) -> None:
    """Triggers, memos, sent events, invokes, awaited events and outputs are not changed."""
    kind = EventType[Any]("e", schema)
    client = client_with(
        ValidationPlugin([kind], outputs={"caller": schema}, steps={("caller", "load"): schema})
    )
    seen: list[Any] = []

    async def load() -> Any:
        return copy.deepcopy(DATA)

    def look(event: Any) -> None:
        kind.parse(event)
        seen.append(copy.deepcopy(event.data))

    timeout = datetime.timedelta(hours=1)

    @client.create_function(fn_id="callee", trigger=kind.trigger())
    async def callee(ctx: inngest.Context) -> None:
        look(ctx.event)

    @client.create_function(fn_id="caller", trigger=inngest.TriggerEvent(event="start"))
    async def caller(ctx: inngest.Context) -> Any:
        loaded = await ctx.step.run("load", load)
        assert loaded == DATA
        sent = inngest.Event(name="e", data=copy.deepcopy(DATA))
        await ctx.step.send_event("send", sent)
        assert sent.data == DATA
        given = copy.deepcopy(DATA)
        await ctx.step.invoke("invoke", function=callee, data=given)
        assert given == DATA
        got = await ctx.step.wait_for_event("wait", event="e", timeout=timeout)
        look(got)
        return copy.deepcopy(DATA)

    @client.create_function(fn_id="caller", trigger=inngest.TriggerEvent(event="start"))
    def caller_sync(ctx: inngest.ContextSync) -> Any:
        loaded = ctx.step.run("load", lambda: copy.deepcopy(DATA))
        assert loaded == DATA
        sent = inngest.Event(name="e", data=copy.deepcopy(DATA))
        ctx.step.send_event("send", sent)
        assert sent.data == DATA
        given = copy.deepcopy(DATA)
        ctx.step.invoke("invoke", function=callee, data=given)
        assert given == DATA
        got = ctx.step.wait_for_event("wait", event="e", timeout=timeout)
        look(got)
        return copy.deepcopy(DATA)

    functions: list[Any] = [caller if is_async else caller_sync, callee]
    async with LocalEngine(client, functions) as engine:
        await engine.send(inngest.Event(name="start", data={}))
        await engine.idle()
        await engine.send(inngest.Event(name="e", data=copy.deepcopy(DATA)))
        await engine.settle()
        run = engine.runs[0]
    assert run.status == "Completed", run.error
    assert run.output == DATA
    assert run.steps["load"].value == DATA
    assert [each["data"] for each in run.events_sent] == [DATA]
    assert seen
    assert all(_of_the_sender(each) == DATA for each in seen)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=NAMES)
def test_user_code_is_found(adapter: TypeAdapter[Any]) -> None:
    """The schemas that run code are known; only for them is a payload copied."""
    assert runs_user_code(adapter.core_schema)


def test_plain_schemas_are_not_copied() -> None:
    """A schema of declarations alone runs no user code, whatever types of the library it uses."""

    class Address(BaseModel):
        street: Annotated[str, Field(min_length=1)] = ""

    class Order(BaseModel):
        id: int
        at: datetime.datetime
        addresses: list[Address] = Field(default_factory=list)
        by: dict[str, set[int]] | None = None

    assert not runs_user_code(TypeAdapter(Order).core_schema)
