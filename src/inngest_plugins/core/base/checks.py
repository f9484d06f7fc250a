"""What is checked before a plugin starts: an extra's libraries, switches, times, functions."""

from __future__ import annotations

import importlib.util
import inspect
import sys

from .errors import ArgumentError, MissingExtraError
from .safe_text import safe_repr


def require_extra(extra: str, *modules: str) -> None:
    """Check that the third-party modules of an extra are importable.

    The first statement of a plugin's `__init__`, before anything of the library is imported.

    Args:
        extra: name of the extra in `inngest-plugins[...]`.
        *modules: top-level or dotted module names that the extra installs.

    Raises:
        MissingExtraError: names the missing modules and the `pip install` line that mends it.
    """
    missing = [name for name in modules if not _is_importable(name)]
    if missing:
        be = "is" if len(missing) == 1 else "are"
        raise MissingExtraError(
            f"inngest_plugins.{extra.replace('-', '_')} needs {', '.join(missing)}, which {be} not "
            f'installed. Install it with: pip install "inngest-plugins[{extra}]"',
            name=missing[0],
        )


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        # find_spec imports the parents of a dotted name, and refuses a None in sys.modules.
        return False


def check_switch(
    option: str,
    value: object,
    allowed: str = "True or False",
    *,
    error: type[Exception] = ArgumentError,
) -> None:
    """Refuse a value that is not a bool: the text "false" would count as True.

    Args:
        option: the option as the message shows it, such as "SentryPlugin(crons=...)".
        value: what was given for it.
        allowed: what may be given, for the message.
        error: the class to raise, for a plugin with an error of its own.

    Raises:
        ArgumentError: names the option and what was given. Of the class `error`, where given.
    """
    if not isinstance(value, bool):
        raise error(f"{option} is {allowed}, not {_kind(value)}")


def check_seconds(
    option: str,
    value: object,
    allowed: str = "a number of seconds above 0",
    *,
    error: type[Exception] = ArgumentError,
) -> float:
    """Refuse what is not a length of time: a text, 0, NaN, an infinity.

    Args:
        option: the option as the message shows it, such as "SentryPlugin(flush_timeout=...)".
        value: what was given for it.
        allowed: what may be given, for the message.
        error: the class to raise, for a plugin with an error of its own.

    Returns:
        The seconds.

    Raises:
        ArgumentError: it is no number, not above 0, or not finite. Of the class `error`, where
            given.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise error(f"{option} is {allowed}, not {_kind(value)}")
    # A larger integer cannot be made a float.
    if not 0 < value <= sys.float_info.max:
        raise error(f"{option} is {allowed}, not {safe_repr(value)}")
    return float(value)


def check_function(
    option: str,
    value: object,
    takes: str = "a function",
    *,
    error: type[Exception] = ArgumentError,
) -> None:
    """Refuse what cannot be called, and an async function, which nobody would await.

    Args:
        option: the option as the message shows it, such as "MirrorPlugin(tenant=...)".
        value: what was given for it.
        takes: what may be given, for the message.
        error: the class to raise, for a plugin with an error of its own.

    Raises:
        ArgumentError: names the option and what was given. Of the class `error`, where given.
    """
    if not callable(value):
        raise error(f"{option} is {takes}, not {_kind(value)}")
    # An object's method, and not that of a class, which makes an object.
    called = getattr(type(value), "__call__", None)  # noqa: B004 - looked at, not whether it is there
    if any(map(inspect.iscoroutinefunction, (value, called))):
        raise error(f"{option} is {takes}; this one is async: make it a plain def")


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
