"""The README's examples and the example app, run."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import inngest
import pytest
import svcs
from tests.readme import modules_of

from inngest_plugins.cli import load_app
from inngest_plugins.core import Call
from inngest_plugins.injection import InjectionPlugin, get
from inngest_plugins.local import LocalEngine

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
README = ROOT / "plugins" / "injection" / "README.md"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Each Python block of the README, executed as a module of its own."""
    return modules_of("injection", monkeypatch)


async def test_the_readme_s_examples_work(modules: list[dict[str, Any]]) -> None:
    """The first example runs; a tenant's database is the tenant's; the fake is asked."""
    first, tenants, tests = modules
    async with LocalEngine(first["client"], [first["fulfil"]]) as engine:
        run = await engine.run(inngest.Event(name="shop/order.placed"))
        assert run.output == "30 EUR", run.reason

    registry = svcs.Registry()
    database = tenants["Database"]
    registry.register_factory(database, tenants["open_database"])
    client = inngest.Inngest(app_id="app", middleware=[InjectionPlugin(registry)])

    @client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="fn"))
    async def fn(ctx: inngest.Context) -> str:
        assert get(Call).run_id == ctx.run_id
        return str(get(database).name)

    async with LocalEngine(client, [fn]) as engine:
        run = await engine.run(inngest.Event(name="fn", data={"tenant": "acme"}))
        assert run.output == "tenant-acme"

    asked: list[int] = []
    tests["FakeSession"].charge = lambda self, amount, currency: asked.append(amount)
    await tests["check"](first["client"], first["fulfil"], first["Session"])
    assert asked == [30]


def test_the_readme_names_every_error() -> None:
    """What a user can meet is in the table."""
    from inngest_plugins import injection

    text = README.read_text()
    for name, value in vars(injection).items():
        if inspect.isclass(value) and issubclass(value, Exception):
            assert f"`{name}`" in text


async def test_the_example_keeps_tenants_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tenant's orders are in its own database, and the databases are closed."""
    monkeypatch.setenv("DATABASES", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    app = load_app(str(ROOT / "examples" / "services" / "app.py"))
    async with LocalEngine(app.client, app.functions) as engine:
        for tenant, order, count in (("acme", "1", 1), ("acme", "2", 2), ("umbrella", "1", 1)):
            event = inngest.Event(name="shop/order.placed", data={"tenant": tenant, "order": order})
            run = await engine.run(event)
            assert run.output == count, run.reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acme.db", "umbrella.db"]
