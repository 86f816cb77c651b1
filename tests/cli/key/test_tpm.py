"""TPM slots from the command line, on software TPMs: enrolled, lost, resealed, exported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from fusecrypt.keys.tpm.errors import OtherTPMError
from fusecrypt.keys.tpm.session import SRK
from tests.cli.key.support import PROGRAM, Bench, opens
from tests.cli.key.terminal import talk
from tests.tpm.conftest import SoftwareTPM
from tests.tpm.test_slot import Signer

LIST = ("list", "--keyslots", "F")
UNLOCK = ("--keyslots", "F", "--unlock-passfile", "R")
INSECURE = b"this is a software TPM"


@pytest.fixture
def pinned(made: Bench) -> Bench:
    """The same with a PIN."""
    made.secret("N", b"81 72 63")
    return made


def extend(tpm: SoftwareTPM, number: int) -> None:
    """What a change of firmware does to a PCR."""
    with tpm.open() as opened:
        lib = opened.lib
        value = lib.TPMU_HA(sha256=b"\x01" * 32)
        digest = lib.TPMT_HA(hashAlg=lib.TPM2_ALG.SHA256, digest=value)
        opened.call("pcr_extend", lib.ESYS_TR(number), lib.TPML_DIGEST_VALUES([digest]))


def result(bench: Bench, tpm: SoftwareTPM, number: int, *more: str, status: int = 0) -> str:
    """What ``key test`` says about a slot."""
    words = ("test", "--keyslots", "F", "--slot", str(number), "--tcti", tpm.tcti, *more)
    return (
        bench.run(*words, status=status).stdout.decode().removeprefix(f"slot {number}: tpm2: ").rstrip("\n")
    )


def test_the_whole_story(pinned: Bench, swtpm: SoftwareTPM, make_tpm: Callable[[], SoftwareTPM]) -> None:
    """Enrol, unlock day by day, lose the TPM, recover, enrol the new TPM."""
    bench = pinned
    done = bench.run("add", "tpm2", *UNLOCK, "--pin-file", "N", "--tcti", swtpm.tcti, "--label", "desk")
    assert INSECURE in done.stderr
    assert b"slot 2: TPM with a PIN" in done.stderr
    assert b"the TPM's lockout auth is empty" in done.stderr
    swtpm.reboot()
    assert result(bench, swtpm, 2, "--pin-file", "N") == "opens"
    # Unlocked by TPM and PIN, without any passphrase.
    by_tpm = ("--keyslots", "F", "--tcti", swtpm.tcti, "--unlock-pin-file", "N")
    bench.run("add", "recovery", *by_tpm, "--recovery-file", "R2")
    swtpm.stop()
    assert "the TPM slots are passed over" in bench.says("remove", "--slot", "3", *by_tpm)
    new = make_tpm()
    new.start()
    on_new = ("--tcti", new.tcti)
    said = bench.says("remove", "--slot", "3", "--keyslots", "F", "--unlock-pin-file", "N", *on_new)
    assert "slot 2: " in said
    # The recovery key opens, and one step seals the slot to the new TPM.
    done = bench.run("reseal", *UNLOCK, "--pin-file", "N", *on_new)
    assert b"slot 2 is sealed to this TPM as it is now" in done.stderr
    assert result(bench, new, 2, "--pin-file", "N") == "opens"
    document = json.loads(bench.run("list", "--keyslots", "F", "--json").stdout)
    assert [document["slots"][2][name] for name in ("id", "label", "pin")] == [2, "desk", True]
    for backup in ("F", "F.bak"):
        bench.run("test", "--keyslots", backup, "--slot", "2", "--pin-file", "N", *on_new)
    bench.run("remove", "--slot", "3", "--keyslots", "F", "--unlock-pin-file", "N", *on_new)
    opens(bench, "R", "F", "F.bak")


def test_a_tpm_slot_never_comes_without_a_way_back(made: Bench, swtpm: SoftwareTPM) -> None:
    unlock = ("--keyslots", "F", "--unlock-passfile", "P")
    tpm = ("add", "tpm2", *unlock, "--tcti", swtpm.tcti)
    said = made.says(*tpm, "--recovery-file", "R2", status=2)
    assert "there is a recovery slot already" in said
    made.run("remove", "--slot", "1", *unlock)
    done = made.run(*tpm, "--recovery-file", "R2")
    made.recovery("R2")
    assert b"slot 1: TPM\n" in done.stderr
    assert b"slot 2: recovery key, for the file had none" in done.stderr
    opens(made, "R2", "F")
    assert result(made, swtpm, 1) == "opens"
    # Without the option the key is shown; the next TPM slot needs none.
    made.run("remove", "--slot", "2", *unlock)
    shown = made.run(*tpm).stdout
    made.secrets["shown"] = shown.strip()
    opens(made, "shown", "F")
    assert made.run(*tpm).stdout == b""
    made.run("remove", "--slot", "3", *unlock)
    swtpm.stop()
    made.says(*tpm, "--recovery-file", "R3", status=5)
    assert not made.path("R3").exists()


def test_a_wrong_pin_is_counted_and_the_last_attempt_kept(pinned: Bench, swtpm: SoftwareTPM) -> None:
    bench = pinned
    bench.run("add", "tpm2", *UNLOCK, "--pin-file", "N", "--tcti", swtpm.tcti)
    figures = ("lockout", "--tcti", swtpm.tcti, "--json")
    assert json.loads(bench.run(*figures).stdout)["left"] == 3
    assert "attempts left: 2" in result(bench, swtpm, 2, "--pin-file", "WRONG", status=3)
    assert "attempts left: 1" in result(bench, swtpm, 2, "--pin-file", "WRONG", status=3)
    # A PIN is no passphrase and a passphrase no PIN: neither costs an attempt.
    bench.says("test", "--keyslots", "F", "--tcti", swtpm.tcti, "--passfile", "N")
    assert "one attempt is left" in result(bench, swtpm, 2, "--pin-file", "N", status=3)
    assert json.loads(bench.run(*figures).stdout)["left"] == 1
    assert result(bench, swtpm, 2, "--pin-file", "N", "--last-attempt") == "opens"
    bench.secret("AUTH", b"no such auth")
    said = bench.says("lockout", "--tcti", swtpm.tcti, "--reset", "--auth-file", "AUTH")
    assert "the lockout auth is wrong" in said


def test_the_lockout_counter_is_reset(pinned: Bench, swtpm: SoftwareTPM) -> None:
    bench = pinned
    bench.run("add", "tpm2", *UNLOCK, "--pin-file", "N", "--tcti", swtpm.tcti)
    result(bench, swtpm, 2, "--pin-file", "WRONG", status=3)
    done = bench.run("lockout", "--tcti", swtpm.tcti)
    assert done.stdout.startswith(b"attempts left: 2 (wrong attempts: 1 of 3")
    assert b"lockout auth is empty" in done.stderr
    assert bench.run("lockout", "--tcti", swtpm.tcti, "--reset").stdout.startswith(b"attempts left: 3")


def test_the_lockout_auth_of_a_tpm_that_was_never_used(made: Bench, swtpm: SoftwareTPM) -> None:
    """There is no storage key yet, and none is left by it."""
    words = ("lockout", "--tcti", swtpm.tcti, "--reset")
    assert made.run(*words).stdout.startswith(b"attempts left: 3")
    made.secret("AUTH", b"no such auth")
    assert "the lockout auth is wrong" in made.says(*words, "--auth-file", "AUTH")
    # From now on even the right one is refused, and that is another matter than wrong PINs.
    said = made.says(*words)
    assert "the TPM takes no lockout auth since a wrong one was given (TPM error 0x921)" in said
    assert "it does so again 1000 s after that" in said
    with swtpm.open() as opened, pytest.raises(OtherTPMError):
        opened.parent_at(SRK)


def test_changed_pcrs_are_named_and_resealed(made: Bench, swtpm: SoftwareTPM) -> None:
    words = ("add", "tpm2", *UNLOCK, "--tcti", swtpm.tcti, "--pcrs", "7+11")
    assert "PCR 7, 11 is not in use" in made.says(*words, status=2)
    extend(swtpm, 7)
    extend(swtpm, 11)
    made.run(*words)
    assert result(made, swtpm, 2) == "opens"
    extend(swtpm, 7)
    assert "the boot state changed (sha256): PCR 7: expected" in result(made, swtpm, 2, status=3)
    assert "PCR 7: expected" in made.says("remove", "--slot", "0", "--keyslots", "F", "--tcti", swtpm.tcti)
    made.run("reseal", *UNLOCK, "--slot", "2", "--tcti", swtpm.tcti)
    assert result(made, swtpm, 2) == "opens"
    assert b"slot 2: tpm2 PCR 7+11 (sha256)" in made.run("list", "--keyslots", "F").stdout
    # Without a PIN the TPM alone unlocks.
    made.run("remove", "--slot", "0", "--keyslots", "F", "--tcti", swtpm.tcti)


def test_signed_pcrs_follow_updates(made: Bench, swtpm: SoftwareTPM) -> None:
    owner = Signer("ec")
    made.path("key.pem").write_text(owner.pubkey)

    def sign() -> None:
        with swtpm.open() as tpm:
            made.path("signed").write_bytes(owner.approve(tpm.pcrs("sha256", (11,))))

    sign()
    policy = ("--signed-policy", "key.pem", "--pcr-signature", "signed")
    made.run("add", "tpm2", *UNLOCK, "--tcti", swtpm.tcti, *policy)
    assert result(made, swtpm, 2, "--pcr-signature", "signed") == "opens"
    extend(swtpm, 11)
    said = result(made, swtpm, 2, "--pcr-signature", "signed", status=3)
    assert "no signature approves the present values of PCR 11" in said
    sign()
    assert result(made, swtpm, 2, "--pcr-signature", "signed") == "opens"
    made.path("key.pem").write_bytes(b"\xff")
    made.says("add", "tpm2", *UNLOCK, "--tcti", swtpm.tcti, *policy, status=4)


def test_a_slot_for_a_spare_machine(
    pinned: Bench, swtpm: SoftwareTPM, make_tpm: Callable[[], SoftwareTPM]
) -> None:
    spare = make_tpm()
    spare.start()
    with spare.open() as tpm:
        pinned.path("public").write_bytes(tpm.storage_key().public)
    # No TPM of this machine plays a part.
    words = ("add", "tpm2", *UNLOCK, "--tcti", "swtpm:path=/nowhere", "--parent-public")
    done = pinned.run(*words, "public", "--pin-file", "N")
    assert b"unverified" in done.stderr
    assert INSECURE not in done.stderr
    assert "not known here" in pinned.says(*words, "public", "--pcrs", "7", status=2)
    pinned.path("else").write_bytes(b"something else")
    assert "no TPM2B_PUBLIC" in pinned.says(*words, "else", status=4)
    assert b"slot 2: tpm2 with a PIN, for a spare machine: unverified" in pinned.run(*LIST).stdout
    assert _verified(pinned) == [None, None, False]
    assert result(pinned, spare, 2, "--pin-file", "N") == "opens"
    swtpm_says = result(pinned, swtpm, 2, "--pin-file", "N", status=3)
    assert "does not open" in swtpm_says
    pinned.run("reseal", *UNLOCK, "--tcti", spare.tcti, "--pin-file", "N")
    assert _verified(pinned) == [None, None, True]
    done = pinned.run(*words, "public")
    assert b"whoever has the machine has the keys" in done.stderr
    assert result(pinned, spare, 3) == "opens"


def _verified(bench: Bench) -> list[bool | None]:
    return [slot.get("verified") for slot in json.loads(bench.run(*LIST, "--json").stdout)["slots"]]


def test_a_pin_is_changed(pinned: Bench, swtpm: SoftwareTPM) -> None:
    bench = pinned
    bench.run("add", "tpm2", *UNLOCK, "--pin-file", "N", "--tcti", swtpm.tcti)
    bench.secret("N2", b"another PIN")
    words = ("change", "--slot", "2", "--keyslots", "F", "--tcti", swtpm.tcti)
    bench.run(*words, "--unlock-pin-file", "N", "--pin-file", "N2")
    assert result(bench, swtpm, 2, "--pin-file", "N2") == "opens"
    for file in ("F", "F.bak"):
        said = bench.run("test", "--keyslots", file, "--pin-file", "N", "--tcti", swtpm.tcti, status=3)
        assert b"the PIN is wrong" in said.stdout
        bench.run("lockout", "--reset", "--tcti", swtpm.tcti)
    bench.run("add", "tpm2", *UNLOCK, "--tcti", swtpm.tcti)
    refused = bench.says("change", "--slot", "3", *UNLOCK, "--pin-file", "N", "--tcti", swtpm.tcti, status=2)
    assert "slot 3 has no PIN" in refused
    assert "there are 2 TPM slots" in bench.says("reseal", *UNLOCK, "--tcti", swtpm.tcti, status=2)
    assert "slot 0 is no TPM slot" in bench.says("reseal", *UNLOCK, "--slot", "0", status=2)


def test_a_new_pin_binds_a_slot_to_nothing_else(
    pinned: Bench, swtpm: SoftwareTPM, make_tpm: Callable[[], SoftwareTPM]
) -> None:
    """That is what reseal is for: nobody looked at this state or machine."""
    bench = pinned
    bench.run("add", "tpm2", *UNLOCK, "--pin-file", "N", "--pcrs", "7", "--force", "--tcti", swtpm.tcti)
    bench.secret("N2", b"another PIN")
    words = ("change", "--slot", "2", *UNLOCK, "--pin-file", "N2", "--tcti")
    bench.run(*words, swtpm.tcti)
    assert result(bench, swtpm, 2, "--pin-file", "N2") == "opens"
    extend(swtpm, 7)
    said = bench.says(*words, swtpm.tcti)
    assert "the boot state changed (sha256): PCR 7: expected" in said
    assert "fusecrypt key reseal" in said
    other = make_tpm()
    other.start()
    bench.run("add", "tpm2", "--keyslots", "F", "--unlock-passfile", "P", "--tcti", other.tcti)
    before = bench.path("F").read_bytes()
    said = bench.says(*words, other.tcti)
    assert "the storage key at 0x81000001 differs" in said
    assert bench.path("F").read_bytes() == before


def test_rotation_takes_the_tpm_along(pinned: Bench, swtpm: SoftwareTPM) -> None:
    bench = pinned
    tcti = ("--tcti", swtpm.tcti)
    bench.run("add", "tpm2", *UNLOCK, *tcti)
    bench.run("add", "tpm2", *UNLOCK, *tcti, "--pin-file", "N")
    words = ("rotate", *UNLOCK, "--unlock-passfile", "P", *tcti)
    assert "needs the secrets of the slots 3" in bench.says(*words)
    assert "slot 2 has no PIN" in bench.says(*words, "--pin-file", "2=N", status=2)
    bench.run(*words, "--pin-file", "3=N")
    bench.run("test", "--keyslots", "F", *tcti, "--pin-file", "N", "--passfile", "P", "--passfile", "R")
    bench.run(*words, "--pin-file", "N", "--drop", "2")
    assert result(bench, swtpm, 3, "--pin-file", "N") == "opens"


def test_a_pin_is_asked_for_on_a_terminal(pinned: Bench, swtpm: SoftwareTPM) -> None:
    pinned.run("add", "tpm2", *UNLOCK, "--pin-file", "N", "--tcti", swtpm.tcti)
    command = [str(PROGRAM), "key", "remove", "--slot", "0", "--keyslots", "F", "--tcti", swtpm.tcti]
    answers = [("PIN of slot 2 ", "no"), ("PIN of slot 2 ", pinned.secrets["N"].decode())]
    status, said = talk(command, answers, cwd=pinned.directory, env=pinned.environment)
    assert status == 0, said
    assert "the PIN is wrong (TPM error 0x98e) (attempts left: 2)" in said
    # An empty line goes on to the other slots.
    answers = [("PIN of slot 2 ", ""), ("recovery key: ", pinned.secrets["R"].decode())]
    command[4] = "2"
    status, said = talk(command, answers, cwd=pinned.directory, env=pinned.environment)
    assert status == 0, said


def test_without_a_tpm(made: Bench, swtpm: SoftwareTPM) -> None:
    made.run("add", "tpm2", *UNLOCK, "--tcti", swtpm.tcti)
    swtpm.stop()
    gone = ("--tcti", swtpm.tcti)
    said = made.says("remove", "--slot", "0", "--keyslots", "F", *gone)
    assert "the TPM slots are passed over: the TPM is not reachable" in said
    assert "no terminal to ask on" in said
    assert "cannot be reached" in made.run("test", "--keyslots", "F", *gone, status=3).stdout.decode()
    made.says("add", "tpm2", *UNLOCK, *gone, status=5)
    made.says("lockout", *gone, status=5)
    # With a secret nobody asks for the TPM.
    done = made.run("remove", "--slot", "2", *UNLOCK, *gone)
    assert b"TPM" not in done.stderr


def test_no_tpm_library_is_imported_without_a_tpm(made: Bench) -> None:
    code = (
        "import sys; from fusecrypt.cli.main import fusecrypt; "
        "fusecrypt.main(sys.argv[1:], standalone_mode=False); "
        "assert not any(name.startswith('tpm2_pytss') for name in sys.modules)"
    )
    bench = replace(made, program=(sys.executable, "-c", code))
    bench.run("test", "--keyslots", "F", "--passfile", "R")
    bench.run("add", "recovery", *UNLOCK, "--recovery-file", "R2")


def test_the_doctor_sees_it(swtpm: SoftwareTPM) -> None:
    for level in ("good", "note"):
        done = subprocess.run(
            [PROGRAM, "doctor", "--json", "--tcti", swtpm.tcti], capture_output=True, text=True, check=True
        )
        results = [json.loads(line) for line in done.stdout.splitlines()]
        assert [each["level"] for each in results if each["subject"] == "TPM"] == [level]
        swtpm.stop()
