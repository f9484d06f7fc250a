"""Run the tests on each supported Python that is installed, and on the oldest libraries.

Each environment is made from the lock file. The oldest Python then gets the oldest release that
`pyproject.toml` allows of the SDK and of every other library that the plugins are built on. The
default Python with the newest libraries has its run in `make test`. With `--corners`, as in CI,
two runs stand for all: the oldest Python with the oldest libraries and the newest Python with the
newest, both without what is marked slow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SAME_EVERYWHERE = (
    # Laws of the repository, and the plugins beside each other: each is tested there by itself.
    "tests/repo",
    "tests/typing",
    "tests/examples",
    "tests/composition",
    # What JSON, JSON Schema, arithmetic or a database decides.
    "tests/encryption/test_encryption_strict_json.py",
    "tests/metadata/test_metadata_algebra.py",
    "tests/metadata/test_metadata_interleavings.py",
    "tests/mirror/test_mirror_browser.py",
    "tests/mirror/test_mirror_meanwhile.py",
    "tests/mirror/test_mirror_unharmed.py",
    "tests/validation/test_validation_engines.py",
    "tests/validation/test_validation_safety.py",
    "tests/validation/test_validation_suite.py",
    # Memory and bytes, and the tests that a page of the docs shows.
    "tests/checkpoint/test_checkpoint_long_runs.py",
    "tests/testing/test_testing_docs.py",
)
"""What a corner does not repeat: no release of Python or of the SDK changes it."""

UV = shutil.which("uv") or str(ROOT / ".uv/bin/uv")


NEEDS_NEWER = (
    # Instrumentations of others, which need a newer OpenTelemetry.
    "tests/ai/test_ai_clients.py",
    "tests/otel/test_otel_in_runs.py",
    # The page as the newest Typer writes it.
    "tests/cli/test_cli_reference.py",
)
"""What cannot be tested with the oldest libraries."""

BESIDE_THE_OLDEST = ("click<8.2",)
"""Newer ones warn of what the oldest libraries do."""


def find(version: str) -> str | None:
    """Return an interpreter of this version that works, looking at the PATH and at pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    for candidate in candidates:
        if candidate is None:
            continue
        probe = [str(candidate), "-c", "import sys; print(sys.version_info[:2])"]
        answer = subprocess.run(probe, capture_output=True, text=True, check=False)
        if answer.stdout.strip() == str(tuple(map(int, version.split(".")))):
            return str(candidate)
    return None


def oldest(requirements: Sequence[str], python: str) -> list[str]:
    """Pin each library to the oldest release allowed, where this Python has it."""
    pins: list[str] = []
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if requirement.name == "inngest-plugins" or (
            marker is not None and not marker.evaluate({"python_version": python})
        ):
            continue
        (lowest,) = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        extras = f"[{','.join(requirement.extras)}]" if requirement.extras else ""
        pins.append(f"{requirement.name}{extras}=={lowest}")
    return list(dict.fromkeys(pins))


def run(
    name: str, python: str, *, pins: Sequence[str] = (), tests: Sequence[str] = (), full: bool
) -> bool:
    """Make an environment, run the tests in it, and tell whether they passed.

    Args:
        name: of the environment.
        python: the interpreter.
        pins: releases to install over those of the lock file.
        tests: the folders to run; all by default.
        full: whether to run what is marked slow.
    """
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(ROOT / f".venv-{name}")}
    environment.pop("VIRTUAL_ENV", None)
    sync = [UV, "sync", "--quiet", "--frozen", "--python", python]
    subprocess.run(sync, cwd=ROOT, env=environment, check=True)
    interpreter = ROOT / f".venv-{name}" / "bin" / "python"
    if pins:
        install = [UV, "pip", "install", "--quiet", "--python", str(interpreter)]
        subprocess.run([*install, *pins], cwd=ROOT, env=environment, check=True)
    left_out = [*(() if full else SAME_EVERYWHERE), *(NEEDS_NEWER if pins else ())]
    selection = [] if full else ["-m", "not slow"]
    print(f"== {name}", flush=True)
    ended = subprocess.run(
        [
            str(interpreter),
            "-m",
            "pytest",
            "-q",
            "--numprocesses",
            "auto",
            *(f"--ignore={path}" for path in left_out),
            *selection,
            *tests,
        ],
        cwd=ROOT,
        env=environment,
        check=False,
    )
    return ended.returncode == 0


def main() -> int:
    """Run the matrix."""
    gone = [path for path in (*SAME_EVERYWHERE, *NEEDS_NEWER) if not (ROOT / path).exists()]
    if gone:
        sys.exit(f"matrix.py names tests that are not there: {', '.join(gone)}")
    corners = "--corners" in sys.argv[1:]
    default = f"{sys.version_info.major}.{sys.version_info.minor}"
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    every = [*project["dependencies"], *chain.from_iterable(extras.values())]
    newest = [python for python in PYTHONS if python not in (default, PYTHONS[0])]
    runs: list[tuple[str, str, list[str], list[str]]] = [
        (
            f"Python {PYTHONS[0]} with the oldest libraries",
            PYTHONS[0],
            [*oldest(every, PYTHONS[0]), *BESIDE_THE_OLDEST],
            [],
        ),
        *(
            (f"Python {python}", python, [], [])
            for python in (newest[-1:] if corners else (PYTHONS[0], *newest))
        ),
        # The oldest Python has no release of Pydantic AI that is new enough.
        (
            f"Python {default} with the oldest Pydantic AI",
            default,
            oldest(extras["agents"], default),
            ["tests/agents"],
        ),
    ]
    failed: list[str] = []
    for name, python, pins, tests in runs:
        interpreter = sys.executable if python == default else find(python)
        if interpreter is None or (tests and not pins):
            print(f"== {name}: not installed here, skipped", flush=True)
        elif not run(
            name.lower().replace(" ", "-"), interpreter, pins=pins, tests=tests, full=not corners
        ):
            failed.append(name)
    if failed:
        print("failed: " + ", ".join(failed))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
