"""An open file that the express lane of a mount (fusecrypt/lane.py) and Python share."""

from __future__ import annotations

from fusecrypt._native import ffi
from fusecrypt.native import FileKey


class LaneFile:
    """What an open file shares with the lane: its key, lower descriptor and size, in native memory.

    ``size`` is the upper size in octets. The lane reads and writes the file itself while ``direct`` is set
    and stands back while ``busy``. ``born`` is the modification time (ns) of a new file as the kernel was
    told it.
    """

    __slots__ = ("_file", "_key", "_lower")

    def __init__(self) -> None:
        self._file = ffi.new("fc_file *", {"born_ns": -1})
        self._lower = self._file.lower
        self._key: FileKey | None = None

    def use(self, key: FileKey, data_offset: int, marker: bytes, shared: bool) -> None:
        """Set the key and where extent 0 begins. ``marker`` are the 8 octets behind the size in the header,
        to see whether it is still the same where others write the file too (``shared``)."""
        self._key = key
        self._file.key = key._key
        self._lower.data_offset = data_offset
        self._file.marker = marker
        self._file.shared = shared

    def close(self) -> None:
        """The lane must no longer know of it."""
        self._file.direct = False
        self._file.key = ffi.NULL
        self._key = None

    @property
    def fd(self) -> int:
        return int(self._lower.fd)

    @fd.setter
    def fd(self, fd: int) -> None:
        self._lower.fd = fd

    @property
    def size(self) -> int:
        return int(self._lower.size)

    @size.setter
    def size(self, size: int) -> None:
        self._lower.size = size

    @property
    def direct(self) -> bool:
        return bool(self._file.direct)

    @direct.setter
    def direct(self, direct: bool) -> None:
        self._file.direct = direct

    @property
    def busy(self) -> bool:
        return bool(self._file.busy)

    @busy.setter
    def busy(self, busy: bool) -> None:
        self._file.busy = busy

    @property
    def born(self) -> int | None:
        born = int(self._file.born_ns)
        return None if born < 0 else born

    @born.setter
    def born(self, mtime_ns: int | None) -> None:
        self._file.born_ns = -1 if mtime_ns is None else mtime_ns
