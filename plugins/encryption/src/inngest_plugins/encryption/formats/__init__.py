"""Formats of one value: JSON to bytes, this plugin's envelope, the official formats, the cipher."""
