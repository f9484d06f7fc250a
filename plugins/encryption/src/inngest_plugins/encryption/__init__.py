"""End-to-end encryption of payloads: the engine and its dashboards hold ciphertext only.

Extra `encryption`; `kms` for AWS KMS.
"""

from inngest_plugins.core import require_extra as _require_extra

_require_extra("encryption", "cryptography", "nacl", "orjson", "ormsgpack", "pybase64")

from ._errors import (  # noqa: E402 - after the check for the extra
    ConfigurationError,
    DecryptionError,
    EncryptionError,
    KeyServiceError,
    NotSerializableError,
    RejectedError,
)
from ._keyring import KeyRing  # noqa: E402
from ._keys import Key  # noqa: E402
from ._kms import AwsKmsKeyProvider  # noqa: E402
from ._plugin import EncryptionPlugin  # noqa: E402
from ._providers import KeyProvider  # noqa: E402

__all__ = [
    "AwsKmsKeyProvider",
    "ConfigurationError",
    "DecryptionError",
    "EncryptionError",
    "EncryptionPlugin",
    "Key",
    "KeyProvider",
    "KeyRing",
    "KeyServiceError",
    "NotSerializableError",
    "RejectedError",
]
