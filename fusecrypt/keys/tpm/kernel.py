"""Blobs of the kernel's ``trusted`` keys, unsealed and made without the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fusecrypt.errors import SecretError, UsageError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.tpm.errors import (
    BAD_DATA,
    NO_DICTIONARY_ATTACK,
    NO_SUCH_HANDLE,
    PCR_CHANGED,
    LockedOutError,
    OtherTPMError,
    PolicyChangedError,
    TPMError,
    WrongPINError,
    base,
)
from fusecrypt.keys.tpm.facts import lockout
from fusecrypt.keys.tpm.policy import PCRPolicy
from fusecrypt.keys.tpm.seal import Policy, seal, unseal
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.keys.trusted import OWNER, TPMKey
from fusecrypt.native import Secret

MASTER = range(32, 129)
"""Octets that the kernel allows a trusted key."""

AUTH = 20
"""Octets of the kernel's keyauth= and blobauth=."""


@dataclass(frozen=True)
class KernelAuth:
    """What ``keyctl add trusted`` was given: auth values, a parent's handle, the PCRs of a policy."""

    blobauth: Secret | None = None
    keyauth: Secret | None = None
    handle: int | None = None
    pcrs: tuple[str, tuple[int, ...]] | None = None


def unseal_master(tpm: TPM, key: TPMKey, auth: KernelAuth) -> Secret:
    """The octets of a ``trusted`` key: the master of ``encrypted`` keys.

    The parent's public key is read from this TPM, for the blob does not pin it. Raises TPMError (a
    policy that is not met is PolicyChangedError and names the PCRs), UsageError for a blob without
    parent or PCRs when those are needed, KeyFileError for unsealed octets that are no trusted key.
    """
    policy = _policy(key, auth)
    number = _parent_number(key, auth)
    try:
        with _parent(tpm, number, auth.keyauth) as handle:
            secret = unseal(tpm, handle, key, auth=auth.blobauth, policy=policy)
    except TPMError as error:
        raise _in_its_terms(tpm, error, number, auth) from error
    if key.parent is None:
        # Before Linux 5.13 one more octet was sealed: whether the key is migratable.
        with secret:
            if len(secret) - 1 not in MASTER or secret.view()[-1] > 1:
                raise KeyFileError("the TPM unsealed something that is no trusted key of the old form")
            return secret.part(0, len(secret) - 1)
    if len(secret) not in MASTER:
        raise KeyFileError("the TPM unsealed something that is no trusted key")
    return secret


def seal_master(tpm: TPM, master: Secret, blobauth: Secret | None = None) -> TPMKey:
    """A blob that the kernel loads: parent 0x81000001, no policy. It is unsealed again and compared.

    The auth value has 20 octets, as blobauth= in hex digits carries.
    """
    if blobauth is not None and len(blobauth) != AUTH:
        raise SecretError(f"the kernel's blobauth has {AUTH} octets", "write it as 40 hex digits")
    key = seal(tpm, tpm.storage_key(), master, auth=blobauth)
    with unseal_master(tpm, key, KernelAuth(blobauth)) as again:
        if again != master:
            raise KeyFileError("the TPM does not give back what it sealed")
    return key


def read_auth(text: Secret) -> Secret:
    """An auth value as the kernel reads ``blobauth=``: 40 hex digits, or up to 20 octets as they are.

    Raises SecretError for anything longer.
    """
    view = text.view()
    if len(text) == 2 * AUTH and all(octet in b"0123456789abcdefABCDEF" for octet in view):
        auth = Secret(AUTH)
        for n in range(AUTH):
            auth.view()[n] = _digit(view[2 * n]) << 4 | _digit(view[2 * n + 1])
        return auth
    if not 1 <= len(text) <= AUTH:
        raise SecretError(
            f"an auth value is 40 hex digits, or 1 to {AUTH} octets",
            "the file's first line is what keyctl was given as blobauth= or keyauth=",
        )
    return text.part(0, len(text))


def parse_handle(text: str) -> int:
    """A persistent handle in hex, with or without 0x; UsageError otherwise."""
    if not re.fullmatch("(0x)?81[0-9a-fA-F]{6}", text, re.ASCII):
        raise UsageError(f"{text!r} is no handle of a persistent key", "such as 0x81000001")
    return int(text, 16)


def _policy(key: TPMKey, auth: KernelAuth) -> Policy | None:
    digest = key.sealed.policy
    if not digest:
        return None
    if auth.pcrs is None:
        raise PolicyChangedError(
            "the trusted key is bound to a policy", "name its PCRs: --master-pcrs sha256:7"
        )
    bank, numbers = auth.pcrs
    return Policy(digest, PCRPolicy(bank, dict.fromkeys(numbers, b"")))


def _parent_number(key: TPMKey, auth: KernelAuth) -> int:
    number = key.parent if auth.handle is None else auth.handle
    if number is None:
        raise UsageError(
            "this blob is of the form before Linux 5.13 and does not name its parent",
            "name it: --keyhandle H, such as 0x81000001",
        )
    return number


@contextmanager
def _parent(tpm: TPM, number: int, keyauth: Secret | None) -> Iterator[Any]:
    if number == OWNER:
        with tpm.primary() as handle:
            yield handle
        return
    handle = tpm.pinned(tpm.parent_at(number))
    tpm.set_auth(handle, keyauth)
    try:
        yield handle
    finally:
        tpm.call("tr_close", handle)


def _in_its_terms(tpm: TPM, error: TPMError, parent: int, auth: KernelAuth) -> TPMError:
    """What a refusal means here: a trusted key has neither other slots nor a recovery key, nor a reseal."""
    if isinstance(error, PolicyChangedError) and error.code != PCR_CHANGED:
        return PolicyChangedError(
            f"the trusted key's policy is not met{_present(tpm, auth)}",
            "it was sealed in another boot state (firmware, Secure Boot), or to other PCRs: --master-pcrs",
        )
    if isinstance(error, LockedOutError):
        wait = lockout(tpm).seconds_per_try
        hint = (
            f"an attempt is given back after {wait} s: keys that the kernel sealed wait too; "
            "fusecrypt key lockout --reset ends that"
        )
        return LockedOutError("the TPM is locked out after wrong attempts", hint, error.code)
    if isinstance(error, WrongPINError):
        counted = base(error.code) != NO_DICTIONARY_ATTACK
        left = f"; attempts left: {lockout(tpm).left}" if counted else ""
        return WrongPINError(
            "the trusted key's auth value is wrong", f"give it: --blobauth-file FILE{left}", error.code
        )
    if error.code == NO_SUCH_HANDLE:
        message = f"this TPM has no key at {parent:#x}, which the trusted key needs as its parent"
        hint = "use the TPM that sealed it; --keyhandle H says where its parent is now"
    elif isinstance(error, OtherTPMError) and error.code:
        message = f"the TPM's key at {parent:#x} has another auth value, or is not the trusted key's parent"
        hint = "give it: --keyauth-file FILE"
    elif base(error.code) == BAD_DATA:
        message = f"the trusted key is damaged, or was not sealed under this TPM's key at {parent:#x}"
        hint = "use the TPM that sealed it; --keyhandle H names another parent"
    else:
        return error
    return type(error)(message, hint, error.code)


def _present(tpm: TPM, auth: KernelAuth) -> str:
    """The PCRs of the policy; what they were at sealing is not in the blob."""
    if auth.pcrs is None:
        return ""
    bank, numbers = auth.pcrs
    values = tpm.pcrs(bank, numbers)
    return f" ({bank}): " + ", ".join(f"PCR {number} is now {values[number].hex()}" for number in numbers)


def _digit(octet: int) -> int:
    return octet - ord("0") if octet <= ord("9") else (octet | 0x20) - ord("a") + 10
