"""The progress example: a program that serves where it is told to, and a page that moves."""

from __future__ import annotations

import asyncio
import runpy
import socket
import sys
import typing
from pathlib import Path

import pytest
import uvicorn
from tests.examples.browser import CHROMIUM, browser

PROGRAM = Path(__file__).parents[2] / "examples" / "progress" / "app.py"


@pytest.mark.parametrize(
    ("arguments", "port"), [([], 8000), (["--port", "8123"], 8123), (["--port=0"], 0)]
)
def test_the_port_is_an_option(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], port: int
) -> None:
    """`--port` is the port of the server; 8000 without it."""
    served: list[dict[str, typing.Any]] = []

    def run(app: object, **options: typing.Any) -> None:
        assert callable(app)
        served.append(options)

    monkeypatch.setattr(uvicorn, "run", run)
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), *arguments])
    monkeypatch.setenv("INNGEST_DEV", "1")
    runpy.run_path(str(PROGRAM), run_name="__main__")
    assert served == [{"host": "127.0.0.1", "port": port}]


CLICK_AND_WATCH = """new Promise((done) => {
  const seen = new Set();
  const at = (id) => document.getElementById(id);
  new MutationObserver(() => {
    seen.add(at("bar").value);
    if (at("state").textContent.startsWith("done"))
      done({
        shares: [...seen],
        state: at("state").textContent,
        log: [...document.querySelectorAll("#log li")].map((item) => item.textContent),
        disabled: at("start").disabled,
      });
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
  at("start").click();
})"""


@pytest.mark.anyio
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")
@pytest.mark.timeout(300)
async def test_the_page_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar moves forward to its end, and every line of the log is there once."""
    monkeypatch.setenv("INNGEST_DEV", "1")
    example = runpy.run_path(str(PROGRAM))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(example["app"], log_level="error"))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        async with browser(tmp_path) as page:
            await page.open(f"http://127.0.0.1:{listening.getsockname()[1]}/")
            seen = await page.evaluate(CLICK_AND_WATCH)
    finally:
        server.should_exit = True
        await task
        listening.close()
    assert seen["state"] == "done: 60 rows"
    assert seen["log"] == ["customers.csv: 20 rows", "orders.csv: 20 rows", "invoices.csv: 20 rows"]
    assert seen["shares"] == sorted(seen["shares"])
    assert len(seen["shares"]) > 10
    assert seen["shares"][-1] == 1
