"""fusecrypt key create: from an existing tree to a key-slot file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusecrypt.keys import keyctl
from fusecrypt.keys.keyring import add_token, remove_token
from fusecrypt.keys.synology import wrap_export
from fusecrypt.keys.token import FNEK_SALT, AuthToken
from tests import golden
from tests.cli.key.support import PROGRAM, Bench, contents, slot_types
from tests.cli.key.terminal import talk
from tests.mount.keys import encrypted_files, golden_tpm, software_tpm, trusted_master
from tests.unit.keys.secrets import octets, secret


def listed(bench: Bench, file: str = "F") -> dict[str, list[dict[str, object]]]:
    document: dict[str, list[dict[str, object]]] = json.loads(
        bench.run("list", "--keyslots", file, "--json").stdout
    )
    return document


def uses(bench: Bench, file: str = "F") -> dict[object, object]:
    return {key["sig"]: key["use"] for key in listed(bench, file)["keys"]}


def test_an_existing_tree_gets_two_slots_and_stays_as_it_is(bench: Bench) -> None:
    tree = golden.tree("aes16-fnek")
    lower = tree.unpack(bench.path("lower"))
    before = contents(lower)
    done = bench.run("create", lower, "--keyslots", "F", "--passfile", "P", "--recovery-file", "R")
    assert done.stdout == b""
    assert contents(lower) == before
    assert tree.fnek is not None
    assert uses(bench) == {tree.keys[0].signature: ["content"], tree.fnek.signature: ["names"]}
    assert slot_types(listed(bench)["slots"]) == [(0, "passphrase"), (1, "recovery")]
    assert [bench.path(name).stat().st_mode & 0o777 for name in ("F", "R")] == [0o600, 0o600]
    first, *others = bench.path("R").read_bytes().split(b"\n")
    assert (len(first), others) == (77, [b""])
    bench.recovery("R")
    assert bench.run("test", "--keyslots", "F", "--passfile", "P", "--passfile", "R").stdout == (
        b"slot 0: passphrase: opens\nslot 1: recovery: opens\n"
    )
    assert bench.secrets["P"] not in bench.path("F").read_bytes()


def test_a_wrong_passphrase_is_refused_and_nothing_is_made(bench: Bench) -> None:
    lower = golden.tree("aes16-fnek").unpack(bench.path("lower"))
    words = ("create", lower, "--keyslots", "F", "--passfile", "WRONG", "--recovery-file", "R")
    assert "does not fit this tree" in bench.says(*words)
    # Neither does it ask where there is no terminal.
    assert "no terminal" in bench.says("create", lower, "--keyslots", "F")
    assert not bench.path("F").exists()
    assert not bench.path("R").exists()


def test_nothing_is_overwritten(made: Bench) -> None:
    before = {name: made.path(name).read_bytes() for name in ("F", "R")}
    words = ("create", "lower", "--passfile", "P")
    assert "F: File exists" in made.says(*words, "--keyslots", "F", "--recovery-file", "R2", status=1)
    assert "R: File exists" in made.says(*words, "--keyslots", "F2", "--recovery-file", "R", status=1)
    assert not made.path("R2").exists()
    assert not made.path("F2").exists()
    assert {name: made.path(name).read_bytes() for name in ("F", "R")} == before
    # A recovery key is not kept for a slot that could not be written.
    made.says(*words, "--keyslots", "missing/F", "--recovery-file", "R2", status=1)
    assert not made.path("R2").exists()


def test_places(made: Bench) -> None:
    inside = made.path("lower") / "F"
    assert "inside the encrypted tree" in made.says(
        "create", "lower", "--keyslots", inside, "--passfile", "P", status=2
    )
    # Without --keyslots the file stands beside the tree, where a mount finds it.
    beside = made.path("lower").resolve().with_name("lower.keyslots")
    done = made.run("create", "lower", "--passfile", "P")
    try:
        assert beside.exists()
        made.secrets["printed"] = done.stdout.strip()
        assert len(done.stdout) == 78
        made.run("test", "--keyslots", beside, "--passfile", "-", stdin=done.stdout.lower())
    finally:
        beside.unlink()


def test_what_is_no_lower_directory(made: Bench) -> None:
    said = made.says("create", "/", "--passfile", "P", status=2)
    assert "there is no place beside /" in said
    assert "P is no directory" in made.says("create", "P", "--keyslots", "F2", status=2)
    assert "missing: No such file" in made.says("create", "missing", "--keyslots", "F2", status=1)


def test_a_qr_code_is_drawn_on_request(made: Bench) -> None:
    words = ("create", "lower", "--keyslots", "F2", "--passfile", "P", "--recovery-file", "R2", "--qr")
    assert "▀" in made.run(*words).stdout.decode()
    made.path("segno.py").write_text("raise ImportError")
    made.secrets.pop("R")
    bench = _WithPath(made.directory, made.secrets)
    assert "needs the package segno" in bench.says("add", "recovery", "--keyslots", "F", "--qr", status=5)


class _WithPath(Bench):
    """Modules of the directory come first."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": str(self.directory)}


def test_several_passphrases(bench: Bench) -> None:
    tree = golden.tree("aes16-fnek-other-passphrase")
    lower = tree.unpack(bench.path("lower"))
    content, names = tree.passphrases
    bench.secret("P", content)
    bench.secret("NAMES", names)
    words = ("create", lower, "--keyslots", "F", "--recovery-file", "R", "--passfile", "P")
    assert "no given key opens the names" in bench.says(*words)
    bench.run(*words, "--passfile", "NAMES")
    assert tree.fnek is not None
    assert uses(bench) == {tree.keys[0].signature: ["content"], tree.fnek.signature: ["names"]}


def test_a_salt_of_the_users(bench: Bench) -> None:
    tree = golden.tree("salt")
    lower = tree.unpack(bench.path("lower"))
    bench.secret("P", tree.passphrases[0])
    words = ("create", lower, "--keyslots", "F", "--recovery-file", "R", "--passfile", "P")
    bench.says(*words)
    bench.run(*words, "--salt", tree.keys[0].salt.hex())
    assert uses(bench)[tree.keys[0].signature] == ["content"]


@pytest.mark.parametrize("named", [False, True])
def test_a_login_passphrase_opens_a_home(bench: Bench, named: bool) -> None:
    golden.unpack(golden.DIRECTORY / "userspace" / "home.tar.xz", bench.path("home"))
    facts = json.loads((golden.DIRECTORY / "userspace" / "home.json").read_text())
    lower = next(bench.path("home").rglob(".Private"))
    bench.secret("LOGIN", facts["login_passphrase"].encode())
    bench.secret("MOUNT", facts["mount_passphrase"].encode())
    words: list[str | Path] = ["create", lower, "--keyslots", "F", "--recovery-file", "R"]
    if named:
        words += ["--wrapped-passphrase", lower.parent / ".ecryptfs" / "wrapped-passphrase"]
    bench.says(*words, "--passfile", "WRONG")
    bench.run(*words, "--passfile", "LOGIN")
    bench.run("test", "--keyslots", "F", "--passfile", "LOGIN")
    assert sorted(map(str, uses(bench))) == ["707dd06f8443a678", "ec2bdc60f6ad46fc"]


def tokens(bench: Bench) -> list[AuthToken]:
    passphrase = secret(bench.secrets["P"])
    return [AuthToken.from_passphrase(passphrase), AuthToken.from_passphrase(passphrase, FNEK_SALT)]


def test_raw_keys_have_a_recovery_slot_and_no_other(made: Bench) -> None:
    words = ["create", "lower", "--keyslots", "F2", "--recovery-file", "R2"]
    for token in tokens(made):
        made.path(token.sig).write_bytes(octets(token.key))
        words += ["--raw-key", f"{token.sig}={token.sig}"]
    assert "no given key opens the names" in made.says(*words[:-2])
    assert b"the recovery key is the only way" in made.run(*words).stderr
    assert slot_types(listed(made, "F2")["slots"]) == [(0, "recovery")]
    made.recovery("R2")
    made.run("test", "--keyslots", "F2", "--passfile", "R2")
    # With a passphrase beside them they get a slot for it.
    words[3] = "F3"
    words[5] = "R3"
    made.secret("NEW", b"for the slot alone")
    made.run(*words, "--passfile", "NEW")
    made.run("test", "--keyslots", "F3", "--passfile", "NEW")
    # On a terminal it is asked for, twice.
    words[3] = "F4"
    words[5] = "R4"
    answers = [("new slot passphrase: ", "for the slot alone"), ("passphrase again: ", "for the slot alone")]
    command = [str(PROGRAM), "key", *map(str, words)]
    status, said = talk(command, answers, cwd=made.directory, env=made.environment)
    assert status == 0, said
    assert slot_types(listed(made, "F4")["slots"]) == [(0, "passphrase"), (1, "recovery")]
    made.run("test", "--keyslots", "F4", "--passfile", "NEW")


def test_keys_from_the_kernels_keyring(made: Bench) -> None:
    words = ("create", "lower", "--keyslots", "F2", "--recovery-file", "R2", "--from-keyring")
    assert "hold no key" in made.says(*words)
    for token in tokens(made):
        add_token(token, keyctl.USER)
    try:
        assert b"proves" not in made.run(*words).stderr
        assert uses(made, "F2") == uses(made)
        made.says(*words[:2], "--keyslots", "F3", "--from-keyring", tokens(made)[0].sig)
        # The tree's own name may follow the option.
        made.run("create", "--from-keyring", "lower", "--keyslots", "F4", "--recovery-file", "R4")
        assert uses(made, "F4") == uses(made)
    finally:
        for token in tokens(made):
            assert remove_token(token.signature)


def test_keys_of_the_kernels_type_encrypted(bench: Bench) -> None:
    tree = golden.tree("enc-user")
    lower = tree.unpack(bench.path("lower"))
    bench.path("master").write_bytes(bytes.fromhex(tree.details["about_keys"]["master"]["hex"]))
    words: list[str | Path] = [
        "create",
        lower,
        "--keyslots",
        "F",
        "--recovery-file",
        "R",
        "--master",
        "user:master",
    ]
    for name, text in tree.details["captured"].items():
        file = bench.path(name.partition(":")[2])
        file.write_text(text)
        words += ["--encrypted-key", file]
    assert b"proves" not in bench.run(*words).stderr  # names and files prove theirs
    # Another key under that signature is not passed over as if the file held it.
    bench.path("other").write_bytes(bytes(64))
    unlock = ("--keyslots", "F", "--unlock-passfile", "R")
    raw = f"{tree.keys[0].signature}=other"
    assert "holds another key as" in bench.says("import", lower, *unlock, "--raw-key", raw)
    assert tree.fnek is not None
    assert uses(bench) == {tree.keys[0].signature: ["content"], tree.fnek.signature: ["names"]}


def test_keys_under_a_trusted_master(bench: Bench) -> None:
    tree = golden.tree("trusted")
    lower = tree.unpack(bench.path("lower"))
    keys = encrypted_files(tree, bench.directory, named=False)
    master = trusted_master(tree, bench.directory)
    words: list[str | Path] = ["create", lower, "--keyslots", "F", "--recovery-file", "R", *keys, *master]
    with software_tpm(golden_tpm()) as tpm:
        bench.run(*words, "--tcti", tpm.tcti)
    # From now on the tree needs neither the kernel's key types nor that TPM.
    bench.recovery("R")
    bench.run("test", "--keyslots", "F", "--passfile", "R")
    assert tree.fnek is not None
    assert uses(bench) == {tree.keys[0].signature: ["content"], tree.fnek.signature: ["names"]}


def test_a_key_file_of_a_nas(made: Bench) -> None:
    made.path("NAME.key").write_bytes(wrap_export(secret(made.secrets["P"])))
    words = (
        "create",
        "lower",
        "--keyslots",
        "F2",
        "--recovery-file",
        "R2",
        "--wrapped-passphrase",
        "NAME.key",
    )
    made.run(*words)
    assert uses(made, "F2") == uses(made)
    assert slot_types(listed(made, "F2")["slots"]) == [(0, "recovery")]
    assert slot_types(listed(made, "F2")["slots"]) == [(0, "recovery")]
    made.secret("NEW", b"for the slot alone")
    made.run(*words[:2], "--keyslots", "F3", "--recovery-file", "R3", *words[6:], "--passfile", "NEW")
    made.run("test", "--keyslots", "F3", "--passfile", "NEW")
