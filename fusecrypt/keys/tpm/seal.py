"""Sealing and unsealing with a TPM. Neither secret nor auth value crosses its bus in the clear."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fusecrypt.keys.crypto import random_secret
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.tpm.errors import PCR_CHANGED, PolicyChangedError, TPMError
from fusecrypt.keys.tpm.library import Library
from fusecrypt.keys.tpm.parent import Parent
from fusecrypt.keys.tpm.policy import (
    Approval,
    PCRPolicy,
    SignedPolicy,
    changed,
    combined,
    selection,
    steps,
)
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.keys.trusted import IMPORTABLE, TPMKey
from fusecrypt.native import Secret

_PCR_RETRIES = 30
_RECOVER = "unlock with the recovery key or a passphrase, then run fusecrypt key reseal"


@dataclass(frozen=True)
class Policy:
    """How an object's policy is met: its digest, signed and literal PCRs, and whether a PIN is part."""

    digest: bytes
    pcr: PCRPolicy | None = None
    signed: SignedPolicy | None = None
    approvals: Sequence[Approval] = ()
    pin: bool = False


def seal(
    tpm: TPM, parent: Parent, secret: Secret, *, auth: Secret | None = None, policy: bytes = b""
) -> TPMKey:
    """Seal 1 to 128 octets under a pinned parent; ``policy`` is a digest, empty for none."""
    lib = tpm.lib
    attributes = lib.TPMA_OBJECT.FIXEDTPM | lib.TPMA_OBJECT.FIXEDPARENT
    with _sensitive(tpm, secret, auth) as sensitive:
        handle = tpm.pinned(parent)
        with tpm.session(handle) as session:
            public = _public(tpm, attributes, auth, policy)
            # The parent's auth is empty; the salted session encrypts what is sealed.
            password = lib.ESYS_TR.PASSWORD
            made = tpm.call("create", handle, sensitive, public, session1=password, session2=session)
    private, public, *_ = made
    empty = None if auth else True
    return TPMKey(tpm.octets(public), tpm.octets(private), parent.handle, empty_auth=empty)


def seal_for(
    library: Library, parent: Parent, secret: Secret, *, auth: Secret | None = None, policy: bytes = b""
) -> TPMKey:
    """Seal for another TPM, from the public part of its storage key. It cannot be verified here."""
    lib = library.lib
    public = _public(library, lib.TPMA_OBJECT(0), auth, policy)
    sensitive = lib.TPM2B_SENSITIVE()
    area = sensitive._cdata.sensitiveArea
    area.sensitiveType = int(lib.TPM2_ALG.KEYEDHASH)
    with random_secret(hashlib.sha256().digest_size) as seed:
        library.fill(area.seedValue, seed)
        library.fill(area.authValue, auth)
        library.fill(area.sensitive.bits, secret)
        # An object's unique field is the hash of its seed and its data.
        unique = hashlib.sha256(seed.view())
        unique.update(secret.view())
    public.publicArea.unique.keyedHash.buffer = unique.digest()
    storage, _ = lib.TPM2B_PUBLIC.unmarshal(parent.public)
    # The library wraps in Python, over bytes objects that cannot be wiped: a reason to do this rarely.
    wrap = importlib.import_module("tpm2_pytss.utils").wrap
    try:
        _, duplicate, encrypted = wrap(storage.publicArea, public, sensitive)
    except (ValueError, KeyError) as error:
        raise KeyFileError("the other TPM's public key is no storage key") from error
    finally:
        for structure in (area.authValue, area.seedValue, area.sensitive.bits):
            library.wipe(structure)
    empty = None if auth else True
    return TPMKey(
        public.marshal(), duplicate.marshal(), parent.handle, IMPORTABLE, empty, secret=encrypted.marshal()
    )


def unseal(
    tpm: TPM, handle: Any, key: TPMKey, *, auth: Secret | None = None, policy: Policy | None = None
) -> Secret:
    """Unseal under a parent that has a handle; WrongPINError, PolicyChangedError or another TPMError."""
    with tpm.session(handle) as session, _loaded(tpm, handle, key, session) as item:
        tpm.set_auth(item, auth)
        if policy is None:
            return tpm.unseal(item, session)
        return _unseal_with_policy(tpm, handle, item, policy, key.sealed.name_alg)


def _unseal_with_policy(tpm: TPM, handle: Any, item: Any, policy: Policy, digest: str) -> Secret:
    for attempt in range(_PCR_RETRIES + 1):
        with tpm.session(handle, policy=True, digest=digest) as session:
            try:
                meet(tpm, session, policy)
                return tpm.unseal(item, session)
            except TPMError as error:
                # A PCR was extended between two commands; unsealing spent no attempt.
                if error.code != PCR_CHANGED or attempt == _PCR_RETRIES:
                    raise
    raise AssertionError("the loop returns or raises")


def meet(tpm: TPM, session: Any, policy: Policy) -> None:
    """Take a policy session through a policy; PolicyChangedError if that gives another digest.

    This is noticed before the TPM is asked to unseal, so no attempt is spent, and the PCR is named.
    """
    if policy.signed is not None:
        _authorize(tpm, session, policy.signed, policy.approvals)
    if policy.pcr is not None:
        wanted, _ = tpm.lib.TPML_PCR_SELECTION.unmarshal(selection(policy.pcr.bank, policy.pcr.pcrs))
        tpm.call("policy_pcr", session, None, wanted)
    if policy.pin:
        tpm.call("policy_auth_value", session)
    if bytes(tpm.call("policy_get_digest", session)) != policy.digest:
        if policy.pcr is not None:
            check_values(tpm, policy.pcr)
        raise PolicyChangedError("the slot's policy is not the one that its data was sealed with", _RECOVER)


def check_values(tpm: TPM, pcr: PCRPolicy) -> None:
    """Whether PCRs are what they were; PolicyChangedError that names those that are not."""
    words = changed(pcr.values, tpm.pcrs(pcr.bank, pcr.pcrs))
    if words:
        raise PolicyChangedError(f"the boot state changed ({pcr.bank}): {words}", _RECOVER)


def _authorize(tpm: TPM, session: Any, signed: SignedPolicy, approvals: Sequence[Approval]) -> None:
    """Meet a signed policy: the present PCR values must have been approved by the key's owner."""
    lib = tpm.lib
    wanted, _ = lib.TPML_PCR_SELECTION.unmarshal(selection(signed.bank, signed.pcrs))
    tpm.call("policy_pcr", session, None, wanted)
    approved = bytes(tpm.call("policy_get_digest", session))
    approval = next((each for each in approvals if each.policy == approved), None)
    if approval is None:
        numbers = ", ".join(map(str, signed.pcrs))
        raise PolicyChangedError(
            f"no signature approves the present values of PCR {numbers} ({signed.bank})",
            "get the signature file of the system that is running, or use the recovery key",
        )
    public, signature = signer(tpm, signed.pubkey), _signature(tpm, signed.pubkey, approval.signature)
    # The ticket is bound to the hierarchy: with NULL the TPM would refuse it later.
    key = tpm.call("load_external", public, None, lib.ESYS_TR.OWNER)
    with tpm.flushed(key):
        digest = hashlib.sha256(approved + signed.ref).digest()
        ticket = tpm.call("verify_signature", key, digest, signature)
        name = public.get_name()
        tpm.call("policy_authorize", session, approved, name, ticket, policy_ref=signed.ref)


def binding(
    library: Library, signed: SignedPolicy | None, pcr: PCRPolicy | None, pin: bool
) -> tuple[bytes, tuple[tuple[int, bytes], ...]]:
    """A slot's policy: its digest, empty without PCRs, and its steps for other tools."""
    key = signer(library, signed.pubkey) if signed else None
    ref = signed.ref if signed else b""
    digest = combined(bytes(key.get_name()) if key else None, ref, pcr, pin)
    return digest, steps(key.marshal() if key else None, ref, pcr, pin)


def signer(library: Library, pem: str) -> Any:
    """TPM2B_PUBLIC of a policy's signing key; KeyFileError if the PEM is of no use."""
    key = _public_key(pem)
    public = library.lib.TPM2B_PUBLIC.from_pem(pem.encode())
    if isinstance(key, ec.EllipticCurvePublicKey):
        # The library cuts zeros in front off, and a TPM takes whole coordinates only.
        numbers, size = key.public_numbers(), (key.key_size + 7) // 8
        public.publicArea.unique.ecc.x.buffer = numbers.x.to_bytes(size, "big")
        public.publicArea.unique.ecc.y.buffer = numbers.y.to_bytes(size, "big")
    return public


def _public_key(pem: str) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError as error:
        raise KeyFileError(
            "the policy's public key is damaged", "`openssl pkey -pubout` writes one"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise KeyFileError("the policy's public key is neither RSA nor ECC", "use RSA-2048 or ECDSA P-256")
    return key


def _signature(tpm: TPM, pem: str, octets: bytes) -> Any:
    lib = tpm.lib
    digest = lib.TPM2_ALG.SHA256
    if isinstance(_public_key(pem), rsa.RSAPublicKey):
        plain = lib.TPMS_SIGNATURE_RSA(hash=digest, sig=octets)
        return lib.TPMT_SIGNATURE(sigAlg=lib.TPM2_ALG.RSASSA, signature=lib.TPMU_SIGNATURE(rsassa=plain))
    try:
        r, s = decode_dss_signature(octets)
    except ValueError as error:
        raise KeyFileError(
            "the policy's signature is damaged", "get the signature file of the system that is running"
        ) from error
    size = max(32, (max(r, s).bit_length() + 7) // 8)
    pair = lib.TPMS_SIGNATURE_ECC(
        hash=digest, signatureR=r.to_bytes(size, "big"), signatureS=s.to_bytes(size, "big")
    )
    return lib.TPMT_SIGNATURE(sigAlg=lib.TPM2_ALG.ECDSA, signature=lib.TPMU_SIGNATURE(ecdsa=pair))


def _public(library: Library, attributes: Any, auth: Secret | None, policy: bytes) -> Any:
    """The template of sealed data. NODA only without a PIN: with it guessing would be free, and without
    it a locked TPM would refuse the empty auth too."""
    lib = library.lib
    if not policy:
        attributes |= lib.TPMA_OBJECT.USERWITHAUTH
    if auth is None:
        attributes |= lib.TPMA_OBJECT.NODA
    area = lib.TPMT_PUBLIC(
        type=lib.TPM2_ALG.KEYEDHASH,
        nameAlg=lib.TPM2_ALG.SHA256,
        objectAttributes=attributes,
        authPolicy=lib.TPM2B_DIGEST(policy),
    )
    area.parameters.keyedHashDetail.scheme.scheme = lib.TPM2_ALG.NULL
    return lib.TPM2B_PUBLIC(publicArea=area)


@contextmanager
def _sensitive(tpm: TPM, secret: Secret, auth: Secret | None) -> Iterator[Any]:
    structure = tpm.lib.TPM2B_SENSITIVE_CREATE()
    inner = structure._cdata.sensitive
    try:
        tpm.fill(inner.data, secret)
        tpm.fill(inner.userAuth, auth)
        yield structure
    finally:
        tpm.wipe(inner.data)
        tpm.wipe(inner.userAuth)


@contextmanager
def _loaded(tpm: TPM, handle: Any, key: TPMKey, session: Any) -> Iterator[Any]:
    lib = tpm.lib
    try:
        public, _ = lib.TPM2B_PUBLIC.unmarshal(key.public)
        private, _ = lib.TPM2B_PRIVATE.unmarshal(key.private)
        if key.kind == IMPORTABLE:
            seed, _ = lib.TPM2B_ENCRYPTED_SECRET.unmarshal(key.secret)
            nothing = lib.TPMT_SYM_DEF_OBJECT(algorithm=lib.TPM2_ALG.NULL)
            data = lib.TPM2B_DATA()
            private = tpm.call("import_", handle, data, public, private, seed, nothing, session1=session)
    except lib.TSS2_Exception as error:
        raise KeyFileError("the TPM key does not have the structure of one") from error
    item = tpm.call("load", handle, private, public, session1=session)
    with tpm.flushed(item):
        yield item
