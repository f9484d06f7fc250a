"""The page in a real browser: live, by keyboard, in both schemes, at a phone's width."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import pathlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import inngest
import pytest
import uvicorn
from tests.examples.browser import CHROMIUM, Page, browser

from inngest_plugins.mirror import Scope, SQLAlchemyStore

from .conftest import App, until
from .test_mirror_router import HOSTILE, Site, site

pytestmark = pytest.mark.anyio
KEYS = {"Tab": 9, "Enter": 13}
STATUS = "document.getElementById('status').textContent.trim()"
FOCUSED = "(document.activeElement.id || document.activeElement.textContent || '').trim()"
CONTRASTS = """(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => c / 255)
      .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (at) => {
    for (; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("main *")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((e) => {
      const [a, b] = [light(channels(getComputedStyle(e).color)), light(ground(e))];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      return [contrast, e.outerHTML.slice(0, 80)];
    });
})()"""


@pytest.fixture(autouse=True)
def chromium() -> None:
    """Skip where there is no browser; in CI there is one."""
    if CHROMIUM is None:
        reason = "no Chromium is installed (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.asynccontextmanager
async def served(
    store: SQLAlchemyStore, make_app: type[App], profile: pathlib.Path
) -> AsyncIterator[tuple[Site, Page, str]]:
    """The site on a port, a browser, and the address of the runs."""
    async with site(store, make_app, authorise=lambda request: Scope("acme")) as web:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            server = uvicorn.Server(
                uvicorn.Config(web.web, log_level="error", timeout_graceful_shutdown=1)
            )
            task = asyncio.create_task(server.serve(sockets=[listening]))
            while not server.started:
                await asyncio.sleep(0.01)
            try:
                async with browser(profile) as page:
                    address = f"http://127.0.0.1:{listening.getsockname()[1]}/runs/page"
                    yield web, page, address
            finally:
                server.should_exit = True
                await task


async def press(page: Page, key: str) -> None:
    """Press and release a key."""
    number = KEYS[key]
    options: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": number}
    if key == "Enter":
        options["text"] = "\r"
    await page._call("Input.dispatchKeyEvent", type="keyDown", **options)
    await page._call("Input.dispatchKeyEvent", type="keyUp", **options)


async def wait_for(page: Page, expression: str, value: object) -> None:
    """Wait until an expression gives a value, also across the loading of pages."""

    async def is_so() -> bool:
        try:
            return bool(await page.evaluate(expression) == value)
        except AssertionError:
            # The page is being loaded.
            return False

    await until(is_so, f"{expression} is {value!r}")


async def picture(page: Page, name: str) -> None:
    """Save a picture of the whole page in the folder MIRROR_SCREENSHOTS, where it is set."""
    if folder := os.environ.get("MIRROR_SCREENSHOTS"):
        shot = await page._call("Page.captureScreenshot", captureBeyondViewport=True)
        content = base64.b64decode(shot["data"])
        await asyncio.to_thread(pathlib.Path(folder, f"{name}.png").write_bytes, content)


async def test_the_page_follows_the_run(
    sqlite_store: SQLAlchemyStore, make_app: type[App], tmp_path: pathlib.Path
) -> None:
    """Server-sent events bring each change in, without a reload; the focus stays."""
    async with served(sqlite_store, make_app, tmp_path) as (web, page, address):
        run = await web.start("acme")
        await page.open(f"{address}/{run}")
        assert await page.evaluate(STATUS) == "Running"
        steps = "[...document.querySelectorAll('#steps .status')].map((e) => e.textContent)"
        assert await page.evaluate(steps) == ["Completed", "Waiting"]
        bars = "[...document.querySelectorAll('#steps rect')]"
        assert await page.evaluate(f"{bars}.map((e) => e.getBBox().width > 0)") == [True]
        await page.evaluate("window.kept = 1; document.getElementById('rerun').focus()")
        await web.engine.send(inngest.Event(name="answer"))
        await web.engine.settle()
        await wait_for(page, STATUS, "Completed")
        await wait_for(page, "document.getElementById('cancel')", None)
        assert await page.evaluate("window.kept") == 1
        assert await page.evaluate(FOCUSED) == "rerun"
        # The list brings in what is new by itself, too.
        await page.open(address)
        count = "document.querySelectorAll('#runs li').length"
        assert await page.evaluate(count) == 1
        await web.start("acme", "short")
        await wait_for(page, count, 2)


async def test_the_page_by_keyboard(
    sqlite_store: SQLAlchemyStore, make_app: type[App], tmp_path: pathlib.Path
) -> None:
    """Tab goes through what can be used, in order and visibly; Enter opens, cancels and reruns."""
    async with served(sqlite_store, make_app, tmp_path) as (web, page, address):
        run = await web.start("acme")
        await page.open(address)
        order: list[str] = []
        for _ in range(4):
            await press(page, "Tab")
            order.append(await page.evaluate("document.activeElement.name || " + FOCUSED))
            outline = "getComputedStyle(document.activeElement).outlineWidth"
            assert await page.evaluate(outline) == "3px", order
        assert order == ["status", "function_id", "Filter", f"run-{run}"]
        await press(page, "Enter")
        await wait_for(page, "location.pathname", f"/runs/page/{run}")
        await wait_for(page, STATUS, "Running")
        order = []
        for _ in range(3):
            await press(page, "Tab")
            order.append(await page.evaluate(FOCUSED))
        assert order == ["All runs", "cancel", "rerun"]
        await page.evaluate("document.getElementById('cancel').focus()")
        await press(page, "Enter")
        await wait_for(page, STATUS, "Cancelled")
        assert web.engine.runs[0].status == "Cancelled"
        await page.evaluate("document.getElementById('rerun').focus()")
        await press(page, "Enter")
        await wait_for(page, "location.pathname", "/runs/page")
        await wait_for(page, "document.querySelectorAll('#runs li').length", 2)
        assert [each.status for each in web.engine.runs] == ["Cancelled", "Running"]


async def test_what_the_page_looks_like(
    sqlite_store: SQLAlchemyStore, make_app: type[App], tmp_path: pathlib.Path
) -> None:
    """Both schemes can be read, a phone needs no sideways scrolling, hostile names are text."""
    async with served(sqlite_store, make_app, tmp_path) as (web, page, address):
        await web.start("acme", "short")
        hostile = await web.start("acme", "hostile", text=HOSTILE)
        long = await web.start("acme")
        pages = {"list": address, "failed": f"{address}/{hostile}", "open": f"{address}/{long}"}
        grounds: set[str] = set()
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            await page._call("Emulation.setEmulatedMedia", features=[feature])
            for width in (1100, 360):
                metrics = {"height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
                await page._call("Emulation.setDeviceMetricsOverride", width=width, **metrics)
                for name, url in pages.items():
                    await page.open(url)
                    await picture(page, f"{name}-{scheme}-{width}")
                    scrolls = "[document.documentElement.scrollWidth, innerWidth]"
                    needed, there = await page.evaluate(scrolls)
                    assert needed <= there == width, (name, width)
                    for contrast, where in await page.evaluate(CONTRASTS):
                        assert contrast >= 4.5, (scheme, where)
                    asked = "performance.getEntriesByType('resource').map((e) => e.name)"
                    origin = address.removesuffix("/runs/page")
                    assert all(each.startswith(origin) for each in await page.evaluate(asked))
            grounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert len(grounds) == 2
        await page.open(pages["failed"])
        shown = await page.evaluate("document.body.innerText")
        assert shown.count("<script>alert(1)</script>'; DROP TABLE inngest_runs; --") >= 5
        assert "\\u001b[31m \\u202e" in shown
        assert not {"\x1b", "\u202e", "\x00"} & set(shown)
        assert await page.evaluate("document.scripts.length") == 0
