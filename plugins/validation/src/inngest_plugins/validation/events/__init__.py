"""Event types, registries of them, and what is in an event."""
