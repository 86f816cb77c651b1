"""Auth token payloads, and the kernel's keyrings through a session keyring of the tests' own."""

from __future__ import annotations

import errno
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fusecrypt.errors import KeyNotFoundError
from fusecrypt.keys import keyctl
from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.errors import KeyFileError, KeyringError
from fusecrypt.keys.keyring import add_token, find_token, remove_token
from fusecrypt.keys.payload import SIZE, decode_payload, encode_payload
from fusecrypt.keys.token import AuthToken
from fusecrypt.native import Secret
from tests.unit.keys.secrets import octets, secret


@pytest.fixture
def token() -> Iterator[AuthToken]:
    """The token of the passphrase `test`; nothing of it stays in the user keyring."""
    token = AuthToken.from_passphrase(secret("test"))
    yield token
    while remove_token(token.signature):
        pass


def test_payload_is_that_of_ecryptfs_utils(token: AuthToken, vectors: dict[str, Any]) -> None:
    expected = bytes.fromhex(vectors["auth_tok_payload"]["payload"])
    assert octets(encode_payload(token)) == expected
    again = decode_payload(secret(expected))
    assert (again.signature, again.salt) == (token.signature, token.salt)
    assert again.key == token.key


@pytest.mark.parametrize(
    ("offset", "octet"),
    [(0, 5), (2, 1), (2, 2), (20, 1), (531, 1), (640, 32), (644, 0), (712, 0x67), (727, 0), (728, 0x30)],
)
def test_payloads_that_the_kernel_would_misread_are_refused(
    token: AuthToken, offset: int, octet: int
) -> None:
    payload = encode_payload(token)
    payload.view()[offset] = octet
    with pytest.raises(KeyFileError):
        decode_payload(payload)


def test_short_payloads_are_refused(token: AuthToken) -> None:
    with pytest.raises(KeyFileError):
        decode_payload(encode_payload(token).part(0, SIZE - 1))


def test_a_token_goes_into_the_keyring_and_comes_back(token: AuthToken) -> None:
    with pytest.raises(KeyNotFoundError):
        find_token(token.signature)
    add_token(token)
    found = find_token(token.signature)
    assert found.key == token.key
    assert (found.signature, found.salt) == (token.signature, token.salt)
    assert remove_token(token.signature)
    assert not remove_token(token.signature)
    with pytest.raises(KeyNotFoundError):
        find_token(token.signature)


def test_tokens_of_ecryptfs_utils_are_found(token: AuthToken) -> None:
    subprocess.run(
        ["ecryptfs-add-passphrase", "-"], input=b"test", check=True, capture_output=True, timeout=60
    )
    assert find_token(token.signature).key == token.key


def test_our_tokens_are_what_ecryptfs_utils_add(token: AuthToken) -> None:
    subprocess.run(
        ["ecryptfs-add-passphrase", "-"], input=b"test", check=True, capture_output=True, timeout=60
    )
    theirs = keyctl.read(keyctl.search(keyctl.USER, "user", token.sig))
    remove_token(token.signature)
    assert theirs == keyctl.read(add_token(token))


def test_a_description_that_belies_the_token_is_refused(token: AuthToken) -> None:
    other = "00112233445566ff"
    key = keyctl.add_key("user", other, encode_payload(token), keyctl.USER)
    try:
        with pytest.raises(KeyFileError):
            find_token(bytes.fromhex(other))
    finally:
        keyctl.unlink(key, keyctl.USER)


@pytest.mark.parametrize(("command", "said"), [("revoke", "revoked"), ("timeout", "expired")])
def test_why_a_key_cannot_be_used_is_told(token: AuthToken, command: str, said: str) -> None:
    serial = str(add_token(token))
    subprocess.run(["keyctl", command, serial, *(["1"] if command == "timeout" else [])], check=True)
    if command == "timeout":
        time.sleep(1.1)
    with pytest.raises(KeyringError, match=said) as caught:
        find_token(token.signature)
    assert "add it again" in caught.value.hint
    assert not remove_token(token.signature)
    add_token(token)
    assert find_token(token.signature).key == token.key


@pytest.mark.parametrize("name", ["fusecrypt-test-master", "schlüssel", "\udcff\udcfe"])
def test_encrypted_keys_open_with_their_master_from_the_keyring(token: AuthToken, name: str) -> None:
    """This kernel may lack the type: then the text stands in a key of type user, which is refused."""
    master = secret(bytes(range(40)))
    sig = bytes.fromhex("1122334455667788")
    blob = EncryptedBlob.seal(token.key, master, f"user:{name}")
    text = blob.text().encode(errors="surrogateescape")
    serial = keyctl.add_key("user", name, master, keyctl.USER)
    try:
        try:
            keyctl.add_key("encrypted", sig.hex(), secret(b"load " + text), keyctl.USER)
        except OSError:
            keyctl.add_key("user", sig.hex(), secret(text), keyctl.USER)
            with pytest.raises(KeyFileError):
                find_token(sig)
        else:
            found = find_token(sig)
            assert found.key == token.key
            assert (found.signature, found.salt) == (sig, bytes(8))
            keyctl.unlink(serial, keyctl.USER)
            with pytest.raises(KeyringError) as caught:
                find_token(sig)
            assert "its master key is not in the keyrings" in caught.value.hint
            serial = keyctl.add_key("user", name, master, keyctl.USER)
    finally:
        keyctl.unlink(serial, keyctl.USER)
        remove_token(sig)


def test_a_trusted_master_on_the_keyring_is_unsealed(
    token: AuthToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few kernels have the type, so a dictionary stands for the keyrings."""
    sig, master = bytes.fromhex("1122334455667788"), secret(bytes(range(32)))
    blob = EncryptedBlob.seal(token.key, master, "trusted:kmk")
    keys = {("encrypted", sig.hex()): blob.text().encode(), ("trusted", "kmk"): b"3081e9"}
    serials = list(keys)

    def request_key(kind: str, description: str) -> int:
        if (kind, description) not in keys:
            raise OSError(errno.ENOKEY, "Required key not available")
        return serials.index((kind, description))

    monkeypatch.setattr(keyctl, "request_key", request_key)
    monkeypatch.setattr(keyctl, "read", lambda serial: secret(keys[serials[serial]]))

    def unseal(text: bytes) -> Secret:
        assert text == b"3081e9"
        return secret(octets(master))

    found = find_token(sig, unseal)
    assert found.key == token.key
    assert (found.signature, found.salt) == (sig, bytes(8))
    with pytest.raises(KeyNotFoundError, match="sealed by the TPM"):
        find_token(sig)
