"""Wrong options of the metadata plugin are named where they are given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import inngest
import pydantic
import pytest

from inngest_plugins.metadata import (
    Limits,
    MetadataClient,
    MetadataContextError,
    MetadataKeyError,
    MetadataPlugin,
    MetadataValueError,
    metadata,
    subscribe,
    subscribe_stream,
)

CLIENT = inngest.Inngest(app_id="shop", is_production=False)
RUN_ID = "01HZZZZZZZZZZZZZZZZZZZZZZZ"


@pytest.mark.parametrize("make", [MetadataPlugin, lambda **given: MetadataClient(CLIENT, **given)])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"limits": {"run_bytes": 1}}, TypeError, "takes Limits.* not dict"),
        ({"timeout": "5"}, ValueError, r"timeout=\.\.\.\).* seconds above 0, not str"),
        ({"timeout": 0}, ValueError, "seconds above 0, not 0$"),
        ({"timeout": True}, ValueError, "seconds above 0, not bool"),
        ({"timeout": float("nan")}, ValueError, "seconds above 0, not nan"),
        ({"timeout": float("inf")}, ValueError, "seconds above 0, not inf"),
    ],
)
def test_an_option_of_the_wrong_kind_is_named(
    make: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """At construction: the plugin fails open, so that it would otherwise only show in the log."""
    with pytest.raises(error, match=message):
        make(**options)


@pytest.mark.parametrize("option", ["strict", "realtime"])
@pytest.mark.parametrize("value", ["false", "", 0, 1, None])
def test_a_switch_takes_true_or_false_only(option: str, value: object) -> None:
    """The text of an environment variable, which would count as True, is named and refused."""
    given: dict[str, Any] = {option: value}
    with pytest.raises(TypeError, match=rf"{option}=.*True or False, not {type(value).__name__}"):
        MetadataPlugin(**given)


def test_a_metadata_client_needs_a_client() -> None:
    """Not the id of an app, and not the plugin."""
    for given in ("shop", None, MetadataPlugin()):
        wrong: Any = given
        with pytest.raises(TypeError, match=r"takes an inngest\.Inngest, not"):
            MetadataClient(wrong)


@pytest.mark.parametrize("size", ["x", None, True, 1.5, -1, 0])
def test_a_limit_is_a_number_of_bytes(size: Any) -> None:
    """Where it is given: the plugin fails open, and nothing would be recorded."""
    with pytest.raises(ValueError, match=r"Limits\(run_bytes=.*above 0"):
        Limits(run_bytes=size)


@pytest.mark.parametrize("wrong", [5, None, ["a"], "\ud800"])
def test_names_of_the_wrong_kind_are_named(wrong: Any) -> None:
    """Also those that have no hash, and texts that cannot be sent."""
    writer = MetadataClient(CLIENT).run(RUN_ID)
    with pytest.raises(MetadataKeyError, match="a metadata key "):
        writer.set(wrong, 1)
    with pytest.raises(MetadataKeyError, match="run id "):
        MetadataClient(CLIENT).run(wrong)
    if wrong is not None:
        with pytest.raises(MetadataKeyError, match="a metadata kind "):
            writer.set("a", 1, kind=wrong)
        with pytest.raises(MetadataKeyError, match="a metadata kind "):
            MetadataClient(CLIENT).run(RUN_ID, kind=wrong)
        with pytest.raises(MetadataKeyError, match="a metadata kind "):
            metadata.run(kind=wrong)
        with pytest.raises(MetadataKeyError, match="a metadata step id "):
            MetadataClient(CLIENT).run(RUN_ID).step(wrong)
        with pytest.raises(MetadataKeyError, match="a metadata step id "):
            metadata.step(wrong)
        with pytest.raises(MetadataKeyError, match="a metadata stream's name "):
            metadata.stream(wrong, _chunks())
    with pytest.raises(MetadataKeyError, match="a metadata stream's name "):
        subscribe_stream(RUN_ID, cast("str", wrong), client=CLIENT)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (-1, "counts the uses of its id from 0, so it is not -1"),
        ("1", "is a whole number, not str"),
        (1.0, "is a whole number, not float"),
        (True, "is a whole number, not bool"),
        (None, "is a whole number, not NoneType"),
    ],
)
@pytest.mark.parametrize(
    "choose",
    [
        lambda: metadata,
        metadata.run,
        lambda: metadata.run(RUN_ID),
        lambda: MetadataClient(CLIENT).run(RUN_ID),
    ],
    ids=["metadata", "run", "other run", "client"],
)
def test_the_index_of_a_step_counts_from_nothing(
    choose: Callable[[], Any], index: Any, message: str
) -> None:
    """Wherever a step is chosen; the engine's refusal would only be logged."""
    plugin = MetadataPlugin(strict=False)  # another run can be named outside of a run
    with pytest.raises(MetadataKeyError, match=f"index of step 's' {message}"):
        choose().step("s", index)
    del plugin


class Progress(pydantic.BaseModel):
    done: int = 0


async def _chunks() -> AsyncIterator[str]:
    yield "a"


@pytest.mark.parametrize("name", ["", "n" * 129])
def test_the_name_of_a_stream_has_a_length(name: str) -> None:
    """Where it is written and where it is read."""
    with pytest.raises(MetadataKeyError, match=f"1 to 128 bytes, not {len(name)}"):
        metadata.stream(name, _chunks())
    with pytest.raises(MetadataKeyError, match=f"1 to 128 bytes, not {len(name)}"):
        subscribe_stream(RUN_ID, name, client=CLIENT)


@pytest.mark.parametrize("source", [["a"], "a", None, _chunks])
def test_a_stream_has_an_async_source(source: Any) -> None:
    """A list, or a generator that was not called, is named where it is given."""
    with pytest.raises(MetadataValueError, match="stream 'answer': the source is an async iter"):
        metadata.stream("answer", source)


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (dict, "not the class dict"),
        (None, "not NoneType"),
        ("Progress", "not str"),
        (Progress(), "not Progress"),
    ],
)
def test_a_view_needs_a_model(model: Any, given: str) -> None:
    """A Pydantic class: not a dict, and not an object of one."""
    with pytest.raises(MetadataValueError, match=f"a class of pydantic.BaseModel, {given}"):
        metadata.typed(model)


def test_a_subscription_needs_a_client_and_a_source() -> None:
    """What is none is named, and not found when the first snapshot is awaited."""
    wrong: Any = "shop"
    for follow in (
        lambda **given: subscribe(RUN_ID, **given),
        lambda **given: subscribe_stream(RUN_ID, "answer", **given),
    ):
        with pytest.raises(MetadataContextError, match=r"need an inngest\.Inngest client, not str"):
            follow(client=wrong)
        with pytest.raises(MetadataContextError, match="source is a LocalEngine, not str"):
            follow(client=CLIENT, source=wrong)
