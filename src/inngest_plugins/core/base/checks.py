"""What is checked before a plugin starts: the libraries of an extra, options that are on or off."""

from __future__ import annotations

import importlib.util

from .errors import MissingExtraError


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
