"""What the tests of the command line share."""

from __future__ import annotations

import pathlib
import sys
import typing
from collections.abc import Callable, Iterator

import pytest

from inngest_plugins.cli import main

WriteApp = Callable[..., str]
Program = Callable[..., "Ended"]


class Ended(typing.NamedTuple):
    """How the program ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[None]:
    """Forget the apps that a test imported, and keep its environment to itself."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("INNGEST_DEV", "1")
    monkeypatch.setenv("COLUMNS", "120")
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write_app(tmp_path: pathlib.Path) -> WriteApp:
    """Write a file (``app.py`` unless named) below the test's folder and return its path."""

    def write(source: str, name: str = "app.py") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, "utf-8")
        return str(path)

    return write


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Program:
    """Run the program in this process."""

    def run(*arguments: object) -> Ended:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


APP = """
import datetime
import inngest
from inngest_plugins.core import Hooks

audit = Hooks("audit")

@audit.transform_output
def note(call, outcome):
    pass

client = inngest.Inngest(app_id="demo", middleware=[audit])

async def greet(name):
    return "hi " + name

@client.create_function(fn_id="hello", trigger=inngest.TriggerEvent(event="demo/hello"), retries=1)
async def hello(ctx):
    greeting = await ctx.step.run("greet", greet, ctx.event.data["name"])
    await ctx.step.sleep("nap", datetime.timedelta(hours=1))
    await ctx.step.send_event("tell", inngest.Event(name="demo/told"))
    return greeting

@client.create_function(fn_id="told", trigger=inngest.TriggerEvent(event="demo/told"))
def told(ctx):
    print("the app prints this")
    return ctx.step.run("count", lambda: 1)

@client.create_function(fn_id="fail", trigger=inngest.TriggerEvent(event="demo/fail"), retries=1)
async def fail(ctx):
    async def work():
        raise ValueError("secret detail")
    await ctx.step.run("work", work)

@client.create_function(fn_id="nightly", trigger=inngest.TriggerCron(cron="0 3 * * *"))
async def nightly(ctx):
    return "cleaned"

@client.create_function(
    fn_id="rich",
    trigger=inngest.TriggerEvent(event="demo/paid", expression="event.data.cents > 100"),
)
async def rich(ctx):
    return "big"

@client.create_function(fn_id="forever", trigger=inngest.TriggerEvent(event="demo/forever"))
async def forever(ctx):
    import anyio
    await anyio.sleep(60)
"""
"""An app with a function of each kind the tests need."""


@pytest.fixture
def app(write_app: WriteApp) -> str:
    """The path of `APP`."""
    return write_app(APP)
