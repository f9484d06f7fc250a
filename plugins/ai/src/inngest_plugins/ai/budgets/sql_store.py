"""Budgets in a database: each change locks the account's row first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from inngest_plugins.core import ArgumentError, class_name, require_extra

from .stores import Balance, is_granted

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


class SQLAlchemyBudgetStore:
    """A store in a database that SQLAlchemy reaches, such as PostgreSQL or SQLite.

    It keeps the tables `ai_budget_accounts` and `ai_budget_reservations`. Times are the workers':
    their clocks have to agree to within a minute or so.

    Args:
        engine: a sync engine. The app keeps and disposes of it.
        create_tables: whether missing tables are created. Otherwise create them with
            `store.metadata`, from a migration.
        clock: the time in seconds.

    Attributes:
        metadata: the SQLAlchemy `MetaData` with the two tables.

    Raises:
        MissingExtraError: SQLAlchemy is not installed.
        ArgumentError: this is no engine, or an async one.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        create_tables: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        require_extra("ai", "sqlalchemy")
        import sqlalchemy as sa
        from sqlalchemy.exc import DBAPIError

        given: object = engine
        if not isinstance(given, sa.Engine) or given.dialect.is_async:
            raise ArgumentError(
                "SQLAlchemyBudgetStore(...) takes a sync engine, as in "
                f"SQLAlchemyBudgetStore(sqlalchemy.create_engine(url)), not {class_name(engine)}"
            )
        self._engine = engine
        self._clock = clock
        self.metadata = sa.MetaData()
        self._accounts = sa.Table(
            "ai_budget_accounts",
            self.metadata,
            sa.Column("account", sa.String(255), primary_key=True),
            sa.Column("spent", sa.BigInteger, nullable=False),
            sa.Column("keep_until", sa.Double, nullable=False),
        )
        self._reservations = sa.Table(
            "ai_budget_reservations",
            self.metadata,
            sa.Column("reservation", sa.String(64), primary_key=True),
            sa.Column("account", sa.String(255), nullable=False, index=True),
            sa.Column("amount", sa.BigInteger, nullable=False),
            sa.Column("lapses_at", sa.Double, nullable=False),
        )
        if create_tables:
            # Another worker that starts at the same time may make each of them first.
            for _ in self.metadata.tables:
                with contextlib.suppress(DBAPIError):
                    self.metadata.create_all(engine)
                    return
            self.metadata.create_all(engine)

    def reserve(
        self, account: str, *, reservation: str, amount: int, limit: int, seconds: float
    ) -> Balance:
        """See `BudgetStore.reserve`."""
        with self._engine.begin() as connection:
            spent = self._change(connection, account, spent=0, keep=seconds)
            held = self._reservations
            lapsed = (held.c.account == account) & (held.c.lapses_at <= self._clock())
            connection.execute(held.delete().where(lapsed))
            reserved = self._reserved(connection, account)
            granted = is_granted(used=spent + reserved, amount=amount, limit=limit)
            if granted and amount:
                connection.execute(
                    held.insert().values(
                        reservation=reservation,
                        account=account,
                        amount=amount,
                        lapses_at=self._clock() + seconds,
                    )
                )
            return Balance(spent, reserved, granted)

    def settle(
        self, account: str, *, spent: int, reservations: Sequence[str], seconds: float
    ) -> None:
        """See `BudgetStore.settle`."""
        held = self._reservations
        with self._engine.begin() as connection:
            self._change(connection, account, spent=spent, keep=seconds)
            if reservations:
                ended = held.c.reservation.in_(list(reservations))
                connection.execute(held.delete().where(ended))

    def balance(self, account: str) -> Balance:
        """See `BudgetStore.balance`."""
        with self._engine.connect() as connection:
            return Balance(self._spent(connection, account), self._reserved(connection, account))

    def accounts(self) -> list[str]:
        """Return the names of the accounts."""
        import sqlalchemy as sa

        kept, held = self._accounts, self._reservations
        now = self._clock()
        spending = sa.select(kept.c.account).where(kept.c.keep_until > now)
        reserving = sa.select(held.c.account).where(held.c.lapses_at > now)
        with self._engine.connect() as connection:
            return sorted(connection.execute(spending.union(reserving)).scalars())

    def _change(self, connection: Connection, account: str, *, spent: int, keep: float) -> int:
        """Add to an account and hold its row until the transaction ends."""
        from sqlalchemy.exc import IntegrityError

        table = self._accounts
        until = self._clock() + keep
        update = (
            table.update()
            .where(table.c.account == account)
            .values(spent=table.c.spent + spent, keep_until=until)
        )
        # Every database locks a row for an UPDATE, SQLite too.
        if not connection.execute(update).rowcount:
            # Now and then, delete the accounts of periods that are long over.
            connection.execute(table.delete().where(table.c.keep_until < self._clock()))
            values = {"account": account, "spent": spent, "keep_until": until}
            try:
                with connection.begin_nested():
                    connection.execute(table.insert().values(values))
            except IntegrityError:
                connection.execute(update)
        return self._spent(connection, account)

    def _spent(self, connection: Connection, account: str) -> int:
        import sqlalchemy as sa

        table = self._accounts
        found: Any = connection.execute(
            sa.select(table.c.spent).where(table.c.account == account)
        ).scalar()
        return int(found or 0)

    def _reserved(self, connection: Connection, account: str) -> int:
        import sqlalchemy as sa

        held = self._reservations
        valid = (held.c.account == account) & (held.c.lapses_at > self._clock())
        found: Any = connection.execute(
            sa.select(sa.func.coalesce(sa.func.sum(held.c.amount), 0)).where(valid)
        ).scalar()
        return int(found or 0)
