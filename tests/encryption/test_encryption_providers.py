"""Keys from key services, sync and async, in runs of every kind."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import boto3
import inngest
import moto
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from inngest_plugins.core import ArgumentError
from inngest_plugins.encryption import (
    AwsKmsKeyProvider,
    ConfigurationError,
    DecryptionError,
    EncryptionPlugin,
    Key,
    KeyServiceError,
    RejectedError,
)
from inngest_plugins.encryption.payloads.provided_keys import ProvidedKeys

if TYPE_CHECKING:
    from tests.encryption.conftest import MakeApp


class Vault:
    """A key service in memory."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self.keys = {"v1": Key.generate("v1")}
        self.current = "v1"
        self.failing: Exception | None = None

    def _answer(self, key: Key | None) -> Any:
        if not self.is_async:
            if self.failing:
                raise self.failing
            return key

        async def later() -> Key | None:
            await asyncio.sleep(0)
            if self.failing:
                raise self.failing
            return key

        return later()

    def encryption_key(self) -> Any:
        return self._answer(self.keys[self.current])

    def decryption_key(self, key_id: str, wrapped: str | None) -> Any:
        return self._answer(self.keys.get(key_id))


@pytest.mark.anyio
@pytest.mark.parametrize("is_async", [False, True], ids=["sync provider", "async provider"])
@pytest.mark.parametrize("function_is_sync", [False, True], ids=["async fn", "sync fn"])
async def test_a_run_under_provided_keys(
    make_app: MakeApp, is_async: bool, function_is_sync: bool
) -> None:
    """Steps, errors, events and outputs; the provider rotates in the middle of the run."""
    vault = Vault(is_async=is_async)
    app = make_app(vault)
    seen: list[Any] = []

    def fail() -> None:
        raise ValueError("why")

    if function_is_sync:

        @app.function("f", "go", retries=0)
        def f(ctx: Any) -> Any:
            first = ctx.step.run("a", lambda: "A")
            vault.keys.setdefault("v2", Key.generate("v2"))
            vault.current = "v2"
            ctx.step.run("b", lambda: "B")
            try:
                ctx.step.run("c", fail)
            except inngest.StepError as error:
                seen.append(error.message)
            ctx.step.send_event("s", inngest.Event(name="x", data={"encrypted": "E"}))
            return [first, ctx.event.data["encrypted"]]
    else:

        @app.function("f", "go", retries=0)
        async def g(ctx: Any) -> Any:
            first = await ctx.step.run("a", lambda: "A")
            vault.keys.setdefault("v2", Key.generate("v2"))
            vault.current = "v2"
            await ctx.step.run("b", lambda: "B")
            try:
                await ctx.step.run("c", fail)
            except inngest.StepError as error:
                seen.append(error.message)
            await ctx.step.send_event("s", inngest.Event(name="x", data={"encrypted": "E"}))
            return [first, ctx.event.data["encrypted"]]

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go", data={"encrypted": "in"}))
    assert run.status == "Completed", run.reason
    assert await app.plugin.adecrypt(run.output) == ["A", "in"]
    assert seen[-1] == "why"
    assert run.steps["a"].memo["data"]["head"].split(":")[1] == "v1"
    assert run.output["head"].split(":")[1] == "v2"


@pytest.mark.anyio
async def test_a_failing_or_ignorant_service_is_retriable() -> None:
    """The error names the provider and the exception's class, not its text."""
    vault = Vault(is_async=True)
    plugin = EncryptionPlugin(vault)
    sealed = await plugin.aencrypt("x")
    vault.failing = RuntimeError("s3cret endpoint")
    fresh = EncryptionPlugin(vault)
    with pytest.raises(KeyServiceError, match="Vault failed with RuntimeError") as caught:
        await fresh.adecrypt(sealed)
    assert "s3cret" not in str(caught.value)
    assert not isinstance(caught.value, RejectedError)
    with pytest.raises(KeyServiceError):
        await fresh.aencrypt("x")
    vault.failing, vault.keys = None, {"v9": Key.generate("v9")}
    with pytest.raises(DecryptionError, match="'v1'"):
        await EncryptionPlugin(vault).adecrypt(sealed)


def test_sync_calls_on_an_async_provider_say_what_to_call() -> None:
    """No coroutine is left behind."""
    plugin = EncryptionPlugin(Vault(is_async=True))
    with pytest.raises(ConfigurationError, match="aencrypt"):
        plugin.encrypt(1)
    sealed = EncryptionPlugin(Key.generate("v1")).encrypt(1)
    with pytest.raises(ConfigurationError, match="adecrypt"):
        plugin.decrypt(sealed)
    assert plugin.decrypt({"plain": 1}) == {"plain": 1}
    with pytest.raises(ConfigurationError, match="provided keys"):
        EncryptionPlugin(Vault(is_async=True), strategy="libsodium")


def test_a_sync_provider_and_fallback_keys_work_without_waiting() -> None:
    """encrypt, decrypt and decrypt_text are plain calls; older keys can be read beside it."""
    old = Key.generate("old")
    plugin = EncryptionPlugin(Vault(is_async=False), fallback=[old, Key.official("words")])
    assert plugin.decrypt(plugin.encrypt([1])) == [1]
    assert plugin.decrypt(EncryptionPlugin(old).encrypt([2])) == [2]
    assert plugin.decrypt(EncryptionPlugin("words", strategy="libsodium").encrypt([3])) == [3]
    assert plugin.decrypt_text(json.dumps(plugin.encrypt("text"))) == "text"
    assert plugin.decrypt_text("plain") == "plain"


@pytest.mark.parametrize("wrong", [5, None, b"text"])
def test_only_texts_are_texts(wrong: Any) -> None:
    """The error says which method takes the value."""
    plugin = EncryptionPlugin(Key.generate("k"))
    told = rf"takes the text of an error, not a {type(wrong).__name__}: use decrypt\(\.\.\.\)"
    with pytest.raises(ArgumentError, match=told):
        plugin.decrypt_text(wrong)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("wrong", "kind"), [(None, "NoneType"), ("v1:x", "str"), (Key, "type")])
def test_a_provider_that_returns_no_key_is_named(is_async: bool, wrong: Any, kind: str) -> None:
    """With the method and what it has to return, whether it is asked to write or to read."""
    vault = Vault(is_async=is_async)
    plugin = EncryptionPlugin(vault)
    sealed = anyio.run(plugin.aencrypt, "x")
    vault.keys["v1"] = wrong
    told = rf"the key provider Vault returned {kind} from encryption_key\(\): return a Key$"
    with pytest.raises(KeyServiceError, match=told):
        anyio.run(plugin.aencrypt, "x")
    told = rf"returned {kind} from decryption_key\(\.\.\.\): return a Key or None$"
    if wrong is None:
        told = "key 'v1' is not in the key ring (tried: what Vault has)"
        with pytest.raises(DecryptionError, match=re.escape(told)):
            anyio.run(EncryptionPlugin(vault).adecrypt, sealed)
        return
    with pytest.raises(KeyServiceError, match=told):
        anyio.run(EncryptionPlugin(vault).adecrypt, sealed)


@pytest.mark.anyio
async def test_a_run_whose_provider_returns_no_key_says_so(make_app: MakeApp) -> None:
    """The error of the run names the provider, and nothing leaves in the clear."""
    vault = Vault(is_async=False)
    wrong: Any = None
    app = make_app(vault)

    @app.function("f", "go", retries=0)
    async def f(ctx: Any) -> str:
        vault.keys["v1"] = wrong
        return "plain"

    async with app.engine() as engine:
        run = await engine.run(inngest.Event(name="go"))
    assert run.status == "Failed"
    assert (run.error or {})["name"] == "KeyServiceError"
    assert (run.error or {})["message"].startswith("the key provider Vault returned NoneType from")


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A KMS client of moto, and the id of a key there."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with moto.mock_aws():
        client: Any = boto3.client("kms")
        yield client, client.create_key()["KeyMetadata"]["KeyId"]


def counted(client: Any) -> list[str]:
    calls: list[str] = []
    client.meta.events.register(
        "before-call.kms", lambda model, **_: calls.append(model.name), unique_id="count"
    )
    return calls


def test_kms_data_keys_are_cached_by_age_and_count(kms: Any) -> None:
    """One call per data key to write, one per data key and age to read."""
    client, key_id = kms
    now = [0.0]
    calls = counted(client)

    def provider(**options: Any) -> AwsKmsKeyProvider:
        return AwsKmsKeyProvider(
            key_id, client=client, clock=lambda: now[0], encryption_context={"app": "s"}, **options
        )

    writer = EncryptionPlugin(provider(max_messages=3, max_age=60))
    reader = EncryptionPlugin(provider(max_age=60))

    async def go() -> None:
        sealed = [await writer.aencrypt(n) for n in range(7)]
        assert calls == ["GenerateDataKey"] * 3
        assert [await reader.adecrypt(each) for each in sealed] == list(range(7))
        assert calls[3:] == ["Decrypt"] * 3
        now[0] += 61
        await reader.adecrypt(sealed[0])
        await writer.aencrypt(1)
        assert calls[6:] == ["Decrypt", "GenerateDataKey"]
        for field in ("wrapped", "head"):
            broken = {**sealed[0], field: sealed[6][field]}
            with pytest.raises(DecryptionError):
                await reader.adecrypt(broken)
        without = {key: value for key, value in sealed[0].items() if key != "wrapped"}
        with pytest.raises(DecryptionError):
            await EncryptionPlugin(provider()).adecrypt(without)

    anyio.run(go)
    assert "Key" in repr(provider())


def test_kms_refusals_are_no_value_and_outages_are_retriable(kms: Any) -> None:
    """A data key of another KMS key or context cannot be opened; errors hold no key."""
    client, key_id = kms
    sealed: Any = None

    async def write() -> Any:
        return await EncryptionPlugin(AwsKmsKeyProvider(key_id, client=client)).aencrypt(1)

    sealed = anyio.run(write)
    other = AwsKmsKeyProvider(key_id, client=client, encryption_context={"other": "app"})
    missing = AwsKmsKeyProvider("alias/missing", client=client)

    async def read(provider: AwsKmsKeyProvider) -> None:
        with pytest.raises(DecryptionError):
            await EncryptionPlugin(provider).adecrypt(sealed)

    anyio.run(read, other)
    anyio.run(read, missing)

    async def outage() -> None:
        with pytest.raises(KeyServiceError):
            await EncryptionPlugin(missing).aencrypt(1)

    anyio.run(outage)
    wrong: dict[str, Any]
    for wrong in ({"max_age": 0}, {"max_age": float("nan")}, {"max_age": "5"}):
        with pytest.raises(ConfigurationError, match=r"max_age=\.\.\.\) is a number of seconds"):
            AwsKmsKeyProvider(key_id, client=client, **wrong)
    for wrong in ({"max_messages": 0}, {"max_messages": 1.5}, {"max_messages": True}):
        with pytest.raises(ConfigurationError, match="max_messages"):
            AwsKmsKeyProvider(key_id, client=client, **wrong)
    for wrong, told in (
        ({"key_id": 5}, r"AwsKmsKeyProvider\(key_id\) is a str, not int"),
        ({"key_id": ""}, r"AwsKmsKeyProvider\(key_id\) is empty"),
        ({"encryption_context": 5}, r"encryption_context=\.\.\.\) is a dict of texts, not int"),
        ({"encryption_context": {"app": 5}}, r"encryption_context=\.\.\.\) is a str, not int"),
        ({"clock": 5}, r"clock=\.\.\.\) is a function, not int"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            AwsKmsKeyProvider(**{"key_id": key_id, "client": client, **wrong})


def test_an_environment_without_a_region_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """At construction, as what it is, and with the option that needs no environment."""
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with pytest.raises(ConfigurationError, match=r"a region\. Set that, or give .*client="):
        AwsKmsKeyProvider("alias/shop")


def test_the_default_client_comes_from_the_environment(kms: Any) -> None:
    """Without `client`, boto3 finds region and credentials; its data keys open elsewhere."""
    client, key_id = kms

    async def go() -> None:
        sealed = await EncryptionPlugin(AwsKmsKeyProvider(key_id)).aencrypt(["x"])
        reader = EncryptionPlugin(AwsKmsKeyProvider(key_id, client=client))
        assert await reader.adecrypt(sealed) == ["x"]

    anyio.run(go)


def test_a_refusal_of_access_is_retriable_and_a_forged_data_key_is_unknown(kms: Any) -> None:
    """Permissions come back; what was never a data key, or of another service, never opens."""
    client, key_id = kms
    provider = AwsKmsKeyProvider(key_id, client=client)
    plugin = EncryptionPlugin(provider)

    def denied(request: Any, **_: Any) -> AWSResponse:
        body = io.BytesIO(b'{"__type": "AccessDeniedException", "message": "no"}')
        raw: Any = SimpleNamespace(stream=lambda: [body.read()])
        return AWSResponse(request.url, 400, HTTPHeaders(), raw)

    async def go() -> None:
        sealed = await EncryptionPlugin(AwsKmsKeyProvider(key_id, client=client)).aencrypt(1)
        client.meta.events.register_first("before-send.kms", denied, unique_id="denied")
        with pytest.raises(KeyServiceError, match="failed with ClientError") as caught:
            await plugin.adecrypt(sealed)
        assert "AccessDeniedException" in str(caught.value.__cause__)
        assert not isinstance(caught.value, RejectedError)
        client.meta.events.unregister("before-send.kms", unique_id="denied")
        assert await plugin.adecrypt(sealed) == 1
        for wrapped in ("A", "AAAA", sealed["wrapped"][:-8] + "AAAAAAA="):
            forged_id = "kms-" + hashlib.sha256(wrapped.encode()).hexdigest()[:24]
            forged = {**sealed, "wrapped": wrapped, "head": f"1j:{forged_id}:event"}
            with pytest.raises(DecryptionError, match=forged_id):
                await plugin.adecrypt(forged)

    anyio.run(go)


def test_workers_that_start_at_once_share_what_kms_made(kms: Any) -> None:
    """Threads that find no data key may each ask for one; all messages open, none asks again."""
    client, key_id = kms
    provider = AwsKmsKeyProvider(key_id, client=client)
    plugin = EncryptionPlugin(provider)
    start = threading.Barrier(6)

    def work(number: int) -> Any:
        start.wait(timeout=200)
        return anyio.run(plugin.aencrypt, number)

    with ThreadPoolExecutor(6) as threads:
        sealed = list(threads.map(work, range(6)))
    calls = counted(client)

    async def read() -> list[Any]:
        return [await plugin.adecrypt(each) for each in [*sealed, await plugin.aencrypt("later")]]

    assert anyio.run(read) == [*range(6), "later"]
    assert calls == []


@pytest.mark.parametrize("is_async", [False, True])
def test_a_provider_can_refuse_for_good(is_async: bool) -> None:
    """A `DecryptionError` of its own is not taken for an outage; anything else is."""
    vault = Vault(is_async=is_async)
    plugin = EncryptionPlugin(vault)

    async def go() -> None:
        sealed = await plugin.aencrypt("x")
        vault.failing = RejectedError("revoked")
        with pytest.raises(RejectedError, match=r"^revoked$"):
            await plugin.adecrypt(sealed)
        with pytest.raises(RejectedError, match=r"^revoked$"):
            await plugin.aencrypt("x")
        vault.failing = OSError("unreachable")
        with pytest.raises(KeyServiceError, match="Vault failed with OSError"):
            await plugin.adecrypt(sealed)
        vault.failing = None
        assert await plugin.adecrypt(sealed) == "x"

    anyio.run(go)


def test_a_future_in_place_of_a_coroutine_is_awaited_or_named() -> None:
    """Any awaitable will do; a sync call cannot wait for it."""
    key = Key.generate("v1")

    class Futures:
        def encryption_key(self) -> Any:
            class Ready:
                def __await__(self) -> Generator[Any, None, Key]:
                    yield from asyncio.sleep(0).__await__()
                    return key

            return Ready()

        def decryption_key(self, key_id: str, wrapped: str | None) -> Any:
            return key

    plugin = EncryptionPlugin(Futures())
    with pytest.raises(ConfigurationError, match="aencrypt"):
        plugin.encrypt(1)
    sealed = anyio.run(plugin.aencrypt, 1)
    assert plugin.decrypt(sealed) == 1


def test_delivered_keys_are_bounded_and_the_forgotten_are_asked_for_again() -> None:
    """A reader of many data keys does not grow without end, and can still read the first."""
    keys: dict[str, Key] = {}
    asked: list[str] = []

    class Many:
        def encryption_key(self) -> Key:
            key = Key(f"k{len(keys)}", len(keys).to_bytes(32, "big"))
            keys[key.id] = key
            return key

        def decryption_key(self, key_id: str, wrapped: str | None) -> Key | None:
            asked.append(key_id)
            return keys.get(key_id)

    plugin = EncryptionPlugin(Many())
    first = plugin.encrypt("first")
    for number in range(1100):
        plugin.encrypt(number)
    source = plugin._keys
    assert isinstance(source, ProvidedKeys)
    assert len(source._known) == 1024
    assert source.find("k0") is None
    assert plugin.decrypt(first) == "first"
    assert asked == ["k0"]
    assert source.primary.id == "k1100"


def test_writing_before_a_key_was_fetched_is_an_error() -> None:
    """The cipher never waits; whoever skips the fetch is told, and nothing leaves in the clear."""
    with pytest.raises(ConfigurationError, match="no key has been fetched"):
        _ = ProvidedKeys(Vault(is_async=False)).primary
