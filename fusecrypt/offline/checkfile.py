"""What is wrong with one lower file, its data read from beginning to end.

eCryptfs has no integrity, but not everything can be octets of a lower file: headers have one form, encrypted
data holds no runs of zeros, and the last extent is filled with zeros before it is encrypted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fusecrypt.native import FileKey
from fusecrypt.offline.findings import Fault, Kind
from fusecrypt.offline.health import WELL, State, examine
from fusecrypt.ondisk import header as ondisk
from fusecrypt.ondisk.extents import EXTENT, lower_size, round_up
from fusecrypt.tree.filling import filling
from fusecrypt.tree.headers import Found, read_xattr, unlock
from fusecrypt.tree.policy import Policy

_PIECE = 1 << 20
_ZEROS = bytes(64)
"""A run that ciphertext does not have: chance would take 2^512 octets for one."""
_BIG_PAGES = 65536 - EXTENT
"""Octets by which kernels with pages of 64 KiB make lower files longer than others do."""


class Trouble(NamedTuple):
    """A kind of finding and its detail."""

    kind: Kind
    detail: str = ""


def check_file(
    fd: int, policy: Policy, keys: bool, expect_xattr: bool, notice: Callable[[int], None]
) -> tuple[list[Trouble], Found | None]:
    """All that is wrong with an open lower file, and its header if that is usable. Raises OSError.

    Without ``keys`` the policy's are not missed. ``expect_xattr``: the tree keeps its headers in attributes.
    ``notice`` is called after each piece of the data, with the upper offset of its end.
    """
    health, found = examine(fd, policy)
    if found is None or health.state is State.BAD_HEADER:
        return [_without_header(fd, health.state, health.detail, expect_xattr)], found
    troubles = list(_header(fd, found))
    if health.state is State.UNKNOWN_KEY:
        troubles += [Trouble(health.state, health.detail)] if keys else []
    elif health.state is not State.GOOD:
        troubles.append(_by_length(fd, found, health.state, health.detail))
    hit = list(_zeroed(fd, found, notice))
    if hit:
        troubles.append(Trouble(Fault.ZEROED, _extents(hit)))
    if keys and _opens(found, policy):
        if not _agree(found, policy):
            troubles.append(Trouble(Fault.KEYS_DISAGREE, "its packets hold different file keys"))
        elif health.state in WELL and found.header.size // EXTENT not in hit:
            troubles += _tail(fd, found, policy)
    return troubles, found


def _without_header(fd: int, state: State, detail: str, expect_xattr: bool) -> Trouble:
    if read_xattr(fd) is not None:
        return Trouble(Fault.XATTR, detail if state is State.BAD_HEADER else "it holds no header")
    if state is State.FOREIGN and expect_xattr and os.fstat(fd).st_size % EXTENT == 0:
        return Trouble(Fault.XATTR, "it is missing")
    if state is State.FOREIGN:
        return Trouble(state, "there is no header in it")
    return Trouble(state, detail)


def _by_length(fd: int, found: Found, state: State, detail: str) -> Trouble:
    if state is State.LONGER:
        extra = os.fstat(fd).st_size - lower_size(found.header.size, found.data_offset)
        if extra > _BIG_PAGES:
            return Trouble(Fault.SIZE, f"it says {found.header.size}, {extra} octets more are there")
    return Trouble(state, detail)


def _header(fd: int, found: Found) -> Iterator[Trouble]:
    """Octets of the header that no eCryptfs writes so, although it opens."""
    header, octets = found.header, found.octets
    if header.version != ondisk.VERSION:
        yield Trouble(Fault.UNCOMMON_HEADER, f"version {header.version}")
        return
    wanted = ondisk.FLAG_ENCRYPTED | (ondisk.FLAG_XATTR if found.in_xattr else 0)
    if header.flags & ~ondisk.FLAG_NAMES != wanted:
        yield Trouble(Fault.HEADER_CHANGED, f"its flags are {header.flags:#x}")
    expected = header.encode()
    if not found.in_xattr:
        region = min(found.data_offset, _PIECE)
        octets += os.pread(fd, max(0, region - len(octets)), len(octets))
        expected = expected.ljust(len(octets), b"\0")
    if octets != expected:
        yield Trouble(Fault.HEADER_CHANGED, f"at octet {_first_difference(octets, expected)}")


def _first_difference(a: bytes, b: bytes) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _zeroed(fd: int, found: Found, notice: Callable[[int], None]) -> Iterator[int]:
    """The extents with a run of zeros in them."""
    start = found.data_offset
    end = min(os.fstat(fd).st_size, start + round_up(found.header.size))
    for at in range(start, end, _PIECE):
        piece = os.pread(fd, min(_PIECE, end - at), at)
        hit = piece.find(_ZEROS)
        while hit >= 0:
            within = hit // EXTENT
            yield (at - start) // EXTENT + within
            hit = piece.find(_ZEROS, (within + 1) * EXTENT)
        notice(at - start + len(piece))


def _extents(numbers: list[int]) -> str:
    """``extents 3-5, 9``, of many the first."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:8]]
    return f"extents {', '.join(shown)}" + (" and more" if len(runs) > len(shown) else "")


def _opens(found: Found, policy: Policy) -> bool:
    return any(policy.token(packet.signature) for packet in found.header.passphrase_packets)


def _agree(found: Found, policy: Policy) -> bool:
    """Whether all packets that can be opened give the same file key, as far as its IVs tell."""
    ivs = set()
    for packet in found.header.passphrase_packets:
        token = policy.token(packet.signature)
        if token is not None:
            cipher = packet.cipher
            key = FileKey.unwrap(cipher.code, cipher.key_bytes, token.key, packet.wrapped_fek)
            ivs.add((cipher, key.extent_iv(0)))
            key.close()
    return len(ivs) == 1


def _tail(fd: int, found: Found, policy: Policy) -> list[Trouble]:
    """A wrong key, size or last extent shows in what follows the end of the file."""
    if found.header.size % EXTENT == 0:
        return []
    if any(filling(fd, found, unlock(found.header, policy))):
        return [Trouble(Fault.TAIL, "its last extent, size field or encrypted key is damaged")]
    return []
