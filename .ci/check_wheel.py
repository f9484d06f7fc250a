"""Install the built wheel in an empty environment, outside of the checkout, and use it there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "agents",
    "ai",
    "checkpoint",
    "cli",
    "core",
    "defer",
    "encryption",
    "fetch",
    "injection",
    "local",
    "metadata",
    "mirror",
    "otel",
    "realtime",
    "sentry",
    "testing",
    "validation",
)


def main() -> int:
    """Check the wheel's contents, its extras and the demo."""
    (wheel,) = (ROOT / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for package in PACKAGES:
        assert f"inngest_plugins/{package}/py.typed" in names, f"no py.typed in {package}"
        assert f"inngest_plugins/{package}/__init__.py" in names, f"{package} is missing"
    assert "inngest_plugins/__init__.py" not in names, "the namespace must stay one"
    assert not [name for name in names if "tests/" in name], "tests are in the wheel"
    metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    links = re.findall(r"\]\((?!#)([^)\s]+)", text)
    relative = [link for link in links if not link.startswith("https://")]
    assert links, "the wheel's page has no README"
    assert not relative, f"links that break on the package's page: {relative}"

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        binaries = home / "venv" / "bin"
        pip = [str(binaries / "pip"), "install", "--quiet", "--disable-pip-version-check"]

        def use(*command: str) -> str:
            done = subprocess.run(command, cwd=home, check=False, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
            return done.stdout

        use(*pip, str(wheel))
        use(str(binaries / "python"), "-Ic", "import inngest_plugins.core")
        bare = subprocess.run(
            [str(binaries / "python"), "-Ic", "import inngest_plugins.sentry"],
            cwd=home,
            check=False,
            capture_output=True,
            text=True,
        )
        assert 'pip install "inngest-plugins[sentry]"' in bare.stderr, bare.stderr

        use(*pip, f"{wheel}[all,testing]")
        for package in PACKAGES:
            if package == "agents" and sys.version_info < (3, 11):
                continue  # Pydantic AI needs Python 3.11
            use(str(binaries / "python"), "-Ic", f"import inngest_plugins.{package}")
        shop = home / "shop"
        shutil.copytree(ROOT / "examples" / "shop", shop)
        print(
            use(
                str(binaries / "inngest-plugins"),
                "run",
                str(shop / "app.py"),
                "--event",
                f"@{shop / 'order.json'}",
            )
        )
    print(f"{wheel.name}: contents, extras and demo are fine")
    return 0


if __name__ == "__main__":
    sys.exit(main())
