"""What is wrong with a lower file, as far as the file itself and the keys at hand tell."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

from fusecrypt.errors import DamagedError, FormatError, NotEcryptfsError
from fusecrypt.ondisk.extents import lower_size, upper_capacity
from fusecrypt.ondisk.header import MINIMUM_REGION
from fusecrypt.tree.headers import Found, find_header
from fusecrypt.tree.policy import Policy


class State(Enum):
    """The kinds of health. What is not in WELL cannot be read, or not to its end."""

    GOOD = "good"
    EMPTY = "empty lower file"
    LONGER = "longer than its size field says"
    FOREIGN = "no eCryptfs file"
    BAD_HEADER = "damaged header"
    CUT_IN_HEADER = "cut in the header"
    CUT_IN_DATA = "cut in the data"
    UNKNOWN_KEY = "unknown key"


WELL = frozenset((State.GOOD, State.EMPTY, State.LONGER))


@dataclass(frozen=True)
class Health:
    """One finding. ``detail`` is a sentence's end, for people."""

    state: State
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.state.value}: {self.detail}" if self.detail else self.state.value


def examine(fd: int, policy: Policy) -> tuple[Health, Found | None]:
    """The health of an open lower file, and its header if that is usable. Raises OSError."""
    lower = os.fstat(fd).st_size
    try:
        found = find_header(fd)
    except NotEcryptfsError:
        if lower == 0:
            return Health(State.EMPTY, "it reads as empty"), None
        return Health(State.FOREIGN), None
    except FormatError as error:
        return Health(State.BAD_HEADER, str(error)), None
    try:
        offset = found.data_offset
    except DamagedError as error:
        return Health(State.BAD_HEADER, str(error)), found
    return _by_size(found.header.size, lower, offset) or _by_key(found, policy), found


def _by_size(size: int, lower: int, offset: int) -> Health | None:
    if lower < offset:
        return Health(State.CUT_IN_HEADER, f"{lower} of {max(offset, MINIMUM_REGION)} octets are there")
    capacity, whole = upper_capacity(lower, offset), lower_size(size, offset)
    if capacity < size:
        return Health(State.CUT_IN_DATA, f"{capacity} of {size} octets are there")
    if lower > whole:
        return Health(State.LONGER, f"by {lower - whole} octets")
    return None


def _by_key(found: Found, policy: Policy) -> Health:
    packets = found.header.packets
    if any(policy.token(packet.signature) for packet in found.header.passphrase_packets):
        return Health(State.GOOD)
    wanted = ", ".join(packet.signature.hex() for packet in packets) or "no key at all"
    return Health(State.UNKNOWN_KEY, f"it is encrypted for {wanted}")
