"""How the official middlewares turn a text into a key.

Verified against the published packages: the key is BLAKE2b-256, unkeyed, of the UTF-8 text. The
TypeScript middleware trims the text first, the Python one does not.
"""

from __future__ import annotations

import hashlib
from typing import Final

# ECMA-262, WhiteSpace and LineTerminator. `str.strip` differs in both directions: it also strips
# U+001C to U+001F and U+0085, and keeps U+FEFF.
_ECMASCRIPT_SPACE: Final = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)


def trimmed(text: str) -> str:
    """Trim as ECMAScript's `String.prototype.trim` does."""
    return text.strip(_ECMASCRIPT_SPACE)


def box_keys(text: str) -> tuple[bytes, ...]:
    """Return the secretbox keys of a text, the one to write with first.

    The second, if the text has spaces around it, is what the official Python middleware makes of
    it.
    """
    texts = dict.fromkeys((trimmed(text), text))
    return tuple(
        hashlib.blake2b(each.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        for each in texts
    )
