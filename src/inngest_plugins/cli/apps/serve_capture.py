"""Records what an app passes to ``serve()`` (or ``connect()``) while the app is being imported.

Functions that are created inside a factory are not attributes of a module, but the app passes them
to the SDK. During the import this module wraps the SDK's public entry functions: they do their work
and it records their arguments. It leaves frameworks alone that the app does not import, so loading
a FastAPI app never imports Flask.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
import types
import typing

import inngest

from inngest_plugins.core.sdk.assignments import replace_function

if typing.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ENTRY_FUNCTIONS: typing.Final = {
    "inngest.fast_api": "serve",
    "inngest.flask": "serve",
    "inngest.django": "serve",
    "inngest.tornado": "serve",
    "inngest.digital_ocean": "serve",
    "inngest.connect": "connect",
}


@dataclasses.dataclass(frozen=True)
class Served:
    """One client and the functions that were served with it."""

    client: inngest.Inngest
    functions: tuple[inngest.Function[typing.Any], ...]


@contextlib.contextmanager
def capture_served() -> Iterator[list[Served]]:
    """Record every ``serve()`` and ``connect()`` call made while the block is open."""
    served: list[Served] = []
    wrapped: list[tuple[types.ModuleType, str, object]] = []

    def wrap(module: types.ModuleType) -> None:
        name = _ENTRY_FUNCTIONS[module.__name__]
        original = getattr(module, name)
        wrapped.append((module, name, original))
        replace_function(module, name, _recording(original, served))

    finder = _Finder(wrap)
    for name in _ENTRY_FUNCTIONS:
        if name in sys.modules:
            wrap(sys.modules[name])
    sys.meta_path.insert(0, finder)
    try:
        yield served
    finally:
        sys.meta_path.remove(finder)
        for module, name, original in wrapped:
            replace_function(module, name, original)


def _recording(
    original: typing.Callable[..., object], served: list[Served]
) -> typing.Callable[..., object]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def record(*args: typing.Any, **kwargs: typing.Any) -> object:
        result = original(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        pairs = given.get("apps") or [(given.get("client"), given.get("functions", ()))]
        for client, functions in pairs:
            if isinstance(client, inngest.Inngest):
                served.append(Served(client, tuple(functions)))
        return result

    return record


class _Finder(importlib.abc.MetaPathFinder):
    """Finds a framework module the usual way and has it wrapped once it is loaded."""

    def __init__(self, wrap: typing.Callable[[types.ModuleType], None]) -> None:
        self._wrap = wrap
        self._finding = False

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname not in _ENTRY_FUNCTIONS or self._finding:
            return None
        self._finding = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._finding = False
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Loader(spec.loader, self._wrap)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module with the loader that found it, then wraps its entry function."""

    def __init__(
        self, loader: importlib.abc.Loader, wrap: typing.Callable[[types.ModuleType], None]
    ) -> None:
        self._loader = loader
        self._wrap = wrap

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        self._loader.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._wrap(module)
