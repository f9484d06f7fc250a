"""Contracts for Inngest events and outputs: Pydantic types and JSON Schemas.

```python
order_placed = EventType("shop/order.placed", Order)
client = inngest.Inngest(app_id="shop", middleware=[ValidationPlugin(events=[order_placed])])
```
"""

from __future__ import annotations

from . import _extra as _extra
from .events.event_type import EventType
from .events.registry import SchemaRegistry
from .incoming import DroppedEvent, dropped_events
from .plugin import ValidationPlugin
from .schemas.schema import MAX_VIOLATIONS, SchemaError, ValidationFailed, Violation

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
