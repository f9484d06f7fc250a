"""Recognises encrypted payloads by the mark that every format of them carries."""

from __future__ import annotations

import typing

_MARK: typing.Final = "__ENCRYPTED__"
"""Of the official middlewares and of `inngest_plugins.encryption`."""


def is_sealed_value(value: object) -> bool:
    """Whether a JSON value is encrypted."""
    return isinstance(value, dict) and typing.cast("dict[str, object]", value).get(_MARK) is True


def is_sealed_text(text: str) -> bool:
    """Whether the message or the stack of an error is encrypted."""
    return text.startswith("{") and f'"{_MARK}"' in text[:40]
