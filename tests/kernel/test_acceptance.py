"""What the kernel makes of damaged headers, and what fusecrypt does: the same, but for what is listed."""

from __future__ import annotations

import errno
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

from fusecrypt.errors import FusecryptError
from fusecrypt.sources import options
from fusecrypt.tree.tree import Tree
from tests import golden
from tests.kernel import tokens
from tests.kernel.guest import Guest
from tests.kernel.variants import CONTENT, SECOND, Variant
from tests.tree.support import User, open_tree

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
                found[name] = hashlib.sha256(file.read(1 << 20)).hexdigest() + " %d" % size
        except OSError as error:
            found[name] = errno.errorcode[error.errno]
with open("/share/found.json", "w") as file:
    json.dump(found, file)
"""


def mutants(header: bytes, used: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Lower files that differ from one in its header of ``used`` octets; names say how."""
    for at in range(used):
        for value in sorted({header[at] ^ 1, header[at] ^ 0x80, 0, 0xFF} - {header[at]}):
            yield f"at {at} {value:#04x}", header[:at] + bytes([value]) + header[at + 1 :]
    for n in range(100):
        at, length = chance.randrange(26, used), chance.randrange(1, 9)
        yield f"cut {n} {at} {length}", header[:at] + header[at + length :] + bytes(length)
        octets = chance.randbytes(length)
        yield f"put {n} {at} {octets.hex()}", (header[:at] + octets + header[at:])[: len(header)]
    for length in (0, 1, 8, 19, 20, 25, 26, used - 1, used, 4095, 4096, 8191, 8192, 8193, len(header) - 1):
        yield f"length {length}", header[:length]


def test_headers(guest: Guest, tmp_path: Path) -> None:
    chance = random.Random(1)
    lower = tmp_path / "lower"
    lower.mkdir()
    for base in BASES:
        place = tmp_path / base.name
        place.mkdir()
        words = options.parse([base.new_options]).tree_options()
        with open_tree(place, base.passphrases, words) as tree:
            User(tree).create("base", CONTENTS)
        data = (place / "base").read_bytes()
        used = len(data[:8192].rstrip(b"\0"))
        for name, mutant in mutants(data, used, chance):
            (lower / f"{base.name} {name}").write_bytes(mutant)
    golden.pack(lower, guest.share / "mutants.tar")
    both = BASES[1]
    guest.run(LOOK.format(keys=both.add_keys, options=both.options), timeout=600).checked()
    kernel = json.loads((guest.share / "found.json").read_text())
    words = options.parse([both.new_options]).tree_options()
    with open_tree(lower, both.passphrases, words) as tree:
        ours = {name: look(tree, name) for name in kernel}
    Path("/tmp/relia-accept.json").write_text(json.dumps({n: [kernel[n], ours[n]] for n in kernel}))
    different = {n: (kernel[n], ours[n]) for n in kernel if kernel[n] != ours[n]}
    assert not different


def look(tree: Tree, name: str) -> str:
    try:
        with User(tree).file(name) as file:
            data = bytearray(min(file.size, 1 << 20))
            data = data[: file.read_into(memoryview(data), 0, len(data))]
            return hashlib.sha256(data).hexdigest() + f" {file.size}"
    except (FusecryptError, OSError) as error:
        return errno.errorcode[error.errno or 0]
