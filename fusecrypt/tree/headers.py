"""Find a lower file's header, in its contents or in its attribute, and open it with the tree's keys."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass

from fusecrypt.errors import DamagedError, FormatError, KeyNotFoundError
from fusecrypt.native import FileKey
from fusecrypt.ondisk import header as ondisk
from fusecrypt.ondisk.header import Header
from fusecrypt.ondisk.packets import Packet, PassphrasePacket
from fusecrypt.tree.policy import Policy

_NO_ATTRIBUTE = (errno.ENODATA, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Found:
    """A header, where it stands, and the octets it was parsed from."""

    header: Header
    in_xattr: bool
    octets: bytes

    @property
    def data_offset(self) -> int:
        """Where extent 0 starts in the lower file. Raises DamagedError for a header region below 8192
        octets, which the kernel would follow to the wrong place."""
        if self.in_xattr:
            return 0
        if self.header.region < ondisk.MINIMUM_REGION:
            raise DamagedError(
                f"the header claims a region of {self.header.region} octets; it cannot be under 8192",
                "the header is damaged: restore the file from a backup",
            )
        return self.header.region


def read_xattr(path: int | str) -> bytes | None:
    """The value of ``user.ecryptfs`` of an open file or path (symlinks not followed), or None."""
    try:
        if isinstance(path, int):
            return os.getxattr(path, ondisk.XATTR_NAME)
        return os.getxattr(path, ondisk.XATTR_NAME, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTE:
            return None
        raise


def find_header(fd: int) -> Found:
    """The header of an open lower file: its contents are looked at first, then its attribute.

    Raises NotEcryptfsError if there is none, FormatError if the one there is unusable, OSError.
    """
    return header_in(os.pread(fd, ondisk.READ_SIZE, 0), lambda: read_xattr(fd))


def header_in(head: bytes, attribute: Callable[[], bytes | None]) -> Found:
    """The header in the first 4096 octets of a lower file, or else in its attribute, if it has one.

    Raises NotEcryptfsError if there is none, FormatError if the one there is unusable, and what reading the
    attribute raises.
    """
    try:
        return Found(ondisk.parse_header(head), False, head)
    except FormatError:
        value = attribute()
        if value is None:
            raise
    return Found(ondisk.parse_header(value), True, value)


def unlock(header: Header, policy: Policy) -> FileKey:
    """The file key of a header. Raises KeyNotFoundError naming the signatures that would open it.

    The last packet is tried first and its cipher holds, as in the kernel.
    """
    for packet in reversed(header.passphrase_packets):
        token = policy.token(packet.signature)
        if token is not None:
            cipher = packet.cipher
            return FileKey.unwrap(cipher.code, cipher.key_bytes, token.key, packet.wrapped_fek)
    wanted = ", ".join(map(_name_key, header.packets)) or "no key at all"
    raise KeyNotFoundError(f"the file is encrypted for {wanted}", "give the passphrase of one of these keys")


def _name_key(packet: Packet) -> str:
    kind = "" if isinstance(packet, PassphrasePacket) else "ecryptfsd's public key "
    return kind + packet.signature.hex()


def new_header(policy: Policy, key: FileKey, size: int = 0, marker: int | None = None) -> Header:
    """The header of a new file with ``key``: one packet for each content token of the policy."""
    packets = tuple(
        PassphrasePacket(
            policy.cipher, key.wrap(token.key, policy.cipher.wrapped_fek_size), token.signature, token.salt
        )
        for token in policy.content
    )
    flags = ondisk.FLAG_ENCRYPTED
    if policy.xattr_metadata:
        flags |= ondisk.FLAG_XATTR
    if policy.names is not None:
        flags |= ondisk.FLAG_NAMES
    return Header(size, secrets.randbits(32) if marker is None else marker, packets, flags)


def write_header(fd: int, header: Header) -> None:
    """Store a new header, in the attribute or in the contents, as its flags say. Raises OSError: EEXIST if
    there is such an attribute."""
    if header.flags & ondisk.FLAG_XATTR:
        _set_attribute(fd, header.encode(), os.XATTR_CREATE)
        return
    region = header.encode_region()
    if os.pwrite(fd, region, 0) != len(region):
        raise OSError(errno.ENOSPC, "the header could not be written whole")


def write_size(fd: int, found: Found, size: int) -> None:
    """Change the size field, the only part of a header that ever changes. Raises OSError."""
    field = ondisk.encode_size(size)
    if not found.in_xattr:
        if os.pwrite(fd, field, 0) != len(field):
            raise OSError(errno.EIO, "the size could not be written whole")
        return
    _set_attribute(fd, field + found.octets[len(field) :])


def _set_attribute(fd: int, value: bytes, flags: int = 0) -> None:
    """Store the header of a file that is open for writing. Raises OSError.

    Attributes need write permission at the time of the call, also through a descriptor: a file made
    read-only while it was open, or created so, gives it to its owner for the moment.
    """
    try:
        os.setxattr(fd, ondisk.XATTR_NAME, value, flags)
    except PermissionError:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & stat.S_IWUSR:
            raise
        os.fchmod(fd, mode | stat.S_IWUSR)
        try:
            os.setxattr(fd, ondisk.XATTR_NAME, value, flags)
        finally:
            os.fchmod(fd, mode)
