"""The forms of a tree's headers, told to the express lane: what a header is but for size, marker and FEK.

A tree has few: the one of its new files, and those of files that were made with other keys or ciphers. A
file of a known form is opened by the lane itself.
"""

from __future__ import annotations

from contextlib import suppress

from fusecrypt.errors import FormatError
from fusecrypt.lane import Hole, Lane
from fusecrypt.native import FileKey
from fusecrypt.ondisk.header import MINIMUM_REGION, Header
from fusecrypt.ondisk.packets import PassphrasePacket
from fusecrypt.tree.headers import Found, new_header
from fusecrypt.tree.policy import Policy

_MOST = 64
"""Forms that are tried on the lane, which takes fewer: a hostile tree can have one for every file."""


class Forms:
    """What a lane has been told."""

    def __init__(self, lane: Lane, policy: Policy) -> None:
        """Tell it the form of new files, which it then makes itself, unless their headers are attributes or
        others may write the tree."""
        self._lane = lane
        self._policy = policy
        self._told: set[tuple[object, ...]] = set()
        if policy.simple and not policy.xattr_metadata:
            key = FileKey.random(policy.cipher.code, policy.cipher.key_bytes)
            self._tell(new_header(policy, key))
            key.close()
            if not (policy.read_only or policy.shared):
                lane.may_create()

    def learn(self, found: Found | None) -> bool:
        """Tell it the form of a header that a file was opened with here, if it is one that it could read;
        returns whether it is another one than those that it was told."""
        if found is None or found.in_xattr or found.header.region != MINIMUM_REGION:
            return False
        with suppress(FormatError):  # in our form it would not fit a header
            return found.octets.startswith(found.header.encode()) and self._tell(found.header)
        return False

    def _tell(self, header: Header) -> bool:
        packets = [packet for packet in header.packets if isinstance(packet, PassphrasePacket)]
        form = (header.flags, *((p.cipher, p.signature, p.salt) for p in packets))
        if len(packets) != len(header.packets) or form in self._told or len(self._told) >= _MOST:
            return False
        tokens = [self._policy.token(packet.signature) for packet in packets]
        known = [i for i, token in enumerate(tokens) if token is not None]
        if not known:
            return False
        self._told.add(form)
        holes = [
            Hole(at, packet.cipher.wrapped_fek_size, None if token is None else token.key)
            for at, packet, token in zip(header.fek_places(), packets, tokens, strict=True)
        ]
        # The last packet is tried first and its cipher holds, as in headers.unlock().
        cipher = packets[known[-1]].cipher
        return self._lane.form(header.encode(), holes, known[-1], cipher.code, cipher.key_bytes)
