"""TPM 2.0 policy digests, computed without a TPM, and systemd's signed PCR policies.

A policy digest starts as 32 zero octets, and each command replaces it by SHA-256 over itself, the
command's code and its parameters; integers are big-endian. When combined the order is: signed PCRs
(PolicyAuthorize, which forgets what was before), literal PCRs, PolicyAuthValue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fusecrypt.errors import UsageError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.strictjson import Fields, load

POLICY_PCR = 0x17F
POLICY_AUTH_VALUE = 0x16B
POLICY_AUTHORIZE = 0x16A
START = bytes(32)
_NULL = 0x0010
_ANOTHER = "name another one: --pcr-signature FILE"
MAX_SIGNATURES = 1 << 20
"""Octets of a signature file."""


class Bank(NamedTuple):
    """A PCR bank: the TPM's number of its hash, and octets of a value."""

    algorithm: int
    size: int


BANKS = {"sha1": Bank(0x0004, 20), "sha256": Bank(0x000B, 32), "sha384": Bank(0x000C, 48)}


@dataclass(frozen=True)
class PCRPolicy:
    """Literal PCR values that a policy is bound to, by number."""

    bank: str
    values: Mapping[int, bytes]

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The numbers, ascending."""
        return tuple(sorted(self.values))


@dataclass(frozen=True)
class SignedPolicy:
    """A public key (PEM) whose owner may approve values of these PCRs; ``ref`` qualifies its approval."""

    bank: str
    pcrs: tuple[int, ...]
    pubkey: str
    ref: bytes = b""


class Approval(NamedTuple):
    """A signature file's entry: the approved policy digest and the signature over it."""

    policy: bytes
    signature: bytes


def parse_pcrs(text: str) -> tuple[str, tuple[int, ...]]:
    """``7+11`` or ``sha256:7+11`` as options give them: bank and numbers; UsageError otherwise."""
    bank, colon, numbers = text.rpartition(":")
    bank = bank if colon else "sha256"
    parts = numbers.split("+")
    if bank not in BANKS or not all(part.isascii() and part.isdigit() and int(part) < 24 for part in parts):
        raise UsageError(f"{text!r} names no PCRs", "write 7, 7+11 or sha256:7+11; numbers are 0 to 23")
    return bank, tuple(sorted({int(part) for part in parts}))


def selection(bank: str, pcrs: Iterable[int]) -> bytes:
    """TPML_PCR_SELECTION of one bank: three octets of bits."""
    bits = sum(1 << number for number in set(pcrs))
    return (
        (1).to_bytes(4, "big")
        + BANKS[bank].algorithm.to_bytes(2, "big")
        + b"\x03"
        + bits.to_bytes(3, "little")
    )


def pcr_digest(values: Mapping[int, bytes]) -> bytes:
    """SHA-256 over PCR values in ascending order of their numbers."""
    return hashlib.sha256(b"".join(values[number] for number in sorted(values))).digest()


def after_pcr(digest: bytes, policy: PCRPolicy) -> bytes:
    """The digest after PolicyPCR."""
    return _extend(digest, POLICY_PCR, selection(policy.bank, policy.pcrs), pcr_digest(policy.values))


def after_auth_value(digest: bytes) -> bytes:
    """The digest after PolicyAuthValue."""
    return _extend(digest, POLICY_AUTH_VALUE)


def after_authorize(name: bytes, ref: bytes) -> bytes:
    """The digest after PolicyAuthorize by the key of this Name, whatever was before."""
    return hashlib.sha256(_extend(START, POLICY_AUTHORIZE, name) + ref).digest()


def combined(key_name: bytes | None, ref: bytes, pcr: PCRPolicy | None, pin: bool) -> bytes:
    """The digest of a slot's whole policy; empty if it has none. ``key_name`` belongs to signed PCRs."""
    if key_name is None and pcr is None:
        return b""
    digest = START if key_name is None else after_authorize(key_name, ref)
    if pcr is not None:
        digest = after_pcr(digest, pcr)
    return after_auth_value(digest) if pin else digest


def steps(
    signer: bytes | None, ref: bytes, pcr: PCRPolicy | None, pin: bool
) -> tuple[tuple[int, bytes], ...]:
    """The same policy as (command code, command body) pairs of a TPM key file, for other tools.

    ``signer`` is the TPM2B_PUBLIC of the key for signed PCRs; its approvals are elsewhere, so the
    signature in the body is the null one.
    """
    pairs = []
    if signer is not None:
        pairs.append(
            (POLICY_AUTHORIZE, signer + len(ref).to_bytes(2, "big") + ref + _NULL.to_bytes(2, "big"))
        )
    if pcr is not None:
        digest = pcr_digest(pcr.values)
        body = len(digest).to_bytes(2, "big") + digest + selection(pcr.bank, pcr.pcrs)
        pairs.append((POLICY_PCR, body))
    if pairs and pin:
        pairs.append((POLICY_AUTH_VALUE, b""))
    return tuple(pairs)


def changed(before: Mapping[int, bytes], now: Mapping[int, bytes]) -> str:
    """Which PCRs changed, expected and found, in words; empty if none did."""
    return "; ".join(
        f"PCR {number}: expected {before[number].hex()}, now {now[number].hex()}"
        for number in sorted(before)
        if before[number] != now.get(number, b"")
    )


def unset(values: Mapping[int, bytes]) -> tuple[int, ...]:
    """The PCRs that are all zeros or all ones, to which binding means nothing."""
    return tuple(number for number, value in sorted(values.items()) if set(value) in ({0}, {0xFF}))


def parse_approvals(data: bytes, bank: str, pcrs: Iterable[int]) -> list[Approval]:
    """The approvals for these PCRs from systemd's signature file (``tpm2-pcr-signature.json``).

    Raises KeyFileError if the file is damaged. Other members of an entry do not matter: the TPM
    verifies the signature.
    """
    try:
        entries = load(data[: MAX_SIGNATURES + 1]).get(bank, [])
    except KeyFileError as error:
        raise KeyFileError(f"the file of signed policies: {error}", _ANOTHER) from error
    if not isinstance(entries, list):
        raise KeyFileError("the file of signed policies is damaged", _ANOTHER)
    wanted, approvals = sorted(set(pcrs)), []
    for entry in entries:
        fields = Fields(entry, "a signed policy")
        if fields.items("pcrs", 24) == wanted:
            approvals.append(Approval(fields.hexadecimal("pol", 32, 32), fields.base64("sig", 8, 1024)))
    return approvals


def _extend(digest: bytes, code: int, *parts: bytes) -> bytes:
    return hashlib.sha256(digest + code.to_bytes(4, "big") + b"".join(parts)).digest()
