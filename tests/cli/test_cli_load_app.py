"""Finding the client and the functions of a user's app."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pathlib
import sys
import typing

import inngest
import pytest

from inngest_plugins.cli import AppLoadError, load_app

if typing.TYPE_CHECKING:
    from .conftest import WriteApp

CLIENT = 'import inngest\nclient = inngest.Inngest(app_id="a")\n'
FUNCTION = """
@client.create_function(fn_id="{0}", trigger=inngest.TriggerEvent(event="{0}"))
async def {0}(ctx):
    return None
"""


def ids(target: str) -> list[str]:
    return [function.local_id for function in load_app(target).functions]


def error_of(target: str) -> str:
    with pytest.raises(AppLoadError) as caught:
        load_app(target)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_file_gives_its_client_and_functions(write_app: WriteApp) -> None:
    """A file is imported and its module-level functions are found in order of definition."""
    path = write_app(CLIENT + FUNCTION.format("one") + FUNCTION.format("two"))
    app = load_app(path)
    assert isinstance(app.client, inngest.Inngest)
    assert [function.id for function in app.functions] == ["a-one", "a-two"]
    assert (app.name, app.client_name, app.served) == (path, "client", False)
    assert dataclasses.is_dataclass(app)
    with pytest.raises(dataclasses.FrozenInstanceError):
        app.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "holder", ["[one, one]", "(one,)", "{one}", "frozenset({one})", '{"one": one}']
)
def test_functions_in_a_container_are_found_once(write_app: WriteApp, holder: str) -> None:
    """Functions in lists, tuples, sets and dicts count, each once."""
    source = CLIENT + "def make():\n" + FUNCTION.format("one").replace("\n", "\n    ")
    assert ids(write_app(source + f"\n    return one\none = make()\nall_of_them = {holder}\n")) == [
        "one"
    ]


def test_functions_of_other_clients_are_left_out(write_app: WriteApp) -> None:
    """Only functions that the chosen client made are its functions."""
    other = 'mine = client\nclient = inngest.Inngest(app_id="b")\n'
    path = write_app(CLIENT + FUNCTION.format("one") + other + FUNCTION.format("two"))
    assert ids(f"{path}:mine") == ["one"]
    assert ids(f"{path}:client") == ["two"]


def test_what_serve_was_given_wins(write_app: WriteApp) -> None:
    """The functions passed to serve() are the app's, also those that no module holds."""
    source = f"""
import fastapi
import inngest.fast_api
{CLIENT}
def build():
    {FUNCTION.format("one").replace(chr(10), chr(10) + "    ")}
    return [one]
{FUNCTION.format("forgotten")}
app = fastapi.FastAPI()
inngest.fast_api.serve(app, client, build())
"""
    app = load_app(write_app(source))
    assert [function.local_id for function in app.functions] == ["one"]
    assert app.served
    assert app.client_name == "client"


def test_serve_is_captured_in_flask_and_given_back(write_app: WriteApp) -> None:
    """serve() is only wrapped while the app is imported, whatever the framework."""
    had_django = "django" in sys.modules
    source = f"""
import flask
from inngest.flask import serve
{CLIENT}
@client.create_function(fn_id="one", trigger=inngest.TriggerEvent(event="one"))
def one(ctx):
    return None
clients = {{"hidden": client}}
serve(flask.Flask("x"), clients["hidden"], functions=[one])
del client
"""
    app = load_app(write_app(source))
    assert [function.local_id for function in app.functions] == ["one"]
    assert app.client_name is None
    import inngest.flask

    assert not hasattr(inngest.flask.serve, "__wrapped__")
    assert ("django" in sys.modules) is had_django


def test_a_file_of_a_package_is_imported_with_its_package(write_app: WriteApp) -> None:
    """Relative imports of a package's file work, and its outermost folder is what counts."""
    write_app("", "outer_pkg/__init__.py")
    write_app(CLIENT, "outer_pkg/base.py")
    path = write_app(
        "import inngest\nfrom .base import client\n" + FUNCTION.format("one"), "outer_pkg/app.py"
    )
    assert ids(path) == ["one"]
    assert load_app(path).module.__name__ == "outer_pkg.app"


def test_a_package_is_named_by_its_init_file(write_app: WriteApp) -> None:
    """``package/__init__.py`` is the package itself."""
    path = write_app(CLIENT + FUNCTION.format("one"), "whole_pkg/__init__.py")
    assert ids(path) == ["one"]
    assert load_app(path).module.__name__ == "whole_pkg"


def test_a_taken_package_name_is_explained(
    write_app: WriteApp, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """A package whose name another one has already is refused, naming the other."""
    write_app("", "json/__init__.py")
    path = write_app(CLIENT, "json/decoder.py")
    assert "that name is taken by" in error_of(path)


def test_siblings_may_import_the_app_back(write_app: WriteApp) -> None:
    """A module beside the file may import the file by its name while it is being imported."""
    write_app(
        "import inngest\nfrom circular_app import client\n" + FUNCTION.format("one"), "fns.py"
    )
    path = write_app(CLIENT + "import fns\none = fns.one\n", "circular_app.py")
    assert ids(path) == ["one"]
    assert load_app(path).module is sys.modules["circular_app"]


def test_a_file_may_have_the_name_of_a_loaded_module(write_app: WriteApp) -> None:
    """A file that is called like a loaded module is imported, and does not take its place."""
    path = write_app(CLIENT + FUNCTION.format("one"), "json.py")
    assert ids(path) == ["one"]
    assert sys.modules["json"] is json


def test_a_module_is_found_in_the_current_folder(
    write_app: WriteApp, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """A module is imported by name from the folder one stands in."""
    write_app(CLIENT + FUNCTION.format("one"), "by_name.py")
    monkeypatch.chdir(tmp_path)
    assert ids("by_name") == ["one"]
    assert ids("by_name:client") == ["one"]


def test_a_client_may_be_an_attribute_of_an_object(write_app: WriteApp) -> None:
    """The name after the colon may have dots."""
    path = write_app(CLIENT + FUNCTION.format("one") + "class Box: inner = client\n")
    assert ids(f"{path}:Box.inner") == ["one"]


def test_several_clients_need_a_choice(write_app: WriteApp) -> None:
    """With several clients the error says how to choose one."""
    path = write_app(CLIENT + 'second = inngest.Inngest(app_id="b")\n')
    message = error_of(path)
    assert message == f"{path} has 2 clients: say which one, {path}:client or {path}:second"


def test_one_client_with_two_names_is_one(write_app: WriteApp) -> None:
    """The same client under two names is no choice."""
    assert ids(write_app(CLIENT + "alias = client\n" + FUNCTION.format("one"))) == ["one"]


def test_the_served_one_of_several_clients_is_chosen(write_app: WriteApp) -> None:
    """Of several clients the one that was served is meant."""
    source = (
        f'import fastapi, inngest.fast_api\n{CLIENT}spare = inngest.Inngest(app_id="b")\n'
        + FUNCTION.format("one")
        + "inngest.fast_api.serve(fastapi.FastAPI(), client, [one])\n"
    )
    assert ids(write_app(source)) == ["one"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\n", "has no client"),
        (CLIENT, "has no functions of app 'a'"),
        (CLIENT, "name the module that defines or imports them"),
        ("import not_there\n", "importing app.py failed: ModuleNotFoundError"),
        ("\n\n1 / 0\n", "ZeroDivisionError: division by zero ("),
        ("def f(:\n", "SyntaxError"),
        ("import sys\nsys.exit(3)\n", "it ends the process (sys.exit)"),
        ("raise RuntimeError\n", "RuntimeError ("),
    ],
)
def test_an_app_that_cannot_be_used_is_explained(
    write_app: WriteApp, source: str, expected: str
) -> None:
    """Whatever is wrong with an app is told in one line that names the place."""
    message = error_of(write_app(source))
    assert expected in message
    if "division" in message:
        assert "app.py, line 3)" in message


def test_an_app_that_lacks_its_signing_key_is_told_what_to_set(
    write_app: WriteApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's error of a client in production mode has no text of its own."""
    # Serving goes through the core's record of what is served, which is no line of the app.
    importlib.import_module("inngest_plugins.core.sdk.served")
    for name in ("INNGEST_DEV", "INNGEST_SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    source = (
        'import fastapi, inngest, inngest.fast_api\nclient = inngest.Inngest(app_id="a")\n'
        "inngest.fast_api.serve(fastapi.FastAPI(), client, [])\n"
    )
    message = error_of(write_app(source))
    assert "set INNGEST_SIGNING_KEY, or INNGEST_DEV=1 (" in message
    assert message.endswith("app.py, line 3)")


def test_a_failed_import_leaves_no_module_behind(write_app: WriteApp) -> None:
    """After a failed import the file can be mended and loaded again."""
    path = write_app("1 / 0", "mended.py")
    error_of(path)
    assert "mended" not in sys.modules
    write_app(CLIENT + FUNCTION.format("one"), "mended.py")
    assert ids(path) == ["one"]


def test_targets_that_are_no_app(
    tmp_path: pathlib.Path, write_app: WriteApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing files, folders and nonsense each get their own message."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.py").mkdir()
    assert error_of("missing.py") == "there is no file missing.py"
    assert error_of("").startswith("no app is named: write module:client")
    assert "is a folder" in error_of(str(tmp_path))
    assert "is a folder" in error_of("folder")
    assert "is a folder" in error_of("folder.py")
    assert "there is no module 'no_such_module'" in error_of("no_such_module.app:client")
    assert "there is no module" in error_of("no_such_module")
    assert "write module:client" in error_of("what is this?")
    write_app("import not_there", "imports.py")
    assert "importing imports failed: ModuleNotFoundError" in error_of("imports")
    write_app("1 / 0", "broken.py")
    assert "importing broken failed: ZeroDivisionError" in error_of("broken")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nope", "does not exist"), ("inngest", "is not an inngest.Inngest client")],
)
def test_a_name_that_is_no_client(write_app: WriteApp, name: str, expected: str) -> None:
    """A wrong name after the colon is explained with the names that would do."""
    message = error_of(f"{write_app(CLIENT)}:{name}")
    assert expected in message
    assert "its clients: client" in message
    bare = write_app("import inngest\n", "bare.py")
    assert "it has no client at module level" in error_of(f"{bare}:{name}")
