"""The published TypeScript middleware and this plugin read each other."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from inngest_plugins.encryption import EncryptionPlugin, Key, KeyRing

HERE = Path(__file__).parent / "typescript"
VALUES: list[Any] = [
    None,
    True,
    0,
    -1.5,
    9007199254740991,
    "",
    "Zo\u00eb \U0001f600",
    "\ud83d",
    [],
    {},
    {"card": "4242", "lines": [{"qty": 1, "note": None}], "\u00e9": "\u2028"},
    {"__ENCRYPTED__": True, "data": "x"},
    "x" * 100_000,
]
KEYS = ["a passphrase", "  \ufeffpadded\u2003", "\u043f\u0430\u0440\u043e\u043b\u044c", "00" * 32]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the npm packages installed; skips where they cannot be had."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("typescript")
    for name in ("package.json", "service.js"):
        shutil.copy(HERE / name, folder / name)
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the npm registry did not answer in time")
    if done.returncode:
        pytest.skip(f"npm install failed: {done.stderr.decode()[-200:]}")
    return folder


def ask(folder: Path, **question: Any) -> dict[str, Any]:
    answer = subprocess.run(
        ["node", "service.js"],
        cwd=folder,
        input=json.dumps(question).encode(),
        capture_output=True,
        timeout=200,
        check=True,
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


@pytest.mark.parametrize("key", KEYS)
def test_both_read_what_the_other_writes(node: Path, key: str) -> None:
    """Every JSON value, under keys with spaces, other scripts and hex digits."""
    ours = EncryptionPlugin(key, strategy="libsodium")
    sealed = [ours.encrypt(value)["data"] for value in VALUES]
    found = ask(node, key=key, encrypt=VALUES, decrypt=sealed)
    assert found["opened"] == VALUES
    # A ring that writes our own format reads TypeScript's, as after a migration.
    migrated = EncryptionPlugin(KeyRing(Key.generate(), Key.official(key)))
    for reader in (ours, migrated):
        envelopes = [
            {"__ENCRYPTED__": True, "__STRATEGY__": "inngest/libsodium", "data": data}
            for data in found["sealed"]
        ]
        assert [reader.decrypt(each) for each in envelopes] == VALUES
