"""`KeyRing`: several keys, of which the first encrypts."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from inngest_plugins.core import printable
from inngest_plugins.encryption.errors import ConfigurationError

from .key import Key, check_text

_SEPARATOR: Final = re.compile(r"[\s,]+")
_COMMENT: Final = re.compile(r"#.*")
_RECHECK: Final = 1.0
"""Seconds between looks at a key file."""
_GONE: Final = (0, 0, 0)
_ENCODING: Final = "utf-8-sig"
"""Editors on Windows begin a file with a byte order mark."""

logger = logging.getLogger("inngest_plugins.encryption")


class KeyRing:
    """Named keys: the first encrypts, all of them decrypt.

    A message in this plugin's own format names its key, so it costs the same under the first key
    and under the tenth. The official formats name none: those try the keys in order.

    Args:
        *keys: at least one; ids must differ.

    Raises:
        ConfigurationError: for no keys, or two with the same id.
    """

    def __init__(self, *keys: Key) -> None:
        self._set(keys)

    def _set(self, keys: Iterable[Key]) -> None:
        keys = tuple(keys)
        for key in keys:
            if not isinstance(key, Key):
                raise ConfigurationError(
                    f"a key ring is made of Key objects, not {type(key).__name__}: read entries "
                    "with KeyRing.from_env, KeyRing.from_file or Key.from_text"
                )
        by_id = {key.id: key for key in keys}
        if not keys:
            raise ConfigurationError(
                "a key ring needs at least one key: make one with `inngest-plugins keys new`"
            )
        if len(by_id) != len(keys):
            ids = [key.id for key in keys]
            twice = next(key_id for key_id in ids if ids.count(key_id) > 1)
            raise ConfigurationError(f"the key ring has two keys with the id {twice!r}")
        self._keys = keys
        self._by_id = by_id

    @classmethod
    def generate(cls) -> KeyRing:
        """Make a ring of one random key. It is lost when the process ends: for tests and demos."""
        return cls(Key.generate())

    @classmethod
    def from_env(cls, name: str, *, official: str | None = None) -> KeyRing:
        """Read keys from environment variables.

        The variable holds entries `<id>:<base64 of 32 bytes>`, separated by commas or white
        space, the encrypting key first; `inngest-plugins keys new` prints such an entry.

        Args:
            name: the variable.
            official: another variable, holding one key of the official middlewares as they take
                it, word for word. It comes last. Not an error when that variable is not set, so
                that it can be dropped after a migration without a release.

        Raises:
            ConfigurationError: the variable is missing, blank, or holds something else; or a name
                is no text.
        """
        check_text("the name of an environment variable with keys", name)
        if official is not None:
            check_text("the name of an environment variable with an official key", official)
        text = _variable(name)
        if not text.strip():
            state = "not set" if name not in os.environ else "empty"
            raise ConfigurationError(
                f"{named_variable(name)} is {state}, and the keys are expected there. "
                "Make a key with `inngest-plugins keys new`"
            )
        keys = _parse(text, f"the environment variable {name}")
        passphrase = _variable(official) if official else ""
        if passphrase:
            keys.append(Key.official(passphrase))
        return cls(*keys)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> KeyRing:
        """Read keys from a file, and read it again when it has changed.

        The same entries as in `from_env`, usually one a line; `#` starts a comment. A change is
        noticed within a second, or at once when a message names an unknown key. A file that has
        become unreadable or wrong is reported in the log once, and the keys stay as they were.

        Raises:
            ConfigurationError: the file cannot be read, or holds something else; or the path is
                none.
        """
        given: object = path
        if not isinstance(given, str | os.PathLike):
            raise ConfigurationError(
                f"the path of a key file is a str or a pathlib.Path, not {type(given).__name__}"
            )
        if _holds_keys(str(path)):
            raise ConfigurationError(
                "KeyRing.from_file takes the path of a key file, and was given keys: read each "
                "entry with Key.from_text"
            )
        return _FileKeyRing(Path(path))

    def with_primary(self, key: Key) -> KeyRing:
        """Return a ring in which `key` encrypts and all of this ring's keys decrypt."""
        primary = KeyRing(key).primary
        return KeyRing(primary, *(other for other in self if other.id != primary.id))

    def with_fallback(self, key: Key) -> KeyRing:
        """Return a ring that can also read what `key` wrote."""
        return KeyRing(*self, key)

    def without(self, key_id: str) -> KeyRing:
        """Return a ring without the key of this id."""
        return KeyRing(*(key for key in self if key.id != key_id))

    @property
    def primary(self) -> Key:
        """The key that encrypts."""
        return self._keys[0]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, the encrypting one first."""
        return tuple(key.id for key in self)

    def find(self, key_id: str) -> Key | None:
        """Return the key of this id."""
        return self._by_id.get(key_id)

    def official(self) -> Iterator[Key]:
        """Return the keys to try on values that name none, in order."""
        return iter(self)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<{type(self).__name__.strip('_')} {', '.join(self.ids)}>"

    def __copy__(self) -> KeyRing:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> KeyRing:
        return self


class _FileKeyRing(KeyRing):
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._stamp = self._stat()
            text = path.read_text(encoding=_ENCODING)
        except (OSError, ValueError) as err:
            raise ConfigurationError(
                f"the key file {printable(str(path))} cannot be read: {_reason(err)}"
            ) from None
        super().__init__(*_parse(text, f"the key file {path}"))
        self._checked = time.monotonic()

    @property
    def primary(self) -> Key:
        """The key that encrypts."""
        self._refresh()
        return self._keys[0]

    def find(self, key_id: str) -> Key | None:
        """Return the key of this id."""
        self._refresh()
        key = self._by_id.get(key_id)
        if key is None:
            self._refresh(now=True)
            key = self._by_id.get(key_id)
        return key

    def __iter__(self) -> Iterator[Key]:
        self._refresh()
        return iter(self._keys)

    def _refresh(self, *, now: bool = False) -> None:
        clock = time.monotonic()
        if not now and clock - self._checked < _RECHECK:
            return
        self._checked = clock
        stamp = _GONE
        try:
            stamp = self._stat()
            if stamp == self._stamp:
                return
            new = _parse(self._path.read_text(encoding=_ENCODING), f"the key file {self._path}")
            # Keys that stayed keep the keys derived from them.
            self._set(self._kept(key) for key in new)
        except (OSError, UnicodeDecodeError, ConfigurationError) as err:
            if stamp != self._stamp:
                logger.warning(
                    "the keys stay as they were, because the key file %s changed and cannot be "
                    "used: %s",
                    self._path,
                    _reason(err),
                )
        self._stamp = stamp

    def _kept(self, key: Key) -> Key:
        old = self._by_id.get(key.id)
        return old if old is not None and old.same_as(key) else key

    def _stat(self) -> tuple[int, int, int]:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _parse(text: str, source: str) -> list[Key]:
    entries = [entry for entry in _SEPARATOR.split(_COMMENT.sub("", text)) if entry]
    if not entries:
        raise ConfigurationError(f"{source} holds no keys")
    try:
        return [Key.from_text(entry) for entry in entries]
    except ConfigurationError as err:
        raise ConfigurationError(f"{source}: {err}") from None


def _holds_keys(text: str) -> bool:
    try:
        return bool(_parse(text, ""))
    except ConfigurationError:
        return False


def _reason(err: Exception) -> str:
    if isinstance(err, OSError):
        return err.strerror or type(err).__name__
    if isinstance(err, ConfigurationError):
        return str(err)
    return "it is not UTF-8" if isinstance(err, UnicodeDecodeError) else "no file has such a path"


def named_variable(name: str) -> str:
    """Name an environment variable in an error; what reads as no name may be a key."""
    if name.isidentifier():
        return f"the environment variable {name}"
    return "the environment variable of the given name (a name, and not the keys themselves)"


def _variable(name: str) -> str:
    try:
        return os.environ.get(name, "")
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"no environment variable has the name {printable(name)!r}"
        ) from None
