"""`metadata.typed`: reads and writes through a Pydantic model."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import pydantic
from typing_extensions import Self

from inngest_plugins.core import class_name

from ._errors import MetadataValueError
from ._keys import render
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
    model; the message names the fields and repeats no value. So does the constructor for what is
    no class of Pydantic's `BaseModel`.
    """

    def __init__(self, model: type[ModelT], through: ReadWrite, kind: str | None) -> None:
        given: object = model
        if not (isinstance(given, type) and issubclass(given, pydantic.BaseModel)):
            shown = f"the class {given.__name__}" if isinstance(given, type) else class_name(given)
            raise MetadataValueError(
                f"metadata.typed(...) takes a class of pydantic.BaseModel, not {shown}"
            )
        self._model = model
        self._through = through
        self._kind = kind

    def get(self) -> ModelT:
        """Return what is recorded; fields that are not take their defaults."""
        return self._validate(self._through.current(kind=self._kind))

    def set(self, value: ModelT) -> Self:
        """Record all fields of a model."""
        asked = _dump(value)
        read = self._validate(asked)
        self._refuse_lost(value, read, asked)
        self._write(_dump(read))
        return self

    def update(self, **changes: object) -> Self:
        """Record some fields, given by field name, if the whole still fits the model."""
        before = _dump(self.get())
        unknown = sorted(set(changes) - set(self._model.model_fields))
        if unknown:
            raise MetadataValueError(
                f"metadata: {self._model.__name__} has no field {', '.join(map(repr, unknown))}"
            )
        updated = self.get().model_copy(update=dict(changes))
        self._changed(before, updated, always=self._names(changes))
        return self

    @contextlib.contextmanager
    def edit(self) -> Iterator[ModelT]:
        """Yield the model for changes; at the end of the block what changed is recorded.

        Nothing is recorded when the block raises or the result does not fit the model.
        """
        value = self.get()
        before = _dump(value)
        yield value
        self._changed(before, value, always=())

    def _changed(self, before: Document, value: ModelT, *, always: tuple[str, ...]) -> None:
        asked = _dump(value)
        read = self._validate(asked)
        after = _dump(read)

        def is_new(key: str, item: Json) -> bool:
            return key in always or key not in before or not same(before[key], item)

        self._refuse_lost(value, read, [key for key, item in asked.items() if is_new(key, item)])
        recorded = self._through.current(kind=self._kind)
        gone = [key for key in before if key not in after and key in recorded]
        if gone:
            self._through.delete(*(render((key,)) for key in gone), kind=self._kind)
        self._write({key: item for key, item in after.items() if is_new(key, item)})

    def _refuse_lost(self, value: ModelT, read: ModelT, written: Collection[str]) -> None:
        """Refuse fields that would not be read back as they are: what is written hides them."""
        for name, item in value.model_dump(warnings=False).items():
            if name not in self._model.model_fields:
                continue
            (key,) = self._names([name])
            if key not in written:
                continue
            field = f"metadata: {self._model.__name__}.{name}"
            if _hides(item):
                raise MetadataValueError(
                    f"{field} holds a secret, which is shown as stars and recorded as that: "
                    "metadata is there to be seen, so record nothing secret"
                )
            if name not in read.model_fields_set and getattr(read, name) != getattr(value, name):
                raise MetadataValueError(
                    f"{field} is written as {key!r}, and not read from there: give it one alias "
                    "for both"
                )

    def _names(self, changes: Iterable[str]) -> tuple[str, ...]:
        fields = self._model.model_fields
        return tuple(
            fields[name].serialization_alias or fields[name].alias or name for name in changes
        )

    def _write(self, values: Document) -> None:
        if values:
            by_path = {render((key,)): value for key, value in values.items()}
            self._through.update(by_path, kind=self._kind)

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


def _hides(value: object) -> bool:
    """Return whether a field's value holds a `SecretStr` or its kin, unless that is empty."""
    if isinstance(value, Mapping):
        members: Mapping[object, object] = value
        return any(_hides(each) for pair in members.items() for each in pair)
    if isinstance(value, list | tuple | set | frozenset):
        items: Iterable[object] = value
        return any(map(_hides, items))
    reveal = getattr(type(value), "get_secret_value", None)
    return callable(reveal) and bool(reveal(value))
