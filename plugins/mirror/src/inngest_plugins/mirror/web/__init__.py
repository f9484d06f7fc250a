"""The mirror over HTTP: JSON, server-sent events and a page."""
