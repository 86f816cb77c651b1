"""The guest itself: it runs scripts, its kernel reads golden trees and writes new ones."""

from __future__ import annotations

import hashlib

import pytest

from tests import golden, manifest
from tests.kernel import tokens, trees
from tests.kernel.errors import HarnessError
from tests.kernel.guest import Guest


def test_token_of_a_known_passphrase() -> None:
    key, signature = tokens.passphrase_key(b"test", tokens.DEFAULT_SALT)
    assert signature == "d395309aaad4de06"
    assert len(tokens.auth_token(key, signature, tokens.DEFAULT_SALT)) == 740


def test_script_output_and_status(guest: Guest) -> None:
    result = guest.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)")
    assert (result.stdout, result.stderr, result.status) == ("out\n", "err\n", 3)
    with pytest.raises(HarnessError, match="ended with 3"):
        result.checked()


def test_shell_script_and_share(guest: Guest) -> None:
    (guest.share / "from-host").write_text("hello")
    guest.run("#!/bin/sh\ncp /share/from-host /share/from-guest").checked()
    assert (guest.share / "from-guest").read_text() == "hello"


def test_each_script_finds_a_clean_guest(guest: Guest) -> None:
    mess = "mkdir /scratch/d /mnt/d && mount -t tmpfs t /mnt/d && keyctl add user k v @u"
    guest.run(f"#!/bin/sh\n{mess}").checked()
    look = "import os\nprint(os.listdir('/scratch'), os.listdir('/mnt'))\nos.system('keyctl rlist @u')"
    assert guest.run(look).checked().stdout == "[] []\n\n"


def test_scratch_keeps_xattrs_and_acls(guest: Guest) -> None:
    script = """
import os, subprocess
open("/scratch/file", "w").close()
os.setxattr("/scratch/file", "user.note", b"kept")
subprocess.run(["setfacl", "-m", "u:1000:r", "/scratch/file"], check=True)
print(sorted(os.listxattr("/scratch/file")))
"""
    assert guest.run(script).checked().stdout == "['system.posix_acl_access', 'user.note']\n"


def test_guest_comes_back_after_it_died(guest: Guest) -> None:
    with pytest.raises(HarnessError, match="the guest died"):
        guest.run("#!/bin/sh\nreboot -f")
    assert guest.run("print('back')").checked().stdout == "back\n"


@pytest.mark.parametrize("name", ["aes16-fnek", "aes16-xattr", "cast58", "three-keys-plain-names"])
def test_kernel_reads_golden_tree(guest: Guest, name: str) -> None:
    tree = golden.tree(name)
    lower = tree.tar(guest.share / f"{name}.tar").name
    shown = trees.kernel_manifest(guest, lower, tree.options, trees.add_keys(tree))
    assert manifest.diff(trees.without_sockets(tree.manifest()), shown) == []


def test_kernel_writes_a_tree(guest: Guest) -> None:
    add, signature = trees.add_key(b"written in the guest")
    add_fnek, fnek = trees.add_key(b"written in the guest", tokens.NAME_SALT)
    cipher = "ecryptfs_cipher=aes,ecryptfs_key_bytes=32"
    options = f"ecryptfs_sig={signature},ecryptfs_fnek_sig={fnek},{cipher}"
    keys = "import guest_lib\n" + add + add_fnek
    script = f"""{keys}
import os
os.mkdir("/scratch/lower")
with guest_lib.mounted("/scratch/lower", {options!r}) as upper:
    open(upper + "/file", "wb").write(bytes(range(256)) * 40)
    os.symlink("file", upper + "/link")
guest_lib.pack("/scratch/lower", "/share/written.tar")
"""
    guest.run(script).checked()
    shown = trees.kernel_manifest(guest, "written.tar", options, keys)
    found = {entry["path"]: entry.get("sha256") or entry["target"] for entry in shown}
    assert found == {"file": hashlib.sha256(bytes(range(256)) * 40).hexdigest(), "link": "file"}
