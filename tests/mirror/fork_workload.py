"""An app that is loaded before its workers are forked (see test_mirror_processes.py).

Run as a script: `fork_workload.py URL...`, each URL a mirror of its own. The parent runs a
function, forks two workers that run one each while it runs another, and exits with 0 when all went
well.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback

import inngest

from inngest_plugins.local import LocalEngine
from inngest_plugins.mirror import MirrorPlugin, SQLAlchemyStore

stores = [SQLAlchemyStore(url) for url in sys.argv[1:]]
client = inngest.Inngest(
    app_id="forked",
    is_production=False,
    middleware=[MirrorPlugin(store, timeout=30) for store in stores],
)


async def seven() -> int:
    return 7


@client.create_function(fn_id="fn", trigger=inngest.TriggerEvent(event="go"))
async def fn(ctx: inngest.Context) -> int:
    return await ctx.step.run("seven", seven)


async def run() -> None:
    async with LocalEngine(client, [fn]) as engine:
        found = await engine.run(inngest.Event(name="go"))
        assert found.status == "Completed", found.reason


def close() -> None:
    for store in stores:
        store.close_sync()


def worker() -> int:
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(run())
            close()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def main() -> None:
    asyncio.run(run())
    workers = [worker(), worker()]
    asyncio.run(run())
    ends = [os.waitpid(each, 0)[1] for each in workers]
    assert ends == [0, 0], ends
    asyncio.run(run())
    close()


if __name__ == "__main__":
    main()
