"""Finds a user's app: the client and the functions behind ``module:client`` or ``path.py``."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import pathlib
import re
import sys
import traceback
import types
import typing
from collections.abc import Iterable, Mapping

import inngest

import inngest_plugins
from inngest_plugins.cli._errors import AppLoadError

from .serve_capture import Served, capture_served

AnyFunction = inngest.Function[typing.Any]

_PATH = re.compile(r"(?P<path>.+\.py)(?::(?P<attribute>[^:/\\]+))?")
_MODULE = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*)(?::(?P<attribute>.+))?")


@dataclasses.dataclass(frozen=True)
class App:
    """A user's app, loaded.

    Attributes:
        client: The Inngest client.
        functions: Its functions, in the order in which the app lists or defines them.
        name: The argument of the user, for messages: ``"examples/shop/app.py"``.
        module: The module the app was found in.
        client_name: What the module calls the client; None when only ``serve()`` knew it.
        served: Whether the functions are those the app passed to ``serve()``; False when they
            were found by looking at the module.
    """

    client: inngest.Inngest
    functions: tuple[AnyFunction, ...]
    name: str
    module: types.ModuleType
    client_name: str | None
    served: bool


def load_app(target: str) -> App:
    """Import an app and find its client and functions.

    The client is the one named after the colon, else the only one that the module has or passes
    to ``serve()``. The functions are those passed to ``serve()`` with that client; when the app
    does not call ``serve()`` at import, every ``inngest.Function`` of that client that the module
    holds, by itself or in a list, tuple, set or dict.

    The folder of a file (of its outermost package, if it is part of one) goes to the front of
    ``sys.path``, and the current folder when a module is named: what ``python path.py`` and
    ``python -m module`` would do.

    Args:
        target: ``module``, ``module:client``, ``path.py`` or ``path.py:client``.

    Raises:
        AppLoadError: Nothing is named, no such file or module, the import failed, no client or
            several to choose from, no functions. The message is one line; the cause is chained.
    """
    if not target:
        # The path "" is the current folder.
        raise AppLoadError("no app is named: write module:client or path/to/file.py[:client]")
    path_match = _PATH.fullmatch(target)
    module_match = _MODULE.fullmatch(target)
    with capture_served() as served:
        if path_match is not None:
            attribute = path_match["attribute"]
            module = _import_file(pathlib.Path(path_match["path"]))
        elif module_match is not None and not pathlib.Path(target).is_dir():
            attribute = module_match["attribute"]
            module = _import_module(module_match["module"])
        elif pathlib.Path(target).is_dir():
            raise AppLoadError(f"{target} is a folder: name the file that holds the client")
        else:
            raise AppLoadError(
                f"cannot read {target!r} as an app: write module:client or path/to/file.py[:client]"
            )
    client, client_name = _choose_client(target, module, attribute, served)
    functions, is_served = _find_functions(module, client, served)
    if not functions:
        raise AppLoadError(
            f"{target} has no functions of app {client.app_id!r}: neither does it pass any to "
            f"serve(), nor does {module.__name__} hold any made with its create_function; "
            "name the module that defines or imports them"
        )
    return App(client, functions, target, module, client_name, is_served)


def _import_module(name: str) -> types.ModuleType:
    here = str(pathlib.Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise AppLoadError(
                f"there is no module {error.name!r} here: run from the folder that holds it, "
                f"or name the file (path/to/file.py)"
            ) from error
        raise AppLoadError(_import_failure(name, error)) from error
    except (Exception, SystemExit) as error:
        raise AppLoadError(_import_failure(name, error)) from error


def _import_file(path: pathlib.Path) -> types.ModuleType:
    if path.is_dir():
        raise AppLoadError(f"{path} is a folder: name the file that holds the client")
    if not path.is_file():
        raise AppLoadError(f"there is no file {path}")
    path = path.resolve()
    root, name = _package_of(path)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        if "." in name:
            return _import_from_package(path, name)
        return _import_script(path, name)
    except AppLoadError:
        raise
    except (Exception, SystemExit) as error:
        raise AppLoadError(_import_failure(path.name, error)) from error


def _package_of(path: pathlib.Path) -> tuple[pathlib.Path, str]:
    """The folder to import from and the dotted name of a file, package and all."""
    names = [] if path.stem == "__init__" else [path.stem]
    root = path.parent
    while (root / "__init__.py").is_file():
        names.insert(0, root.name)
        root = root.parent
    return root, ".".join(names)


def _import_from_package(path: pathlib.Path, name: str) -> types.ModuleType:
    module = importlib.import_module(name)
    if module.__file__ is None or pathlib.Path(module.__file__).resolve() != path:
        raise AppLoadError(
            f"{path.name} would be imported as {name}, but that name is taken by "
            f"{module.__file__}: rename the package or name it as a module"
        )
    return module


def _import_script(path: pathlib.Path, name: str) -> types.ModuleType:
    loaded = sys.modules.get(name)
    if loaded is not None:
        if getattr(loaded, "__file__", None) == str(path):
            return loaded
        # The name is taken, possibly by the standard library (`json.py`), which must stay.
        name = f"{name}_app"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise AppLoadError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Sibling modules may import the app by its module name (`from app import client`), as they
    # can when it is imported the ordinary way.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_failure(name: str, error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        where = f"{_short(error.filename)}, line {error.lineno}"
        return f"importing {name} failed: {type(error).__name__}: {error.msg} ({where})"
    if isinstance(error, SystemExit):
        what = "it ends the process (sys.exit); guard that with `if __name__ == '__main__':`"
        return f"importing {name} failed: {what}{where_in_app(error)}"
    text = " ".join(str(error).split())
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    # The SDK says no more than the name of the error, which is in none of its public modules.
    if type(error).__name__ == "SigningKeyMissingError":
        what += ": the client is in production mode; set INNGEST_SIGNING_KEY, or INNGEST_DEV=1"
    return f"importing {name} failed: {what}{where_in_app(error)}"


def where_in_app(error: BaseException) -> str:
    """The innermost line of the user's own code, in brackets; empty when there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        installed = f"{os.sep}site-packages{os.sep}" in frame.filename
        # A checkout of the collection is no user's code either.
        own = any(map(pathlib.Path(frame.filename).is_relative_to, inngest_plugins.__path__))
        if not installed and not own and frame.filename.endswith(".py") and not _is_std(frame):
            return f" ({_short(frame.filename)}, line {frame.lineno})"
    return ""


def _is_std(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(str(pathlib.Path(os.__file__).parent))


def _short(filename: str | None) -> str:
    if filename is None:
        return "?"
    try:
        return str(pathlib.Path(filename).relative_to(pathlib.Path.cwd()))
    except ValueError:
        return filename


def _choose_client(
    target: str, module: types.ModuleType, attribute: str | None, served: list[Served]
) -> tuple[inngest.Inngest, str | None]:
    named = {
        name: value for name, value in vars(module).items() if isinstance(value, inngest.Inngest)
    }
    if attribute is not None:
        return _named_client(target, module, attribute, named), attribute
    clients = list({id(client): client for client in named.values()}.values())
    if len(clients) != 1:
        handed_over = {id(each.client): each.client for each in served}
        if len(handed_over) == 1:
            clients = list(handed_over.values())
    if not clients:
        raise AppLoadError(
            f"{target} has no client: it holds no inngest.Inngest object at module level; "
            f"name the file or module that does"
        )
    if len(clients) > 1:
        choices = " or ".join(f"{_without_attribute(target)}:{name}" for name in named)
        raise AppLoadError(f"{target} has {len(clients)} clients: say which one, {choices}")
    names = [name for name, value in named.items() if value is clients[0]]
    return clients[0], names[0] if names else None


def _named_client(
    target: str,
    module: types.ModuleType,
    attribute: str,
    named: Mapping[str, inngest.Inngest],
) -> inngest.Inngest:
    found: object = module
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if isinstance(found, inngest.Inngest):
        return found
    holds = f"its clients: {', '.join(named)}" if named else "it has no client at module level"
    what = "is not an inngest.Inngest client" if found is not None else "does not exist"
    raise AppLoadError(f"{attribute!r} in {_without_attribute(target)} {what} ({holds})")


def _without_attribute(target: str) -> str:
    match = _PATH.fullmatch(target) or _MODULE.fullmatch(target)
    return target if match is None else match.group(1)


def _find_functions(
    module: types.ModuleType, client: inngest.Inngest, served: list[Served]
) -> tuple[tuple[AnyFunction, ...], bool]:
    handed_over = [f for each in served if each.client is client for f in each.functions]
    if handed_over:
        return _unique(handed_over), True
    found = [
        function
        for value in vars(module).values()
        for function in _functions_in(value)
        # The id of a function starts with that of the app of the client that made it.
        if function.id == f"{client.app_id}-{function.local_id}"
    ]
    return _unique(found), False


def _functions_in(value: object) -> list[AnyFunction]:
    if _is_function(value):
        return [value]
    if isinstance(value, Mapping):
        items: Iterable[object] = typing.cast("Mapping[object, object]", value).values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        items = typing.cast("Iterable[object]", value)
    else:
        return []
    return [item for item in items if _is_function(item)]


def _is_function(value: object) -> typing.TypeGuard[AnyFunction]:
    return isinstance(value, inngest.Function)


def _unique(functions: Iterable[AnyFunction]) -> tuple[AnyFunction, ...]:
    return tuple({id(function): function for function in functions}.values())
