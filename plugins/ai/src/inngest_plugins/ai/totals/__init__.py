"""The usage of a whole run: each request collects it, and the engine gets it as metadata."""
