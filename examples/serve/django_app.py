"""A Django project in one file, with one durable function: `python django_app.py runserver`."""

from __future__ import annotations

import os
import secrets
import sys

import inngest
import inngest.django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from pydantic import BaseModel

from inngest_plugins.validation import EventType, ValidationPlugin


class Order(BaseModel):
    """What a customer ordered."""

    id: str
    cents: int


order_placed = EventType("shop/order.placed", Order)
client = inngest.Inngest(app_id="shop", middleware=[ValidationPlugin(events=[order_placed])])


@client.create_function(fn_id="fulfil", trigger=order_placed.trigger())
def fulfil(ctx: inngest.ContextSync) -> dict[str, int]:
    order = order_placed.parse(ctx.event)

    def charge() -> int:
        return order.cents

    return {"charged": ctx.step.run("charge", charge)}


def place(request: HttpRequest) -> JsonResponse:
    order = Order.model_validate_json(request.body)
    (event_id,) = client.send_sync(order_placed.new(order))
    return JsonResponse({"event": event_id}, status=202)


urlpatterns = [inngest.django.serve(client, [fulfil]), path("orders", csrf_exempt(place))]

# What a project has in its settings.py.
settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    LOGGING_CONFIG=None,
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_urlsafe(),
)
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
