"""docs/kernel.md, as its reader goes through it: to the kernel's eCryptfs with a tree of ours, and back."""

from __future__ import annotations

import shutil
from pathlib import Path

from fusecrypt.keys.keyring import find_token
from fusecrypt.keys.payload import encode_payload
from tests import golden
from tests.docs.reader import DOCS, blocks, follow
from tests.docs.reader import home as home
from tests.docs.test_pages import tree_with_slots
from tests.kernel.guest import Guest
from tests.unit.keys.secrets import octets

PAGE = "kernel.md"
SECRET = [("passphrase or recovery key: ", "a long one")]
_SCRIPT = """
import os, subprocess
import guest_lib
for payload, signature in {keys!r}:
    guest_lib.add_key(payload, signature)
guest_lib.unpack("/share/page.tar", "/scratch/cipher")
os.mkdir("/scratch/clear")
os.environ["HOME"] = "/scratch"
subprocess.run(["sh", "-ec", {lines!r}], check=True)
guest_lib.pack("/scratch/cipher", "/share/page-back.tar")
"""


def test_page(guest: Guest, home: Path) -> None:
    tree_with_slots(home)
    identify, load, (where, in_kernel), unload, back = blocks(PAGE)
    assert where == "kernel"
    assert files_and_names(follow(identify[1], [], home)) == files_and_names((DOCS / PAGE).read_text())
    signatures = follow(load[1], SECRET, home).split()[-2:]
    try:
        keys = [(in_keyring(sig), sig) for sig in signatures]
    finally:
        assert sorted(follow(unload[1], [], home).split()) == sorted(signatures)
    golden.pack(home / "cipher", guest.share / "page.tar")
    shown = guest.run(_SCRIPT.format(keys=keys, lines=in_kernel)).checked().stdout
    assert shown == "for my eyes only\n"
    shutil.rmtree(home / "cipher")
    golden.unpack(guest.share / "page-back.tar", home / "cipher")
    assert "the kernel was here" in follow(back[1], SECRET, home)


def files_and_names(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.startswith(("  files", "  names"))]


def in_keyring(sig: str) -> str:
    """The hex of the key that the kernel finds here."""
    with encode_payload(find_token(bytes.fromhex(sig))) as payload:
        return octets(payload).hex()
