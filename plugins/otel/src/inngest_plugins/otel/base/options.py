"""Checks the plugin's options when it is built, as later errors would only be logged."""

from __future__ import annotations

from inngest_plugins.core import ArgumentError


def check_provider(option: str, provider: object, method: str) -> None:
    """Refuse an object that is not a provider.

    Args:
        option: its name.
        provider: the object, or None for the global one.
        method: the method that it must have.

    Raises:
        ArgumentError: names the option and the method.
    """
    if provider is None:
        return
    if isinstance(provider, type) or not callable(getattr(provider, method, None)):
        kind = type(provider).__name__
        given = f"the class {provider.__name__}" if isinstance(provider, type) else kind
        raise ArgumentError(
            f"OpenTelemetryPlugin({option}=...) takes an object with {method}(), not {given}"
        )
