"""The plugin's options, checked where they are given: later, observers only write to the log."""

from __future__ import annotations


def check_provider(option: str, provider: object, method: str) -> None:
    """Refuse what cannot provide.

    Args:
        option: its name.
        provider: an object, or None for the global one.
        method: what it must have.

    Raises:
        TypeError: names the option and the method.
    """
    if provider is None:
        return
    if isinstance(provider, type) or not callable(getattr(provider, method, None)):
        raise TypeError(
            f"OpenTelemetryPlugin({option}=...) takes an object with {method}(), not "
            f"{_kind_of(provider)}"
        )


def check_switch(option: str, value: object) -> None:
    """Refuse what is neither True nor False: the text "false" would count as True.

    Raises:
        TypeError: names the option.
    """
    if not isinstance(value, bool):
        raise TypeError(
            f"OpenTelemetryPlugin({option}=...) is True or False, not {_kind_of(value)}"
        )


def _kind_of(given: object) -> str:
    if isinstance(given, type):
        return f"the class {given.__name__}"
    return type(given).__name__
