"""Metadata through Pydantic models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import inngest
import pydantic
import pytest

from inngest_plugins.metadata import MetadataValueError, metadata

if TYPE_CHECKING:
    from tests.metadata.conftest import App

pytestmark = pytest.mark.anyio


class Progress(pydantic.BaseModel):
    """What the tests record."""

    done: int = 0
    total: int = pydantic.Field(default=10, ge=1)
    state: str = pydantic.Field(
        default="new", serialization_alias="$state", validation_alias="$state"
    )
    rows: list[int] = []


async def test_a_typed_view_reads_defaults_and_what_is_recorded(app: App) -> None:
    """Fields that nobody recorded take their defaults; unknown keys are left alone."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        view = metadata.typed(Progress)
        metadata.update({"done": 3, "other": "x"})
        first = view.get()
        view.update(done=4)
        view.set(Progress(done=5, total=7))
        return [first.model_dump(), metadata.current()]

    run = await app.run()
    assert run.output == [
        {"done": 3, "total": 10, "state": "new", "rows": []},
        {"done": 5, "other": "x", "total": 7, "$state": "new", "rows": []},
    ]


async def test_a_typed_view_records_only_what_changed(app: App) -> None:
    """Editing in a block records the changed fields when it ends, and nothing when it raises."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        view = metadata.typed(Progress, kind="import")
        with view.edit() as progress:
            progress.done = 1
            progress.rows.append(4)
            progress.state = "running"
        with pytest.raises(ZeroDivisionError), view.edit() as progress:
            progress.done = 2 // 0
        view.update(total=10)
        return metadata.current(kind="import")

    run = await app.run()
    assert run.output == {"done": 1, "rows": [4], "$state": "running", "total": 10}


async def test_what_does_not_fit_the_model_is_refused(app: App) -> None:
    """A write or read that breaks the model names the field, repeats no value, records nothing."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        view = metadata.typed(Progress)
        uses: tuple[tuple[str, Callable[[], object]], ...] = (
            ("total: greater_than_equal", lambda: view.update(total=0)),
            ("done: int_parsing", lambda: view.update(done="secret")),
            ("no field 'speed'", lambda: view.update(speed=1)),
        )
        for part, use in uses:
            with pytest.raises(MetadataValueError, match=part) as refusal:
                use()
            assert "secret" not in str(refusal.value)
        with pytest.raises(MetadataValueError), view.edit() as progress:
            progress.total = 0
        nothing = metadata.current()
        metadata.set("done", "many")
        with pytest.raises(MetadataValueError, match="does not fit Progress: done"):
            view.get()
        return nothing

    assert (await app.run()).output == {}


class Optional(pydantic.BaseModel):
    """A model whose empty field is left out of its JSON."""

    note: str | None = None

    @pydantic.model_serializer
    def _without_empty(self) -> dict[str, str]:
        return {} if self.note is None else {"note": self.note}


async def test_fields_that_a_model_leaves_out_are_deleted(app: App) -> None:
    """A field that was recorded and that the model no longer writes is deleted."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        view = metadata.run().typed(Optional)
        with view.edit() as value:
            value.note = "x"
        before = metadata.current()
        with view.edit() as value:
            value.note = None
        return [before, metadata.current()]

    assert (await app.run()).output == [{"note": "x"}, {}]


class Lossy(pydantic.BaseModel):
    """Fields whose recorded form is not the value."""

    done: int = 0
    token: pydantic.SecretStr = pydantic.SecretStr("")
    tokens: dict[str, list[pydantic.SecretStr]] = {}
    rows: int = pydantic.Field(default=0, serialization_alias="out", validation_alias="in")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("token", pydantic.SecretStr("s3cret"), "Lossy.token holds a secret"),
        ("tokens", {"a": [pydantic.SecretStr("s3cret")]}, "Lossy.tokens holds a secret"),
        ("rows", 5, "Lossy.rows is written as 'out', and not read from there"),
    ],
)
async def test_what_would_be_recorded_as_something_else_is_refused(
    app: App, field: str, value: Any, message: str
) -> None:
    """No stars and no default in place of the value; the model's other fields can be recorded."""

    @app.function()
    async def fn(ctx: inngest.Context) -> Any:
        view = metadata.typed(Lossy)
        view.update(done=1)
        with pytest.raises(MetadataValueError, match=message):
            view.update(**{field: value})
        with pytest.raises(MetadataValueError, match=message):
            view.set(Lossy().model_copy(update={field: value}))
        with pytest.raises(MetadataValueError, match=message), view.edit() as edited:
            setattr(edited, field, value)
        with view.edit() as edited:
            edited.done += 1
        return metadata.current()

    run = await app.run()
    assert run.output == {"done": 2}, run.reason
