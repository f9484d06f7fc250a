"""Run the tests on each supported Python that is installed, and on the oldest supported SDK.

Each environment is made from the lock file, so that only the Python, or only the SDK, differs.
The default Python has its run in `make test`. `MATRIX=full` runs every version in full; otherwise
the oldest and the newest are, and those between without what is marked slow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
UV = shutil.which("uv") or str(ROOT / ".uv/bin/uv")


def find(version: str) -> str | None:
    """Return an interpreter of this version that works, looking at the PATH and at pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    for candidate in candidates:
        if candidate is None:
            continue
        probe = [str(candidate), "-c", "import sys; print(sys.version_info[:2])"]
        told = subprocess.run(probe, capture_output=True, text=True, check=False)
        if told.stdout.strip() == str(tuple(map(int, version.split(".")))):
            return str(candidate)
    return None


def run(name: str, python: str, *, sdk: str | None = None, full: bool) -> bool:
    """Make an environment, run the tests in it, and tell whether they passed."""
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(ROOT / f".venv-{name}")}
    environment.pop("VIRTUAL_ENV", None)
    sync = [UV, "sync", "--quiet", "--frozen", "--python", python]
    subprocess.run(sync, cwd=ROOT, env=environment, check=True)
    interpreter = ROOT / f".venv-{name}" / "bin" / "python"
    if sdk is not None:
        install = [UV, "pip", "install", "--quiet", "--python", str(interpreter)]
        subprocess.run([*install, f"inngest=={sdk}"], cwd=ROOT, env=environment, check=True)
    selection = [] if full else ["-m", "not slow"]
    print(f"== {name}: Python {python}" + (f", inngest {sdk}" if sdk else ""), flush=True)
    tests = subprocess.run(
        [str(interpreter), "-m", "pytest", "-q", "--numprocesses", "auto", *selection],
        cwd=ROOT,
        env=environment,
        check=False,
    )
    return tests.returncode == 0


def main() -> int:
    """Run the matrix."""
    default = f"{sys.version_info.major}.{sys.version_info.minor}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest_sdk = project["tool"]["inngest-plugins"]["oldest-sdk"]
    failed: list[str] = []
    for python in PYTHONS:
        if python == default:
            continue
        interpreter = find(python)
        if interpreter is None:
            print(f"== Python {python}: not installed here, skipped", flush=True)
            continue
        full = os.environ.get("MATRIX") == "full" or python in (PYTHONS[0], PYTHONS[-1])
        if not run(python, interpreter, full=full):
            failed.append(f"Python {python}")
    if not run("oldest-sdk", sys.executable, sdk=oldest_sdk, full=False):
        failed.append(f"inngest {oldest_sdk}")
    if failed:
        print("failed: " + ", ".join(failed))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
