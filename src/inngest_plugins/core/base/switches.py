"""The one check of options that are switched on and off."""

from __future__ import annotations


def check_switch(
    option: str,
    value: object,
    allowed: str = "True or False",
    *,
    error: type[Exception] = TypeError,
) -> None:
    """Refuse a value that is not a bool: the text "false" would count as True.

    Args:
        option: the option as the message shows it, such as "SentryPlugin(crons=...)".
        value: what was given for it.
        allowed: what may be given, for the message.
        error: the class to raise, for a plugin with an error of its own.

    Raises:
        TypeError: names the option and what was given. Of the class `error`, where that is given.
    """
    if not isinstance(value, bool):
        given = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise error(f"{option} is {allowed}, not {given}")
