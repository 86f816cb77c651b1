"""``fusecrypt mount LOWER MNT`` alone, on a terminal: what is tried, what is asked for, and how often."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fusecrypt.keys.slots.tpm2_enrolment import TPM2Enrolment
from fusecrypt.keys.tpm.facts import lockout
from tests.cli.key.terminal import talk
from tests.mount.keys import SOFTWARE, extend, software_tpm
from tests.mount.support import PROGRAM, is_mounted, mounted, run
from tests.mount.test_keys_slots import PIN, TREE, WORDS, beside, write
from tests.tpm.conftest import SoftwareTPM
from tests.unit.keys.secrets import secret

PIN_PROMPT = "PIN of slot 2 (empty: passphrase or recovery key): "
PROMPT = "passphrase or recovery key: "


@pytest.fixture
def tpm() -> Iterator[SoftwareTPM]:
    with software_tpm() as running:
        yield running


@pytest.fixture
def lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A golden tree; the rest of the user's configuration is empty."""
    for name in ("STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    (tmp_path / "mnt").mkdir()
    return TREE.unpack(tmp_path / "lower")


def mount_alone(
    lower: Path,
    tpm: SoftwareTPM | None,
    answers: Sequence[tuple[str, str]],
    status: int = 0,
    words: Sequence[str | Path] = (),
) -> list[str]:
    """Mount without any option but ``words``, and answer the prompts; the lines that the terminal showed."""
    mnt = lower.with_name("mnt")
    environment = {**os.environ, "FUSECRYPT_TCTI": tpm.tcti if tpm else "device:/nowhere/tpmrm0"}
    command = [str(PROGRAM), "mount", *map(str, words), str(lower), str(mnt)]
    got, shown = talk(command, answers, cwd=mnt.parent, env=environment)
    assert got == status, shown
    if status == 0:
        assert os.listdir(mnt)
        run("umount", mnt)
    assert not is_mounted(mnt)
    for _, answer in answers:
        assert not answer or answer not in shown
    assert shown.count(": \r\n") == len(answers), "a prompt that was not expected"
    return [line for line in shown.splitlines() if line]


def failed(tpm: SoftwareTPM) -> int:
    with tpm.open() as opened:
        return lockout(opened).failed


def test_a_tpm_slot_needs_no_prompt(lower: Path, tpm: SoftwareTPM) -> None:
    with tpm.open() as opened:
        write(beside(lower), TPM2Enrolment(opened, secret(PIN)), TPM2Enrolment(opened))
    (line,) = mount_alone(lower, tpm, [])
    assert SOFTWARE in line


def test_slots_are_tried_first_and_each_refusal_is_one_line(lower: Path, tpm: SoftwareTPM) -> None:
    with tpm.open() as opened, software_tpm() as other, other.open() as another:
        bound = TPM2Enrolment(opened, pcrs=("sha256", (7,)), forced=True)
        with_pin = TPM2Enrolment(opened, secret(PIN))
        write(beside(lower), TPM2Enrolment(another), with_pin, bound)
        extend(opened, 7)
    lines = mount_alone(lower, tpm, [(PIN_PROMPT, "0815"), (PIN_PROMPT, PIN)])
    assert SOFTWARE in lines[0]
    assert lines[1].startswith("fusecrypt: slot 1: the storage key at 0x81000001 differs")
    assert lines[2].startswith("fusecrypt: slot 3: the boot state changed (sha256): PCR 7: expected")
    assert lines[3] == PIN_PROMPT
    assert lines[4].startswith("fusecrypt: the PIN is wrong")
    assert len(lines) == 6


def test_a_pin_is_no_passphrase_and_a_passphrase_no_pin(lower: Path, tpm: SoftwareTPM) -> None:
    with tpm.open() as opened:
        write(beside(lower), TPM2Enrolment(opened), TPM2Enrolment(opened, secret(PIN)))
        opened.call("clear", opened.lib.ESYS_TR.LOCKOUT)
        write_again = TPM2Enrolment(opened, secret(PIN))
        beside(lower).unlink()
        write(beside(lower), write_again, write_again)
    run("key", "remove", "--keyslots", beside(lower), "--slot", "1", "--unlock-passfile", _file(lower, WORDS))
    # A passphrase at the PIN's prompt costs an attempt and opens nothing.
    lines = mount_alone(lower, tpm, [(PIN_PROMPT, WORDS), (PIN_PROMPT, ""), (PROMPT, WORDS)])
    assert "the PIN is wrong" in lines[2]
    assert failed(tpm) == 1
    # A PIN at the passphrase's prompt costs none and opens nothing.
    lines = mount_alone(lower, tpm, [(PIN_PROMPT, ""), (PROMPT, PIN), (PROMPT, PIN)], status=3)
    assert lines[-2].startswith("fusecrypt: the secret does not open any slot")
    assert failed(tpm) == 1


def test_the_last_attempt_is_not_asked_for(lower: Path, tpm: SoftwareTPM) -> None:
    with tpm.open() as opened:
        enrolment = TPM2Enrolment(opened, secret(PIN))
        write(beside(lower), enrolment, enrolment)
    run("key", "remove", "--keyslots", beside(lower), "--slot", "1", "--unlock-passfile", _file(lower, WORDS))
    lines = mount_alone(lower, tpm, [(PIN_PROMPT, "no PIN"), (PIN_PROMPT, "none either"), (PROMPT, WORDS)])
    assert any("one attempt is left before the TPM locks" in line for line in lines)
    assert failed(tpm) == 2


def test_a_named_slot_is_asked_for_its_own_secret_only(lower: Path, tpm: SoftwareTPM) -> None:
    """A passphrase does not open a TPM slot: it is not asked for in vain."""
    with tpm.open() as opened:
        write(beside(lower), TPM2Enrolment(opened, secret(PIN)), TPM2Enrolment(opened))
    prompt = "PIN of slot 2: "
    named: list[str | Path] = ["--slot", "1"]
    mount_alone(lower, tpm, [("PIN of slot 1: ", PIN)], words=named)
    lines = mount_alone(lower, tpm, [("PIN of slot 1: ", "")], status=3, words=named)
    assert "slot 1 was not opened" in lines[-2]
    assert not any(prompt in line for line in lines)
    with tpm.open() as opened:
        opened.call("clear", opened.lib.ESYS_TR.LOCKOUT)
    lines = mount_alone(lower, tpm, [], status=3, words=["--slot", "2"])
    assert "slot 2: this TPM was cleared" in lines[1]
    assert "slot 2 was not opened" in lines[2]


def test_there_are_three_prompts_at_most(lower: Path) -> None:
    lines = mount_alone(lower, None, [("mount passphrase: ", wrong) for wrong in ("one", "two", "thr33")], 3)
    assert sum("fits no key of this tree: it wants" in line for line in lines) == 3
    write(beside(lower))
    lines = mount_alone(lower, None, [(PROMPT, wrong) for wrong in ("one", "two", "thr33")], status=3)
    assert sum("the secret does not open any slot" in line for line in lines) == 3
    mount_alone(lower, None, [(PROMPT, "one"), (PROMPT, TREE.passphrases[0].decode())])


def test_a_key_that_is_used_far_inside_the_tree(tmp_path: Path, lower: Path) -> None:
    """A key-slot file of the first files' key does not stand in the way of the others'."""
    mixed, deep = tmp_path / "mixed", b"of the files far inside"
    plain = ("-o", "ecryptfs_enable_filename_crypto=n")
    with mounted(mixed, *plain) as mount:
        (mount.path / "deep").mkdir()
        for number in range(600):
            (mount.path / f"{number}").write_bytes(b"")
        (mount.path / "first").write_bytes(b"first")
    with mounted(mixed / "deep", *plain, passphrases=[deep], path=tmp_path / "mnt") as mount:
        (mount.path / "file").write_bytes(b"deep")
    first: list[str | Path] = ["--passfile", _file(tmp_path / "x", "correct horse")]
    run("key", "create", mixed, *first, "--recovery-file", tmp_path / "R")
    with mounted(mixed, *map(str, first), passphrases=[deep]) as mount:
        assert (mount.path / "first").read_bytes() == b"first"
        assert (mount.path / "deep" / "file").read_bytes() == b"deep"
    assert lower.exists()


def _file(beside: Path, text: str) -> Path:
    path = beside.with_name("secret")
    path.write_text(text)
    return path
