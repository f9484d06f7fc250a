"""Every error that a user can meet is a `PluginsError`."""

from __future__ import annotations

import importlib
import inspect
import sys

import pytest

from inngest_plugins.core import PluginsError

from .import_graph import packages

NEEDS_PYTHON_311 = {"inngest_plugins.agents"}


@pytest.mark.parametrize("package", packages())
def test_public_errors_have_one_base(package: str) -> None:
    """`except PluginsError` catches what any package of the project raises."""
    if package in NEEDS_PYTHON_311 and sys.version_info < (3, 11):
        pytest.skip("Pydantic AI needs Python 3.11")
    module = importlib.import_module(package)
    errors = {
        name
        for name in getattr(module, "__all__", ())
        if isinstance(value := getattr(module, name), type) and issubclass(value, BaseException)
    }
    assert {name for name in errors if not issubclass(getattr(module, name), PluginsError)} == set()


WRONG: tuple[object, ...] = (
    None,
    5,
    -1,
    float("nan"),
    "",
    "\ud800",
    object(),
    [],
    b"x",
    ("a",),
    {"a": object()},
)
FOREIGN = {
    # Their own libraries refuse the arguments of these.
    "ApprovalDecision",
    "ApprovalRequest",
    "ExternalAnswer",
    "AwsKmsKeyProvider",
    # Made by the engine, for reading.
    "Timeline",
    "Snapshot",
}


@pytest.mark.parametrize("package", packages())
def test_wrong_arguments_are_refused_with_that_base(package: str) -> None:
    """A class that is made with a wrong argument raises a `PluginsError`, or takes it."""
    if package in NEEDS_PYTHON_311 and sys.version_info < (3, 11):
        pytest.skip("Pydantic AI needs Python 3.11")
    module = importlib.import_module(package)
    strange: list[str] = []
    for name in getattr(module, "__all__", ()):
        made = getattr(module, name)
        if (
            not (inspect.isclass(made) and made.__module__.startswith("inngest_plugins."))
            or issubclass(made, (BaseException, dict))
            or name in FOREIGN
        ):
            continue
        parameters = inspect.signature(made).parameters.values()
        if any(
            parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            for parameter in parameters
        ):
            continue
        for option in (each.name for each in parameters if each.default is not each.empty):
            for value in WRONG:
                try:
                    made(**{option: value})
                except PluginsError:
                    continue
                except Exception as error:
                    strange.append(f"{name}({option}=<{type(value).__name__}>): {error!r}")
    assert strange == []
