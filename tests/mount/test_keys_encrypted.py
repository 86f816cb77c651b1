"""Trees of the kernel's ``encrypted`` keys, mounted without the kernel's key types."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.tpm.policy import PCRPolicy, after_pcr
from fusecrypt.keys.tpm.seal import seal
from tests import golden
from tests.mount.keys import (
    SOFTWARE,
    captured,
    encrypted_files,
    extend,
    golden_tpm,
    shows_golden,
    software_tpm,
    trusted_master,
    user_master,
)
from tests.mount.support import PROGRAM, mounted, run
from tests.tpm.conftest import SoftwareTPM
from tests.unit.keys.secrets import secret

KEYAUTH = "707172737475767778797a7b7c7d7e7f80818283"
USER = [tree for tree in golden.trees() if tree.name.startswith("enc-")]
TRUSTED = {
    "trusted": {},
    "trusted-blobauth": {"blobauth-file": "secretauth"},
    "trusted-blobauth-hex": {"blobauth-file": "b2a0f16c6e09a420420d094a2a531bb2da0f3e63"},
    "trusted-ecc": {},
    "trusted-keyauth": {"keyauth-file": KEYAUTH},
    "trusted-nonmigratable": {},
    "trusted-pcrlock": {},
    "trusted-policy-pcr16": {"master-pcrs": "sha256:16"},
    "trusted-sha1": {},
    "trusted-sha384": {},
}
"""The options that each trusted master needs; those of files are given by the files' contents."""


@pytest.fixture(scope="module")
def kernels() -> Iterator[SoftwareTPM]:
    """The TPM of the golden trees, running."""
    with software_tpm(golden_tpm()) as tpm:
        yield tpm


@pytest.mark.parametrize("named", [False, True], ids=["found", "named"])
@pytest.mark.parametrize("tree", USER, ids=lambda tree: tree.name)
def test_keys_under_a_user_master(tree: golden.GoldenTree, named: bool, tmp_path: Path) -> None:
    lower = tree.unpack(tmp_path / "lower")
    words = [*encrypted_files(tree, tmp_path, named=named), *user_master(tree, tmp_path)]
    shows_golden(tree, lower, *words)


@pytest.mark.parametrize("name", TRUSTED)
def test_keys_under_a_trusted_master(name: str, kernels: SoftwareTPM, tmp_path: Path) -> None:
    tree = golden.tree(name)
    lower = tree.unpack(tmp_path / "lower")
    words = [*encrypted_files(tree, tmp_path, named=False), *trusted_master(tree, tmp_path)]
    words += _companions(name, tmp_path)
    shows_golden(tree, lower, *words, "--tcti", kernels.tcti, log_allows=(SOFTWARE,))


def test_every_golden_tree_of_trusted_keys_is_among_these() -> None:
    names = {tree.name for tree in golden.trees() if tree.name.startswith("trusted")}
    assert names == {*TRUSTED, "trusted-policy-pcr7"}


def test_handmade_keys_open_the_tree_of_their_passphrase(kernels: SoftwareTPM, tmp_path: Path) -> None:
    tree = golden.tree("aes16-fnek")
    lower = tree.unpack(tmp_path / "lower")
    facts = json.loads((golden.DIRECTORY / "trusted-handmade" / "handmade.json").read_text())
    (tmp_path / "trusted").write_text(facts["trusted_blob"])
    words = ["--master", f"trusted:{tmp_path / 'trusted'}", "--tcti", kernels.tcti]
    for key in facts["keys"]:
        (tmp_path / key["sig"]).write_text(key["blob"] + "\n")
        words += ["--encrypted-key", str(tmp_path / key["sig"])]
    shows_golden(tree, lower, *words, log_allows=(SOFTWARE,))


def test_a_trusted_master_bound_to_pcr_7(tmp_path: Path) -> None:
    """Sealed as the kernel does with policydigest=, on a TPM of our own: it opens in this boot state only."""
    tree = golden.tree("enc-user")
    master = bytes.fromhex(tree.details["about_keys"]["master"]["hex"])
    lower = tree.unpack(tmp_path / "lower")
    with software_tpm() as tpm:
        with tpm.open() as opened:
            extend(opened, 7)
            digest = after_pcr(bytes(32), PCRPolicy("sha256", opened.pcrs("sha256", (7,))))
            key = seal(opened, opened.storage_key(), secret(master), policy=digest)
        (tmp_path / "trusted").write_text(key.encode().hex())
        words = [*_under_ours(tree, master, tmp_path), "--tcti", tpm.tcti, "--master-pcrs", "7"]
        shows_golden(tree, lower, *words, log_allows=(SOFTWARE,))
        with tpm.open() as opened:
            extend(opened, 7)
        (tmp_path / "mnt").mkdir()
        assert "PCR 7 is now" in _refused(tree, tmp_path, *words)


def test_a_trusted_master_in_the_form_before_linux_5_13(tmp_path: Path) -> None:
    """It does not name its parent, so the command line must. What is sealed ends with the migratable flag."""
    tree = golden.tree("enc-user")
    master = bytes.fromhex(tree.details["about_keys"]["master"]["hex"])
    lower = tree.unpack(tmp_path / "lower")
    (tmp_path / "mnt").mkdir()
    with software_tpm() as tpm:
        with tpm.open() as opened:
            key = seal(opened, opened.storage_key(), secret(master + b"\x01"))
        (tmp_path / "trusted").write_text((key.private + key.public).hex())
        words = [*_under_ours(tree, master, tmp_path), "--tcti", tpm.tcti]
        assert "--keyhandle" in run("mount", *words, lower, tmp_path / "mnt", status=2).stderr
        shows_golden(tree, lower, *words, "--keyhandle", "0x81000001", log_allows=(SOFTWARE,))


def _under_ours(tree: golden.GoldenTree, master: bytes, directory: Path) -> list[str]:
    """Options for a tree's keys under its master once more, which is trusted now, in the file `trusted`."""
    words = ["--master", f"trusted:{directory / 'trusted'}"]
    for sig, text in captured(tree, "encrypted").items():
        key = EncryptedBlob.parse(text.encode()).open(secret(master))
        (directory / sig).write_text(EncryptedBlob.seal(key, secret(master), "trusted:ours").text())
        words += ["--encrypted-key", str(directory / sig)]
    return words


@pytest.mark.parametrize("pcrs", ["sha256:7", None])
def test_a_policy_of_other_firmware_names_its_pcr(
    pcrs: str | None, kernels: SoftwareTPM, tmp_path: Path
) -> None:
    tree = golden.tree("trusted-policy-pcr7")
    words = [*encrypted_files(tree, tmp_path, named=False), *trusted_master(tree, tmp_path)]
    words += ["--tcti", kernels.tcti, *(["--master-pcrs", pcrs] if pcrs else [])]
    message = _refused(tree, tmp_path, *words)
    assert ("PCR 7 is now 0000" if pcrs else "--master-pcrs") in message
    assert "reseal" not in message
    assert SOFTWARE in message


def test_wrong_auth_values_are_refused(kernels: SoftwareTPM, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrongauth\n")
    for name, option, said in (
        ("trusted-blobauth", "--blobauth-file", "--blobauth-file FILE; attempts left: "),
        ("trusted-keyauth", "--keyauth-file", "give it: --keyauth-file"),
    ):
        tree = golden.tree(name)
        words = [*encrypted_files(tree, tmp_path, named=False), *trusted_master(tree, tmp_path)]
        words += ["--tcti", kernels.tcti, option, str(tmp_path / "wrong")]
        assert said in _refused(tree, tmp_path / name, *words)


def test_a_wrong_master_is_refused(tmp_path: Path) -> None:
    tree = golden.tree("enc-user")
    words = encrypted_files(tree, tmp_path, named=True)
    (tmp_path / "master").write_bytes(bytes(32))
    message = _refused(tree, tmp_path, *words, "--master", f"user:{tmp_path / 'master'}")
    assert f"{tmp_path / 'key0'}: the encrypted key does not open with this master key" in message
    assert "no newline at the end" in message
    (tmp_path / "master").write_bytes(b"")
    assert "is empty" in _refused(tree, tmp_path, *words, "--master", f"user:{tmp_path / 'master'}")


def test_options_that_do_not_belong_together(tmp_path: Path) -> None:
    tree = golden.tree("enc-user")
    keys, master = encrypted_files(tree, tmp_path, named=False), user_master(tree, tmp_path)
    for status, words, said in (
        (2, keys, "needs its master key"),
        (2, [*keys, "--master", "wrong:x"], "user:FILE or trusted:FILE"),
        (4, [*keys, "--master", f"trusted:{tmp_path / 'master'}"], f"{tmp_path / 'master'}: the TPM key"),
        (3, [*keys[:2], *master], "no given key opens the files"),
        (2, [*keys[2:], *keys[2:], *master], "write --encrypted-key SIG=FILE"),
    ):
        assert said in _refused(tree, tmp_path, *words, status=status)
    (tmp_path / "none").write_text("a passphrase\n")
    message = _refused(tree, tmp_path, "--encrypted-key", str(tmp_path / "none"), *master, status=4)
    assert "no text of an encrypted key" in message
    assert "a passphrase" not in message


def test_keys_come_through_pipes(tmp_path: Path) -> None:
    """So neither the keys nor the master need be written to a file."""
    tree = golden.tree("enc-user")
    lower = tree.unpack(tmp_path / "lower")
    first, second = (word for word in encrypted_files(tree, tmp_path, named=False) if word[:2] != "--")
    keys = f"--encrypted-key <(cat {first}) --encrypted-key <(cat {second})"
    script = f'exec "$0" ls --json {keys} --master user:<(cat {tmp_path / "master"}) {lower}'
    user_master(tree, tmp_path)
    done = subprocess.run(["bash", "-c", script, PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert any(entry["path"] in done.stdout for entry in tree.manifest())


def test_a_new_tree_does_not_tell_its_key(tmp_path: Path) -> None:
    tree, lower = golden.tree("enc-user"), tmp_path / "new"
    lower.mkdir()
    first, *_ = (Path(word) for word in encrypted_files(tree, tmp_path, named=False) if word[:2] != "--")
    words: list[str | Path] = [*user_master(tree, tmp_path), "--encrypted-key"]
    said = run("mount", *words, first, lower, tmp_path / "new", status=3).stderr
    assert "for a new one write --encrypted-key SIG=FILE" in said
    sig = tree.keys[0].signature
    with mounted(lower, *map(str, words), f"{sig}={first}", passphrases=()) as mount:
        (mount.path / "file").write_text("text")
    assert f"key {sig}" in run("identify", lower).stdout


def test_only_the_format_ecryptfs_is_of_use(tmp_path: Path) -> None:
    tree = golden.tree("enc-user")
    master = user_master(tree, tmp_path)
    key = EncryptedBlob.seal(
        secret(bytes(64)), secret((tmp_path / "master").read_bytes()), "user:ours", format="default"
    )
    (tmp_path / "default").write_text(key.text())
    words = ["--encrypted-key", str(tmp_path / "default"), *master]
    assert "only those of the format ecryptfs" in _refused(tree, tmp_path, *words, status=4)


def test_keys_of_another_tree_have_no_use(tmp_path: Path) -> None:
    tree, other = golden.tree("enc-user"), golden.tree("enc-user-provided")
    words = [*encrypted_files(other, tmp_path, named=False), *user_master(other, tmp_path)]
    words += ["-o", f"ecryptfs_sig={'0' * 16}"]
    message = _refused(tree, tmp_path, *words)
    assert "no given key opens the names" in message


def test_exchanged_keys_are_refused(tmp_path: Path) -> None:
    """With them the tree would seem empty, and nobody could read what is written."""
    tree, sigs = golden.tree("enc-user"), []
    words = user_master(tree, tmp_path)
    for sig, text in captured(tree, "encrypted").items():
        (tmp_path / sig).write_text(text)
        sigs.append(sig)
    for sig, file in zip(sigs, reversed(sigs), strict=True):
        words += ["--encrypted-key", f"{sig}={tmp_path / file}"]
    assert "does not open the names of this tree" in _refused(tree, tmp_path, *words)


def _companions(name: str, directory: Path) -> list[str]:
    words = []
    for option, value in TRUSTED[name].items():
        if option.endswith("-file"):
            (directory / option).write_text(value + "\n")
            value = str(directory / option)
        words += [f"--{option}", value]
    return words


def _refused(tree: golden.GoldenTree, directory: Path, *words: str, status: int = 3) -> str:
    """Try to mount a golden tree; what is said when it is refused."""
    lower, mnt = directory / "lower", directory / "mnt"
    if not lower.exists():
        tree.unpack(lower)
        mnt.mkdir()
    return run("mount", *words, lower, mnt, status=status).stderr


def test_a_key_is_not_taken_for_one_of_the_first_files(tmp_path: Path) -> None:
    """A header does not prove a content key, so the whole tree is looked at before there is no choice."""
    lower, first, second = tmp_path / "lower", "1" * 16, "2" * 16
    raw = {}
    for number, sig in enumerate((first, second)):
        (tmp_path / sig).write_bytes(bytes([number]) * 64)
        raw[sig] = ("--raw-key", f"{sig}={tmp_path / sig}", "-o", "ecryptfs_enable_filename_crypto=n")
    with mounted(lower, *raw[first], "-o", f"ecryptfs_sig={first}", passphrases=()) as mount:
        (mount.path / "deep").mkdir()
        for number in range(600):
            (mount.path / f"{number}").write_bytes(b"")
        (mount.path / "file").write_bytes(b"first")
    words = [*raw[second], "-o", f"ecryptfs_sig={second}"]
    with mounted(lower / "deep", *words, passphrases=(), path=tmp_path / "mnt") as mount:
        (mount.path / "file").write_bytes(b"second")
    (tmp_path / "master").write_bytes(bytes(32))
    blob = EncryptedBlob.seal(secret(bytes([1]) * 64), secret(bytes(32)), "user:ours")
    (tmp_path / "key").write_text(blob.text())
    master: list[str | Path] = ["--master", f"user:{tmp_path / 'master'}", "--encrypted-key"]
    said = run("mount", *master, tmp_path / "key", lower, tmp_path / "mnt", status=2).stderr
    assert f"which is for which of {first}, {second}?" in said
    named = [*map(str, master), f"{second}={tmp_path / 'key'}"]
    with mounted(lower, *named, passphrases=(), path=tmp_path / "mnt") as mount:
        assert (mount.path / "deep" / "file").read_bytes() == b"second"
