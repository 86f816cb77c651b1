"""Lower files as they are: what every open file stands on, and what passthrough shows."""

from __future__ import annotations

import os

from fusecrypt.lanefile import LaneFile


def read_lower(fd: int, buffer: memoryview, offset: int, nowait: bool) -> int:
    """Fill ``buffer`` from a lower file; returns octets, fewer only at the end of the file.

    With ``nowait`` BlockingIOError also where only a part is in memory: a short read would be taken for
    the end. Raises OSError.
    """
    flags = os.RWF_NOWAIT if nowait else 0
    done = 0
    while done < len(buffer):
        got = os.preadv(fd, [buffer[done:]], offset + done, flags)
        if got == 0:
            break
        done += got
    return done


class LowerFile:
    """The lower descriptors of an open file."""

    def __init__(self, fd: int, writable: bool) -> None:
        self.lane = LaneFile()
        self.fd = fd
        self.writable = writable
        self._retired: list[int] = []

    # What the lane has to know is kept where it sees it.

    @property
    def fd(self) -> int:
        return self.lane.fd

    @fd.setter
    def fd(self, fd: int) -> None:
        self.lane.fd = fd

    @property
    def busy(self) -> bool:
        return self.lane.busy

    @busy.setter
    def busy(self, busy: bool) -> None:
        self.lane.busy = busy

    @property
    def born(self) -> int | None:
        return self.lane.born

    @born.setter
    def born(self, mtime_ns: int | None) -> None:
        self.lane.born = mtime_ns

    def adopt(self, fd: int) -> None:
        # A read in another thread may still use the old descriptor: it lives until close.
        self._retired.append(self.fd)
        self.fd = fd
        self.writable = True

    def close(self) -> None:
        self.lane.close()
        for fd in (self.fd, *self._retired):
            os.close(fd)
        self.fd = -1
        self._retired.clear()


class RawFile(LowerFile):
    """A lower file shown as it is."""

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def read_into(self, buffer: memoryview, offset: int, n: int, nowait: bool = False) -> int:
        return read_lower(self.fd, buffer[:n], offset, nowait)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self.fd, view, offset)
            offset += written
            view = view[written:]

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)
