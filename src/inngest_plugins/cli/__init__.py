"""The ``inngest-plugins`` command line.

Sub-commands come from installed packages (entry points of the group
``inngest_plugins.commands``); this package holds the program itself, the app loader that several
of them share, and the commands ``run`` and ``doctor``.
"""

from ._app import App, load_app
from ._errors import AppLoadError, CliError, not_json
from ._main import main

__all__ = ["App", "AppLoadError", "CliError", "load_app", "main", "not_json"]
