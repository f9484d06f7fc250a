"""Checks the arguments of the plugin and normalises them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias, cast

from inngest_plugins.core import safe_repr

from .errors import ConfigurationError
from .formats.cipher import Strategy
from .keys.key import Key
from .keys.keyring import KeyRing
from .keys.provider import KeyProvider
from .payloads.payloads import ALL, Fields
from .payloads.provided_keys import ProvidedKeys

Bind = Literal["step", "run"]
Keys: TypeAlias = KeyRing | Key | KeyProvider | str | bytes | Sequence[Key | str | bytes]


def key_source(keys: Keys, fallback: Iterable[Key], strategy: Strategy) -> KeyRing | ProvidedKeys:
    """Make the source of keys from the `keys` argument.

    Raises:
        ConfigurationError: a text or bytes for the format that needs random keys, or something
            that is not a key.
    """
    if isinstance(keys, KeyRing):
        ring = keys
    elif isinstance(keys, Key):
        ring = KeyRing(keys)
    elif isinstance(keys, (str, bytes)):
        ring = KeyRing(_official(keys, strategy))
    elif isinstance(keys, KeyProvider):
        return ProvidedKeys(keys, fallback)
    elif isinstance(keys, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        ring = KeyRing(*(key if isinstance(key, Key) else _official(key, strategy) for key in keys))
    else:
        raise ConfigurationError(
            f"keys must be a KeyRing, a Key or a KeyProvider, not {type(keys).__name__}"
        )
    for key in fallback:
        ring = ring.with_fallback(key)
    return ring


def check_fallback(fallback: Iterable[Key]) -> tuple[Key, ...]:
    """Check `fallback` and return it as a tuple.

    Raises:
        ConfigurationError: something in it is not a key, such as the characters of a text.
    """
    given: object = fallback
    # What is no list at all is named like an item that is no key.
    is_list = isinstance(given, Iterable) and not isinstance(given, Key)
    keys = tuple(fallback) if is_list else (fallback,)
    for key in keys:
        if not isinstance(key, Key):
            raise ConfigurationError(
                "fallback holds keys: Key.official(text), Key.from_text(entry), or those of a "
                f"KeyRing, not {type(key).__name__}"
            )
    return cast("tuple[Key, ...]", keys)


def check_size(name: str, value: object) -> None:
    """Refuse what is not a number of bytes.

    Raises:
        ConfigurationError: names the option.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ConfigurationError(f"{name} must be a positive number of bytes, such as 64 * 2**20")


def check_fields(fields: str | Iterable[str]) -> Fields:
    """Check `event_fields` and return it as a tuple, or as "*".

    Raises:
        ConfigurationError: a field name is not a text, is empty, or can never match, which would
            leave data in the clear.
    """
    if isinstance(fields, str):
        if "," in fields or fields != fields.strip():
            raise ConfigurationError(
                f"event_fields={fields!r} is the name of one field, comma and spaces included: "
                'write several as ("customer", "card")'
            )
        return ALL if fields == ALL else _checked((fields,))
    if not isinstance(fields, Iterable):
        raise ConfigurationError(
            'event_fields is the names of fields, such as ("customer", "card"), or "*", not '
            f"{type(fields).__name__}"
        )
    names = tuple(fields)
    return ALL if ALL in names else _checked(names)


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse a value that an option does not have.

    Raises:
        ConfigurationError: names the option and its values.
    """
    if value not in choices:
        allowed = ", ".join(repr(choice) for choice in choices)
        raise ConfigurationError(f"{name} must be one of {allowed}, not {safe_repr(value)}")


def _checked(names: tuple[str, ...]) -> tuple[str, ...]:
    given: tuple[object, ...] = names
    for name in given:
        if not (isinstance(name, str) and name):
            raise ConfigurationError("event_fields holds names of fields, none of them empty")
        if ALL in name:
            raise ConfigurationError(
                f"event_fields has {name!r}, and there are no patterns of names, so it would "
                'match no field: write the names, or "*" alone for the whole data'
            )
    return tuple(dict.fromkeys(names))


def _official(key: object, strategy: Strategy) -> Key:
    if not isinstance(key, (str, bytes)):
        raise ConfigurationError(f"a key is a Key, str or bytes, not {type(key).__name__}")
    if strategy != "libsodium":
        raise ConfigurationError(
            "a text is not a key for the aes-256-gcm format. Use KeyRing.from_env with a key from "
            "`inngest-plugins keys new`; or Key.from_passphrase to stretch a passphrase; or "
            'strategy="libsodium" to write what the official middlewares write; or '
            "KeyRing(key, Key.official(text)) to read what they wrote"
        )
    return Key.official(key)
