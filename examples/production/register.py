"""Tells the server the app's functions: `python -m examples.production.register http://worker:8000`.

Ends when the server has taken them. An event that comes before starts nothing, and by itself the
server asks only now and then: so nothing that takes orders starts before this has ended.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import httpx


async def until_up(url: str, is_up: Callable[[httpx.Response], bool], method: str = "GET") -> None:
    """Ask until the answer is the one that is wanted."""
    async with httpx.AsyncClient(timeout=30) as http:
        while True:
            try:
                if is_up(await http.request(method, url)):
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)


async def register(url: str) -> None:
    """Wait for a worker and for the server, which learns the app's functions and its address."""
    await until_up(f"{url}/health", lambda answer: answer.is_success)
    await until_up(f"{url}/api/inngest", lambda answer: answer.is_success, "PUT")


if __name__ == "__main__":
    asyncio.run(register(sys.argv[1]))
