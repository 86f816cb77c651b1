"""What a user has, tried as all it can be and nothing more; and keys handed to the kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt.errors import SecretError, UsageError
from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.errors import SlotError, WrongSecretError
from fusecrypt.keys.export import export_kernel
from fusecrypt.keys.slotfile import CONTENT, NAMES
from fusecrypt.keys.slots.passphrase import PassphraseEnrolment
from fusecrypt.keys.slots.recovery import MistypedRecoveryKeyError, RecoveryEnrolment, write_key
from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.keys.token import DEFAULT_SALT, FNEK_SALT, AuthToken
from fusecrypt.keys.tpm.errors import WrongPINError
from fusecrypt.keys.tpm.facts import lockout
from fusecrypt.keys.tpm.kernel import KernelAuth, unseal_master
from fusecrypt.keys.tpm.session import TPM
from fusecrypt.keys.trusted import TPMKey
from fusecrypt.keys.unlock import find_keys, open_with_pin, open_with_secret, open_with_tpm
from fusecrypt.keys.volume import Volume
from fusecrypt.keys.wrapped import WrappedPassphrase
from tests.unit.keys.secrets import octets, secret

MOUNT = secret("mount passphrase")
FEKEK = AuthToken.from_passphrase(MOUNT)
FNEK = AuthToken.from_passphrase(MOUNT, FNEK_SALT)
SIGS = (FEKEK.signature, FNEK.signature)
RECOVERY = RecoveryEnrolment()
VOLUME = (
    Volume.create([(FEKEK, (CONTENT,)), (FNEK, (NAMES,))])
    .add(PassphraseEnrolment(secret("slot words")))
    .add(RECOVERY)
)
WRAPPED = WrappedPassphrase.wrap(MOUNT, secret("login words"))
PIN = secret("4711")


@pytest.mark.parametrize(
    ("typed", "how"),
    [
        ("mount passphrase", "mount passphrase"),
        ("login words", "wrapped passphrase"),
        ("slot words", "slot 0"),
        (octets(write_key(RECOVERY.key)).decode().lower(), "slot 1"),
    ],
)
def test_one_secret_is_tried_as_what_it_can_be(typed: str, how: str) -> None:
    found = find_keys(secret(typed), SIGS, wrapped=WRAPPED, file=VOLUME.file)
    assert found.how == how
    assert [token.key for token in found.tokens] == [FEKEK.key, FNEK.key]
    assert (found.volume is not None) == how.startswith("slot")


def test_a_salt_of_the_users_is_for_the_content_key_only() -> None:
    salted = AuthToken.from_passphrase(MOUNT, bytes(range(8)))
    found = find_keys(MOUNT, (salted.signature, FNEK.signature), salt=bytes(range(8)))
    assert [token.salt for token in found.tokens] == [bytes(range(8)), DEFAULT_SALT, FNEK_SALT]
    assert find_keys(MOUNT, SIGS, salt=bytes(8)).how == "mount passphrase"


def test_a_use_that_is_found_late() -> None:
    """A tree may use a key in a place that has not been seen when the passphrase is typed."""
    seen: list[int] = []

    def later() -> Iterator[set[bytes]]:
        for number, more in enumerate([{bytes(8)}, {bytes(8), FEKEK.signature}, {b"8 octets"}]):
            seen.append(number)
            yield more

    for typed in ("mount passphrase", "login words"):
        found = find_keys(secret(typed), [bytes(8)], wrapped=WRAPPED, file=VOLUME.file, later=later)
        assert [token.key for token in found.tokens] == [FEKEK.key, FNEK.key]
        assert found.volume is None
    assert seen == [0, 1, 0, 1]
    # What opens a slot need not wait for that.
    assert find_keys(secret("slot words"), [bytes(8)], file=VOLUME.file, later=later).how == "slot 0"
    assert len(seen) == 4
    with pytest.raises(WrongSecretError):
        find_keys(secret("neither"), [bytes(8)], wrapped=WRAPPED, file=VOLUME.file, later=later)


def test_secrets_that_fit_nothing() -> None:
    for typed in ("wrong", "x" * 200, "\xff"):
        with pytest.raises(WrongSecretError):
            find_keys(secret(typed), SIGS, wrapped=WRAPPED, file=VOLUME.file)
    with pytest.raises(WrongSecretError):
        find_keys(secret("slot words"), SIGS)
    with pytest.raises(WrongSecretError):
        find_keys(MOUNT, SIGS, file=VOLUME.file, slot=0)
    text = bytearray(octets(write_key(RECOVERY.key)))
    text[0] = ord("0") if text[0] != ord("0") else ord("1")
    with pytest.raises(MistypedRecoveryKeyError, match="group 1"):
        open_with_secret(VOLUME.file, secret(bytes(text)))


def test_tpm_slots_without_a_pin_are_all_tried(tpm: TPM) -> None:
    forced = TPM2Enrolment(tpm, pcrs=("sha256", (7,)), forced=True)
    volume = VOLUME.add(forced).add(TPM2Enrolment(tpm, PIN)).add(TPM2Enrolment(tpm))
    lib = tpm.lib
    digest = lib.TPMT_HA(hashAlg=lib.TPM2_ALG.SHA256, digest=lib.TPMU_HA(sha256=b"\x01" * 32))
    tpm.call("pcr_extend", lib.ESYS_TR(7), lib.TPML_DIGEST_VALUES([digest]))
    opened, refusals = open_with_tpm(volume.file, tpm)
    assert opened is not None
    assert opened.key == VOLUME.key
    assert len(refusals) == 1
    assert refusals[0].startswith("slot 2: the boot state changed")
    assert open_with_tpm(volume.remove(4).file, tpm)[0] is None
    assert open_with_tpm(volume.file, tpm, slot=3) == (None, [])


def test_a_pin_is_spent_on_one_slot(tpm: TPM) -> None:
    volume = VOLUME.add(TPM2Enrolment(tpm, PIN))
    opened, number = open_with_pin(volume.file, tpm, PIN)
    assert (number, opened.intact) == (2, True)
    two = volume.add(TPM2Enrolment(tpm, PIN))
    for file in (two.file, VOLUME.file):
        with pytest.raises(SlotError):
            open_with_pin(file, tpm, PIN)
    assert open_with_pin(two.file, tpm, PIN, slot=3)[1] == 3
    with pytest.raises(WrongPINError):
        open_with_pin(two.file, tpm, secret("slot words"), slot=3)
    assert lockout(tpm).failed == 1
    # A PIN is no passphrase.
    with pytest.raises(WrongSecretError):
        open_with_secret(two.file, PIN)
    assert lockout(tpm).failed == 1


@pytest.mark.parametrize("auth", [None, bytes(range(1, 21))])
def test_exported_keys_are_the_existing_ones(tpm: TPM, auth: bytes | None) -> None:
    blobauth = None if auth is None else secret(auth)
    exported = export_kernel(tpm, [FEKEK, FNEK, FEKEK], name="master", blobauth=blobauth)
    files = exported.files()
    trusted = TPMKey.parse_text(files["master.trusted"])
    assert TPMKey.parse_text(exported.tss2().encode()) == trusted
    master = unseal_master(tpm, trusted, KernelAuth(blobauth=blobauth))
    assert master != VOLUME.key
    for token in (FEKEK, FNEK):
        blob = EncryptedBlob.parse(files[f"{token.sig}.encrypted"])
        assert blob.master == "trusted:master"
        assert blob.token(token.signature, master).key == token.key


def test_the_printed_lines_keep_payloads_out_of_arguments(tpm: TPM, tmp_path: Path) -> None:
    directory = tmp_path / "with 'quotes' and blanks"
    directory.mkdir()
    exported = export_kernel(tpm, [FEKEK], name="master", blobauth=secret("x" * 20))
    files = exported.files()
    for name, data in files.items():
        (directory / name).write_bytes(data)
    auth_file = directory / "auth"
    auth_file.write_text((b"x" * 20).hex())
    fake = tmp_path / "bin" / "keyctl"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$*" >>"$OUT"\n[ "$1" = link ] || { cat; echo; } >>"$OUT"\n')
    fake.chmod(0o755)
    out = tmp_path / "out"
    script = "set -e\n" + "\n".join(exported.commands(directory, auth_file))
    environment = {"PATH": f"{fake.parent}:{os.environ['PATH']}", "OUT": str(out)}
    subprocess.run(["sh", "-c", script], check=True, env=environment, timeout=60)
    assert out.read_text().splitlines() == [
        "link @u @s",
        "padd trusted master @u",
        f"load {files['master.trusted'].decode()} blobauth={(b'x' * 20).hex()}",
        f"padd encrypted {FEKEK.sig} @u",
        f"load {files[f'{FEKEK.sig}.encrypted'].decode()}",
    ]


def test_exports_that_cannot_be(tpm: TPM) -> None:
    for name in ("", "a b", "$(x)", "-x", "ü"):
        with pytest.raises(UsageError):
            export_kernel(tpm, [FEKEK], name=name)
    with pytest.raises(SecretError):
        export_kernel(tpm, [FEKEK], blobauth=secret("short"))
