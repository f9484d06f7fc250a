"""Run the tests on each supported Python that is installed, and on the oldest supported SDK.

Each environment is made from the lock file, so that only the Python and the SDK differ. The
default Python with the newest SDK has its run in `make test`. With `--corners`, as in CI, two runs
stand for all: the oldest Python with the oldest SDK and the newest Python with the newest, both
without what is marked slow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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

OLDEST = (("fetch", "tests/fetch", (3, 10)), ("agents", "tests/agents", (3, 11)))
"""Extras of one library, whose plugins build on it closely: their tests, the Python it needs."""

UV = shutil.which("uv") or str(ROOT / ".uv/bin/uv")


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
            *(() if full else (f"--ignore={path}" for path in SAME_EVERYWHERE)),
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
    gone = [path for path in SAME_EVERYWHERE if not (ROOT / path).exists()]
    if gone:
        sys.exit(f"matrix.py names tests that are not there: {', '.join(gone)}")
    corners = "--corners" in sys.argv[1:]
    default = f"{sys.version_info.major}.{sys.version_info.minor}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest_sdk = project["tool"]["inngest-plugins"]["oldest-sdk"]
    runs: list[tuple[str, str | None]]
    if corners:
        runs = [(PYTHONS[0], oldest_sdk), (PYTHONS[-1], None)]
    else:
        runs = [(python, None) for python in PYTHONS if python != default]
        runs.append((default, oldest_sdk))
    failed: list[str] = []
    for python, sdk in runs:
        name = f"Python {python}" + (f" with inngest {sdk}" if sdk else "")
        interpreter = sys.executable if python == default else find(python)
        if interpreter is None:
            print(f"== {name}: not installed here, skipped", flush=True)
        elif not run(
            name.lower().replace(" ", "-"),
            interpreter,
            pins=[f"inngest=={sdk}"] * bool(sdk),
            full=not corners,
        ):
            failed.append(name)
    # The oldest release of what a plugin builds on; the newest is the one of the lock file.
    for extra, tests, needs in OLDEST:
        (requirement,) = project["project"]["optional-dependencies"][extra]
        library, _, bounds = requirement.partition(";")[0].partition(">=")
        pin = f"{library}=={bounds.partition(',')[0].strip()}.0"
        if sys.version_info < needs:
            print(f"== {pin}: needs Python {needs[0]}.{needs[1]}, skipped", flush=True)
        elif not run(
            pin.replace("==", "-"), sys.executable, pins=[pin], tests=[tests], full=not corners
        ):
            failed.append(pin)
    if failed:
        print("failed: " + ", ".join(failed))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
