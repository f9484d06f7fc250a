"""A support agent whose model and tool calls are steps, and whose refunds need an approval."""
