"""Every row of the error table: what the user reads when a TPM refuses."""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fusecrypt.errors import UnsupportedSystemError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.slotfile import CONTENT
from fusecrypt.keys.slots.recovery import RecoveryEnrolment
from fusecrypt.keys.slots.tpm2 import TPM2Body
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.keys.token import AuthToken
from fusecrypt.keys.tpm.errors import (
    ROWS,
    BrokenAnswerError,
    LockedOutError,
    OtherTPMError,
    PolicyChangedError,
    TPMBusyError,
    TPMError,
    TPMUnavailableError,
    WrongPINError,
    explain,
)
from fusecrypt.keys.tpm.policy import START, PCRPolicy, SignedPolicy, after_pcr
from fusecrypt.keys.tpm.seal import seal, unseal
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.keys.unlock import open_with_tpm
from fusecrypt.keys.volume import Volume
from tests.tpm.conftest import SoftwareTPM
from tests.tpm.tcti import Recorder, refuse
from tests.tpm.test_kernel import nothing_is_left
from tests.unit.keys.secrets import secret

VOLUME = Volume.create([(AuthToken.from_passphrase(secret("test")), (CONTENT,))]).add(RecoveryEnrolment())
PIN = secret("1234")
UNSEAL, LOAD, CREATE_PRIMARY, POLICY_PCR, READ_PUBLIC = 0x15E, 0x157, 0x131, 0x17F, 0x173
GET_CAPABILITY = 0x17A


@pytest.fixture
def recorder(swtpm: SoftwareTPM) -> Iterator[Recorder]:
    """A connection whose answers can be changed."""
    recorder = Recorder(swtpm.directory / "s")
    yield recorder
    recorder.close_socket()


def test_codes_are_told_apart_by_what_they_name() -> None:
    assert type(explain(0x98E, "unseal")) is WrongPINError
    assert type(explain(0x9A2, "unseal")) is WrongPINError
    assert "owner hierarchy" in str(explain(0x9A2, "create_primary"))
    assert "owner hierarchy" in str(explain(0x9A2, "evict_control"))
    assert type(explain(0x0B098E, "unseal")) is WrongPINError  # through the kernel's resource manager
    assert type(explain(0x1C4, "policy_or")) is PolicyChangedError
    assert "another key" in str(explain(0x4C4, "policy_authorize"))
    assert "TPM refused load" in str(explain(0x184, "load"))
    for code in ROWS:
        assert f"{code:#x}" in str(explain(code, "unseal"))


def test_a_device_that_is_missing_forbidden_or_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "tpmrm0"
    with pytest.raises(TPMUnavailableError, match="there is no TPM") as caught:
        TPM(f"device:{missing}")
    assert isinstance(caught.value, UnsupportedSystemError)
    assert caught.value.exit_status == 5
    for error, words in ((PermissionError(13, "denied"), "group tss"), (OSError(16, "busy"), "/dev/tpmrm0")):

        def fail(*_: Any, error: OSError = error) -> int:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            with pytest.raises(TPMUnavailableError) as caught:
                TPM(f"device:{missing}")
        assert words in caught.value.hint


def test_interfaces_that_are_none() -> None:
    for tcti in ("nonsense:x", "", "swtpm:path=/nowhere/s", "device:/dev/null"):
        with pytest.raises(TPMUnavailableError):
            TPM(tcti)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, *_: Any) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(TPMUnavailableError, match="tpm2-pytss and libtss2"):
        TPM()


def test_a_tpm_that_was_not_started_is_started(make_tpm: Callable[[], SoftwareTPM]) -> None:
    made = make_tpm()
    made.start(flags="not-need-init")
    with made.open() as tpm:
        tpm.storage_key()


def test_failure_mode(recorder: Recorder) -> None:
    recorder.instead = refuse(0x101)
    with pytest.raises(TPMError, match="failure mode") as caught:
        TPM(recorder)
    assert "recovery key" in caught.value.hint


def test_an_owner_password(tpm: TPM) -> None:
    lib = tpm.lib
    tpm.call("hierarchy_change_auth", lib.ESYS_TR.OWNER, b"owner")
    tpm.call("tr_set_auth", lib.ESYS_TR.OWNER, b"")
    with pytest.raises(TPMError, match="owner hierarchy has a password") as caught:
        VOLUME.add(TPM2Enrolment(tpm))
    assert "0x81000001" in caught.value.hint
    nothing_is_left(tpm)


def test_a_cleared_tpm(tpm: TPM) -> None:
    volume = VOLUME.add(TPM2Enrolment(tpm))
    tpm.call("clear", tpm.lib.ESYS_TR.LOCKOUT)
    with pytest.raises(OtherTPMError) as caught:
        Volume.open(volume.file, 1, TPM2Enrolment(tpm))
    assert "reseal" in caught.value.hint


def test_sealed_data_of_another_tpm_and_damaged_data(make_tpm: Callable[[], SoftwareTPM], tpm: TPM) -> None:
    other = make_tpm()
    other.start()
    with other.open() as second:
        blob = seal(second, second.storage_key(), secret("x" * 32))
    with pytest.raises(TPMError, match="damaged, or belongs to another TPM"):
        unseal(tpm, tpm.pinned(tpm.storage_key()), blob)
    nothing_is_left(tpm)


def test_a_swapped_tpm_that_claims_to_be_the_one(
    make_tpm: Callable[[], SoftwareTPM], tpm: TPM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can repeat the public key but not use it: the session's salt stays unknown to it."""
    volume = VOLUME.add(TPM2Enrolment(tpm))
    body = volume.file.slot(1).body
    assert isinstance(body, TPM2Body)
    other = make_tpm()
    other.start()
    with other.open() as liar:
        liar.storage_key()
        monkeypatch.setattr(TPM, "parent_at", lambda *_: body.parent)
        with pytest.raises(OtherTPMError, match="cannot use the storage key that it shows"):
            Volume.open(volume.file, 1, TPM2Enrolment(liar))
        # Nothing can be enrolled on it either: what it answers does not verify.
        monkeypatch.setattr(TPM, "storage_key", lambda _: body.parent)
        with pytest.raises(BrokenAnswerError):
            VOLUME.add(TPM2Enrolment(liar))


def test_a_changed_answer_is_noticed(recorder: Recorder) -> None:
    with TPM(recorder) as tpm:
        volume = VOLUME.add(TPM2Enrolment(tpm))

        def flip(sent: bytes, answer: bytes) -> bytes:
            if int.from_bytes(sent[6:10], "big") != UNSEAL:
                return answer
            return answer[:20] + bytes([answer[20] ^ 1]) + answer[21:]

        recorder.tamper = flip
        with pytest.raises(BrokenAnswerError, match="verification") as caught:
            Volume.open(volume.file, 1, TPM2Enrolment(tpm))
        assert "bus" in caught.value.hint


def test_after_a_broken_answer_the_tpm_is_asked_no_more(recorder: Recorder) -> None:
    with TPM(recorder) as tpm:
        volume = VOLUME.add(TPM2Enrolment(tpm)).add(TPM2Enrolment(tpm))

        def flip(sent: bytes, answer: bytes) -> bytes:
            unsealing = int.from_bytes(sent[6:10], "big") == UNSEAL
            return answer[:-1] + bytes([answer[-1] ^ 1]) if unsealing else answer

        recorder.tamper = flip
        opened, (first, second) = open_with_tpm(volume.file, tpm)
        assert opened is None
        assert "the TPM's answer failed verification" in first
        assert "slot 2: the TPM is not asked any more" in second


@pytest.mark.parametrize("command", [0, READ_PUBLIC, LOAD, UNSEAL])
@pytest.mark.parametrize("head", [0, 10])
def test_garbage_is_noticed(recorder: Recorder, command: int, head: int) -> None:
    """Zeros for an answer, or for all but its head, which says that all went well."""
    with TPM(recorder) as tpm:
        volume = VOLUME.add(TPM2Enrolment(tpm))

        def spoil(sent: bytes, answer: bytes) -> bytes:
            if command and int.from_bytes(sent[6:10], "big") != command:
                return answer
            return answer[:head] + bytes(len(answer) - head)

        recorder.tamper = spoil
        with pytest.raises(TPMError):
            Volume.open(volume.file, 1, TPM2Enrolment(tpm))
        with pytest.raises((TPMError, KeyFileError)):
            VOLUME.add(TPM2Enrolment(tpm))


def test_figures_that_are_not_told(recorder: Recorder) -> None:
    with TPM(recorder) as tpm:
        volume = VOLUME.add(TPM2Enrolment(tpm, PIN))
        recorder.tamper = lambda sent, answer: (
            answer[:10] + bytes(len(answer) - 10)
            if int.from_bytes(sent[6:10], "big") == GET_CAPABILITY
            else answer
        )
        with pytest.raises(TPMError, match="does not tell how many attempts are left"):
            Volume.open(volume.file, 1, TPM2Enrolment(tpm, PIN))


@pytest.mark.parametrize("code", [0x922, 0x908, 0x90A, 0x920, 0x923, 0x909])
def test_a_busy_tpm_is_asked_again(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    waits: list[float] = []
    monkeypatch.setattr("fusecrypt.keys.tpm.session.time.sleep", waits.append)
    with TPM(recorder) as tpm:
        volume = VOLUME.add(TPM2Enrolment(tpm))
        recorder.instead = refuse(code, UNSEAL, times=8)
        assert Volume.open(volume.file, 1, TPM2Enrolment(tpm)).key == VOLUME.key
        assert waits == sorted(waits)
        assert waits
        recorder.instead = refuse(code, UNSEAL)
        with pytest.raises(TPMBusyError):
            Volume.open(volume.file, 1, TPM2Enrolment(tpm))


def test_pcrs_that_change_in_between(recorder: Recorder) -> None:
    with TPM(recorder) as tpm:
        volume = VOLUME.add(TPM2Enrolment(tpm, pcrs=("sha256", (7,)), forced=True))
        recorder.instead = refuse(0x128, UNSEAL, times=29)
        assert Volume.open(volume.file, 1, TPM2Enrolment(tpm)).key == VOLUME.key
        recorder.instead = refuse(0x128, UNSEAL)
        with pytest.raises(PolicyChangedError, match="kept changing"):
            Volume.open(volume.file, 1, TPM2Enrolment(tpm))
        recorder.instead = lambda _: None
        nothing_is_left(tpm)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (0x99D, PolicyChangedError, "boot state"),
        (0x12F, TPMError, "policy only"),
        (0x902, TPMError, "no room"),
        (0x903, TPMError, "no room"),
        (0x904, TPMError, "no room"),
        (0x910, TPMError, "restarted"),
        (0x921, LockedOutError, "locked out"),
    ],
)
def test_refusals_in_the_midst_of_unsealing(
    recorder: Recorder, code: int, kind: type[TPMError], words: str
) -> None:
    with TPM(recorder) as tpm:
        volume = VOLUME.add(TPM2Enrolment(tpm))
        recorder.instead = refuse(code, UNSEAL)
        with pytest.raises(kind, match=words):
            Volume.open(volume.file, 1, TPM2Enrolment(tpm))
        recorder.instead = lambda _: None
        nothing_is_left(tpm)


def test_a_signing_key_that_the_tpm_does_not_take(tpm: TPM) -> None:
    """Only the TPM itself can say which it takes; RSA-4096 is one that hardly any does."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=4096).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    signed = SignedPolicy("sha256", (11,), pem)
    values = PCRPolicy("sha256", tpm.pcrs("sha256", (11,)))
    approved = after_pcr(START, values)
    approvals = json.dumps(
        {"sha256": [{"pcrs": [11], "pol": approved.hex(), "sig": base64.b64encode(bytes(512)).decode()}]}
    )
    with pytest.raises(TPMError, match="does not take the policy's public key") as caught:
        VOLUME.add(TPM2Enrolment(tpm, signed=signed, approvals=approvals.encode()))
    assert "RSA-2048 or ECDSA P-256" in caught.value.hint
    nothing_is_left(tpm)


def test_an_object_that_needs_its_policy(tpm: TPM) -> None:
    parent = tpm.storage_key()
    blob = seal(tpm, parent, secret("x" * 32), policy=b"\x01" * 32)
    with pytest.raises(TPMError, match="policy only") as caught:
        unseal(tpm, tpm.pinned(parent), blob)
    assert "--master-pcrs" in caught.value.hint


def test_objects_that_fill_the_tpm(tpm: TPM) -> None:
    volume = VOLUME.add(TPM2Enrolment(tpm))
    with contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(tpm.primary())
        with pytest.raises(TPMError, match="no room") as caught:
            Volume.open(volume.file, 1, TPM2Enrolment(tpm))
        assert "tpmrm0" in caught.value.hint
    assert Volume.open(volume.file, 1, TPM2Enrolment(tpm)).key == VOLUME.key


def test_a_handle_that_is_gone(tpm: TPM) -> None:
    with tpm.session(tpm.pinned(tpm.storage_key()), policy=True) as session:
        tpm.call("flush_context", session)
        with pytest.raises(TPMError, match="restarted"):
            tpm.call("policy_get_digest", session)


def test_too_long_a_secret(tpm: TPM) -> None:
    parent = tpm.storage_key()
    assert len(seal(tpm, parent, secret(bytes(128))).private) > 128
    with pytest.raises(TPMError, match="128 octets"):
        seal(tpm, parent, secret(bytes(129)))


def test_a_tpm_that_hangs_up(tpm: TPM, swtpm: SoftwareTPM) -> None:
    volume = VOLUME.add(TPM2Enrolment(tpm))
    swtpm.stop()
    with pytest.raises(TPMError):
        Volume.open(volume.file, 1, TPM2Enrolment(tpm))
