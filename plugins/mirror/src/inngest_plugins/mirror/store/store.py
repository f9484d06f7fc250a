"""`SQLAlchemyStore`: the mirror's database, for sync and async code."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import inngest
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from inngest_plugins.core import class_name
from inngest_plugins.mirror._errors import MirrorDatabaseError, driver_error

from .rows import OPEN, Report
from .scope import Scope, checked_scope
from .tables import runs
from .thread import LoopThread
from .url import async_url, checked_options
from .writes import write_report

if TYPE_CHECKING:
    from .reads import Page, RunDetail
    from .reconcile import Reconciled

T = TypeVar("T")
_ASK_SECONDS: Final = 30.0
_PARENTS: Final[list[AsyncEngine]] = []
"""The parent's engines in a forked process: collecting one would close its connections."""


class SQLAlchemyStore:
    """Runs in SQLite or PostgreSQL.

    It can be used from any thread and any event loop. An SQLite file is made, and brought up to
    date, with the first use; a PostgreSQL database by `inngest-plugins mirror upgrade` or
    `upgrade()`.

    Args:
        url: SQLAlchemy's URL. Without a driver: "aiosqlite", or what is installed of "asyncpg" and
            "psycopg".
        engine_options: arguments of SQLAlchemy's `create_async_engine`, such as `pool_size`.

    Raises:
        MirrorError: the URL is none, or names another database or a driver that is not installed;
            or `engine_options` are none.
    """

    def __init__(
        self,
        url: str = "sqlite:///inngest-mirror.db",
        *,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._url = async_url(url)
        self._options = checked_options(engine_options)
        self._thread = LoopThread("inngest-mirror")
        self._engine: AsyncEngine | None = None
        self._process = 0
        self._turn: asyncio.Lock | None = None
        self._is_ready = False
        if self._url.get_backend_name() == "sqlite":
            # The first write makes the tables within its deadline: what takes long is done here.
            from . import migrate as migrate

    @property
    def label(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"<SQLAlchemyStore {self.label}>"

    # ------------------------------------------------------------ writing

    async def write(self, report: Report, *, timeout: float | None = None) -> None:
        """Write what a request knows of its run, in one transaction.

        Args:
            report: the facts about the run.
            timeout: seconds after which it is given up.

        Raises:
            TimeoutError: it took longer.
            Exception: what SQLAlchemy or the driver raises.
        """
        await self.write_all([report], timeout=timeout)

    async def write_all(self, reports: Sequence[Report], *, timeout: float | None = None) -> None:
        """Write several reports in one transaction, all or none; see `write`."""
        await self._thread.run_async(lambda: self._write(reports), timeout)

    def write_sync(self, report: Report, *, timeout: float | None = None) -> None:
        """Write from sync code; see `write`."""
        self._thread.run(lambda: self._write([report]), timeout)

    def later(self, seconds: float, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine in the database's loop after a while; `close` drops it."""
        self._thread.later(seconds, make)

    async def _write(self, reports: Sequence[Report]) -> None:
        async with self.begin() as connection:
            # In one order by run, so that processes which do the same do not lock each other out.
            for report in sorted(reports, key=lambda each: each.run.run_id):
                await write_report(connection, report)

    # ------------------------------------------------------------ reading

    async def runs(
        self,
        scope: Scope,
        *,
        status: str | None = None,
        function_id: str | None = None,
        event_name: str | None = None,
        tag: tuple[str, str] | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Page:
        """Return a page of runs, latest first.

        Args:
            scope: whose runs.
            status: only those with this status: "Queued", "Running", "Completed", ...
            function_id: only those of this function.
            event_name: only those of this event.
            tag: only those with this name and value.
            after: the `next` of the page before.
            limit: how many at most, up to 200.

        Raises:
            MirrorError: the scope is none, or another argument is one that no run could have.
            MirrorDatabaseError: the database failed.
        """
        from .reads import Filters, checked_limit, read_page

        checked = checked_scope(scope)
        filters = Filters(status, function_id, event_name, tag, after)
        count = checked_limit(limit)

        async def read() -> Page:
            async with self.begin(writes=False) as connection:
                return await read_page(connection, checked, filters, count)

        return await self.ask(read)

    async def run(self, run_id: str, scope: Scope) -> RunDetail | None:
        """Return a run with its steps, or None when there is none that the scope shows.

        Args:
            run_id: the run.
            scope: whose runs.

        Raises:
            MirrorError: the scope is none, or the id is no text.
            MirrorDatabaseError: the database failed.
        """
        from .reads import checked_text, read_run

        checked, key = checked_scope(scope), checked_text("run_id", run_id)

        async def read() -> RunDetail | None:
            async with self.begin(writes=False) as connection:
                return await read_run(connection, checked, key)

        return await self.ask(read)

    # ------------------------------------------------------------ the engine

    async def reconcile(
        self,
        client: inngest.Inngest,
        *,
        since: dt.timedelta = dt.timedelta(days=1),
        lost_after: dt.timedelta = dt.timedelta(minutes=5),
    ) -> Reconciled:
        """Compare with the engine, for what reaches no request: cancelled, timed out, lost.

        Call it when the app starts and by a schedule. What the engine says counts.

        Args:
            client: the app's client.
            since: how far back runs are compared; open ones are, however old they are.
            lost_after: when an open run that the engine does not know counts as lost: so long
                after its last request.

        Raises:
            MirrorError: `since` or `lost_after` is no `timedelta`.
            EngineApiError: the engine could not be reached, or refused.
            MirrorDatabaseError: the database failed.
        """
        from . import reconcile as compare

        now, oldest, lost_before = compare.moments(since, lost_after)
        engine, app_id = compare.EngineRuns(client), client.app_id
        known = await self._in_transaction(lambda c: compare.known_runs(c, app_id, oldest))
        unfinished = await self._in_transaction(lambda c: compare.runs_with_open_steps(c, app_id))
        runs_there = {run.row["run_id"]: run async for run in engine.since(oldest)}
        lost: list[str] = []
        for run_id, row in known.items():
            if run_id not in runs_there and row["status"] in OPEN:
                if (run := await engine.one(run_id)) is not None:
                    runs_there[run_id] = run
                elif row["seen_at"] is None or row["seen_at"] < lost_before:
                    lost.append(run_id)
        corrected = 0
        for run_id, run in runs_there.items():
            differs = run_id not in known or known[run_id]["status"] != run.row["status"]
            corrected += differs
            found = await engine.steps_of(run_id) if differs or run_id in unfinished else []
            write = functools.partial(compare.write_confirmed, run=run, found=found)
            await self._in_transaction(write)
        if lost:
            await self._in_transaction(lambda c: compare.mark_lost(c, lost, now))
        return compare.Reconciled(len(runs_there), corrected, len(lost))

    async def refresh(self, client: inngest.Inngest, run_id: str) -> None:
        """Ask the engine about one run, and write its answer.

        Args:
            client: the app's client.
            run_id: the run.

        Raises:
            EngineApiError: the engine could not be reached, or refused.
            MirrorDatabaseError: the database failed.
        """
        from .reconcile import EngineRuns, write_confirmed

        engine = EngineRuns(client)
        if (run := await engine.one(run_id)) is not None:
            steps = await engine.steps_of(run_id)
            await self._in_transaction(lambda c: write_confirmed(c, run, steps))

    async def _in_transaction(
        self, action: Callable[[AsyncConnection], Coroutine[Any, Any, T]]
    ) -> T:
        async def act() -> T:
            async with self.begin() as connection:
                return await action(connection)

        return await self.ask(act)

    # ------------------------------------------------------------ the database

    async def upgrade(self) -> None:
        """Make the tables, or bring them up to date.

        Raises:
            MirrorDatabaseError: the database cannot be reached, or refused.
        """
        await self.ask(self._upgrade)

    def upgrade_sync(self) -> None:
        """Make the tables from sync code; see `upgrade`."""
        self.ask_sync(self._upgrade)

    async def check(self) -> None:
        """Ask whether the database answers and has the tables.

        Raises:
            MirrorDatabaseError: it does not.
        """

        async def look() -> None:
            async with self.begin(writes=False) as connection:
                await connection.execute(sa.select(runs.c.run_id).limit(1))

        await self.ask(look)

    async def close(self) -> None:
        """Close the connections; the next use opens others."""
        await self._thread.stop_async(self._dispose)

    def close_sync(self) -> None:
        """Close the connections from sync code; see `close`."""
        self._thread.stop(self._dispose)

    async def _dispose(self) -> None:
        engine, self._engine, self._turn = self._engine, None, None
        self._is_ready = False
        if engine is not None:
            await engine.dispose()

    async def _upgrade(self) -> None:
        from .migrate import upgrade

        async with self._opened().begin() as connection:
            await connection.run_sync(upgrade)

    # ------------------------------------------------------------ for the parts of the mirror

    async def ask(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in the database's loop, with a readable error when it fails.

        Raises:
            MirrorDatabaseError: the database failed.
        """
        try:
            return await self._thread.run_async(make, _ASK_SECONDS)
        except (exc.SQLAlchemyError, MirrorDatabaseError, OSError, TimeoutError) as err:
            raise MirrorDatabaseError(f"{self.label}: {self.explain(err)}") from err

    def ask_sync(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run it from sync code; see `ask`."""
        try:
            return self._thread.run(make, _ASK_SECONDS)
        except (exc.SQLAlchemyError, MirrorDatabaseError, OSError, TimeoutError) as err:
            raise MirrorDatabaseError(f"{self.label}: {self.explain(err)}") from err

    @contextlib.asynccontextmanager
    async def begin(self, *, writes: bool = True) -> AsyncIterator[AsyncConnection]:
        """Open a transaction; in the store's own thread only."""
        engine = self._opened()
        is_sqlite = engine.dialect.name == "sqlite"
        turn = self._turn if is_sqlite and (writes or not self._is_ready) else None
        async with turn or contextlib.nullcontext():
            if is_sqlite and not self._is_ready:
                await self._upgrade()
                self._is_ready = True
            async with engine.connect() as connection:
                if not writes:
                    await connection.execution_options(mirror_reads=True)
                async with connection.begin():
                    yield connection

    def explain(self, err: BaseException) -> str:
        """Describe a database error in a sentence without values."""
        if isinstance(err, TimeoutError):
            return "It did not answer in time"
        if isinstance(err, MirrorDatabaseError):
            return str(err)
        original = getattr(err, "orig", None)
        cause = class_name(err) if original is None else driver_error(original)
        said = str(original) if isinstance(err, exc.ProgrammingError) else ""
        if "inngest_" in said and "does not exist" in said:
            has = "a column is missing" if "column" in said else "it has no tables"
            command = f'inngest-plugins mirror upgrade --url "{self.label}"'
            return f"{has}: run `{command}` with the password filled in"
        return f"{class_name(err)} ({cause})" if cause != class_name(err) else cause

    def _opened(self) -> AsyncEngine:
        if self._engine is None or self._process != os.getpid():
            # After a fork the connections belong to the parent: do not use or close them here.
            if self._engine is not None:
                _PARENTS.append(self._engine)
            self._engine = _make_engine(self._url, self._options)
            self._process = os.getpid()
            self._turn = asyncio.Lock()
            self._is_ready = False
        return self._engine


def _make_engine(url: sa.URL, options: Mapping[str, Any]) -> AsyncEngine:
    # Parameters may be payloads, so errors of the database must not quote them.
    engine = create_async_engine(
        url, **{"hide_parameters": True, "pool_pre_ping": False, **options}
    )
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # The driver's own way leaves statements on tables outside of transactions, so begin them here.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get("mirror_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
