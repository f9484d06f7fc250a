"""`mirror_router`: a team's own customers see, follow, cancel and rerun their runs."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import quote, urlsplit

import anyio
import httpx
import inngest
import pydantic
from fastapi import APIRouter, Body, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from inngest_plugins.core import EngineApi, EngineApiError, check_seconds, class_name
from inngest_plugins.mirror._errors import MirrorDatabaseError, MirrorError
from inngest_plugins.mirror.store.reads import MAX_LIMIT, Page, RunDetail
from inngest_plugins.mirror.store.scope import Scope, checked_scope
from inngest_plugins.mirror.store.store import SQLAlchemyStore

from .documents import detail_document, run_document
from .page import list_page, problem_page, run_page

Authorise: TypeAlias = Callable[[Request], "Scope | Awaitable[Scope]"]
_STREAM_SECONDS: Final = 300.0
"""How long a stream lasts: a browser then opens another, which is authorised anew."""
_SILENCE_SECONDS: Final = 15.0
_FOR_PEOPLE: Final = (409, 502, 503)


def mirror_router(
    store: SQLAlchemyStore,
    *,
    client: inngest.Inngest,
    authorise: Authorise,
    poll: float = 1.0,
) -> APIRouter:
    """Return a router with the runs that each user may see.

    `GET /` is a page of runs (`status`, `function_id`, `event_name`, `tag=name:value`, `after`,
    `limit`), `GET /{run}` one run with its steps, `GET /{run}/events` the same as server-sent
    events until it ends, `POST /{run}/cancel` and `POST /{run}/rerun` (`{"from_step": ...}`) steer
    it; `GET /page` and `GET /page/{run}` are for people.

    Args:
        store: the mirror's database.
        client: the app's client, through which the router cancels and reruns runs at the engine.
        authorise: returns the user's `Scope` for a request, sync or async. It raises
            `fastapi.HTTPException` for a user who may see nothing.
        poll: seconds between two reads of the database for a stream of events.

    Raises:
        MirrorError: `store` or `client` is none, `authorise` is not a function, or `poll` is not a
            positive number.
    """
    given: tuple[tuple[str, object, type], ...] = (
        ("store", store, SQLAlchemyStore),
        ("client", client, inngest.Inngest),
    )
    for name, value, kind in given:
        if not isinstance(value, kind):
            raise MirrorError(
                f"mirror_router({name}) is of the class {kind.__name__}, not {class_name(value)}"
            )
    if not callable(authorise):
        raise MirrorError(
            "mirror_router(authorise=...) is not a function: there is no default, as it would show "
            "every tenant's runs to everybody"
        )
    check_seconds("mirror_router(poll=...)", poll, error=MirrorError)
    routes = _Routes(store, client, authorise, poll)
    router = APIRouter()
    pages: dict[str, Any] = {"include_in_schema": False, "response_model": None}
    router.add_api_route("/page", routes.list_page, **pages)
    router.add_api_route("/page/{run_id}", routes.run_page, **pages)
    router.add_api_route("/page/{run_id}/cancel", routes.cancel_page, methods=["POST"], **pages)
    router.add_api_route("/page/{run_id}/rerun", routes.rerun_page, methods=["POST"], **pages)
    router.add_api_route("/", routes.list_runs)
    router.add_api_route("/{run_id}", routes.get_run)
    router.add_api_route("/{run_id}/events", routes.events, response_model=None)
    router.add_api_route("/{run_id}/cancel", routes.cancel, methods=["POST"])
    router.add_api_route("/{run_id}/rerun", routes.rerun, methods=["POST"], status_code=202)
    return router


class Rerun(pydantic.BaseModel, extra="forbid"):
    """The body of a request to rerun. One that is not understood starts no run.

    Attributes:
        from_step: the step to begin with; None to begin at the start.
    """

    from_step: str | None = None


class _Routes:
    """The handlers. Each of them gets the user's scope first."""

    def __init__(
        self, store: SQLAlchemyStore, client: inngest.Inngest, authorise: Authorise, poll: float
    ) -> None:
        self._store = store
        self._client = client
        self._api = EngineApi(client)
        self._authorise = authorise
        self._poll = poll

    # ------------------------------------------------------------ reading

    async def list_runs(
        self,
        request: Request,
        status: str | None = None,
        function_id: str | None = None,
        event_name: str | None = None,
        tag: Annotated[str | None, Query(description="name:value")] = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    ) -> dict[str, Any]:
        """Return a page of runs, latest first; `next` is the `after` of the following page."""
        filters = _filters(status, function_id, event_name, tag)
        page = await self._page(await self._scope(request), filters, after, limit)
        return {"runs": [run_document(run) for run in page.runs], "next": page.next}

    async def get_run(self, request: Request, run_id: str) -> dict[str, Any]:
        """Return one run with its steps."""
        return detail_document(await self._run(run_id, await self._scope(request)))

    async def events(self, request: Request, run_id: str) -> StreamingResponse:
        """Stream a run's changes as server-sent events until it ends."""
        scope = await self._scope(request)
        first = await self._run(run_id, scope)
        return StreamingResponse(
            self._stream(first, scope),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _stream(self, first: RunDetail, scope: Scope) -> AsyncIterator[str]:
        detail: RunDetail | None = first
        sent = ""
        begun = heard = time.monotonic()
        while detail is not None:
            document = json.dumps(detail_document(detail))
            if document != sent:
                sent, heard = document, time.monotonic()
                yield f"event: run\ndata: {document}\n\n"
            if not detail.run.is_open:
                yield "event: end\ndata: {}\n\n"
                return
            if time.monotonic() - begun > _STREAM_SECONDS:
                return
            if time.monotonic() - heard > _SILENCE_SECONDS:
                heard = time.monotonic()
                yield ": still running\n\n"
            await anyio.sleep(self._poll)
            try:
                detail = await self._store.run(first.run.run_id, scope)
            except MirrorDatabaseError:
                # The next poll may find it again; until then the reader has the last state.
                continue

    # ------------------------------------------------------------ steering

    async def cancel(self, request: Request, run_id: str) -> dict[str, Any]:
        """Ask the engine to cancel a run; return the run as the engine then knows it."""
        scope = await self._steering_scope(request)
        run = (await self._run(run_id, scope)).run
        await self._steer(run.run_id, "cancel", None)
        return detail_document(await self._run(run_id, scope))

    async def rerun(
        self,
        request: Request,
        run_id: str,
        wanted: Annotated[Rerun | None, Body()] = None,
    ) -> dict[str, str]:
        """Ask the engine to run it again, from the start or a step; return the new run's id."""
        scope = await self._steering_scope(request)
        run = (await self._run(run_id, scope)).run
        from_step = None if wanted is None else wanted.from_step
        body = {} if from_step is None else {"fromStep": {"stepId": from_step}}
        answer = await self._steer(run.run_id, "rerun", body)
        return {"run_id": str(answer["data"]["runId"])}

    async def _steer(self, run_id: str, what: str, body: Any) -> Any:
        path = f"/api/v2/runs/{quote(run_id, safe='')}/{what}"
        try:
            response = await self._api.request("POST", path, json=body)
            # Read the engine's state also after a refusal: the run may have ended meanwhile.
            await self._store.refresh(self._client, run_id)
        except EngineApiError as err:
            raise HTTPException(502, "the engine cannot be reached") from err
        except MirrorDatabaseError as err:
            raise HTTPException(503, "the mirror's database cannot be reached") from err
        if not response.is_success:
            raise HTTPException(409, f"the engine refused: {_refusal(response)}")
        return response.json()

    # ------------------------------------------------------------ pages

    async def list_page(
        self,
        request: Request,
        status: str | None = None,
        function_id: str | None = None,
        event_name: str | None = None,
        after: str | None = None,
    ) -> HTMLResponse:
        """Show a page of runs."""
        filters = _filters(status, function_id, event_name, None)
        page = await self._page(await self._scope(request), filters, after, 50)
        return list_page(page, filters, is_first=after is None)

    async def run_page(self, request: Request, run_id: str) -> HTMLResponse:
        """Show one run."""
        scope = await self._scope(request)
        return run_page(await self._run(run_id, scope), can_steer=scope.can_steer)

    async def cancel_page(self, request: Request, run_id: str) -> Response:
        """Cancel a run, and show it."""
        back = f"../{quote(run_id, safe='')}"
        return await _after_button(self.cancel(request, run_id), back, back)

    async def rerun_page(self, request: Request, run_id: str) -> Response:
        """Run it again, and show the list, where the new run appears with its first request."""
        back = f"../{quote(run_id, safe='')}"
        return await _after_button(self.rerun(request, run_id, None), "../../page", back)

    # ------------------------------------------------------------ checks of the request

    async def _scope(self, request: Request) -> Scope:
        scope = self._authorise(request)
        return checked_scope(await scope if inspect.isawaitable(scope) else scope)

    async def _steering_scope(self, request: Request) -> Scope:
        _check_same_origin(request)
        scope = await self._scope(request)
        if not scope.can_steer:
            raise HTTPException(403, "this user may not cancel or rerun")
        return scope

    async def _page(
        self, scope: Scope, filters: dict[str, Any], after: str | None, limit: int
    ) -> Page:
        try:
            return await self._store.runs(scope, **filters, after=after, limit=limit)
        except MirrorDatabaseError as err:
            raise HTTPException(503, "the mirror's database cannot be reached") from err
        except MirrorError as err:
            raise HTTPException(422, str(err)) from err

    async def _run(self, run_id: str, scope: Scope) -> RunDetail:
        try:
            detail = await self._store.run(run_id, scope)
        except MirrorDatabaseError as err:
            raise HTTPException(503, "the mirror's database cannot be reached") from err
        if detail is None:
            # Another tenant's run gets the same answer, so nobody learns that it exists.
            raise HTTPException(404, "there is no such run")
        return detail


async def _after_button(action: Awaitable[object], then: str, back: str) -> Response:
    """Carry out a button's action; a page says why it failed."""
    try:
        await action
    except HTTPException as err:
        if err.status_code in _FOR_PEOPLE:
            return problem_page(err.status_code, str(err.detail), back)
        raise
    return RedirectResponse(then, status_code=303)


def _filters(
    status: str | None, function_id: str | None, event_name: str | None, tag: str | None
) -> dict[str, Any]:
    """Return the filters that are set; a form sends the others empty."""
    found: dict[str, Any] = {
        name: value
        for name, value in (
            ("status", status),
            ("function_id", function_id),
            ("event_name", event_name),
        )
        if value
    }
    if tag:
        name, colon, value = tag.partition(":")
        if not colon:
            raise HTTPException(422, "tag is name:value")
        found["tag"] = (name, value)
    return found


def _check_same_origin(request: Request) -> None:
    """Refuse what another site's page sends with the user's cookies."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        # No browser, or one too old to say; `Origin` comes with every POST of a browser.
        is_ours = origin is None or _host_of(origin) == request.headers.get("host")
    if not is_ours:
        raise HTTPException(403, "the request comes from another site")


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _refusal(response: httpx.Response) -> str:
    try:
        return str(response.json()["errors"][0]["message"])
    except (ValueError, LookupError, TypeError):
        return f"status {response.status_code}"
