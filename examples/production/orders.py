"""The shop's own database: what was done for each order.

A step runs once, unless its worker dies between doing the work and telling the engine. So what a
step writes has the run and the step as its key: written again it is the same row.
`python -m examples.production.orders` makes the table.
"""

from __future__ import annotations

import asyncio
import os

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

_metadata = sa.MetaData()
effects = sa.Table(
    "shop_effects",
    _metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("step", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, nullable=False, index=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("times", sa.Integer, nullable=False),
)
_WRITE = sa.text(
    "INSERT INTO shop_effects (run_id, step, order_id, value, times) "
    "VALUES (:run_id, :step, :order_id, :value, 1) "
    "ON CONFLICT (run_id, step) DO UPDATE SET times = shop_effects.times + 1 "
    "RETURNING value"
)


class Orders:
    """What was done for each order.

    Args:
        url: SQLAlchemy's URL of the database, with an async driver.
    """

    def __init__(self, url: str) -> None:
        self._engine: AsyncEngine = create_async_engine(url, pool_pre_ping=True)

    async def create(self) -> None:
        """Make the table, if it is not there."""
        async with self._engine.begin() as connection:
            await connection.run_sync(_metadata.create_all)

    async def write(self, run_id: str, step: str, order_id: str, value: str) -> str:
        """Write what a step did, and return it; of a step that runs again the first time counts."""
        values = {"run_id": run_id, "step": step, "order_id": order_id, "value": value}
        async with self._engine.begin() as connection:
            return str((await connection.execute(_WRITE, values)).scalar_one())

    async def ping(self) -> None:
        """Raise when the database cannot be reached."""
        async with self._engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


async def _migrate() -> None:
    orders = Orders(os.environ["SHOP_DATABASE"])
    await orders.create()
    await orders.close()


if __name__ == "__main__":
    asyncio.run(_migrate())
