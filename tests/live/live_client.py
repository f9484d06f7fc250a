"""Options of the clients under test: a server in dev mode, or one in production mode.

`INNGEST_DEV_URL` names the server. With `INNGEST_SIGNING_KEY` and `INNGEST_EVENT_KEY` set it is one
in production mode (`inngest start`), whose requests are signed and which takes none without a key.
"""

from __future__ import annotations

import os
from typing import Any

URL = os.environ.get("INNGEST_DEV_URL", "").rstrip("/")
SIGNING_KEY = os.environ.get("INNGEST_SIGNING_KEY")
EVENT_KEY = os.environ.get("INNGEST_EVENT_KEY")
IN_PRODUCTION = bool(SIGNING_KEY and EVENT_KEY)


def client_options() -> dict[str, Any]:
    """Return what a client of the server needs beside its app id."""
    options: dict[str, Any] = {
        "api_base_url": URL,
        "event_api_base_url": URL,
        "is_production": IN_PRODUCTION,
    }
    if IN_PRODUCTION:
        options |= {"event_key": EVENT_KEY, "signing_key": SIGNING_KEY}
    return options
