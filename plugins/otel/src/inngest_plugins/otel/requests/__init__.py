"""One traced request: its spans and metrics, and those of its steps and sends."""
