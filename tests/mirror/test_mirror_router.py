"""The router: what each tenant sees and may do, and the page for people."""

from __future__ import annotations

import contextlib
import datetime as dt
import html
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import fastapi
import httpx
import inngest
import pytest

from inngest_plugins.local import LocalEngine
from inngest_plugins.mirror import MirrorError, Scope, SQLAlchemyStore, mirror_router

from .conftest import App

pytestmark = pytest.mark.anyio
HOSTILE = "<script>alert(1)</script>'; DROP TABLE inngest_runs; -- \x1b[31m \u202e \x00"


def authorise(request: fastapi.Request) -> Scope:
    """Who asks is in a header; nobody is refused."""
    who = request.headers.get("x-tenant")
    if who is None:
        raise fastapi.HTTPException(401)
    if who == "operator":
        return Scope.of_everything()
    return Scope(who.removesuffix(":reader"), can_steer=not who.endswith(":reader"))


class Site:
    """An app with the router, its engine, and a browser for each user."""

    def __init__(self, engine: LocalEngine | None, web: fastapi.FastAPI) -> None:
        self.opened = engine
        self.web = web

    @property
    def engine(self) -> LocalEngine:
        """The engine."""
        assert self.opened is not None
        return self.opened

    async def ask(
        self, who: str | None, path: str, method: str = "GET", **options: Any
    ) -> httpx.Response:
        """Send a request as somebody."""
        headers = {**options.pop("headers", {}), **({"x-tenant": who} if who else {})}
        transport = httpx.ASGITransport(self.web)
        async with httpx.AsyncClient(transport=transport, base_url="http://site") as http:
            return await http.request(method, f"/runs{path}", headers=headers, **options)

    async def start(self, tenant: str, name: str = "long", **data: Any) -> str:
        """Start a run; returns its id."""
        await self.engine.send(inngest.Event(name=name, data={"tenant": tenant, **data}))
        await self.engine.idle()
        return self.engine.runs[-1].id


@contextlib.asynccontextmanager
async def site(
    store: SQLAlchemyStore,
    make_app: type[App],
    *,
    authorise: Callable[[fastapi.Request], Scope] = authorise,
) -> AsyncIterator[Site]:
    """A site with three functions."""
    app = make_app(
        store,
        tenant=lambda call: call.event.data["tenant"],
        tags=lambda call: {HOSTILE: HOSTILE} if call.event.name == "hostile" else None,
        store_fields=["event.text"],
    )

    async def seven() -> int:
        return 7

    @app.function("long")
    async def long(ctx: inngest.Context) -> None:
        await ctx.step.run("seven", seven)
        await ctx.step.wait_for_event("answer", event="answer", timeout=dt.timedelta(days=30))

    @app.function("short")
    async def short(ctx: inngest.Context) -> int:
        return await ctx.step.run("seven", seven)

    @app.function("hostile", name=HOSTILE.replace("\x00", ""), retries=0)
    async def hostile(ctx: inngest.Context) -> None:
        await ctx.step.run(HOSTILE, seven)
        raise ValueError(HOSTILE)

    async with app.engine() as engine:
        web = fastapi.FastAPI()
        router = mirror_router(store, client=app.client, authorise=authorise, poll=0.01)
        web.include_router(router, prefix="/runs")
        yield Site(engine, web)


async def test_a_list_and_a_run(store: SQLAlchemyStore, make_app: type[App]) -> None:
    """Filters, pages and the timeline, as JSON."""
    async with site(store, make_app) as web:
        first = await web.start("acme", "short")
        second = await web.start("acme")
        listed = (await web.ask("acme", "/", params={"limit": 1})).json()
        assert [run["run_id"] for run in listed["runs"]] == [second]
        rest = (await web.ask("acme", "/", params={"after": listed["next"]})).json()
        assert [run["run_id"] for run in rest["runs"]] == [first]
        assert rest["next"] is None
        open_ = (await web.ask("acme", "/", params={"status": "Running"})).json()
        assert [run["run_id"] for run in open_["runs"]] == [second]
        shown = (await web.ask("acme", f"/{second}")).json()
        assert [(s["step_id"], s["status"]) for s in shown["steps"]] == [
            ("seven", "Completed"),
            ("answer", "Waiting"),
        ]
        assert (await web.ask("acme", "/", params={"limit": 0})).status_code == 422
        assert (await web.ask("acme", "/", params={"tag": "plan"})).status_code == 422
        for path in ("/", "/page"):
            refused = await web.ask("acme", path, params={"status": "Nope"})
            assert refused.status_code == 422, path
            assert "Queued, Running, Completed" in refused.json()["detail"]


async def test_tenants_are_kept_apart(store: SQLAlchemyStore, make_app: type[App]) -> None:
    """A tenant can neither see, follow, cancel nor rerun another's run, nor learn of it."""
    async with site(store, make_app) as web:
        run = await web.start("acme")
        unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
        for path, method in (
            ("/{}", "GET"),
            ("/{}/events", "GET"),
            ("/{}/cancel", "POST"),
            ("/{}/rerun", "POST"),
            ("/page/{}", "GET"),
            ("/page/{}/cancel", "POST"),
            ("/page/{}/rerun", "POST"),
        ):
            theirs = await web.ask("rival", path.format(run), method)
            nobodys = await web.ask("rival", path.format(unknown), method)
            assert theirs.status_code == nobodys.status_code == 404, path
            assert theirs.content == nobodys.content
            assert (await web.ask(None, path.format(run), method)).status_code == 401, path
        assert (await web.ask("rival", "/")).json()["runs"] == []
        assert run not in (await web.ask("rival", "/page")).text
        for path in ("/", "/page"):
            assert (await web.ask(None, path)).status_code == 401
        assert [each.status for each in web.engine.runs] == ["Running"]
        assert len((await web.ask("operator", "/")).json()["runs"]) == 1


async def test_cancel_asks_the_engine(store: SQLAlchemyStore, make_app: type[App]) -> None:
    """It shows what the engine says, also when the run had been cancelled before."""
    async with site(store, make_app) as web:
        run = await web.start("acme")
        answer = await web.ask("acme", f"/{run}/cancel", "POST")
        assert answer.json()["status"] == "Cancelled"
        assert web.engine.runs[0].status == "Cancelled"
        again = await web.ask("acme", f"/{run}/cancel", "POST")
        assert again.status_code == 409
        assert again.json()["detail"] == "the engine refused: Run is already cancelled"


async def test_rerun(sqlite_store: SQLAlchemyStore, make_app: type[App]) -> None:
    """From the start and from a step; the new run is the same tenant's."""
    async with site(sqlite_store, make_app) as web:
        run = await web.start("acme", "short")
        for body in ({}, {"from_step": "seven"}):
            answer = await web.ask("acme", f"/{run}/rerun", "POST", json=body)
            assert answer.status_code == 202, answer.text
            await web.engine.settle()
            new = await web.ask("acme", f"/{answer.json()['run_id']}")
            assert (new.json()["status"], new.json()["tenant"]) == ("Completed", "acme")
        refused = await web.ask("acme", f"/{run}/rerun", "POST", json={"from_step": "none"})
        assert refused.status_code == 409


async def test_a_rerun_that_is_not_understood_is_none(
    sqlite_store: SQLAlchemyStore, make_app: type[App]
) -> None:
    """It would run everything again, from the start."""
    wrongs: list[dict[str, Any]] = [
        {"json": {"fromStep": "seven"}},
        {"json": {"from_step": 7}},
        {"json": []},
        # As a browser's fetch() sends a text without saying that it is JSON.
        {"content": '{"from_step": "seven"}', "headers": {"content-type": "text/plain"}},
        {"content": '{"from_step"', "headers": {"content-type": "application/json"}},
    ]
    async with site(sqlite_store, make_app) as web:
        run = await web.start("acme", "short")
        for wrong in wrongs:
            answer = await web.ask("acme", f"/{run}/rerun", "POST", **wrong)
            assert answer.status_code == 422, wrong
        assert [each.id for each in web.engine.runs] == [run]


async def test_readers_and_other_sites_cannot_steer(
    sqlite_store: SQLAlchemyStore, make_app: type[App]
) -> None:
    """Neither a user without the right, nor another site's page in a user's browser."""
    async with site(sqlite_store, make_app) as web:
        run = await web.start("acme")
        path = f"/{run}/cancel"
        assert (await web.ask("acme:reader", path, "POST")).status_code == 403
        assert "<button" not in (await web.ask("acme:reader", f"/page/{run}")).text
        assert ">Cancel</button>" in (await web.ask("acme", f"/page/{run}")).text
        for headers in (
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://[no-host"},
        ):
            for form in (path, f"/page{path}"):
                answer = await web.ask("acme", form, "POST", headers=headers)
                assert answer.status_code == 403, headers
        (before,) = [each.status for each in web.engine.runs]
        assert before == "Running"
        ours = {"origin": "http://site", "sec-fetch-site": "same-origin"}
        shown = await web.ask("acme", f"/page{path}", "POST", headers=ours)
        assert shown.status_code == 303
        assert shown.headers["location"] == f"../{run}"
        assert web.engine.runs[0].status == "Cancelled"


async def test_events(sqlite_store: SQLAlchemyStore, make_app: type[App]) -> None:
    """A stream tells each change, and ends with the run."""
    async with site(sqlite_store, make_app) as web:
        run = await web.start("acme")
        transport = httpx.ASGITransport(web.web)
        seen: list[str] = []
        answers: list[httpx.Response] = []

        async def follow() -> None:
            # The transport gives the whole answer at once: the run ends while it is collected.
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as http:
                answers.append(await http.get(f"/runs/{run}/events", headers={"x-tenant": "acme"}))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await web.engine.send(inngest.Event(name="answer"))
            await web.engine.settle()
        (answer,) = answers
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.text.splitlines():
            if line.startswith('data: {"'):
                seen.append(json.loads(line.removeprefix("data: "))["status"])
        assert seen[-1] == "Completed"
        assert answer.text.endswith("event: end\ndata: {}\n\n")


async def test_hostile_names_are_text(store: SQLAlchemyStore, make_app: type[App]) -> None:
    """SQL, HTML and control characters in names, tags, fields and errors stay text."""
    async with site(store, make_app) as web:
        run = await web.start("acme", "hostile", text=HOSTILE)
        shown = (await web.ask("acme", f"/{run}")).json()
        kept = HOSTILE.replace("\x00", "\ufffd")
        assert shown["error_message"] == kept
        assert shown["steps"][0]["step_id"] == kept
        assert shown["tags"] == {kept: kept}
        assert shown["fields"] == {"event.text": HOSTILE}
        for path in ("/page", f"/page/{run}"):
            page = await web.ask("acme", path)
            assert page.status_code == 200
            assert page.text.count("<script") <= 1
            assert "<script>alert" not in page.text
            assert "alert(1)" in html.unescape(page.text)
            assert not re.search("[\x00-\x08\x1b\u202e]", page.text)
        bad = await web.ask("acme", "/", params={"function_id": HOSTILE, "after": HOSTILE})
        assert bad.json()["runs"] == []


async def test_the_page(sqlite_store: SQLAlchemyStore, make_app: type[App]) -> None:
    """Nothing of third parties, a strict policy; without scripts an open run is refreshed."""
    async with site(sqlite_store, make_app) as web:
        run = await web.start("acme", "short")
        page = await web.ask("acme", f"/page/{run}")
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        (nonce,) = re.findall("style-src 'nonce-([^']+)'", policy)
        assert f"script-src 'nonce-{nonce}';" in policy
        assert set(re.findall('nonce="([^"]+)"', page.text)) == {nonce}
        assert "style=" not in page.text
        assert "http" not in re.sub(r"http-equiv", "", page.text)
        assert "refresh" not in page.text
        assert "<script" not in page.text
        assert "prefers-color-scheme" in page.text
        open_run = await web.start("acme")
        live = (await web.ask("acme", f"/page/{open_run}")).text
        assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in live
        assert live.count('<script nonce="') == 1
        listed = await web.ask("acme", "/page", params={"status": "", "function_id": "short"})
        assert f'href="page/{run}"' in listed.text
        assert open_run not in listed.text


async def test_what_cannot_be_done_is_said_in_a_page(
    sqlite_store: SQLAlchemyStore, make_app: type[App]
) -> None:
    """A button pressed too late answers with a page for people, and a way back."""
    async with site(sqlite_store, make_app) as web:
        run = await web.start("acme", "short")
        answer = await web.ask("acme", f"/page/{run}/cancel", "POST")
        assert answer.status_code == 409
        assert "the engine refused: Cannot cancel an ended run" in answer.text
        assert f'<a href="../{run}">Back</a>' in answer.text


async def test_what_is_down_is_said(make_app: type[App], sqlite_store: SQLAlchemyStore) -> None:
    """503 for the database, without where it is; 502 for the engine; the run stays."""
    gone = SQLAlchemyStore("postgresql+asyncpg://nobody:secret@127.0.0.1:1/none")
    web = fastapi.FastAPI()
    app = make_app(gone)
    web.include_router(mirror_router(gone, client=app.client, authorise=authorise), prefix="/runs")
    for path in ("/", "/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/page"):
        answer = await Site(None, web).ask("acme", path)
        assert answer.status_code == 503
        assert "secret" not in answer.text
        assert "127.0.0.1" not in answer.text
    await gone.close()
    async with site(sqlite_store, make_app) as there:
        run = await there.start("acme")
    nowhere = inngest.Inngest(app_id="app", is_production=False, api_base_url="http://127.0.0.1:1")
    web = fastapi.FastAPI()
    router = mirror_router(sqlite_store, client=nowhere, authorise=authorise)
    web.include_router(router, prefix="/runs")
    assert (await Site(None, web).ask("acme", f"/{run}/cancel", "POST")).status_code == 502
    assert (await Site(None, web).ask("acme", f"/{run}")).json()["status"] == "Running"


@pytest.mark.parametrize("options", [{"authorise": None}, {"authorise": authorise, "poll": 0}])
def test_wrong_options(sqlite_store: SQLAlchemyStore, options: dict[str, Any]) -> None:
    """There is no open default."""
    client = inngest.Inngest(app_id="app", is_production=False)
    with pytest.raises(MirrorError):
        mirror_router(sqlite_store, client=client, **options)


async def test_an_authorise_that_answers_none(
    sqlite_store: SQLAlchemyStore, make_app: type[App]
) -> None:
    """What is no scope shows nothing."""

    async def forgot(request: fastapi.Request) -> Any:
        return None

    app = make_app(sqlite_store)
    web = fastapi.FastAPI()
    web.include_router(
        mirror_router(sqlite_store, client=app.client, authorise=forgot), prefix="/runs"
    )
    with pytest.raises(MirrorError, match="nothing is shown"):
        await Site(None, web).ask("acme", "/")
