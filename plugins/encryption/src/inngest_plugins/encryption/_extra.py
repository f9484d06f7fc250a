"""Requires the extra `encryption` before its libraries are imported."""

from inngest_plugins.core import require_extra

require_extra("encryption", "cryptography", "nacl", "orjson", "ormsgpack", "pybase64")
