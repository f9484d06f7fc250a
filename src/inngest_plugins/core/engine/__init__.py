"""What the core asks of the engine over HTTP."""
