"""docs/tpm.md, as its reader goes through it, with software TPMs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cli.key.test_tpm import extend
from tests.docs.reader import blocks, follow, the_block
from tests.docs.reader import home as home
from tests.docs.test_pages import tree_with_file
from tests.mount.system import system
from tests.tpm.conftest import SoftwareTPM
from tests.tpm.conftest import make_tpm as make_tpm

SECRET = ("passphrase or recovery key: ", "a long one")
PIN = ("PIN of slot 2 (empty: passphrase or recovery key): ", "4711")
ANSWERS = {
    "key create": [("mount passphrase: ", "a long one")],
    "--pin\n": [SECRET, ("new PIN: ", "4711"), ("new PIN again: ", "4711")],
    "ls ~/clear": [PIN],
    "--label boot": [PIN],
    "key change": [("new PIN: ", "0815"), ("new PIN again: ", "0815")],
}
"""What is typed in a block, by a part of its commands."""


def test_page(home: Path, open_tmp_path: Path, make_tpm: Callable[[], SoftwareTPM]) -> None:
    tree_with_file(home)
    tpm = make_tpm()
    tpm.start()
    extend(tpm, 7)
    shown = []
    for where, lines in blocks("tpm.md"):
        answers = [pair for part, pairs in ANSWERS.items() if part in lines for pair in pairs]
        if where == "changed boot":
            extend(tpm, 7)
        elif where == "other TPM":
            tpm.stop()
            tpm = make_tpm()
            tpm.start()
            answers = [SECRET]
        shown.append(follow(lines, answers, home, FUSECRYPT_TCTI=tpm.tcti))
    text = "".join(shown)
    for said in (
        "good  TPM: it answers",
        "slot 2: tpm2 with a PIN",
        "note.txt",
        "slot 4 is sealed to this TPM as it is now",
        "slot 3: this TPM was cleared, or is another one",
        "slot 4 was removed",
    ):
        assert said in text
    by_fstab(home, open_tmp_path, tpm)


def by_fstab(home: Path, directory: Path, tpm: SoftwareTPM) -> None:
    """The line for /etc/fstab, by mount(8), with the slot that asks for nothing."""
    with system(directory, [sys.executable], ["mount.fuse.fusecrypt"]) as place:
        (directory / "etc/fstab").write_text(the_block("tpm.md", "fstab").replace("/home/me", str(home)))
        place.run("mount", home / "clear", env={**os.environ, "FUSECRYPT_TCTI": tpm.tcti})
        assert place.run("ls", home / "clear").stdout == "note.txt\n"
