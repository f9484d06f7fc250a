"""The index of errors: each public error class with its cause and what to do."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

import inngest_plugins
from inngest_plugins.core import PluginsError

MENDS = Path(__file__).resolve().parents[2] / "docs" / "errors.toml"


@dataclass(frozen=True)
class PublicError:
    """An error that users can meet.

    Attributes:
        package: name of the package below `inngest_plugins`.
        error: the class.
    """

    package: str
    error: type[BaseException]

    @property
    def is_base(self) -> bool:
        """Whether the class only groups others, and is never raised itself."""
        return (self.error.__doc__ or "").startswith("Base of")

    @property
    def causes(self) -> str:
        """The docstring without its sections."""
        text = re.split(r"^(?:Attributes|Args):$", inspect.getdoc(self.error) or "", flags=re.M)[0]
        return text.strip()


def public_errors() -> list[PublicError]:
    """Every public error class, by package; packages whose extra is not installed are left out."""
    found = []
    for module in sorted(each.name for each in pkgutil.iter_modules(inngest_plugins.__path__)):
        try:
            package = importlib.import_module(f"inngest_plugins.{module}")
        except ImportError:
            continue
        for name in sorted(getattr(package, "__all__", ())):
            value = getattr(package, name)
            if inspect.isclass(value) and issubclass(value, Exception):
                found.append(PublicError(module, value))
    return found


def mends() -> dict[str, dict[str, str]]:
    """What to do about each error, by package and class."""
    parsed: dict[str, dict[str, str]] = tomllib.loads(MENDS.read_text("utf-8"))
    return parsed


def error_index() -> str:
    """The index as Markdown, one section for each package and one heading for each class."""
    to_do = mends()
    lines: list[str] = []
    package = ""
    for each in public_errors():
        if each.package != package:
            package = each.package
            lines += [f"## `inngest_plugins.{package}`", ""]
        lines += [f"### `{each.error.__name__}`", ""]
        above = [base.__name__ for base in each.error.__bases__ if base is not Exception]
        if above and each.error is not PluginsError:
            lines += [f"Caught as {', '.join(f'`{name}`' for name in above)} too.", ""]
        lines += [each.causes, ""]
        mend = to_do.get(package, {}).get(each.error.__name__)
        if mend:
            lines += [f"**What to do:** {mend}", ""]
    return "\n".join(lines)
