"""Contracts for Inngest events and outputs: Pydantic types and JSON Schemas.

```python
order_placed = EventType("shop/order.placed", Order)
client = inngest.Inngest(app_id="shop", middleware=[ValidationPlugin(events=[order_placed])])
```
"""

from __future__ import annotations

from inngest_plugins.core import require_extra

# Before the imports below, which would fail with a message that names no remedy.
require_extra("validation", "jsonschema", "pydantic", "referencing", "yaml")

from ._event_type import EventType  # noqa: E402
from ._incoming import DroppedEvent, dropped_events  # noqa: E402
from ._plugin import ValidationPlugin  # noqa: E402
from ._registry import SchemaRegistry  # noqa: E402
from ._violations import MAX_VIOLATIONS, SchemaError, ValidationFailed, Violation  # noqa: E402

__all__ = [
    "MAX_VIOLATIONS",
    "DroppedEvent",
    "EventType",
    "SchemaError",
    "SchemaRegistry",
    "ValidationFailed",
    "ValidationPlugin",
    "Violation",
    "dropped_events",
]
