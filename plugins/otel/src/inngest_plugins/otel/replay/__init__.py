"""Decides which spans of a replayed function are new, and exports only those."""
