"""What the kernel makes of damaged headers, and what fusecrypt does: the same, but for what is listed."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from fusecrypt.errors import FusecryptError
from fusecrypt.ondisk.extents import EXTENT
from fusecrypt.ondisk.header import FLAG_XATTR, MINIMUM_REGION
from fusecrypt.sources import options
from fusecrypt.tree.tree import Tree
from tests import golden
from tests.kernel import tokens
from tests.kernel.guest import Guest
from tests.kernel.variants import CONTENT, SECOND, Variant
from tests.tree.support import User, open_tree, read

BASES = (
    Variant("one-key", "aes", 16, fnek=None, keys=(CONTENT,)),
    Variant("two-keys", "blowfish", 56, fnek=None, keys=(CONTENT, (SECOND, tokens.DEFAULT_SALT))),
)
CONTENTS = bytes(range(256)) * 20
"""Two extents, the second in part."""

LOOK = """
import errno, hashlib, json, os
import guest_lib
{keys}
guest_lib.unpack("/share/mutants.tar", "/scratch/lower")
found = {{}}
with guest_lib.mounted("/scratch/lower", {options!r}) as upper:
    for name in os.listdir(upper):
        try:
            with open(upper + "/" + name, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = hashlib.sha256(file.read(1 << 20)).hexdigest()
                found[name] = f"read {{data}} of {{size}}"
        except OSError as error:
            found[name] = errno.errorcode[error.errno]
with open("/share/found.json", "w") as file:
    json.dump(found, file)
"""


def mutants(lower: bytes, used: int, chance: random.Random, several: int) -> Iterator[tuple[str, bytes]]:
    """Lower files that differ from one in its header of ``used`` octets, or in length; names say how."""
    for at in range(used):
        for value in sorted({lower[at] ^ 1, lower[at] ^ 0x80, 0, 0xFF} - {lower[at]}):
            yield f"at {at} {value:#04x}", lower[:at] + bytes([value]) + lower[at + 1 :]
    for n in range(several):
        at, octets = chance.randrange(20, used), chance.randbytes(chance.randrange(1, 9))
        yield f"over {n} {at} {octets.hex()}", lower[:at] + octets + lower[at + len(octets) :]
        yield f"out {n} {at} {len(octets)}", lower[:at] + lower[at + len(octets) :] + bytes(len(octets))
        yield f"in {n} {at} {octets.hex()}", (lower[:at] + octets + lower[at:])[: len(lower)]
    for length in (0, 1, 8, 19, 20, 25, 26, used - 1, used, 4095, 4096, 8191, 8192, 8193, len(lower) - 1):
        yield f"length {length}", lower[:length]


def explained(lower: bytes, kernel: str, ours: str) -> bool:
    """The differences that are meant."""
    size, _, _, word, extent_size, extents = struct.unpack_from(">QIIIIH", lower)
    region = extent_size * extents
    if region < MINIMUM_REGION or region + -(-size // EXTENT) * EXTENT > len(lower):
        return ours == "EIO" and kernel.startswith("read")  # the kernel shows octets that are not there
    if word & FLAG_XATTR:  # the kernel takes the header for the first extent
        return ours == shown(CONTENTS, size)
    return False


def shown(data: bytes, size: int) -> str:
    return f"read {hashlib.sha256(data).hexdigest()} of {size}"


def look(tree: Tree, name: str) -> str:
    try:
        with User(tree).file(name) as file:
            return shown(read(file, n=min(file.size, 1 << 20)), file.size)
    except (FusecryptError, OSError) as error:
        return errno.errorcode[error.errno or 0]


def written(base: Variant, place: Path) -> bytes:
    """A lower file of a tree of this kind."""
    place.mkdir()
    with open_tree(place, base.passphrases, options.parse([base.new_options]).tree_options()) as tree:
        User(tree).create("file", CONTENTS)
    return (place / "file").read_bytes()


@pytest.mark.parametrize(
    ("seed", "several", "step"),
    [(1, 100, 4), *(pytest.param(seed, 400, 1, marks=pytest.mark.full) for seed in (2, 3, 4))],
)
def test_headers(guest: Guest, tmp_path: Path, seed: int, several: int, step: int) -> None:
    chance = random.Random(seed)
    made: dict[str, bytes] = {}
    for base in BASES:
        lower = written(base, tmp_path / base.name)
        used = len(lower[:MINIMUM_REGION].rstrip(b"\0"))
        for name, mutant in islice(mutants(lower, used, chance, several), 0, None, step):
            made[f"{base.name} {name}"] = mutant
    lowers = tmp_path / "lower"
    lowers.mkdir()
    for name, mutant in made.items():
        (lowers / name).write_bytes(mutant)
    golden.pack(lowers, guest.share / "mutants.tar")
    both = BASES[-1]
    guest.run(LOOK.format(keys=both.add_keys, options=both.options), timeout=600).checked()
    kernel: dict[str, str] = json.loads((guest.share / "found.json").read_text())
    assert kernel.keys() == made.keys()
    with open_tree(lowers, both.passphrases, options.parse([both.new_options]).tree_options()) as tree:
        ours = {name: look(tree, name) for name in made}
    different = [name for name in made if kernel[name] != ours[name]]
    alike = [ours[name] for name in made if kernel[name] == ours[name]]
    refused = alike.count("EIO")
    print(f"{len(made)} headers: {len(different)} differ, {refused} of the others are refused")
    assert min(refused, len(alike) - refused) > 100
    wrong = [name for name in different if not explained(made[name], kernel[name], ours[name])]
    assert {name: (kernel[name], ours[name]) for name in wrong} == {}
