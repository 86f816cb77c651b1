"""fusecrypt identify as a whole command."""

from __future__ import annotations

import json
from pathlib import Path

from tests import golden
from tests.mount.support import run
from tests.offline.support import alice


def test_a_home(tmp_path: Path) -> None:
    lower = alice(tmp_path)
    assert run("identify", lower).stdout.splitlines() == [
        f"{lower}: eCryptfs tree",
        "  files   3 with aes-128, key 707dd06f8443a678, header in front",
        "  names   6 with aes-128, key ec2bdc60f6ad46fc",
        f"  key     {lower.parent}/.ecryptfs/Private.sig: says that the keys are 707dd06f8443a678, "
        "ec2bdc60f6ad46fc",
        f"  key     {lower.parent}/.ecryptfs/wrapped-passphrase: wrapped passphrase, version 2, opens with "
        "the login passphrase",
        f"  needs   the passphrase that opens {lower.parent}/.ecryptfs/wrapped-passphrase",
        "  or      the mount passphrase (of a NAS: that of the shared folder), or the key itself, of "
        "707dd06f8443a678, ec2bdc60f6ad46fc",
    ]
    above = run("identify", tmp_path).stdout
    assert above.startswith(f"{tmp_path}: directory with eCryptfs trees in it: 1\n  advice  `fusecrypt reco")
    assert f"{lower}: eCryptfs tree" in above


def test_json(tmp_path: Path) -> None:
    lower = golden.tree("blowfish24").unpack(tmp_path / "lower")
    plain = tmp_path / "plain"
    plain.write_text("x")
    done = run("identify", "--json", lower, plain, next(lower.glob("E*")), status=4)
    tree, other, _ = map(json.loads, done.stdout.splitlines())
    assert (tree["kind"], tree["ecryptfs"], tree["complete"]) == ("ecryptfs-tree", True, True)
    assert tree["files"] == [
        {
            "signatures": ["885b6a2ae9f1d41f"],
            "cipher": "blowfish",
            "key_bytes": 24,
            "in_xattr": False,
            "count": 9,
        }
    ]
    assert [(n["cipher"], n["key_bytes"]) for n in tree["names"]] == [("blowfish", None)]
    assert (other["kind"], other["ecryptfs"]) == ("unknown", False)


def test_a_file(tmp_path: Path) -> None:
    lower = golden.tree("aes16-xattr").unpack(tmp_path / "lower")
    file = next(path for path in lower.iterdir() if path.is_file() and path.stat().st_size)
    lines = run("identify", file).stdout.splitlines()
    assert lines[0] == f"{file}: eCryptfs file"
    assert "  header  in the attribute" in lines
    assert "  packet  aes-128, key 6492e3ddeccfb77b" in lines
    assert "  needs   key 6492e3ddeccfb77b" in lines


def test_statuses(tmp_path: Path) -> None:
    lower = golden.tree("aes32").unpack(tmp_path / "lower")
    luks = tmp_path / "disk\x1b"
    luks.write_bytes(b"LUKS\xba\xbe\0\2" + bytes(100))
    done = run("identify", luks, lower, status=4)
    assert done.stdout.splitlines()[:2] == [
        rf"{tmp_path}/disk\x1b: LUKS volume, version 2",
        "  advice  cryptsetup opens it; on a QNAP the passphrase is derived from the user's password",
    ]
    assert f"{lower}: eCryptfs tree" in done.stdout
    done = run("identify", tmp_path / "none", lower, status=1)
    assert "none: No such file or directory" in done.stderr
    assert f"{lower}: eCryptfs tree" in done.stdout
    assert "Missing argument" in run("identify", status=2).stderr
