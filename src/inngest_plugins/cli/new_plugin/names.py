"""The names of a new plugin's package, module and class, and which names it refuses."""

from __future__ import annotations

import dataclasses
import importlib.util
import keyword
import re
import sys

from inngest_plugins.cli._errors import CliError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 60
_TAKEN = frozenset({"inngest_plugins", "tests"})
"""Module names that are taken where a new plugin runs, though no search for modules finds them."""


@dataclasses.dataclass(frozen=True)
class PluginNames:
    """The names that follow from the one that the user gave.

    Attributes:
        distribution: What is installed, and the folder: ``slow-steps``.
        package: What is imported: ``slow_steps``.
        class_name: The plugin's class: ``SlowStepsPlugin``.
    """

    distribution: str
    package: str
    class_name: str

    @classmethod
    def of(cls, name: str) -> PluginNames:
        """Derive the names, or say why the name cannot be used.

        Args:
            name: Lower-case words joined by hyphens.

        Raises:
            CliError: The name has another form, or Python or an installed package has it.
        """
        if len(name) > _LONGEST or _NAME.fullmatch(name) is None:
            raise CliError(
                f"{name!r} cannot name a plugin: write lower-case letters and digits, words joined "
                f"by hyphens, a letter first, at most {_LONGEST} characters (slow-steps)"
            )
        package = name.replace("-", "_")
        class_name = "".join(word.capitalize() for word in name.split("-")).removesuffix("Plugin")
        if not class_name:
            raise CliError(f"{name!r} cannot name a plugin: say what it does (slow-steps)")
        if keyword.iskeyword(package) or package in sys.stdlib_module_names:
            raise CliError(f"{name!r} cannot name a plugin: Python itself uses {package!r}")
        if _is_installed(package):
            raise CliError(
                f"{name!r} cannot name a plugin: an installed package is imported as {package!r}"
            )
        return cls(name, package, f"{class_name}Plugin")


def _is_installed(package: str) -> bool:
    found = importlib.util.find_spec(package)
    # A plain folder of that name (a namespace without a file) is not a package.
    return package in _TAKEN or (found is not None and found.origin is not None)
