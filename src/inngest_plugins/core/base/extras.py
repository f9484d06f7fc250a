"""The one mechanism by which a plugin says which extra it needs."""

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
