"""Real Redis and PostgreSQL servers for the stores of budgets."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from inngest_plugins.ai import (
    BudgetStore,
    MemoryBudgetStore,
    RedisBudgetStore,
    SQLAlchemyBudgetStore,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def redis_client() -> Iterator[redis.Redis]:
    """A client of a Redis server of the session's own."""
    binary = shutil.which("redis-server")
    if binary is None:
        _absent("no Redis server is installed (Debian: apt-get install redis-server)")
    port = _free_port()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen([str(binary), *arguments], stdout=subprocess.DEVNULL)
    client = redis.Redis(
        host="127.0.0.1",
        port=port,
        retry=Retry(ConstantBackoff(0.05), 200),
        retry_on_error=[redis.ConnectionError],
    )
    try:
        client.ping()
        yield client
    finally:
        client.close()
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def postgres_engine() -> Iterator[sa.Engine]:
    """An engine on a PostgreSQL server of the session's own."""
    found = shutil.which("initdb")
    folders = [pathlib.Path(found).parent] if found else []
    folders += sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not folders:
        _absent("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ai-postgres-"))
    options: dict[str, Any] = {"cwd": "/", "stdout": subprocess.DEVNULL}
    if os.getuid() == 0:
        # The server refuses to run as root.
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    data, port = str(folder / "data"), _free_port()
    create = [str(folders[0] / "initdb"), "-D", data, "-U", "ai", "-A", "trust", "-N"]
    subprocess.run(create, check=True, **options)
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [str(folders[0] / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log")]
    subprocess.run([*control, "-o", settings, "start"], check=True, **options)
    engine = sa.create_engine(f"postgresql+psycopg://ai@127.0.0.1:{port}/postgres", pool_size=20)
    try:
        yield engine
    finally:
        engine.dispose()
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **options)
        shutil.rmtree(folder)


@pytest.fixture(params=["memory", "redis", "postgresql", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[BudgetStore]:
    """An empty store of each kind."""
    if request.param == "memory":
        yield MemoryBudgetStore()
    elif request.param == "redis":
        client: redis.Redis = request.getfixturevalue("redis_client")
        client.flushall()
        yield RedisBudgetStore(client)
    elif request.param == "postgresql":
        engine: sa.Engine = request.getfixturevalue("postgres_engine")
        made = SQLAlchemyBudgetStore(engine)
        yield made
        made.metadata.drop_all(engine)
    else:
        engine = sa.create_engine(
            f"sqlite:///{tmp_path / 'budgets.db'}", connect_args={"timeout": 60}
        )
        yield SQLAlchemyBudgetStore(engine)
        engine.dispose()
