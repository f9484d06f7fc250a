"""The ``inngest-plugins`` command line.

Sub-commands come from installed packages (entry points of the group
``inngest_plugins.commands``); this package holds the program itself, the app loader that several
of them share, and the commands ``run`` and ``doctor``.
"""

from ._errors import AppLoadError, CliError
from ._main import main
from .apps.loading import App, load_app
from .streams.reading import read_json, read_text

__all__ = [
    "App",
    "AppLoadError",
    "CliError",
    "load_app",
    "main",
    "read_json",
    "read_text",
]
