"""The engine's server: its REST API and realtime, and calls of the app."""
