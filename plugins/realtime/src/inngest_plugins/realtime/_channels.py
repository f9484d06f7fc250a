"""`Channel` and `Topic`: typed channels, for publishers and subscribers."""

from __future__ import annotations

import string
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, Generic, TypeVar, get_type_hints, overload
from urllib.parse import quote

import pydantic

from inngest_plugins.core import TypedJson

from ._errors import ChannelDefinitionError, ChannelParameterError

T = TypeVar("T")

_PLAIN: Final = (str, int, uuid.UUID)


class Topic(Generic[T]):
    """A topic of a channel, declared in the channel's class.

    Args:
        type_: what its messages are: a Pydantic model, or any other type that Pydantic knows.
        name: its name, if that is not a Python name; the attribute's otherwise.
        plaintext: whether its messages may leave in the clear although the stack keeps payloads
            secret. Subscribers, and the engine, read them.

    Raises:
        ChannelDefinitionError: Pydantic does not know the type, or an option has a wrong one.
    """

    __slots__ = ("json", "name", "plaintext")

    def __init__(self, type_: type[T], *, name: str | None = None, plaintext: bool = False) -> None:
        try:
            self.json: TypedJson[T] = TypedJson(type_)
        except Exception as err:
            raise ChannelDefinitionError(
                f"Topic({getattr(type_, '__name__', type_)}): no type that Pydantic knows"
            ) from err
        if name is not None and not isinstance(name, str):
            raise ChannelDefinitionError(f"Topic(name=...) is a text, not {type(name).__name__}")
        if not isinstance(plaintext, bool):
            raise ChannelDefinitionError("Topic(plaintext=...) is True or False")
        self.name = "" if name is None else name
        self.plaintext = plaintext

    def __set_name__(self, owner: type, name: str) -> None:
        if not self.name:
            self.name = name

    @overload
    def __get__(self, channel: None, owner: type) -> Topic[T]: ...
    @overload
    def __get__(self, channel: Channel, owner: type) -> ChannelTopic[T]: ...
    def __get__(self, channel: Channel | None, owner: type) -> Topic[T] | ChannelTopic[T]:
        return self if channel is None else ChannelTopic(channel, self)

    def __repr__(self) -> str:
        return f"<Topic {self.name!r}>"


class ChannelTopic(Generic[T]):
    """A topic of one channel, to publish to and to listen to.

    Attributes:
        channel: the channel.
        topic: the topic.
    """

    __slots__ = ("channel", "topic")

    def __init__(self, channel: Channel, topic: Topic[T]) -> None:
        self.channel = channel
        self.topic = topic

    @property
    def name(self) -> str:
        """The topic's name."""
        return self.topic.name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChannelTopic):
            return NotImplemented
        mine, theirs = (self.channel, self.name), (other.channel, other.name)
        return mine == theirs

    def __hash__(self) -> int:
        return hash((self.channel, self.name))

    def __repr__(self) -> str:
        return f"<topic {self.name!r} of channel {self.channel.name!r}>"


class Channel:
    """A channel with its topics.

    The class names it, with the parameters in braces; an object is one channel. An annotation
    gives a parameter a type; without one it is a text, an int or a UUID. In values
    everything but letters, digits, `_`, `.`, `-` and `~` is escaped (RFC 3986, section 2.3), so
    that no value makes the name of another channel.

    Args:
        **parameters: a value for each parameter of the name.

    Raises:
        ChannelParameterError: one is missing, unknown, empty or not of its type.

    Example:
        ```python
        class OrderChannel(Channel, name="order:{order_id}"):
            order_id: int
            progress = Topic(Progress)
            log = Topic(str)

        OrderChannel(order_id=42).progress
        ```
    """

    _pattern: ClassVar[str | None] = None
    _parameters: ClassVar[Mapping[str, pydantic.TypeAdapter[Any] | None]] = {}
    _topics: ClassVar[Mapping[str, Topic[Any]]] = {}

    def __init_subclass__(cls, *, name: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if name is not None:
            cls._pattern = name
            cls._parameters = _parameters_of(cls, name)
        topics: dict[str, Topic[Any]] = {}
        for base in reversed(cls.__mro__):
            for attribute, value in vars(base).items():
                if isinstance(value, Topic):
                    _check_topic(cls, attribute, value, topics)
                    topics[value.name] = value
        cls._topics = topics

    def __init__(self, **parameters: Any) -> None:
        cls = type(self)
        if cls._pattern is None:
            raise ChannelDefinitionError(
                f"{cls.__name__} has no name: class {cls.__name__}(Channel, name=...)"
            )
        missing = [name for name in cls._parameters if name not in parameters]
        unknown = [name for name in parameters if name not in cls._parameters]
        if missing or unknown:
            raise ChannelParameterError(
                f"{cls.__name__} takes {_listed(cls._parameters)}"
                + (f"; missing: {_listed(missing)}" if missing else "")
                + (f"; unknown: {_listed(unknown)}" if unknown else "")
            )
        written = {
            name: _written(cls.__name__, name, adapter, parameters[name])
            for name, adapter in cls._parameters.items()
        }
        self._name = cls._pattern.format_map(written)

    @property
    def name(self) -> str:
        """The channel's name at the engine."""
        return self._name

    def topics(self, names: Iterable[str | ChannelTopic[Any]] | None = None) -> list[str]:
        """Return the names of topics of this channel.

        Args:
            names: which ones; None for all.

        Raises:
            ChannelParameterError: it is no list, or the channel has no such topic.
        """
        known = self._topics
        if names is None:
            return list(known)
        given: object = names
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ChannelParameterError('topics are a list of names, as in ["progress"]')
        wanted = [each.name if isinstance(each, ChannelTopic) else each for each in names]
        unknown = [each for each in wanted if each not in known]
        if unknown or not wanted:
            raise ChannelParameterError(
                f"{type(self).__name__} has the topics {_listed(known)}, not {_listed(unknown)}"
            )
        return list(dict.fromkeys(wanted))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"


def _parameters_of(cls: type[Channel], name: str) -> dict[str, pydantic.TypeAdapter[Any] | None]:
    if not name:
        raise ChannelDefinitionError(f"{cls.__name__}: a channel's name is not empty")
    found: dict[str, pydantic.TypeAdapter[Any] | None] = {}
    try:
        parts = list(string.Formatter().parse(name))
    except ValueError as err:
        raise ChannelDefinitionError(f"{cls.__name__}: the name {name!r}: {err}") from None
    hints = _hints_of(cls)
    for _, field, spec, conversion in parts:
        if field is None:
            continue
        if not field.isidentifier() or spec or conversion or field in found:
            raise ChannelDefinitionError(
                f"{cls.__name__}: the name {name!r} has each parameter once, as a Python name in "
                "braces"
            )
        found[field] = pydantic.TypeAdapter(hints[field]) if field in hints else None
    return found


def _hints_of(cls: type[Channel]) -> dict[str, Any]:
    try:
        return get_type_hints(cls, include_extras=True)
    except Exception as err:
        raise ChannelDefinitionError(
            f"{cls.__name__}: an annotation uses a name that its module does not have "
            f"({type(err).__name__})"
        ) from None


def _check_topic(
    cls: type[Channel], attribute: str, topic: Topic[Any], others: Mapping[str, Topic[Any]]
) -> None:
    if attribute in vars(Channel):
        raise ChannelDefinitionError(
            f"{cls.__name__}: a topic cannot be the attribute {attribute!r}, which every channel "
            f"has: write line = Topic(..., name={attribute!r})"
        )
    if topic.name in others and others[topic.name] is not topic:
        raise ChannelDefinitionError(f"{cls.__name__} has two topics named {topic.name!r}")


def _written(
    channel: str, name: str, adapter: pydantic.TypeAdapter[Any] | None, value: object
) -> str:
    if adapter is not None:
        try:
            value = adapter.validate_python(value)
        except pydantic.ValidationError as err:
            why = err.errors(include_input=False, include_url=False, include_context=False)[0]
            raise ChannelParameterError(f"{channel}({name}=...): {why['type']}") from None
    if not isinstance(value, _PLAIN) or isinstance(value, bool):
        raise ChannelParameterError(
            f"{channel}({name}=...) is a text, an int or a UUID, not {type(value).__name__}"
        )
    try:
        text = quote(_text_of(value), safe="")
    except ValueError as err:  # a lone surrogate, or more digits than Python writes
        raise ChannelParameterError(
            f"{channel}({name}=...) cannot be written ({type(err).__name__})"
        ) from None
    if not text:
        raise ChannelParameterError(f"{channel}({name}=...) is empty")
    return text


def _text_of(value: str | int | uuid.UUID) -> str:
    # Of a member of an enum the value: its `str()` is its name, on some versions of Python.
    if isinstance(value, str):
        return str.__str__(value)
    return int.__repr__(value) if isinstance(value, int) else str(value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
