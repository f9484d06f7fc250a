"""``inngest-plugins new-plugin``: what it makes works, and what it refuses."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing

import pytest

from inngest_plugins.core import Plugin

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

if typing.TYPE_CHECKING:
    from .conftest import Program, WriteApp

APP = """
import inngest
from night_watch import NightWatchPlugin

client = inngest.Inngest(app_id="d", middleware=[{middleware}])

@client.create_function(fn_id="one", trigger=inngest.TriggerEvent(event="x"))
async def one(ctx): ...
"""


def _python(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder with this environment's packages, as a user would."""
    environment = {name: value for name, value in os.environ.items() if name != "INNGEST_DEV"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture
def made(program: Program, tmp_path: pathlib.Path) -> pathlib.Path:
    """A new plugin's folder."""
    ended = program("new-plugin", "night-watch", "--in", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    return tmp_path / "night-watch"


@pytest.fixture
def installed(made: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The same, importable and with the entry points of its pyproject.toml."""
    project = tomllib.loads((made / "pyproject.toml").read_text("utf-8"))["project"]
    lines: list[str] = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    info = made / "src" / "night_watch-0.1.0.dist-info"
    info.mkdir()
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(about, "utf-8")
    (info / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    monkeypatch.syspath_prepend(str(made / "src"))
    return info


def test_its_tests_pass_at_once(made: pathlib.Path) -> None:
    """They need nothing but what [testing] installs, and emit no warning."""
    ended = _python(made, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 passed" in ended.stdout


def test_its_style_is_clean(made: pathlib.Path) -> None:
    """Lines are formatted, imports sorted, everything documented."""
    rules = "D100,D101,D102,D103,D104,E,F,I,B,UP,ANN"
    checked = _python(made, "-m", "ruff", "check", "--no-cache", "--select", rules)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    formatted = _python(made, "-m", "ruff", "format", "--no-cache", "--check", "-q")
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr


@pytest.mark.slow
def test_its_types_are_strict(made: pathlib.Path) -> None:
    """Mypy, as its pyproject.toml sets it up, finds nothing."""
    ended = _python(made, "-m", "mypy")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_what_is_in_it(made: pathlib.Path) -> None:
    """A handful of files that say the plugin's name, with no blank left in them."""
    files = {
        path.relative_to(made).as_posix(): path.read_text("utf-8")
        for path in made.rglob("*")
        if path.is_file()
    }
    assert sorted(files) == [
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "src/night_watch/__init__.py",
        "src/night_watch/plugin.py",
        "src/night_watch/py.typed",
        "tests/test_night_watch.py",
    ]
    assert not any("$" in text for text in files.values())
    assert "class NightWatchPlugin(Plugin):" in files["src/night_watch/plugin.py"]
    assert [path.name for path in made.parent.iterdir()] == ["night-watch"]


def test_git_sees_its_files_and_nothing_else(made: pathlib.Path) -> None:
    """What tests, checks, builds and a trial leave behind is not committed; neither is a secret."""
    kept = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    left = (
        "src/night_watch/__pycache__/plugin.pyc",
        "src/night_watch.egg-info/PKG-INFO",
        ".pytest_cache/tag",
        ".mypy_cache/tag",
        "dist/night_watch-0.1.0.tar.gz",
        "trial/pyvenv.cfg",
        ".venv/pyvenv.cfg",
        ".env",
    )
    for path in left:
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).touch()
    subprocess.run(["git", "init", "-q"], cwd=made, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"],
        cwd=made,
        check=True,
        capture_output=True,
        text=True,
    )
    assert sorted(listed.stdout.split()) == kept


def test_the_doctor_lists_it(
    installed: pathlib.Path, program: Program, write_app: WriteApp
) -> None:
    """An installed plugin is listed with its package, and whether the app uses it."""
    used = write_app(APP.format(middleware="NightWatchPlugin()"), "used.py")
    unused = write_app(APP.format(middleware=""), "unused.py")
    report = json.loads(program("doctor", used, "--json").out)
    assert report["installed"] == [
        {
            "name": "night-watch",
            "object": "night_watch:NightWatchPlugin",
            "package": "night-watch",
            "version": "0.1.0",
            "in_use": True,
        }
    ]
    line = ("night-watch", "night-watch 0.1.0", "night_watch:NightWatchPlugin")
    assert "  ".join((*line, "in use")) in program("doctor", used).out
    assert "  ".join((*line, "not used by this app")) in program("doctor", unused).out
    assert json.loads(program("doctor", unused, "--json").out)["installed"][0]["in_use"] is False


def test_the_doctor_imports_no_plugin_and_takes_any_entry(
    installed: pathlib.Path, program: Program, app: str
) -> None:
    """A plugin that the app does not use stays unimported; a mistaken entry harms nothing."""
    entries = "[inngest_plugins.plugins]\nbad = night_watch\nevil\x1b = no_module:Thing[x]\n"
    (installed / "entry_points.txt").write_text(entries, "utf-8")
    ended = program("doctor", app)
    assert (ended.code, ended.err) == (0, "")
    assert "not used by this app" in ended.out
    assert "\x1b" not in ended.out
    assert "night_watch" not in sys.modules


def test_the_doctor_lists_none_where_none_is(program: Program, app: str) -> None:
    """Without packages that name plugins there is no list."""
    assert "plugins of installed packages" not in program("doctor", app).out
    assert json.loads(program("doctor", app, "--json").out)["installed"] == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Slow-Steps", "lower-case"),
        ("slow_steps", "lower-case"),
        ("../up", "lower-case"),
        ("2-fast", "a letter first"),
        ("slow--steps", "hyphens"),
        ("slow-", "hyphens"),
        ("", "lower-case"),
        ("a" * 61, "at most 60"),
        ("plugin", "say what it does"),
        ("class", "Python itself uses 'class'"),
        ("json", "Python itself uses 'json'"),
        ("inngest", "imported as 'inngest'"),
        ("inngest-plugins", "imported as 'inngest_plugins'"),
        ("pytest", "imported as 'pytest'"),
        ("tests", "imported as 'tests'"),
    ],
)
def test_names_that_will_not_do(
    program: Program, tmp_path: pathlib.Path, name: str, why: str
) -> None:
    """The message says why; nothing is made."""
    ended = program("new-plugin", name, "--in", tmp_path)
    assert ended.code == 2
    assert why in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "broken link"])
def test_what_is_there_is_left_alone(program: Program, tmp_path: pathlib.Path, kind: str) -> None:
    """Whatever has the name already stays as it is."""
    there = tmp_path / "night-watch"
    if kind == "folder":
        there.mkdir()
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to(tmp_path / "nowhere")
    ended = program("new-plugin", "night-watch", "--in", tmp_path)
    assert ended.code == 2
    assert "is there already" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["night-watch"]
    assert not there.is_dir() or list(there.iterdir()) == []


def test_a_parent_that_is_missing_or_full(
    program: Program, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No parent, or a disk that fails half-way: one line, and nothing is left behind."""
    ended = program("new-plugin", "night-watch", "--in", tmp_path / "no")
    assert (ended.code, "there is no folder" in ended.err) == (2, True)
    real = pathlib.Path.write_text

    def full(self: pathlib.Path, *args: typing.Any) -> int:
        if self.suffix == ".py":
            raise OSError(28, "No space left on device")
        return real(self, *args)

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    ended = program("new-plugin", "night-watch", "--in", tmp_path)
    assert ended.code == 2
    assert "cannot make" in ended.err
    assert "No space left on device" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["audit", "audit-plugin", "x2-y3"])
def test_the_class_has_the_name_of_the_package(
    program: Program, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A package that is called a plugin does not make a class that says so twice."""
    assert program("new-plugin", name, "--in", tmp_path).code == 0
    monkeypatch.syspath_prepend(str(tmp_path / name / "src"))
    module = __import__(name.replace("-", "_"))
    (class_name,) = module.__all__
    plugin = getattr(module, class_name)
    assert class_name in ("AuditPlugin", "X2Y3Plugin")
    assert issubclass(plugin, Plugin)
    assert plugin.name == name
