"""The payment provider, pretended: `uvicorn examples.production.payments:app --port 8100`.

It charges once for each idempotency key, as real ones do, and refuses the card `tok_declined`.
"""

from __future__ import annotations

from typing import Annotated

import fastapi
import pydantic


class Charge(pydantic.BaseModel):
    """What to charge."""

    order_id: str
    cents: int
    card_token: str


app = fastapi.FastAPI()
charges: dict[str, Charge] = {}


@app.post("/charges")
async def charge(
    wanted: Charge, idempotency_key: Annotated[str, fastapi.Header()]
) -> dict[str, str]:
    if wanted.card_token == "tok_declined":  # noqa: S105 - a name, no secret
        raise fastapi.HTTPException(402, "the bank refused the card")
    charges.setdefault(idempotency_key, wanted)
    return {"charge": f"ch_{wanted.order_id}"}
