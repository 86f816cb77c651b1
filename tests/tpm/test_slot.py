"""TPM slots on software TPMs: bound to the machine, a PIN, PCRs, signatures, and another machine."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fusecrypt.errors import UsageError
from fusecrypt.keys.errors import KeyFileError, SlotError
from fusecrypt.keys.slotfile import CONTENT, SlotFile
from fusecrypt.keys.slots import kdf, tpm2, tpm2_enrolment
from fusecrypt.keys.slots.kdf import Argon2
from fusecrypt.keys.slots.recovery import RecoveryEnrolment
from fusecrypt.keys.slots.tpm2 import DIRECT, SPLIT, TPM2Body, split_pin
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.keys.slots.tpm2_spare import SpareEnrolment
from fusecrypt.keys.token import AuthToken
from fusecrypt.keys.tpm import policy
from fusecrypt.keys.tpm.errors import (
    LastAttemptError,
    LockedOutError,
    OtherTPMError,
    PolicyChangedError,
    WrongPINError,
)
from fusecrypt.keys.tpm.facts import insecurity, lockout, reset_lockout, vendor
from fusecrypt.keys.tpm.parent import Parent
from fusecrypt.keys.tpm.policy import PCRPolicy, SignedPolicy
from fusecrypt.keys.tpm.seal import seal
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.keys.trusted import IMPORTABLE, TPMKey
from fusecrypt.keys.unlock import open_with_pin
from fusecrypt.keys.volume import Volume
from fusecrypt.native import Secret
from tests.tpm.conftest import SoftwareTPM
from tests.tpm.tcti import Recorder
from tests.tpm.test_kernel import nothing_is_left
from tests.unit.keys.secrets import octets, secret

TOKEN = AuthToken.from_passphrase(secret("test"))
RECOVERY = RecoveryEnrolment()
VOLUME = Volume.create([(TOKEN, (CONTENT,))]).add(RECOVERY)
PIN = secret("1234-ä")


def _reread(volume: Volume) -> SlotFile:
    return SlotFile.parse(volume.file.encode())


def _body(volume: Volume, number: int = 1) -> TPM2Body:
    body = volume.file.slot(number).body
    assert isinstance(body, TPM2Body)
    return body


def _extend(tpm: TPM, number: int) -> None:
    lib = tpm.lib
    digest = lib.TPMT_HA(hashAlg=lib.TPM2_ALG.SHA256, digest=lib.TPMU_HA(sha256=b"\x01" * 32))
    tpm.call("pcr_extend", lib.ESYS_TR(number), lib.TPML_DIGEST_VALUES([digest]))


def test_a_slot_without_a_pin_seals_the_volume_key(tpm: TPM, swtpm: SoftwareTPM) -> None:
    volume = VOLUME.add(TPM2Enrolment(tpm))
    body = _body(volume)
    assert (body.mode, body.policy, body.pin, volume.file.slot(1).wrap) == (DIRECT, b"", None, None)
    opened = Volume.open(_reread(volume), 1, TPM2Enrolment(tpm))
    assert opened.intact
    assert opened.key == VOLUME.key
    nothing_is_left(tpm)
    tpm.close()
    swtpm.reboot()
    with swtpm.open() as again:
        assert Volume.open(_reread(volume), 1, TPM2Enrolment(again)).key == VOLUME.key


def test_unlocking_writes_nothing_to_a_tpm(make_tpm: Callable[[], SoftwareTPM], tpm: TPM) -> None:
    volume = VOLUME.add(TPM2Enrolment(tpm))
    other = make_tpm()
    other.start()
    with other.open() as empty:
        with pytest.raises(OtherTPMError, match="cleared, or is another"):
            Volume.open(volume.file, 1, TPM2Enrolment(empty))
        with pytest.raises(OtherTPMError):
            empty.parent_at(0x81000001)
        empty.storage_key()
        with pytest.raises(OtherTPMError, match="differs") as caught:
            Volume.open(volume.file, 1, TPM2Enrolment(empty))
        assert "reseal" in caught.value.hint


def test_a_pin_is_split_and_counted(tpm: TPM) -> None:
    volume = VOLUME.add(TPM2Enrolment(tpm, PIN))
    body = _body(volume)
    assert body.mode == SPLIT
    assert not body.blob.sealed.attributes & 0x400  # without NODA guessing is counted
    assert Volume.open(_reread(volume), 1, TPM2Enrolment(tpm, PIN)).key == VOLUME.key
    with pytest.raises(SlotError, match="needs a PIN"):
        Volume.open(volume.file, 1, TPM2Enrolment(tpm))
    before = lockout(tpm)
    with pytest.raises(WrongPINError) as caught:
        Volume.open(volume.file, 1, TPM2Enrolment(tpm, secret("1235")))
    assert lockout(tpm).left == before.left - 1
    assert caught.value.hint == f"attempts left: {before.left - 1}"
    nothing_is_left(tpm)


def test_auth_values_that_end_with_zero_make_no_slot(tpm: TPM, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []

    def split(kdf: Argon2, pin: Secret) -> tuple[Secret, Secret]:
        auth, share = split_pin(kdf, pin)
        if not made:
            auth.view()[-1] = 0
        made.append(octets(auth))
        return auth, share

    monkeypatch.setattr(tpm2, "split_pin", split)
    volume = VOLUME.add(TPM2Enrolment(tpm, PIN))
    assert made[0][-1] == 0
    assert made[-1][-1] != 0
    assert Volume.open(volume.file, 1, TPM2Enrolment(tpm, PIN)).key == VOLUME.key
    # A wrong PIN that derives to such a value is counted like any other.
    made.clear()
    with pytest.raises(WrongPINError):
        Volume.open(volume.file, 1, TPM2Enrolment(tpm, secret("no")))
    assert lockout(tpm).failed == 1


def test_the_last_attempt_is_not_spent_unasked(tpm: TPM) -> None:
    volume = VOLUME.add(TPM2Enrolment(tpm, PIN)).add(TPM2Enrolment(tpm))
    wrong = TPM2Enrolment(tpm, secret("no"))
    for _ in range(lockout(tpm).left - 1):
        with pytest.raises(WrongPINError):
            Volume.open(volume.file, 1, wrong)
    with pytest.raises(LastAttemptError):
        Volume.open(volume.file, 1, wrong)
    assert lockout(tpm).left == 1
    with pytest.raises(WrongPINError, match="PIN") as caught:
        Volume.open(volume.file, 1, replace(wrong, last_attempt=True))
    assert caught.value.hint == "attempts left: 0"
    # Locked: the right PIN is refused too, and that is not called a wrong PIN.
    with pytest.raises(LockedOutError, match="locked out") as locked:
        Volume.open(volume.file, 1, TPM2Enrolment(tpm, PIN, last_attempt=True))
    assert f"{lockout(tpm).seconds_per_try} s" in locked.value.hint
    # A slot without a PIN opens all the same.
    assert Volume.open(volume.file, 2, TPM2Enrolment(tpm)).key == VOLUME.key


def test_the_lockout_counter_is_reset_with_its_auth(tpm: TPM) -> None:
    volume = VOLUME.add(TPM2Enrolment(tpm, PIN))
    tpm.call("hierarchy_change_auth", tpm.lib.ESYS_TR.LOCKOUT, b"lockout")
    with pytest.raises(WrongPINError):
        Volume.open(volume.file, 1, TPM2Enrolment(tpm, secret("no")))
    reset_lockout(tpm, secret("lockout"))
    assert (lockout(tpm).failed, lockout(tpm).has_auth, lockout(tpm).advice) == (0, True, "")
    with pytest.raises(WrongPINError):
        reset_lockout(tpm)
    nothing_is_left(tpm)


def test_a_changed_pcr_is_named_and_costs_no_attempt(tpm: TPM) -> None:
    with pytest.raises(UsageError, match="PCR 7"):
        VOLUME.add(TPM2Enrolment(tpm, pcrs=("sha256", (7,))))
    _extend(tpm, 7)
    for pin in (None, PIN):
        enrolment = TPM2Enrolment(tpm, pin, ("sha256", (7,)))
        volume = VOLUME.add(enrolment)
        assert Volume.open(_reread(volume), 1, TPM2Enrolment(tpm, pin)).key == VOLUME.key
        before = tpm.pcrs("sha256", (7,))[7]
        _extend(tpm, 7)
        now = tpm.pcrs("sha256", (7,))[7]
        expected = f"PCR 7: expected {before.hex()}, now {now.hex()}"
        with pytest.raises(PolicyChangedError, match=expected) as caught:
            Volume.open(volume.file, 1, TPM2Enrolment(tpm, pin))
        assert "reseal" in caught.value.hint
        assert lockout(tpm).failed == 0
        # Reseal after a recovery unlock, in one step.
        again = Volume.open(volume.file, 0, RECOVERY)
        again = again.change(1, TPM2Enrolment(tpm, pin).like(_body(volume)))
        assert Volume.open(_reread(again), 1, TPM2Enrolment(tpm, pin)).key == VOLUME.key
        nothing_is_left(tpm)


def test_forced_pcrs_of_any_bank(tpm: TPM) -> None:
    for bank in ("sha1", "sha256", "sha384"):
        volume = VOLUME.add(TPM2Enrolment(tpm, pcrs=(bank, (0, 8, 23)), forced=True))
        assert Volume.open(_reread(volume), 1, TPM2Enrolment(tpm)).key == VOLUME.key


class Signer:
    """The owner of a policy key, who approves PCR values of sha256."""

    def __init__(self, kind: str, scalar: int = 0) -> None:
        curve = ec.SECP256R1()
        self._ec = ec.derive_private_key(scalar, curve) if scalar else ec.generate_private_key(curve)
        self._rsa = rsa.generate_private_key(65537, 2048)
        self._kind = kind

    @property
    def pubkey(self) -> str:
        key = self._ec if self._kind == "ec" else self._rsa
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem.decode()

    def approve(self, values: dict[int, bytes], ref: bytes = b"") -> bytes:
        approved = policy.after_pcr(policy.START, PCRPolicy("sha256", values))
        if self._kind == "ec":
            signature = self._ec.sign(approved + ref, ec.ECDSA(hashes.SHA256()))
        else:
            signature = self._rsa.sign(approved + ref, padding.PKCS1v15(), hashes.SHA256())
        entry = {
            "pcrs": sorted(values),
            "pkfp": hashlib.sha256(self.pubkey.encode()).hexdigest(),
            "pol": approved.hex(),
            "sig": base64.b64encode(signature).decode(),
        }
        return json.dumps({"sha256": [entry]}).encode()


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("ref", [b"", b"abc"])
def test_signed_policies_follow_updates(tpm: TPM, kind: str, ref: bytes) -> None:
    owner = Signer(kind)
    signed = SignedPolicy("sha256", (11,), owner.pubkey, ref)
    values = tpm.pcrs("sha256", (11,))
    enrolment = TPM2Enrolment(tpm, signed=signed, approvals=owner.approve(values, ref))
    volume = VOLUME.add(enrolment)
    assert Volume.open(_reread(volume), 1, enrolment).key == VOLUME.key
    _extend(tpm, 11)
    with pytest.raises(PolicyChangedError, match="no signature approves the present values of PCR 11"):
        Volume.open(volume.file, 1, enrolment)
    # A new signature opens the same blob.
    updated = owner.approve(tpm.pcrs("sha256", (11,)), ref)
    assert Volume.open(_reread(volume), 1, replace(enrolment, approvals=updated)).key == VOLUME.key
    # A signature by somebody else, and over other octets.
    forged = Signer(kind).approve(tpm.pcrs("sha256", (11,)), ref)
    for approvals in (forged, owner.approve(tpm.pcrs("sha256", (11,)), b"other")):
        with pytest.raises(PolicyChangedError, match="signature"):
            Volume.open(volume.file, 1, replace(enrolment, approvals=approvals))
    nothing_is_left(tpm)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_signers_key_whose_coordinate_begins_with_zeros(tpm: TPM, axis: str) -> None:
    """One key in 128 has such a coordinate."""

    def coordinate(scalar: int) -> int:
        numbers = ec.derive_private_key(scalar, ec.SECP256R1()).public_key().public_numbers()
        return numbers.x if axis == "x" else numbers.y

    owner = Signer("ec", next(n for n in range(1, 1 << 16) if coordinate(n) >> 248 == 0))
    approvals = owner.approve(tpm.pcrs("sha256", (11,)))
    volume = VOLUME.add(
        TPM2Enrolment(tpm, None, None, SignedPolicy("sha256", (11,), owner.pubkey), approvals)
    )
    assert Volume.open(_reread(volume), 1, TPM2Enrolment(tpm, approvals=approvals)).key == VOLUME.key


def test_signed_and_literal_pcrs_and_a_pin_together(tpm: TPM) -> None:
    owner = Signer("ec")
    _extend(tpm, 7)
    signed = SignedPolicy("sha256", (11,), owner.pubkey)
    approvals = owner.approve(tpm.pcrs("sha256", (11,)))
    enrolment = TPM2Enrolment(tpm, PIN, ("sha256", (7,)), signed, approvals)
    volume = VOLUME.add(enrolment)
    steps = _body(volume).blob.policy
    assert [code for code, _ in steps] == [0x16A, 0x17F, 0x16B]
    assert steps[1][1].endswith(bytes.fromhex("00000001000b03800000"))
    opener = TPM2Enrolment(tpm, PIN, approvals=approvals)
    assert Volume.open(_reread(volume), 1, opener).key == VOLUME.key
    with pytest.raises(WrongPINError):
        Volume.open(volume.file, 1, replace(opener, pin=secret("0")))
    _extend(tpm, 7)
    with pytest.raises(PolicyChangedError, match="PCR 7"):
        Volume.open(volume.file, 1, opener)


@pytest.mark.parametrize("pin", [None, PIN])
def test_a_spare_machines_tpm_opens_what_was_sealed_for_it(
    make_tpm: Callable[[], SoftwareTPM], tpm: TPM, pin: Secret | None
) -> None:
    spare = make_tpm()
    spare.start()
    with spare.open() as other:
        public = other.storage_key().public
        volume = VOLUME.add(SpareEnrolment(public, pin))
        assert _body(volume).blob.kind == IMPORTABLE
        assert Volume.open(_reread(volume), 1, TPM2Enrolment(other, pin)).key == VOLUME.key
        tpm.storage_key()
        with pytest.raises(OtherTPMError):
            Volume.open(volume.file, 1, TPM2Enrolment(tpm, pin))
        if pin is not None:
            with pytest.raises(WrongPINError):
                Volume.open(volume.file, 1, TPM2Enrolment(other, secret("0")))
        nothing_is_left(other)
        assert _body(volume).unverified
        resealed = volume.change(1, TPM2Enrolment(other, pin).like(_body(volume)))
        assert not _body(resealed).unverified
        with pytest.raises(SlotError):
            Volume.open(volume.file, 1, SpareEnrolment(public, pin))


@pytest.mark.parametrize("pin", [None, PIN])
def test_an_rsa_storage_key(tpm: TPM, pin: Secret | None) -> None:
    """Some machines come with one at 0x81000001: it is used as it is, and for a spare machine too."""
    rsa_2048 = bytes.fromhex("001a 0001 000b 00030472 0000 000600800043 0010 0800 00000000 0000")
    template, _ = tpm.lib.TPM2B_PUBLIC.unmarshal(rsa_2048)
    owner = tpm.lib.ESYS_TR.OWNER
    key, *_ = tpm.call("create_primary", tpm.lib.TPM2B_SENSITIVE_CREATE(), template, owner)
    with tpm.flushed(key):
        tpm.call("tr_close", tpm.call("evict_control", owner, key, 0x81000001))
    public = tpm.storage_key().public
    assert public[2:4] == b"\x00\x01"
    volume = VOLUME.add(TPM2Enrolment(tpm, pin)).add(SpareEnrolment(public, pin))
    for number in (1, 2):
        assert Volume.open(_reread(volume), number, TPM2Enrolment(tpm, pin)).key == VOLUME.key
    nothing_is_left(tpm)


def test_what_does_not_come_back_is_not_enrolled(tpm: TPM, monkeypatch: pytest.MonkeyPatch) -> None:
    def another(tpm: TPM, parent: Parent, _: Secret, **more: Any) -> TPMKey:
        return seal(tpm, parent, secret("x" * 32), **more)

    monkeypatch.setattr(tpm2_enrolment, "seal", another)
    for pin in (None, PIN):
        with pytest.raises(SlotError, match="does not give back what it sealed"):
            VOLUME.add(TPM2Enrolment(tpm, pin))
    nothing_is_left(tpm)


def test_damaged_slots_are_told(tpm: TPM) -> None:
    volume = VOLUME.add(TPM2Enrolment(tpm, PIN))
    text = volume.file.encode().decode()
    wrap = volume.file.slot(1).wrap
    assert wrap is not None
    spoiled = wrap.data[:-1] + bytes([wrap.data[-1] ^ 1])
    old, new = (base64.b64encode(data).decode() for data in (wrap.data, spoiled))
    with pytest.raises(KeyFileError, match="damaged"):
        Volume.open(SlotFile.parse(text.replace(old, new).encode()), 1, TPM2Enrolment(tpm, PIN))


@pytest.mark.parametrize("pin", [None, PIN])
def test_a_slot_cannot_hide_whether_attempts_count(tpm: TPM, pin: Secret | None) -> None:
    """One that was made to look as if it had no PIN would spend an attempt at each mount, unasked."""
    document = json.loads(VOLUME.add(TPM2Enrolment(tpm, pin)).file.encode())
    other = json.loads(VOLUME.add(TPM2Enrolment(tpm, None if pin else PIN)).file.encode())
    SlotFile.parse(json.dumps(document).encode())
    document["slots"][1]["tpm2"]["blob"] = other["slots"][1]["tpm2"]["blob"]
    with pytest.raises(KeyFileError, match="whether wrong attempts count"):
        SlotFile.parse(json.dumps(document).encode())
    assert lockout(tpm).failed == 0


def test_a_pin_that_needs_much_memory_needs_consent(tpm: TPM, monkeypatch: pytest.MonkeyPatch) -> None:
    file = VOLUME.add(TPM2Enrolment(tpm, PIN)).file
    monkeypatch.setattr(kdf, "MAX_MEMORY", 1024)
    with pytest.raises(SlotError, match="unless it is named") as caught:
        open_with_pin(file, tpm, PIN)
    assert "--slot N" in caught.value.hint
    assert open_with_pin(file, tpm, PIN, slot=1, large=True)[1] == 1


def test_rotation_reseals_with_the_tpm(tpm: TPM) -> None:
    volume = VOLUME.add(TPM2Enrolment(tpm, PIN))
    rotated = volume.rotate({0: RECOVERY, 1: TPM2Enrolment(tpm, PIN)})
    assert Volume.open(_reread(rotated), 1, TPM2Enrolment(tpm, PIN)).key == rotated.key
    with pytest.raises(WrongPINError):
        volume.rotate({0: RECOVERY, 1: TPM2Enrolment(tpm, secret("typo"))})


def test_what_the_tpm_tells_about_itself(tpm: TPM) -> None:
    assert "SW" in vendor(tpm)
    assert "software TPM" in insecurity(tpm)
    figures = lockout(tpm)
    assert (figures.locked, figures.has_auth, figures.failed) == (False, False, 0)
    assert "empty" in figures.advice


@pytest.fixture
def recorder(swtpm: SoftwareTPM) -> Iterator[Recorder]:
    recorder = Recorder(swtpm.directory / "s")
    yield recorder
    recorder.close_socket()


def test_neither_secret_nor_pin_is_on_the_bus(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = octets(VOLUME.key)
    with TPM(recorder) as tpm:
        volume = VOLUME.add(TPM2Enrolment(tpm, PIN)).add(TPM2Enrolment(tpm))
        for number, pin in ((1, PIN), (2, None)):
            assert octets(Volume.open(volume.file, number, TPM2Enrolment(tpm, pin)).key) == key
        kdf = _body(volume).pin
        assert kdf is not None
        pair = split_pin(kdf, PIN)
    spoken = b"".join(recorder.traffic)
    assert len(recorder.traffic) > 20
    assert _body(volume, 2).blob.public[2:] in spoken  # the recording is one
    for value in (VOLUME.key, PIN, *pair):
        assert octets(value) not in spoken
        assert octets(value) not in caplog.text.encode()


def test_no_tpm_library_is_imported_without_a_tpm(tmp_path: Path) -> None:
    program = (
        "import sys, fusecrypt.keys.slots.tpm2_enrolment, fusecrypt.keys.tpm.kernel, fusecrypt.keys.volume\n"
        "assert not [name for name in sys.modules if 'tpm2_pytss' in name]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
