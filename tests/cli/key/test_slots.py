"""Passphrase and recovery slots: added, listed, changed, removed, rotated."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import termios
from collections.abc import Sequence
from typing import Any

import pytest

from fusecrypt.cli.key import recovery
from fusecrypt.keys.slots.recovery import RecoveryEnrolment
from fusecrypt.keys.slotstore import SlotStore
from fusecrypt.keys.unlock import open_with_secret
from fusecrypt.native import Secret
from tests import golden
from tests.cli.key.support import PATIENCE, PROGRAM, Bench, opens, slot_types
from tests.cli.key.terminal import talk

REVOCATION = b"copies of the file made before this"


def slots(bench: Bench) -> list[tuple[object, object]]:
    return slot_types(json.loads(bench.run("list", "--keyslots", "F", "--json").stdout)["slots"])


def test_slots_are_added_and_listed(made: Bench) -> None:
    made.secret("NEW", b"a passphrase of one's own")
    unlocked = ("--keyslots", "F", "--unlock-passfile", "R")
    done = made.run("add", "passphrase", *unlocked, "--new-passfile", "NEW", "--label", "laptop")
    assert done.stderr == b"fusecrypt: slot 2: passphrase\n"
    made.run("add", "recovery", *unlocked, "--recovery-file", "R2", "--label", "in the safe")
    made.recovery("R2")
    assert slots(made) == [(0, "passphrase"), (1, "recovery"), (2, "passphrase"), (3, "recovery")]
    text = made.run("list", "--keyslots", "F").stdout.decode().splitlines()
    assert text[2].startswith('slot 2: passphrase  "laptop"  20')
    assert sum(line.startswith("key ") for line in text) == 2
    for name in ("NEW", "R2"):
        opens(made, name, *(("F", "F.bak") if name == "NEW" else ("F",)))


def test_results_as_json(made: Bench) -> None:
    done = made.run("test", "--keyslots", "F", "--passfile", "P", "--json")
    results = json.loads(done.stdout)["slots"]
    assert [(each["slot"], each["type"], each["opens"]) for each in results] == [
        (0, "passphrase", True),
        (1, "recovery", None),
    ]
    made.run("test", "--keyslots", "F", "--slot", "1", "--passfile", "P", status=3)
    assert "nothing could be tried" in made.says("test", "--keyslots", "F")


def test_labels_that_cannot_be(made: Bench) -> None:
    for label in ("", "x" * 201, "a\x1b[2J"):
        words = ("add", "recovery", "--keyslots", "F", "--unlock-passfile", "P", "--label", label)
        assert "printable" in made.says(*words, status=2)


def test_a_wrong_secret_changes_nothing(made: Bench) -> None:
    before = made.path("F").read_bytes()
    for words in (
        ("add", "passphrase", "--new-passfile", "P"),
        ("add", "recovery"),
        ("change", "--slot", "0", "--new-passfile", "P"),
        ("remove", "--slot", "1"),
        ("load",),
    ):
        said = made.says(*words, "--keyslots", "F", "--unlock-passfile", "WRONG")
        assert said.startswith("fusecrypt: the secret does not open any slot\n  hint:")
        assert "no terminal" in made.says(*words, "--keyslots", "F")
    assert made.path("F").read_bytes() == before


def test_a_mistyped_recovery_key_names_its_group(made: Bench) -> None:
    key = bytearray(made.secrets["R"])
    key[6] = ord("0") if key[6] != ord("0") else ord("1")
    made.secret("TYPED", bytes(key))
    said = made.says("remove", "--slot", "0", "--keyslots", "F", "--unlock-passfile", "TYPED")
    assert "group 2 of the recovery key is mistyped" in said


@pytest.mark.parametrize(("number", "old"), [(0, "P"), (1, "R")])
def test_a_changed_secret_leaves_nothing_that_the_old_one_opens(made: Bench, number: int, old: str) -> None:
    other = "R" if old == "P" else "P"
    # First an addition, so that there is a version before.
    made.run("add", "recovery", "--keyslots", "F", "--unlock-passfile", other, "--recovery-file", "R2")
    made.recovery("R2")
    made.secret("NEW", b"changed")
    words = ["change", "--slot", str(number), "--keyslots", "F", "--unlock-passfile", old]
    words += ["--new-passfile", "NEW"] if old == "P" else ["--recovery-file", "NEW"]
    if old == "R":
        made.path("NEW").unlink()
    assert REVOCATION in made.run(*words).stderr
    if old == "R":
        made.recovery("NEW")
    opens(made, "NEW", "F", "F.bak")
    opens(made, other, "F", "F.bak")
    opens(made, old)
    assert slots(made)[number] == (number, "passphrase" if old == "P" else "recovery")


def test_a_removed_slot_leaves_nothing_that_its_secret_opens(made: Bench) -> None:
    made.run("add", "recovery", "--keyslots", "F", "--unlock-passfile", "P", "--recovery-file", "R2")
    made.recovery("R2")
    shutil.copy(made.path("F"), made.path("COPY"))
    done = made.run("remove", "--slot", "0", "--keyslots", "F", "--unlock-passfile", "P")
    assert REVOCATION in done.stderr
    opens(made, "P")
    opens(made, "R", "F", "F.bak")
    # What it cannot do: a copy that was made before. It is called one.
    copied = made.run("test", "--keyslots", "COPY", "--passfile", "P")
    assert b"older copy" in copied.stderr
    assert b"older copy" in made.run("list", "--keyslots", "COPY").stderr


def test_the_last_slot_that_needs_no_tpm_stays(made: Bench) -> None:
    made.run("remove", "--slot", "0", "--keyslots", "F", "--unlock-passfile", "R")
    said = made.says("remove", "--slot", "1", "--keyslots", "F", "--unlock-passfile", "R")
    assert "the last slot that needs no TPM stays" in said
    assert "there is no slot 7" in made.says(
        "remove", "--slot", "7", "--keyslots", "F", "--unlock-passfile", "R"
    )
    assert slots(made) == [(1, "recovery")]


def test_rotation_needs_each_slots_secret(made: Bench) -> None:
    before = made.path("F").read_bytes()
    words = ("rotate", "--keyslots", "F", "--unlock-passfile", "P")
    assert "needs the secrets of the slots 1" in made.says(*words)
    assert "opens none of the slots" in made.says(*words, "--unlock-passfile", "WRONG")
    assert "there is no slot 9" in made.says(*words, "--drop", "9")
    said = made.says("rotate", "--keyslots", "F", "--drop", "0", "--drop", "1")
    assert made.path("F").read_bytes() == before, said
    done = made.run(*words, "--unlock-passfile", "R")
    assert REVOCATION in done.stderr
    for name in ("P", "R"):
        opens(made, name, "F", "F.bak")
    made.run(*words, "--drop", "1")
    opens(made, "P", "F", "F.bak")
    opens(made, "R")


def test_a_file_that_was_tampered_with_is_not_written(made: Bench) -> None:
    document = json.loads(made.path("F").read_text())
    document["slots"][0]["label"] = "planted"
    made.path("F").write_text(json.dumps(document))
    said = made.says("remove", "--slot", "0", "--keyslots", "F", "--unlock-passfile", "R")
    assert "was changed by somebody without its keys" in said
    assert (
        "changed without its keys"
        in made.run("test", "--keyslots", "F", "--passfile", "P", status=3).stdout.decode()
    )
    made.says("load", "--keyslots", "F", "--unlock-passfile", "R")


def test_files_that_are_none(made: Bench) -> None:
    made.path("F").write_text("{}")
    assert "no key-slot file" in made.says("list", "--keyslots", "F", status=4)
    assert "F: is a directory" not in made.says("list", "--keyslots", "lower", status=4)
    made.says("list", "--keyslots", "missing", status=1)
    made.says("list", status=2)
    made.says("remove", "--keyslots", "F", status=2)


def test_secrets_from_descriptors_and_standard_input(made: Bench) -> None:
    made.secret("NEW", b"from a pipe")
    made.run(
        "add",
        "passphrase",
        "--keyslots",
        "F",
        "--unlock-fd",
        "0",
        "--new-passfile",
        "NEW",
        stdin=made.secrets["R"],
    )
    opens(made, "NEW", "F")


def test_keys_are_imported(bench: Bench) -> None:
    tree = golden.tree("two-keys")
    tree.unpack(bench.path("lower"))
    for name, passphrase in zip(("P", "SECOND"), tree.passphrases, strict=True):
        bench.secret(name, passphrase)
    words = ("--keyslots", "lower.keyslots", "--unlock-passfile", "P")
    bench.run("create", "lower", "--passfile", "P", shows_secret=True)
    held = bench.run("list", "--keyslots", "lower.keyslots").stdout
    assert "no key was given" in bench.says("import", *words, status=2)
    # The secret is tried on the tree, and on the file that stands beside it.
    assert "does not open any slot" in bench.says("import", *words, "--passfile", "WRONG")
    bench.run("import", *words, "--passfile", "SECOND")
    after = bench.run("list", "--keyslots", "lower.keyslots").stdout
    assert held.count(b"\nkey ") + 1 == after.count(b"\nkey ")
    assert b"holds these keys already" in bench.run("import", *words, "--passfile", "SECOND").stderr


def test_keys_are_loaded_into_the_kernels_keyring(made: Bench) -> None:
    done = made.run("load", "--keyslots", "F", "--unlock-passfile", "P")
    sigs = done.stdout.split()
    assert len(sigs) == 2
    try:
        made.run("create", "lower", "--keyslots", "F2", "--recovery-file", "R2", "--from-keyring")
    finally:
        assert made.run("load", "--keyslots", "F", "--unload").stdout.split() == sigs
    assert made.run("load", "--keyslots", "F", "--unload").stdout == b""


def test_secrets_are_asked_for_on_a_terminal(made: Bench) -> None:
    command = [str(PROGRAM), "key", "add", "passphrase", "--keyslots", "F"]
    where: dict[str, Any] = {"cwd": made.directory, "env": made.environment}
    answers = [
        ("passphrase or recovery key: ", "mistaken"),
        ("passphrase or recovery key: ", made.secrets["R"].decode()),
        ("new passphrase: ", "typed anew"),
        ("new passphrase again: ", "typed anew"),
    ]
    status, said = talk(command, answers, **where)
    assert status == 0, said
    assert "typed anew" not in said, "the terminal echoed it"
    made.secret("NEW", b"typed anew")
    opens(made, "NEW", "F")
    answers = [("recovery key: ", made.secrets["P"].decode()), ("new passphrase: ", "a"), ("again: ", "b")]
    status, said = talk(command, answers, **where)
    assert (status, "the two passphrases differ" in said) == (3, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_terminal_shows_again_what_is_typed(made: Bench, number: signal.Signals) -> None:
    ours, theirs = pty.openpty()
    command = [str(PROGRAM), "key", "test", "--keyslots", "F"]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=made.directory,
        env=made.environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        shown = b""
        while b"recovery key: " not in shown:
            shown += os.read(ours, 4096)
        assert not termios.tcgetattr(theirs)[3] & termios.ECHO
        process.send_signal(number)
        assert process.wait(PATIENCE) == (1 if number == signal.SIGINT else 128 + number)
    assert termios.tcgetattr(theirs)[3] & termios.ECHO
    assert b"Traceback" not in os.read(ours, 4096)
    os.close(ours)
    os.close(theirs)


def test_rotation_leaves_a_slot(made: Bench) -> None:
    said = made.says("rotate", "--keyslots", "F", "--unlock-passfile", "R", "--drop", "0", "--drop", "1")
    assert "no slot would be left" in said


def test_rotation_asks_for_missing_secrets_on_a_terminal(made: Bench) -> None:
    command = [str(PROGRAM), "key", "rotate", "--keyslots", "F", "--unlock-passfile", "P"]
    where: dict[str, Any] = {"cwd": made.directory, "env": made.environment}
    status, said = talk(command, [("recovery key of slot 1: ", "mistaken")], **where)
    assert (status, "this does not open slot 1" in said) == (3, True)
    status, said = talk(command, [("recovery key of slot 1: ", made.secrets["R"].decode())], **where)
    assert status == 0, said
    for name in ("P", "R"):
        opens(made, name, "F", "F.bak")


def test_options_for_another_kind_of_slot_are_refused(made: Bench) -> None:
    before = made.path("F").read_bytes()
    words = ("change", "--keyslots", "F", "--unlock-passfile", "R")
    made.secret("NEW", b"a passphrase of one's own")
    said = made.says(*words, "--slot", "1", "--new-passfile", "NEW", status=2)
    assert "slot 1 is a recovery slot, which --new-passfile is not for" in said
    said = made.says(*words, "--slot", "0", "--pin-file", "NEW", status=2)
    assert "slot 0 is a passphrase slot, which --pin-file is not for" in said
    assert "its option is --new-passfile" in said
    made.says(*words, "--slot", "0", "--new-passfile", "NEW", "--recovery-file", "R2", status=2)
    made.says(*words, "--slot", "0", "--new-passfile", "NEW", "--qr", status=2)
    assert made.path("F").read_bytes() == before
    assert not made.path("R2").exists()


def test_without_a_terminal_the_option_is_named(made: Bench) -> None:
    unlocked = ("--keyslots", "F", "--unlock-passfile", "P")
    for words, option in (
        (("add", "passphrase"), "--new-passfile"),
        (("change", "--slot", "0"), "--new-passfile"),
        (("add", "tpm2", "--pin"), "--pin-file"),
    ):
        assert f"hint: give it with {option} FILE" in made.says(*words, *unlocked)


@pytest.mark.parametrize(
    "words",
    [("add", "recovery"), ("change", "--slot", "1"), ("create", "lower")],
    ids=["add", "change", "new"],
)
def test_a_recovery_key_that_cannot_be_shown_gets_no_slot(made: Bench, words: Sequence[str]) -> None:
    """A slot whose key nobody has would be counted on, and the one that it replaced would be lost."""
    before = made.path("F").read_bytes()
    unlock = ("--keyslots", "F", "--unlock-passfile", "P")
    if words[0] == "create":
        unlock = ("--keyslots", "F2", "--passfile", "P")
    command = shlex.join([str(PROGRAM), "key", *words, *unlock])
    for redirected, status, said in (
        (">/dev/full", 1, "the recovery key cannot be shown: No space left on device"),
        (">&-", 2, "there is no standard output for the recovery key"),
    ):
        done = subprocess.run(
            ["setsid", "--wait", "sh", "-c", f"{command} {redirected}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=made.directory,
            env=made.environment,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert said in done.stderr
        assert "use --recovery-file FILE" in done.stderr
        assert "shown just now" not in done.stderr
    assert made.path("F").read_bytes() == before
    assert not made.path("F2").exists()


@pytest.mark.parametrize("written", [False, True])
def test_a_recovery_key_stays_if_its_slot_was_written(made: Bench, written: bool) -> None:
    """Whatever goes wrong, such as Ctrl-C in the midst of it."""
    store = SlotStore(made.path("F"))
    file = store.read()
    volume, _ = open_with_secret(file, Secret.copy(made.secrets["R"]))
    enrolment = RecoveryEnrolment()
    volume = volume.change(1, enrolment)

    def interrupted() -> None:
        with recovery.given_out(enrolment, made.path("R2"), False, store, volume):
            if written:
                store.save(volume, file, revokes=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    if written:
        made.recovery("R2")
        opens(made, "R2", "F", "F.bak")
    assert made.path("R2").exists() == written
    # A file that was there is not taken for one of ours.
    with (
        pytest.raises(FileExistsError),
        recovery.given_out(enrolment, made.path("P"), False, store, volume.remove(0)),
    ):
        raise AssertionError("it was overwritten")
    assert made.path("P").exists()


def test_a_recovery_key_that_was_shown_in_vain_is_told(made: Bench) -> None:
    made.path("F.tmp").mkdir()  # nothing can be written there
    done = made.run("add", "recovery", "--keyslots", "F", "--unlock-passfile", "P", status=1)
    assert b"a recovery key that was shown just now opens nothing: its slot was not written" in done.stderr


def test_files_that_are_no_secrets(made: Bench) -> None:
    made.path("dir").mkdir()
    words = ("test", "--keyslots", "F", "--passfile")
    assert "cannot read passphrase file dir: Is a directory" in made.says(*words, "dir")
    # What editors of other systems leave behind is a part of the secret, and is told.
    made.secret("CRLF", made.secrets["P"] + b"\r")
    said = made.says(*words, "CRLF")
    assert "CRLF: the line ends with a carriage return" in said
    assert "does not open any slot" in said
    made.path("BOM").write_bytes(b"\xef\xbb\xbf" + made.secrets["P"])
    assert "BOM: the line begins with a byte order mark" in made.says(*words, "BOM")


def test_a_named_slot_that_was_tried_is_shown_as_tried(made: Bench) -> None:
    done = made.run("test", "--keyslots", "F", "--slot", "0", "--passfile", "WRONG", status=3)
    assert done.stdout == b"slot 0: passphrase: does not open: the secret does not open slot 0\n"
    assert b"the lines above say why" in done.stderr
