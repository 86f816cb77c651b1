"""The commands of the README, in their order; the last ones with a software TPM."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.docs.reader import at_home, follow
from tests.docs.reader import home as home
from tests.mount.support import PROGRAM
from tests.tpm.conftest import SoftwareTPM
from tests.tpm.conftest import make_tpm as make_tpm

OLD = ("mount passphrase: ", "a long one")
ANSWERS = [
    [OLD],
    [("key: ", "a long one"), *[OLD] * 5],
    [OLD] * 4,
    [OLD] * 2,
    [OLD] * 2,
    [OLD, ("new mount passphrase: ", "another"), ("new mount passphrase again: ", "another")] * 2,
    [("mount passphrase: ", "another"), ("passphrase or recovery key: ", "another")],
    [OLD],
]
"""What is typed in each block."""
BEFORE = """
mkdir ~/.Private ~/mnt ~/Photos ~/bin ~/host
echo "a long one" > ~/pass
fusecrypt mount --passfile ~/pass ~/.Private ~/mnt
mkdir ~/mnt/Documents
echo "Dear reader" > ~/mnt/Documents/letter.txt
echo "a picture" | tee ~/mnt/photo.jpg > ~/Photos/new.jpg
fusecrypt umount ~/mnt
mkdir ~/backup ~/old-disk
cp -a ~/.Private ~/backup
cp -a ~/.Private ~/old-disk
tar -cf ~/backup.tar -C ~ .Private
printf '#!/bin/sh\\ncd ~/host && shift && exec "$@"\\n' > ~/bin/ssh
chmod +x ~/bin/ssh
"""
"""The reader's home; what is done on another host is done in ``host``."""


def test_commands(home: Path, make_tpm: Callable[[], SoftwareTPM]) -> None:
    follow(BEFORE, [], home)
    tpm = make_tpm()
    tpm.start()
    path = f"{home}/bin:{PROGRAM.parent}:{os.environ['PATH']}"
    found = at_home("../README.md")
    shown = [
        follow(
            lines.replace("/mnt/old-disk", "~/old-disk").replace("/backup/", "~/backup/"),
            answers, home, PATH=path, FUSECRYPT_TCTI=tpm.tcti,
        )
        for lines, answers in zip(found, ANSWERS, strict=True)
    ]  # fmt: skip
    assert "photo.jpg" in shown[0]
    for said in (
        "eCryptfs tree",
        "opened with",
        "letter.txt",
        "health    good",
        ".Private/Documents/letter.txt",
    ):
        assert said in shown[1], said
    for place in ("letter.txt", "restored/Documents/letter.txt", "host/Documents/letter.txt"):
        assert (home / place).read_text() == "Dear reader\n"
    assert "4 good" in shown[3]
    assert "all as listed" in shown[4]
    assert "old keys taken from 3 files" in shown[5]
    assert "slot 2 is sealed to this TPM as it is now" in shown[6]
