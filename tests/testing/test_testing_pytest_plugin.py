"""The pytest plugin, as other projects meet it."""

from __future__ import annotations

import pathlib
import subprocess
import sys


def pytest_in(folder: pathlib.Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(source, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_fixture_is_listed(tmp_path: pathlib.Path) -> None:
    """``pytest --fixtures`` shows the fixture with its first line."""
    ended = pytest_in(tmp_path, "", "--fixtures")
    assert "inngest_engine [session scope]" in ended.stdout
    assert "Makes engines: use it in" in ended.stdout


def test_projects_that_do_not_use_it_pay_nothing(tmp_path: pathlib.Path) -> None:
    """Loading the pytest plugin imports neither the SDK nor the engine."""
    source = """
import sys

def test_nothing_was_imported():
    assert "inngest_plugins.testing.plugin" in sys.modules
    for name in ("inngest", "httpx", "fastapi", "rich", "pydantic", "inngest_plugins.core"):
        assert name not in sys.modules, name
"""
    ended = pytest_in(tmp_path, source, "-W", "error")
    assert ended.returncode == 0, ended.stdout


def test_the_setting_puts_clients_into_dev_mode(tmp_path: pathlib.Path) -> None:
    """``inngest_dev = true`` sets INNGEST_DEV before test modules are imported, and only then."""
    source = """
import inngest
client = inngest.Inngest(app_id="a")

def test_mode():
    assert client.is_production is False
"""
    environment_free = pytest_in(tmp_path, source)
    assert environment_free.returncode == 1
    (tmp_path / "pytest.ini").write_text("[pytest]\ninngest_dev = true\n", "utf-8")
    assert pytest_in(tmp_path, source).returncode == 0
