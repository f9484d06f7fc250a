"""The engine's realtime channels: one way to publish to them and one way to listen."""
