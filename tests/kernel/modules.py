"""Kernel modules out of a kernel package, in an order in which they can be inserted."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

from tests.kernel import packages
from tests.kernel.errors import HarnessError

# What the guest needs, however a kernel divides it between itself and its modules. All of a name's
# ciphers are inserted beforehand, since the guest has no modprobe that could fetch them later.
WANTED = (
    "virtio_pci",
    "virtio_blk",
    "9pnet_virtio",
    "9p",
    "crc32c_generic",
    "ext4",
    "ecb",
    "cbc",
    "md5",
    "aes_generic",
    "des_generic",
    "blowfish_generic",
    "cast5_generic",
    "cast6_generic",
    "twofish_generic",
    "ecryptfs",
)
_SEARCHED = re.compile(
    r"\./(usr/)?lib/modules/[^/]+/(kernel/(crypto|fs|lib|net/9p|drivers/(virtio|block))/.*\.ko(\.xz)?"
    r"|modules\.builtin)$"
)
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def read_kernel(package: Path) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The kernel image, and the modules as (name, contents) in the order of insertion."""
    image, builtin, files = b"", "", {}
    with packages.opened(package) as archive:
        for member in archive:
            boot = member.name.startswith("./boot/vmlinuz-")
            if member.isfile() and (boot or _SEARCHED.match(member.name)):
                stream = archive.extractfile(member)
                assert stream
                if boot:
                    image = stream.read()
                elif member.name.endswith("modules.builtin"):
                    builtin = stream.read().decode()
                else:
                    files[_module_name(member.name)] = (member.name, stream.read())
    if not image:
        raise HarnessError(f"{package.name} holds no kernel image")
    inside = {_module_name(line) for line in builtin.split()}
    order: dict[str, bytes] = {}
    for name in WANTED:
        _insert(name, files, inside, order)
    return image, list(order.items())


def _insert(
    name: str, files: dict[str, tuple[str, bytes]], inside: set[str], order: dict[str, bytes]
) -> None:
    if name in order or (name not in files and name in inside):
        return
    if name not in files:
        raise HarnessError(f"the kernel package has no module {name}")
    path, data = files[name]
    if path.endswith(".xz"):
        data = lzma.decompress(data)
    found = _DEPENDS.search(data)
    for needed in found.group(1).decode().split(",") if found else []:
        if needed:
            _insert(needed.replace("-", "_"), files, inside, order)
    order[name] = data


def _module_name(path: str) -> str:
    return Path(path).name.split(".")[0].replace("-", "_")
