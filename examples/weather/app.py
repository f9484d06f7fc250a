"""A function that asks two HTTP services; each request is sent once, however often it replays.

Without a server, from this folder:

    inngest-plugins run app.py --event @event.json
"""

from __future__ import annotations

from typing import Any

import httpx
import inngest

from inngest_plugins.fetch import DurableTransport

client = inngest.Inngest(app_id="weather", is_production=False)


def service(request: httpx.Request) -> httpx.Response:
    """Pretend to be both services; leave `transport=` out below to use the network."""
    if request.url.path == "/forecast":
        return httpx.Response(200, json={"city": request.url.params["city"], "degrees": 21})
    return httpx.Response(201, json={"sent": request.headers["idempotency-key"]})


@client.create_function(fn_id="report", trigger=inngest.TriggerEvent(event="weather/report.asked"))
async def report(ctx: inngest.Context) -> dict[str, Any]:
    """Ask for the weather, and post it."""
    transport = DurableTransport(transport=httpx.MockTransport(service))
    async with httpx.AsyncClient(transport=transport) as http:
        city = str(ctx.event.data["city"])
        forecast = await http.get("https://weather.example/forecast", params={"city": city})
        posted = await http.post("https://chat.example/messages", json=forecast.json())
    return {"degrees": forecast.json()["degrees"], "status": posted.status_code}
