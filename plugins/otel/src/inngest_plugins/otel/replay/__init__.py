"""Which spans of a replayed function are new, and providers that export only those."""
