"""An app's events as an AsyncAPI document, and what changed between two."""
