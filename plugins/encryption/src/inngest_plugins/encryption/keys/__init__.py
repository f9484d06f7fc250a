"""Keys: one, a ring of several, passphrases, derived subkeys, and keys in a key service."""
