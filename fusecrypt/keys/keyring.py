"""Auth tokens in the kernel's keyrings: found as a mount would find them, added, removed.

A mount asks for each signature as a key of type ``user`` first, then ``encrypted``, in the session
keyring; ecryptfs-utils adds tokens to the user keyring and links that into the session keyring.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fusecrypt.errors import KeyNotFoundError
from fusecrypt.keys import keyctl
from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.errors import KeyFileError, KeyringError
from fusecrypt.keys.payload import decode_payload, encode_payload
from fusecrypt.keys.token import AuthToken
from fusecrypt.native import Secret

_AGAIN = "take it out with keyctl unlink, and add it again"

_ABSENT = (errno.ENOKEY, errno.ENOENT, errno.EKEYREVOKED, errno.EKEYEXPIRED)

Unseal = Callable[[bytes], Secret]
"""From the text of a ``trusted`` key to its octets: the TPM's work, which this module knows not."""


def find_token(sig: bytes, unseal: Unseal | None = None) -> AuthToken:
    """The auth token of a signature from the keyrings.

    A key of type ``encrypted`` can be read as text only; it is opened with its master from the
    keyrings, through ``unseal`` if that is a ``trusted`` key. Raises KeyNotFoundError, KeyFileError
    for a key that is no auth token, and KeyringError where reading is refused.
    """
    with _explained(f"key {sig.hex()}"):
        key, refusal = None, None
        try:
            key = _find("user", sig.hex())
        except OSError as error:  # as a mount does: whatever is wrong with it, the other type may be there
            refusal = error
        if key is not None:
            with keyctl.read(key) as payload:
                token = _decoded(sig, payload)
            if token.signature != sig:
                raise KeyFileError(
                    f"the key {sig.hex()} in the keyring says that its signature is {token.sig}", _AGAIN
                )
            return token
        key = _find("encrypted", sig.hex())
        if key is None and refusal is not None:
            raise refusal
        if key is None:
            raise KeyNotFoundError(
                f"the kernel's keyrings hold no key {sig.hex()}",
                "ecryptfs-add-passphrase or fusecrypt key load adds one",
            )
        with keyctl.read(key) as text:
            blob = EncryptedBlob.parse(bytes(text.view()))
        with _master(blob, unseal) as master:
            return blob.token(sig, master)


def add_token(token: AuthToken, keyring: int = keyctl.USER) -> int:
    """Add a token as key of type ``user``, as ecryptfs-add-passphrase does; its serial number."""
    with _explained(f"key {token.sig}"), encode_payload(token) as payload:
        return keyctl.add_key("user", token.sig, payload, keyring)


def remove_token(sig: bytes, keyring: int = keyctl.USER) -> bool:
    """Unlink a token from a keyring, as umount.ecryptfs does; False if it was not there.

    A key that was revoked or has expired is none: it cannot be found, and the kernel drops it.
    """
    with _explained(f"key {sig.hex()}"):
        for kind in ("user", "encrypted"):
            try:
                keyctl.unlink(keyctl.search(keyring, kind, sig.hex()), keyring)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
            else:
                return True
    return False


def _decoded(sig: bytes, payload: Secret) -> AuthToken:
    try:
        return decode_payload(payload)
    except KeyFileError as error:
        raise KeyFileError(f"key {sig.hex()} in the keyring: {error}", _AGAIN) from None


def _find(kind: str, description: str) -> int | None:
    """A key's serial number. The user keyring is linked into the session first if that is needed.

    None if there is no such key; OSError for one that was revoked, has expired or must not be seen.
    """
    try:
        return keyctl.request_key(kind, description)
    except OSError as error:
        refusal = error
    try:
        key = keyctl.search(keyctl.USER, kind, description)
    except OSError as error:
        told = refusal if error.errno == errno.ENOKEY else error
        if told.errno == errno.ENOKEY:
            return None
        raise told from None
    # Found but not possessed: only what the session keyring leads to may be read.
    with suppress(OSError):
        keyctl.link(keyctl.USER, keyctl.SESSION)
    return key


def _master(blob: EncryptedBlob, unseal: Unseal | None) -> Secret:
    key = _find(blob.master_type, blob.master_name)
    if key is None:
        raise KeyNotFoundError(
            f"the master key {blob.master} is not in the keyrings",
            "give the keys by file: --encrypted-key and --master",
        )
    data = keyctl.read(key)
    if blob.master_type == "user":
        return data
    if unseal is None:
        raise KeyNotFoundError(f"the master key {blob.master} is sealed by the TPM", "name it with --master")
    with data:
        return unseal(bytes(data.view()))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the kernel's refusals into errors that say what can be done."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.EACCES: "it belongs to another session: run keyctl link @u @s, or become its user",
            errno.EDQUOT: "the user's quota of keys is used up: see /proc/key-users",
            errno.ENODEV: "this kernel is built without that type of key",
            errno.ENOKEY: "its master key is not in the keyrings: load that first",
            errno.EOPNOTSUPP: "its master is a trusted key, which this kernel is built without: give both by "
            "file, --encrypted-key and --master",
            errno.EKEYREVOKED: "it was revoked: add it again",
            errno.EKEYEXPIRED: "it has expired: add it again",
        }
        hint = hints.get(error.errno or 0, "")
        raise KeyringError(f"the kernel's keyring refuses {what}: {error.strerror}", hint) from error
