"""Loads a user's app: its client and the functions that it serves."""
