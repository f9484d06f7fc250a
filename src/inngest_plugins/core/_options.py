"""The one check of options that are switched on and off."""

from __future__ import annotations


def check_switch(option: str, value: object, allowed: str = "True or False") -> None:
    """Refuse what is no bool: the text "false" would count as True.

    Args:
        option: the option as the message shows it, such as "SentryPlugin(crons=...)".
        value: what was given for it.
        allowed: what may be given, for the message.

    Raises:
        TypeError: names the option and the type of what was given.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{option} is {allowed}, not {type(value).__name__}")
