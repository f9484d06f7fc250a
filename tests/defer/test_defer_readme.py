"""The README's examples, the example app and what the command line draws of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import inngest
import pytest
from tests.readme import modules_of

from inngest_plugins.cli import main
from inngest_plugins.local import LocalEngine

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "quality"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Each Python block of the README, executed as a module of its own."""
    return modules_of("defer", monkeypatch)


@pytest.mark.anyio
async def test_the_readme_s_examples_work(
    modules: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The three blocks, with the answers that they show."""
    first, other_app, testing = modules
    client: inngest.Inngest = first["client"]
    assert await testing["check"](client, [first["reply"], first["judge_reply"]]) == [None]
    assert capsys.readouterr().out == "17\n"

    @client.create_function(fn_id="order", trigger=inngest.TriggerEvent(event="order"))
    async def order(ctx: inngest.Context) -> None:
        other_app["at_the_end"]("o1")

    async with LocalEngine(client, [order]) as engine:
        run = await engine.run(inngest.Event(name="order"))
    assert run.deferred["summary"].function_id == "web-summarise"


@pytest.mark.parametrize("question", ["Where is my order?", "Hello."])
def test_the_example_is_drawn(
    question: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The run says what it deferred and what became of it; the deferred run who deferred it."""
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(sys, "path", [*sys.path])
    event = f'{{"name": "support/asked", "data": {{"question": "{question}"}}}}'
    page = tmp_path / "run.html"
    code = main(["run", str(EXAMPLE / "app.py"), "--event", event, "--html", str(page)])
    drawn = capsys.readouterr().out
    assert code == 0
    if question.endswith("?"):
        assert "deferred quality: support-judge, started" in drawn
        assert "(deferred as quality by support-reply)" in drawn
    else:
        assert "deferred quality: support-judge, aborted" in drawn
        assert "inngest/deferred.schedule" not in drawn
    assert "<h3>Deferred</h3><ul><li><code>quality</code>" in page.read_text()
