"""A product that shows its customers their runs: two tenants, one page, no server beside it.

From the repository's folder:

    python examples/saas/app.py            # then open http://127.0.0.1:8000

Sign in as one of the two tenants, start reports, follow, cancel and repeat them. Neither tenant
sees the other's.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import pathlib
import tempfile
from collections.abc import AsyncIterator
from typing import Annotated, Any

import fastapi
import inngest
import uvicorn
from fastapi.responses import HTMLResponse, RedirectResponse

from inngest_plugins.core import Call
from inngest_plugins.local import LocalEngine
from inngest_plugins.mirror import MirrorPlugin, Scope, SQLAlchemyStore, log, mirror_router

TENANTS = ("acme", "globex")
DATABASE = os.environ.get("SAAS_DATABASE") or str(
    pathlib.Path(tempfile.mkdtemp(prefix="saas-")) / "mirror.db"
)


def tenant_of(call: Call) -> str:
    """Tell whose run it is."""
    return str(call.event.data["tenant"])


store = SQLAlchemyStore(f"sqlite:///{DATABASE}")
client = inngest.Inngest(
    app_id="saas",
    is_production=False,
    middleware=[MirrorPlugin(store, tenant=tenant_of, store_fields=["event.title"])],
)


@client.create_function(
    fn_id="report", name="Monthly report", trigger=inngest.TriggerEvent(event="saas/report.asked")
)
async def report(ctx: inngest.Context) -> dict[str, int]:
    """Make a report in three steps and a pause."""

    async def collect() -> int:
        log("collecting rows")
        return 120

    async def draw(part: str) -> str:
        return f"{part}.svg"

    rows = await ctx.step.run("collect", collect)
    await ctx.group.parallel(
        (
            lambda: ctx.step.run("draw sales", draw, "sales"),
            lambda: ctx.step.run("draw costs", draw, "costs"),
        )
    )
    seconds = int(str(ctx.event.data.get("pause", 10)))
    await ctx.step.sleep("wait for the printer", dt.timedelta(seconds=seconds))
    return {"rows": rows}


def authorise(request: fastapi.Request) -> Scope:
    """Tell what the user who is signed in may see. A product reads its session here."""
    tenant = request.cookies.get("tenant")
    if tenant not in TENANTS:
        raise fastapi.HTTPException(401, "sign in first")
    return Scope(tenant)


@contextlib.asynccontextmanager
async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    """Run the functions while the app is up."""
    async with LocalEngine(client, [report]) as engine:
        app.state.engine = engine
        await store.reconcile(client)
        yield
    await store.close()


app = fastapi.FastAPI(lifespan=lifespan)
app.include_router(mirror_router(store, client=client, authorise=authorise), prefix="/runs")
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>Reports</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 1rem auto;
padding: 0 1rem }} iframe {{ width: 100%; height: 75vh; border: 0 }} form {{ display: inline }}
</style><h1>Reports of {who}</h1>{buttons}{runs}</html>"""


@app.get("/", response_class=HTMLResponse)
def index(tenant: Annotated[str | None, fastapi.Cookie()] = None) -> str:
    """Show the page: who is signed in, and their runs."""
    sign_in = "".join(
        f'<form method="post" action="/sign-in/{name}"><button>Sign in as {name}</button></form> '
        for name in TENANTS
    )
    if tenant not in TENANTS:
        return PAGE.format(who="nobody yet", buttons=sign_in, runs="")
    start = '<form method="post" action="/reports"><button>Start a report</button></form> '
    runs = '<iframe src="/runs/page" title="Runs"></iframe>'
    return PAGE.format(who=tenant, buttons=start + sign_in, runs=runs)


@app.post("/sign-in/{tenant}")
def sign_in(tenant: str) -> RedirectResponse:
    """Sign in as a tenant; without a password, for this is an example."""
    answer = RedirectResponse("/", status_code=303)
    answer.set_cookie("tenant", tenant, httponly=True, samesite="lax")
    return answer


@app.post("/reports")
async def start(request: fastapi.Request) -> RedirectResponse:
    """Start a report of the tenant."""
    scope = authorise(request)
    data: dict[str, Any] = {"tenant": scope.tenant, "title": "Report"}
    await client.send(inngest.Event(name="saas/report.asked", data=data))
    return RedirectResponse("/", status_code=303)


def main() -> None:
    """Serve the example."""
    parser = argparse.ArgumentParser(description="Runs for two tenants.")
    parser.add_argument("--port", type=int, default=8000)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port)


if __name__ == "__main__":
    main()
