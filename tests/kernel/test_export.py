"""Keys exported for the kernel: a kernel with trusted keys loads them from the TPM and mounts the tree.

The TPM is a software one, first used on this machine by ``fusecrypt key export``, then by the guest,
where the printed lines run as they are.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusecrypt.keys.crypto import random_secret
from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.token import FNEK_SALT
from tests import golden, manifest
from tests.cli.key.support import Bench
from tests.kernel import trees
from tests.kernel.cache import default_cache
from tests.kernel.guest import Guest
from tests.kernel.trusted_kernel import trusted_kernel
from tests.tpm.conftest import SoftwareTPM
from tests.tree.support import User, lower_header, lower_name, open_tree, token
from tests.tree.support import manifest as tree_manifest
from tests.unit.keys.secrets import octets

TREES = ("aes16-fnek", "aes16-plain-names", "two-keys", "fn-cipher-differs", "aes16-xattr")
AUTH = b"00112233445566778899aabbccddeeff00112233"
WITH_AUTH = ("aes16-plain-names",)
NEW, CONTENTS = "new in the kernel's mount", bytes(range(256)) * 40

_SCRIPT = """
import os, subprocess
import guest_lib, manifest
share = "/share/" + name
guest_lib.unpack(share + "/before.tar", "/scratch/lower")
os.makedirs(os.path.dirname(directory), exist_ok=True)
os.symlink(share, directory)  # the lines name paths of the host
os.mkdir("/mnt/upper")
subprocess.run(["sh", "-e", share + "/lines"], stdout=subprocess.DEVNULL, check=True)
for file in os.listdir(share + "/out"):
    key, _, kind = file.rpartition(".")
    pipe = subprocess.run(["keyctl", "pipe", f"%{kind}:{key}"], capture_output=True, check=True)
    assert pipe.stdout == open(f"{share}/out/{file}", "rb").read(), file
manifest.dump(manifest.manifest("/mnt/upper"), share + "/manifest.json")
with open("/mnt/upper/" + new, "wb") as file:
    file.write(contents)
guest_lib.umount("/mnt/upper")
guest_lib.pack("/scratch/lower", share + "/after.tar")
"""


@dataclass(frozen=True)
class Machine:
    """A guest with a TPM, and the benches where keys were exported with it, by tree."""

    guest: Guest
    benches: dict[str, Bench]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    kernel = trusted_kernel(default_cache())
    with tempfile.TemporaryDirectory(prefix="fc-") as name:
        tpm = SoftwareTPM(Path(name))
        tpm.start()
        try:
            benches = {name: export(golden.tree(name), tmp_path_factory.mktemp(name), tpm) for name in TREES}
            tpm.reboot()
            with Guest(kernel=kernel, tpm=tpm.directory / "s.ctrl") as guest:
                yield Machine(guest, benches)
        finally:
            tpm.stop()


def export(tree: golden.GoldenTree, directory: Path, tpm: SoftwareTPM) -> Bench:
    """Enrol a tree and the TPM, and export by the TPM alone: out/, and ``lines`` as they were printed."""
    bench = Bench(directory)
    tree.unpack(bench.path("lower"))
    words: list[str] = []
    for number, passphrase in enumerate(tree.passphrases):
        bench.secret(f"P{number}", passphrase)
        words += ["--passfile", f"P{number}"]
    bench.run("create", "lower", *words, "--recovery-file", "R")
    keyslots = ("--keyslots", "lower.keyslots", "--tcti", tpm.tcti)
    bench.run("add", "tpm2", *keyslots, "--unlock-passfile", "R")
    bench.path("out").mkdir()
    words = ["export", "lower", "/mnt/upper", *keyslots, "--directory", "out"]
    if tree.name in WITH_AUTH:
        bench.path("auth").write_bytes(AUTH)
        bench.secrets["auth"] = AUTH
        words += ["--blobauth-file", "auth"]
    bench.path("lines").write_bytes(bench.run(*words).stdout)
    return bench


@pytest.mark.full
@pytest.mark.parametrize("name", TREES)
def test_the_kernel_mounts_the_existing_tree(machine: Machine, tmp_path: Path, name: str) -> None:
    tree, bench, share = golden.tree(name), machine.benches[name], machine.guest.share / name
    shutil.copytree(bench.path("out"), share / "out")
    for file in ("lines", "auth"):
        if bench.path(file).exists():
            shutil.copy(bench.path(file), share)
    golden.pack(bench.path("lower"), share / "before.tar")
    (share / "lower").symlink_to("/scratch/lower")
    values = {"name": name, "directory": str(bench.directory), "new": NEW, "contents": CONTENTS}
    assignments = "".join(f"{variable} = {value!r}\n" for variable, value in values.items())
    machine.guest.run(assignments + _SCRIPT).checked()
    expected = trees.without_sockets(tree.manifest())
    assert manifest.diff(expected, manifest.load(share / "manifest.json")) == []
    golden.unpack(share / "after.tar", tmp_path / "lower")
    with open_tree(tmp_path / "lower", tree.passphrases) as ours:
        assert User(ours).read(NEW) == CONTENTS
        header = lower_header(tmp_path / "lower" / lower_name(ours, NEW))
        signatures = [packet.signature.hex() for packet in header.passphrase_packets]
        assert signatures == [key.signature for key in tree.keys]
        others = [entry for entry in tree_manifest(ours) if entry["path"] != NEW]
        assert manifest.diff(expected, others) == []


def test_debians_kernel_takes_our_encrypted_keys(guest: Guest) -> None:
    """Under a ``user:`` master, for it has no trusted keys."""
    tree = golden.tree("aes16-fnek")
    tree.tar(guest.share / "encrypted-keys.tar")
    passphrase = tree.passphrases[0]
    with random_secret(32) as master:
        keys = f"guest_lib.add_key({octets(master).hex()!r}, 'master')\n"
        for key in (token(passphrase), token(passphrase, FNEK_SALT)):
            text = b"load " + EncryptedBlob.seal(key.key, master, "user:master").text().encode()
            keys += f"guest_lib.add_key({text.hex()!r}, {key.sig!r}, 'encrypted')\n"
    shown = trees.kernel_manifest(guest, "encrypted-keys.tar", tree.options, keys)
    assert manifest.diff(trees.without_sockets(tree.manifest()), shown) == []
