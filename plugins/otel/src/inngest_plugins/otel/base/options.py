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
        kind = type(provider).__name__
        given = f"the class {provider.__name__}" if isinstance(provider, type) else kind
        raise TypeError(
            f"OpenTelemetryPlugin({option}=...) takes an object with {method}(), not {given}"
        )
