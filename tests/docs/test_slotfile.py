"""The format of docs/keys.md, by an implementation of its own: it opens our files, and we open its."""

from __future__ import annotations

import hashlib
import json
import os

from tests.cli.key.conftest import _first as _first
from tests.cli.key.conftest import bench as bench
from tests.cli.key.conftest import made as made
from tests.cli.key.support import Bench
from tests.docs import slotfile
from tests.tpm.conftest import SoftwareTPM
from tests.tpm.conftest import make_tpm as make_tpm
from tests.tpm.conftest import swtpm as swtpm

UNLOCK = ("--keyslots", "F", "--unlock-passfile", "P")


def test_it_opens_our_files(made: Bench, swtpm: SoftwareTPM) -> None:
    made.secret("N", "gru\u0308n 81".encode())  # not in normal form
    made.secret("NEW", "a\u0308hm".encode())
    made.run("add", "tpm2", *UNLOCK, "--tcti", swtpm.tcti)
    made.run("add", "tpm2", *UNLOCK, "--tcti", swtpm.tcti, "--pin-file", "N")
    made.run("add", "passphrase", *UNLOCK, "--new-passfile", "NEW", "--label", "größer")
    document = json.loads(made.path("F").read_bytes())
    assert [slot["type"] for slot in document["slots"]] == [
        "passphrase", "recovery", "tpm2", "tpm2", "passphrase",
    ]  # fmt: skip
    for slot, name in zip(document["slots"], ("P", "R", None, "N", "NEW"), strict=True):
        typed = made.secrets[name].decode() if name else ""
        key = slotfile.volume_key(document, slot, typed, swtpm.tcti, made.directory)
        assert slotfile.mac(document, key) == document["mac"]
        keys = slotfile.keys(document, key)
        assert len(keys) == 2
        for sig, octets in keys.items():
            assert hashlib.sha512(octets).digest()[:8].hex() == sig
    assert made.path("F").read_bytes() == slotfile.canonical(document) + b"\n"


def test_we_open_its_files(made: Bench) -> None:
    document = json.loads(made.path("F").read_bytes())
    typed = made.secrets["P"].decode()
    key = slotfile.volume_key(document, document["slots"][0], typed, "", made.directory)
    found = slotfile.keys(document, key)
    tree_keys = {each["sig"]: (each["use"][0], found[each["sig"]]) for each in document["keys"]}
    recovery = os.urandom(32)
    made.secret("NEW", "a\u0308hm".encode())
    made.secret("R2", slotfile.recovery_text(recovery).encode())
    made.path("F2").write_text(json.dumps(slotfile.make(tree_keys, "ähm", recovery), indent=1))
    words = ("test", "--keyslots", "F2", "--passfile", "NEW", "--passfile", "R2")
    assert made.run(*words).stdout == b"slot 0: passphrase: opens\nslot 7: recovery: opens\n"
    made.run("add", "recovery", "--keyslots", "F2", "--unlock-passfile", "R2", "--recovery-file", "R3")
    changed = json.loads(made.path("F2").read_bytes())
    assert [slot["id"] for slot in changed["slots"]] == [0, 7, 1]
    assert changed["slots"][0]["label"] == "mühle"
    assert changed["seq"] == 6
    assert slotfile.recovery_octets(made.recovery("R3").decode()) != recovery
