"""The SaaS example: each tenant starts, sees and cancels its own runs, and no other's."""

from __future__ import annotations

import runpy
import typing
from pathlib import Path

import httpx
import pytest

PROGRAM = Path(__file__).parents[2] / "examples" / "saas" / "app.py"


@pytest.mark.anyio
async def test_two_tenants(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One starts a report and cancels it on the page; the other never sees it."""
    monkeypatch.setenv("SAAS_DATABASE", str(tmp_path / "mirror.db"))
    app: typing.Any = runpy.run_path(str(PROGRAM))["app"]

    def browser() -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://saas", follow_redirects=True
        )

    async with app.router.lifespan_context(app), browser() as acme, browser() as globex:
        assert (await acme.get("/runs/")).status_code == 401
        assert "Reports of acme" in (await acme.post("/sign-in/acme")).text
        assert "Reports of globex" in (await globex.post("/sign-in/globex")).text
        await acme.post("/reports")
        await app.state.engine.idle()
        (run,) = (await acme.get("/runs/")).json()["runs"]
        assert (run["status"], run["fields"]) == ("Running", {"event.title": "Report"})
        assert (await globex.get("/runs/")).json()["runs"] == []
        assert (await globex.post(f"/runs/{run['run_id']}/cancel")).status_code == 404
        shown = await acme.get(f"/runs/page/{run['run_id']}")
        assert "wait for the printer" in shown.text
        assert "collecting rows" in shown.text
        cancelled = await acme.post(f"/runs/page/{run['run_id']}/cancel")
        assert cancelled.status_code == 200
        assert "Cancelled" in cancelled.text
