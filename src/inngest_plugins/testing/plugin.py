"""The pytest plugin: one fixture and one setting.

pytest imports this module in every project that has inngest-plugins installed, so it imports
nothing but pytest until a test asks for the fixture.
"""

from __future__ import annotations

import os
import typing

import pytest

if typing.TYPE_CHECKING:
    from inngest_plugins.testing import Harness


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the setting."""
    parser.addini(
        "inngest_dev",
        "put Inngest clients of the tested code into dev mode (INNGEST_DEV=1) unless they say "
        "otherwise",
        type="bool",
        default=False,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Apply the setting before any test module is imported."""
    if config.getini("inngest_dev"):
        os.environ.setdefault("INNGEST_DEV", "1")


@pytest.fixture(scope="session")
def inngest_engine() -> type[Harness]:
    """Makes engines: use it in ``async with`` or ``with``.

    Example::

        async with inngest_engine(client, [fulfil]) as engine:
            run = await engine.run(order_placed)

    Called with the arguments of `inngest_plugins.testing.Harness`.
    """
    from inngest_plugins.testing import Harness

    return Harness
