"""Rows of the error table whose codes the software TPM itself gives, in states that a slot never asks for.

Beside them stand in test_errors.py those that only another TPM could give: a busy one, one in failure mode,
one without memory (0x904). There the code is put in place of the answer.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.keys.tpm import seal as sealing
from fusecrypt.keys.tpm.errors import (
    LockedOutError,
    PolicyChangedError,
    TPMError,
    TPMUnavailableError,
    WrongPINError,
)
from fusecrypt.keys.tpm.kernel import KernelAuth, unseal_master
from fusecrypt.keys.tpm.policy import SignedPolicy, selection
from fusecrypt.keys.tpm.seal import seal, signer, unseal
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.keys.volume import Volume
from tests.tpm.conftest import SoftwareTPM
from tests.tpm.tcti import Recorder
from tests.tpm.test_errors import UNSEAL, VOLUME
from tests.tpm.test_kernel import nothing_is_left
from tests.tpm.test_slot import Signer
from tests.unit.keys.secrets import secret


@contextmanager
def policy_session(tpm: TPM) -> Iterator[Any]:
    with tpm.session(tpm.pinned(tpm.storage_key()), policy=True) as session:
        yield session


@pytest.mark.parametrize("tcti", ["nonsense:x", "/etc/passwd:x"])
def test_an_interface_whose_library_is_not_installed(tcti: str) -> None:
    with pytest.raises(TPMUnavailableError, match="not installed") as caught:
        TPM(tcti)
    assert caught.value.code == 0xA0015
    assert "libtss2-tcti" in caught.value.hint


def test_a_policy_that_is_not_met(tpm: TPM) -> None:
    """A slot's is compared before anything is unsealed; the TPM refuses it as well."""
    blob = seal(tpm, tpm.storage_key(), secret("x" * 32), policy=b"\x01" * 32)
    handle = tpm.pinned(tpm.storage_key())
    with (
        tpm.session(handle) as session,
        sealing._loaded(tpm, handle, blob, session) as item,
        tpm.session(handle, policy=True) as policy,
        pytest.raises(PolicyChangedError, match="boot state") as caught,
    ):
        tpm.call("unseal", item, session1=policy)
    assert caught.value.code == 0x99D
    assert "reseal" in caught.value.hint
    nothing_is_left(tpm)


def test_alternatives_that_are_not_met(tpm: TPM) -> None:
    """Of PolicyOR, and of PolicyAuthorize with another digest than the session's."""
    owner, lib = Signer("ec"), tpm.lib
    ticket = lib.TPMT_TK_VERIFIED(hierarchy=lib.TPM2_RH.OWNER, tag=lib.TPM2_ST.VERIFIED, digest=b"")
    name = signer(tpm, owner.pubkey).get_name()
    with policy_session(tpm) as session:
        for command, arguments in (
            ("policy_or", (lib.TPML_DIGEST([b"1" * 32, b"2" * 32]),)),
            ("policy_authorize", (b"1" * 32, name, ticket)),
        ):
            with pytest.raises(PolicyChangedError, match="boot state") as caught:
                tpm.call(command, session, *arguments, **({"policy_ref": b""} if len(arguments) > 1 else {}))
            assert caught.value.code == 0x1C4


def test_a_ticket_of_another_hierarchy(tpm: TPM) -> None:
    """As one would get by loading the policy's key without a hierarchy."""
    owner, lib = Signer("ec"), tpm.lib
    entry = json.loads(owner.approve(tpm.pcrs("sha256", (11,))))["sha256"][0]
    public, approved = signer(tpm, owner.pubkey), bytes.fromhex(entry["pol"])
    signature = sealing._signature(tpm, owner.pubkey, base64.b64decode(entry["sig"]))
    key = tpm.call("load_external", public, None, lib.ESYS_TR.NULL)
    with tpm.flushed(key), policy_session(tpm) as session:
        wanted, _ = lib.TPML_PCR_SELECTION.unmarshal(selection("sha256", (11,)))
        tpm.call("policy_pcr", session, None, wanted)
        ticket = tpm.call("verify_signature", key, hashlib.sha256(approved).digest(), signature)
        with pytest.raises(PolicyChangedError, match="by another key") as caught:
            tpm.call("policy_authorize", session, approved, public.get_name(), ticket, policy_ref=b"")
    assert caught.value.code == 0x4C4
    assert "signature file" in caught.value.hint


def test_a_signature_that_is_not_valid(tpm: TPM) -> None:
    owner, other = Signer("ec"), Signer("ec")
    values = tpm.pcrs("sha256", (11,))
    signed = SignedPolicy("sha256", (11,), owner.pubkey)
    volume = VOLUME.add(TPM2Enrolment(tpm, signed=signed, approvals=owner.approve(values)))
    with pytest.raises(PolicyChangedError, match="signature is not valid") as caught:
        Volume.open(volume.file, 1, TPM2Enrolment(tpm, approvals=other.approve(values)))
    assert caught.value.code == 0x2DB
    nothing_is_left(tpm)


def test_sessions_that_fill_the_tpm(tpm: TPM) -> None:
    with contextlib.ExitStack() as held:

        def fill() -> None:
            for _ in range(100):
                held.enter_context(policy_session(tpm))

        with pytest.raises(TPMError, match="no room") as caught:
            fill()
    assert caught.value.code == 0x903
    assert "tpmrm0" in caught.value.hint
    nothing_is_left(tpm)


def test_an_owner_password_that_is_set_meanwhile(tpm: TPM) -> None:
    with tpm.primary() as key:
        tpm.call("hierarchy_change_auth", tpm.lib.ESYS_TR.OWNER, b"owner")
        tpm.call("tr_set_auth", tpm.lib.ESYS_TR.OWNER, b"")
        with pytest.raises(TPMError, match="owner hierarchy has a password") as caught:
            tpm.call("evict_control", tpm.lib.ESYS_TR.OWNER, key, 0x81000002)
    assert caught.value.code == 0x9A2


def test_wrong_auth_values_until_the_tpm_is_locked(tpm: TPM) -> None:
    """The kernel's sealed data do not tell how often they may be tried: the TPM does."""
    parent = tpm.storage_key()
    right, wrong = secret("right"), secret("wrong")
    counted = seal(tpm, parent, secret("x" * 32), auth=right)
    for _ in range(3):
        with pytest.raises(WrongPINError) as caught:
            unseal(tpm, tpm.pinned(parent), counted, auth=wrong)
        assert caught.value.code == 0x98E
    with pytest.raises(LockedOutError, match="locked out") as locked:
        unseal_master(tpm, replace(counted, empty_auth=None), KernelAuth(right))
    assert locked.value.code == 0x921
    assert "key lockout --reset" in locked.value.hint
    nothing_is_left(tpm)


def test_a_pcr_that_changes_between_two_commands(swtpm: SoftwareTPM) -> None:
    """Whichever it is, the TPM wants the policy to be built again, which costs no attempt."""
    recorder = Recorder(swtpm.directory / "s")
    no_auth = bytes.fromhex("00000009400000090000000000")
    digest = bytes.fromhex("00000001000b") + b"\x01" * 32
    changes = 0

    def extend_before(sent: bytes) -> None:
        nonlocal changes
        if int.from_bytes(sent[6:10], "big") == UNSEAL and changes < 2:
            changes += 1
            body = bytes.fromhex("0000018200000008") + no_auth + digest
            assert recorder.aside(b"\x80\x02" + (6 + len(body)).to_bytes(4, "big") + body)[6:10] == bytes(4)

    with TPM(recorder) as tpm:
        volume = VOLUME.add(TPM2Enrolment(tpm, pcrs=("sha256", (7,)), forced=True))
        recorder.instead = extend_before
        assert Volume.open(volume.file, 1, TPM2Enrolment(tpm)).key == VOLUME.key
        assert bytes.fromhex("00000128") in [answer[6:10] for answer in recorder.traffic]
        assert changes == 2
        nothing_is_left(tpm)
    recorder.close_socket()
