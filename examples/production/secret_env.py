"""Prints fresh secrets as a file of variables: `python examples/production/secret_env.py > .env`.

It needs nothing but Python.
"""

from __future__ import annotations

import base64
import datetime
import secrets


def fresh() -> dict[str, str]:
    """New secrets for the server, the workers, the database and the operators' page."""
    key_id = f"{datetime.date.today():%Y-%m}"
    return {
        "INNGEST_EVENT_KEY": secrets.token_hex(16),
        "INNGEST_SIGNING_KEY": secrets.token_hex(32),
        "SHOP_KEYS": f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "SHOP_OPERATOR_TOKEN": secrets.token_urlsafe(24),
        "POSTGRES_PASSWORD": secrets.token_hex(16),
    }


if __name__ == "__main__":
    for name, value in fresh().items():
        print(f"{name}={value}")
