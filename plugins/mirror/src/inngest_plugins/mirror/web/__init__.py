"""The mirror over HTTP: a router with JSON, server-sent events and a page."""
