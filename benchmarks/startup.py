"""What importing the core and each plugin costs, beside importing the SDK and the plugin's library.

Each import is timed in processes of its own, by processor time, and the fastest counts. For the
core that is what it adds to the SDK. For a plugin it is what it adds to the SDK, the core and the
third-party modules that it brings: what they cost is in a column of its own. Bytecode is kept
between the processes, as it is in an app, also where the environment says to keep none: compiling
is not what is measured. The aims, 15 ms for the core and 10 ms for a plugin, are of the machine of
RESULTS.md: on another, compare with what the SDK takes there.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from figures import figure

import inngest_plugins

SDK = "inngest"
CORE = "inngest_plugins.core"
OWN = "inngest_plugins"
AIM_OF_CORE = 0.015
AIM_OF_PLUGIN = 0.010
NOT_PLUGINS = {"base", "core", "cli", "local", "testing"}


class Import(NamedTuple):
    """What importing a module took.

    Attributes:
        seconds: processor time of the fastest process.
        brought: the third-party modules that were new.
    """

    seconds: float
    brought: list[str]


def timed(module: str, before: Sequence[str], runs: int, bytecode: str) -> Import:
    """Import a module in fresh processes, each of which has imported others before.

    Args:
        module: what to import.
        before: what has been imported before.
        runs: how many processes count; one more goes first, which compiles.
        bytecode: the folder in which the processes keep compiled modules.
    """
    command = [sys.executable, __file__, "--child", module]
    env = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    answers = [
        json.loads(subprocess.run(command, input=json.dumps(before), stdout=subprocess.PIPE,
                                  text=True, check=True, env=env).stdout)
        for _ in range(runs + 1)
    ]  # fmt: skip
    return Import(min(answer["seconds"] for answer in answers[1:]), answers[0]["brought"])


def child(module: str) -> None:
    """Time one import, and print what it took and brought."""
    for name in json.loads(sys.stdin.read()):
        # A part that its package makes up cannot be imported by its name.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    known = set(sys.modules)
    started = time.process_time()
    importlib.import_module(module)
    seconds = time.process_time() - started
    brought = [
        name
        for name in sys.modules
        if name not in known and name.partition(".")[0] not in {*sys.stdlib_module_names, OWN}
    ]
    print(json.dumps({"seconds": seconds, "brought": brought}))


def plugins() -> list[str]:
    """Return the packages that are installed beside the core."""
    found: set[str] = set()
    for folder in inngest_plugins.__path__:
        found |= {path.parent.name for path in Path(folder).glob("*/__init__.py")}
    return sorted(found - NOT_PLUGINS)


def row(name: str, own: float, brings: Import | None, sdk: float, aim: float) -> None:
    """Print what one package adds, and whether that is as little as was aimed at."""
    packages = sorted({module.partition(".")[0] for module in brings.brought} if brings else ())
    whole = f"{(brings.seconds if brings else own) * 1e3:>8.1f} ms"
    met = "met" if own <= aim else "NOT met"
    print(
        f"  {name:<14} {own * 1e3:>7.1f} ms (aim {aim * 1e3:.0f}, {met})   x{own / sdk:.3f}"
        f"   with what it brings {whole}: {', '.join(packages) or '-'}"
    )
    figure(f"importing {name}", own * 1e3, "ms", at_most=aim * 1e3)


def main(runs: int, bytecode: str) -> None:
    """Print the table."""
    sdk = timed(SDK, [], runs, bytecode).seconds
    print(f"\nimporting the SDK: {sdk * 1e3:.1f} ms; what is added to that")
    core = timed(CORE, [SDK], runs, bytecode)
    row("core", core.seconds, core, sdk, AIM_OF_CORE)
    for name in plugins():
        whole = timed(f"{OWN}.{name}", [SDK, CORE], runs, bytecode)
        own = timed(f"{OWN}.{name}", [SDK, CORE, *whole.brought], runs, bytecode)
        row(name, own.seconds, whole, sdk, AIM_OF_PLUGIN)


if __name__ == "__main__":
    parser: Any = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child)
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(given.runs, folder)
