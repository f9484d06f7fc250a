"""`metadata.typed`: reads and writes through a Pydantic model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import pydantic
from typing_extensions import Self

from ._errors import MetadataValueError
from ._operations import Document
from ._values import Json, same

ModelT = TypeVar("ModelT", bound=pydantic.BaseModel)


class ReadWrite(Protocol):
    """The operations that a typed view needs."""

    def current(self, *, kind: str | None = None) -> Document:
        """Return everything that was recorded."""
        ...

    def update(self, values: Mapping[str, object], *, kind: str | None = None) -> Any:
        """Set several keys."""
        ...

    def delete(self, *keys: str, kind: str | None = None) -> Any:
        """Delete keys."""
        ...


class TypedView(Generic[ModelT]):
    """Reads metadata as a model and writes the model's fields as top-level keys.

    Keys are the fields' aliases if they have any. Keys that the model does not know are left alone.
    Every method raises `MetadataValueError` when what is recorded, or would be, does not fit the
    model; the message names the fields and repeats no value.
    """

    def __init__(self, model: type[ModelT], through: ReadWrite, kind: str | None) -> None:
        self._model = model
        self._through = through
        self._kind = kind

    def get(self) -> ModelT:
        """Return what is recorded; fields that are not take their defaults."""
        return self._validate(self._through.current(kind=self._kind))

    def set(self, value: ModelT) -> Self:
        """Record all fields of a model."""
        self._write(_dump(self._validate(_dump(value))))
        return self

    def update(self, **changes: object) -> Self:
        """Record some fields, given by field name, if the whole still fits the model."""
        before = _dump(self.get())
        value = self.get()
        unknown = sorted(set(changes) - set(self._model.model_fields))
        if unknown:
            raise MetadataValueError(
                f"metadata: {self._model.__name__} has no field {', '.join(map(repr, unknown))}"
            )
        updated = _dump(value.model_copy(update=dict(changes)))
        self._changed(before, _dump(self._validate(updated)), always=self._names(changes))
        return self

    @contextlib.contextmanager
    def edit(self) -> Iterator[ModelT]:
        """Yield the model for changes; at the end of the block what changed is recorded.

        Nothing is recorded when the block raises or the result does not fit the model.
        """
        value = self.get()
        before = _dump(value)
        yield value
        self._changed(before, _dump(self._validate(_dump(value))), always=())

    def _changed(self, before: Document, after: Document, *, always: tuple[str, ...]) -> None:
        recorded = self._through.current(kind=self._kind)
        gone = [key for key in before if key not in after and key in recorded]
        if gone:
            self._through.delete(*map(_literal, gone), kind=self._kind)
        self._write(
            {
                key: value
                for key, value in after.items()
                if key in always or key not in before or not same(before[key], value)
            }
        )

    def _names(self, changes: Mapping[str, object]) -> tuple[str, ...]:
        fields = self._model.model_fields
        return tuple(
            fields[name].serialization_alias or fields[name].alias or name for name in changes
        )

    def _write(self, values: Document) -> None:
        if values:
            self._through.update(
                {_literal(key): value for key, value in values.items()}, kind=self._kind
            )

    def _validate(self, values: Json) -> ModelT:
        try:
            return self._model.model_validate(values)
        except pydantic.ValidationError as err:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'the object'}: {problem['type']}"
                for problem in err.errors(
                    include_input=False, include_url=False, include_context=False
                )
            )
            raise MetadataValueError(
                f"metadata does not fit {self._model.__name__}: {problems}"
            ) from None


def _dump(value: pydantic.BaseModel) -> Document:
    # A model_copy with a value of another type warns here; the validation that follows refuses it.
    return value.model_dump(mode="json", by_alias=True, warnings=False)


def _literal(key: str) -> str:
    if not key.startswith("$"):
        return key
    quoted = key.replace("\\", "\\\\").replace("'", "\\'")
    return f"$['{quoted}']"
