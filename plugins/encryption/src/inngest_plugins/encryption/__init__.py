"""End-to-end encryption of payloads: the engine and its dashboards hold ciphertext only.

Extra `encryption`; `kms` for AWS KMS.
"""

from . import _extra as _extra
from .errors import (
    ConfigurationError,
    DecryptionError,
    EncryptionError,
    KeyServiceError,
    NotSerializableError,
    RejectedError,
)
from .keys.key import Key
from .keys.keyring import KeyRing
from .keys.kms import AwsKmsKeyProvider
from .keys.provider import KeyProvider
from .plugin import EncryptionPlugin

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
