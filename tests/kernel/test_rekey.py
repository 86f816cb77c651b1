"""Trees that the kernel wrote, rekeyed: the kernel reads them under the new key."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from fusecrypt.keys.token import FNEK_SALT
from fusecrypt.offline.rekey import Keys
from fusecrypt.tree.policy import Policy
from tests import golden, manifest
from tests.kernel import trees
from tests.kernel.guest import Guest
from tests.offline.test_rekey import NEW, NEW_NAMES, contents_by, killed_at, rekey
from tests.tree.support import resolved

PASSPHRASE = b"another passphrase"
TREES = ("aes16-fnek", "aes16-xattr", "aes24", "fn-cipher-differs", "blowfish56", "aes32-xattr-plain-names")


def keys_of(by: Policy) -> Keys:
    return Keys((*by.content, *by.others, *((by.names.token,) if by.names else ())), NEW, NEW_NAMES)


def kernel_shows(guest: Guest, kernels: golden.GoldenTree, lower: Path) -> list[manifest.Entry]:
    """What the kernel shows of a tree that has the new keys only."""
    options = kernels.options.replace(f"ecryptfs_sig={kernels.keys[0].signature}", f"ecryptfs_sig={NEW.sig}")
    if kernels.fnek is not None:
        options = options.replace(kernels.fnek.signature, NEW_NAMES.sig)
    add = trees.add_key(PASSPHRASE)[0] + trees.add_key(PASSPHRASE, FNEK_SALT)[0]
    golden.pack(lower, guest.share / "rekeyed.tar")
    return trees.kernel_manifest(guest, "rekeyed.tar", options, add)


@pytest.mark.parametrize("name", TREES)
def test_the_kernel_reads_the_result(guest: Guest, name: str, tmp_path: Path) -> None:
    kernels = golden.tree(name)
    lower = kernels.unpack(tmp_path / "lower")
    by = resolved(lower, kernels.passphrases, salt=kernels.keys[0].salt).policy
    assert rekey(lower, keys_of(by)).left == []
    shown = kernel_shows(guest, kernels, lower)
    assert manifest.diff(trees.without_sockets(kernels.manifest()), trees.without_sockets(shown)) == []


@pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=pytest.mark.full)])
def test_killed_and_begun_again(guest: Guest, rounds: int, tmp_path: Path) -> None:
    kernels = golden.tree("aes32")
    lower = kernels.unpack(tmp_path / "lower")
    keys = keys_of(resolved(lower, kernels.passphrases).policy)
    contents = contents_by(lower, keys.old[0])
    assert contents is not None
    steps = next(step for step in range(0, 10_000, 10) if not dies(step, lower, keys))
    chance = random.Random(rounds)
    for _ in range(rounds):
        here = lower.with_name("here")
        subprocess.run(["cp", "-a", lower, here], check=True)
        if killed_at(chance.randrange(steps), here, keys):
            assert contents in (contents_by(here, keys.old[0]), contents_by(here, NEW))
            assert rekey(here, keys).left == []
        shown = kernel_shows(guest, kernels, here)
        differences = manifest.diff(kernels.manifest(), shown, ignore=("mtime_ns",))
        assert differences == []
        subprocess.run(["rm", "-r", here], check=True)


def dies(step: int, lower: Path, keys: Keys) -> bool:
    here = lower.with_name("trial")
    subprocess.run(["cp", "-a", lower, here], check=True)
    died = killed_at(step, here, keys)
    subprocess.run(["rm", "-r", here], check=True)
    lower.with_name("journal").unlink(missing_ok=True)
    return died
