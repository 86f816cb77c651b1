"""Exported keys: opened by us and by tpm2-tools, with the mount line of the tree.

What the kernel makes of them is tested in tests/kernel.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fusecrypt.cli.key.export import kernel_options
from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.token import FNEK_SALT, AuthToken
from fusecrypt.keys.tpm.kernel import KernelAuth, unseal_master
from fusecrypt.keys.trusted import TPMKey
from tests import golden
from tests.cli.key.conftest import TREE
from tests.cli.key.support import PATIENCE, Bench
from tests.docs.reader import the_block
from tests.tpm.conftest import SoftwareTPM
from tests.tree.support import resolved
from tests.unit.keys.secrets import secret

UNLOCK = ("--keyslots", "F", "--unlock-passfile", "R")

with_and_without_auth = pytest.mark.parametrize("auth", [None, b"00112233445566778899aabbccddeeff00112233"])


def tokens() -> tuple[AuthToken, AuthToken]:
    """The tree's content key and name key."""
    passphrase = secret(golden.tree(TREE).passphrases[0])
    return AuthToken.from_passphrase(passphrase), AuthToken.from_passphrase(passphrase, FNEK_SALT)


@pytest.mark.parametrize(
    "name",
    [
        "aes16-plain-names",
        "aes16-fnek-same-sig",
        "two-keys",
        "three-keys-plain-names",
        "fn-cipher-differs",
        "aes16-xattr",
        "des3_ede24",
        "blowfish56",
    ],
)
def test_the_mount_line_says_what_the_kernel_was_told(tmp_path: Path, name: str) -> None:
    tree = golden.tree(name)
    policy = resolved(tree.unpack(tmp_path / "lower"), tree.passphrases).policy
    assert kernel_options(policy) == tree.options


@with_and_without_auth
def test_keys_are_exported_for_the_kernel(made: Bench, swtpm: SoftwareTPM, auth: bytes | None) -> None:
    words = ["export", "lower", "/mnt/upper", *UNLOCK, "--tcti", swtpm.tcti, "--directory", "out"]
    made.says(*words, status=2)
    made.path("out").mkdir()
    if auth:
        made.path("auth").write_bytes(auth + b"\n")
        made.secrets["auth"] = auth
        words += ["--blobauth-file", "auth"]
        assert "without a newline" in made.says(*words)
        made.path("auth").write_bytes(auth)
    done = made.run(*words)
    assert done.stderr.count(b"fusecrypt: ") >= 6
    assert done.stderr.index(b"in every boot state") < done.stderr.index(b"was written")
    lines = done.stdout.decode().splitlines()
    options = golden.tree(TREE).options
    assert lines[-1] == f"mount -i -t ecryptfs -o {options} {made.path('lower').resolve()} /mnt/upper"
    assert [line.rpartition("| ")[2].split()[:3] for line in lines[1:2]] == [["keyctl", "padd", "trusted"]]
    out = made.path("out")
    key = TPMKey.parse_text((out / "fusecrypt-master.trusted").read_bytes())
    with swtpm.open() as tpm:
        kernel_auth = KernelAuth(secret(bytes.fromhex(auth.decode())) if auth else None)
        master = unseal_master(tpm, key, kernel_auth)
    for token in tokens():
        text = (out / f"{token.sig}.encrypted").read_bytes()
        assert EncryptedBlob.parse(text).token(token.signature, master).key == token.key
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in out.iterdir())
    assert "File exists" in made.says(*words, status=1)


def test_of_an_export_that_cannot_be_written_nothing_is_left(made: Bench, swtpm: SoftwareTPM) -> None:
    """Else the next attempt would be refused for the files of the first."""
    out = made.path("out")
    out.mkdir()
    words = ["export", "lower", *UNLOCK, "--tcti", swtpm.tcti, "--directory", "out"]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", out], check=True)
    try:
        assert "No space left" in made.says(*words, status=1)
        assert list(out.iterdir()) == []
    finally:
        subprocess.run(["umount", out], check=True)
    made.run(*words)


def test_an_auth_value_that_the_lines_could_not_copy_is_refused(made: Bench, swtpm: SoftwareTPM) -> None:
    os.mkfifo(made.path("pipe"))
    made.path("text").write_bytes(b"only text")
    words = ["export", "lower", *UNLOCK, "--tcti", swtpm.tcti]
    for name, said in (("-", "must be in a file"), ("pipe", "must be in a file"), ("text", "40 hex digits")):
        assert said in made.says(*words, "--blobauth-file", name)


@with_and_without_auth
def test_keys_are_exported_for_other_tools(made: Bench, swtpm: SoftwareTPM, auth: bytes | None) -> None:
    made.path("out").mkdir()
    words = ["export", "lower", *UNLOCK, "--tcti", swtpm.tcti, "--directory", "out", "--format", "tss2"]
    tools = {**os.environ, "TPM2TOOLS_TCTI": swtpm.tcti}
    lines = the_block("keys.md", "sh tpm2-tools")
    if auth:
        made.path("auth").write_bytes(auth)
        words += ["--blobauth-file", "auth"]
    made.run(*words)
    names = {path.name for path in made.path("out").iterdir()}
    if auth:
        made.path("out/AUTH").write_bytes(b"hex:" + auth)
    else:
        lines = lines.replace("--auth file:AUTH", "")
    subprocess.run(["sh", "-ec", lines], check=True, cwd=made.path("out"), env=tools, timeout=PATIENCE)
    with secret(made.path("out/master").read_bytes()) as master:
        assert len(master) == 32
        for token in tokens():
            text = (made.path("out") / f"{token.sig}.encrypted").read_bytes()
            assert EncryptedBlob.parse(text).token(token.signature, master).key == token.key
    assert names == {"fusecrypt-master.pem", *(f"{token.sig}.encrypted" for token in tokens())}
    assert "not beside it" in made.says("export", *UNLOCK, "--tcti", swtpm.tcti, status=2)
