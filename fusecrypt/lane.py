"""The express lane of a mount, and what it shares with Python: wrappers of native/lane.c.

What the lane is and does stands in native/fusecrypt.h.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Sequence
from typing import NamedTuple

from fusecrypt._native import ffi, lib
from fusecrypt.lanefile import LaneFile
from fusecrypt.native import KEY_BYTES, Names, Secret, check, octets_of


class Storage(enum.Enum):
    """Where a lower tree lies: whether its file system may have to wait, and what for."""

    MEMORY = enum.auto()
    DISK = enum.auto()
    NETWORK = enum.auto()
    """Or another daemon: it may hang, asks its server again and again, and may tell only at close that a
    write failed."""


_SLOW_NS = {Storage.MEMORY: -1, Storage.DISK: 2_000_000, Storage.NETWORK: 0}
"""Fast disks take less for what is not in memory; and less than waking a thread would cost."""


class Hole(NamedTuple):
    """Where the FEK stands in a header, encrypted: ``n`` octets from ``at``; its FEKEK, if it is known."""

    at: int
    n: int
    fekek: Secret | None


class OpenRecord(NamedTuple):
    """What the lane had open: a descriptor that is the caller's now, and how often a file is open."""

    fd: int
    opens: int
    writable: bool
    born: int | None


class Record(NamedTuple):
    """An object with one link that the kernel refers to; see fc_record in native/fusecrypt.h."""

    number: int
    dev: int
    ino: int
    parent: int
    lookups: int
    shown: int
    stamp: tuple[int, int, int] | None
    kind: int
    generation: int
    pin: int
    name: bytes
    open: OpenRecord | None = None


LANE_IDLE: int = lib.FC_LANE_IDLE
LANE_REQUEST: int = lib.FC_LANE_REQUEST
LANE_GONE: int = lib.FC_LANE_GONE
LANE_BUSY: int = lib.FC_LANE_BUSY
LANE_ASIDE: int = lib.FC_LANE_ASIDE
_NAME_ROOM = 256


class Aside:
    """A request that was put aside since it would wait for a disk or a network."""

    __slots__ = ("_aside",)

    def __init__(self, aside: ffi.CData) -> None:
        self._aside = aside

    def fetch(self) -> None:
        """Wait until what it needs is in memory, or cannot be had. For any thread; nothing else is used."""
        lib.fc_aside_fetch(self._aside)


class Lane:
    """The express lane of a mount: answers plain FUSE requests without Python (native/fusecrypt.h says how).

    With ``simple`` unset answers are the caller's. ``names`` spell a name below, in that order, none where
    names are plain; ``valid`` is how many seconds the kernel may keep names and attributes. Belongs to one
    thread.
    """

    def __init__(
        self,
        names: Sequence[Names],
        *,
        simple: bool,
        read_only: bool,
        quiet: bool,
        owns_sizes: bool,
        shared: bool,
        storage: Storage,
        valid: float,
    ) -> None:
        self._names = tuple(names)
        first, *others = [each._names for each in names] or [ffi.NULL]
        self._other_names = ffi.new("fc_names *[]", others)
        config = {
            "names": first,
            "other_names": self._other_names,
            "other_count": len(others),
            "simple": simple,
            "read_only": read_only,
            "quiet": quiet,
            "owns_sizes": owns_sizes,
            "shared": shared,
            "remote": storage is Storage.NETWORK,
            "slow_ns": _SLOW_NS[storage],
            "valid_ns": int(valid * 1e9),
        }
        out = ffi.new("fc_lane **")
        check(lib.fc_lane_new(ffi.new("fc_lane_config *", config), out))
        self._lane = ffi.gc(out[0], lib.fc_lane_free)
        self._files: dict[int, LaneFile] = {}

    @classmethod
    def for_forms(cls) -> Lane:
        """One without a mount, for its memory of forms of headers alone: files are copied by them."""
        return cls(
            (),
            simple=True,
            read_only=True,
            quiet=False,
            owns_sizes=False,
            shared=False,
            storage=Storage.MEMORY,
            valid=0,
        )

    def attach(self, fd: int) -> None:
        """Take requests from this device, which must not block, in place of libfuse."""
        check(lib.fc_lane_attach(self._lane, fd))

    def run(self, spins: int, sleep_ms: int, budget: int) -> int:
        """Answer up to ``budget`` requests, looking ``spins`` times for the next one, and sleeping for it up
        to ``sleep_ms``.

        LANE_REQUEST: one waits for pyfuse3; LANE_ASIDE: one is to be fetched; LANE_GONE: the mount is no
        more; LANE_IDLE: there is none now; LANE_BUSY: the budget is used up. Raises OSError.
        """
        return check(lib.fc_lane_run(self._lane, spins, sleep_ms, budget))

    def aside(self) -> Aside:
        """After LANE_ASIDE: the request that needs what is not in memory."""
        return Aside(lib.fc_lane_aside(self._lane))

    def resume(self, aside: Aside) -> None:
        """It was fetched: the next run answers it."""
        lib.fc_lane_resume(self._lane, aside._aside)

    def give_up(self) -> None:
        """Answer those that were put aside whose callers are being killed: they wait for nothing any more."""
        lib.fc_lane_give_up(self._lane)

    @property
    def answered(self) -> int:
        """Requests that were answered without Python so far."""
        return int(lib.fc_lane_answered(self._lane))

    def __len__(self) -> int:
        """Objects that only the lane knows of."""
        return int(lib.fc_lane_count(self._lane))

    def mark(self, number: int, dev: int, ino: int, kind: int, parent: int = 0, name: bytes = b"") -> None:
        """The caller has an object of its own with this number, found by this lower name in that parent (if
        there is a name); also where its link is another one now."""
        check(lib.fc_lane_mark(self._lane, number, dev, ino, kind, parent, name))

    def unmark(self, number: int) -> None:
        lib.fc_lane_unmark(self._lane, number)

    def directory(self, number: int, fd: int) -> None:
        """The descriptor of one of the caller's directories; -1: none any more."""
        lib.fc_lane_directory(self._lane, number, fd)

    def file(self, number: int, file: LaneFile | None) -> None:
        """The open file behind one of the caller's objects."""
        if file is None:
            lib.fc_lane_file(self._lane, number, ffi.NULL)
            self._files.pop(number, None)
        else:
            lib.fc_lane_file(self._lane, number, file._file)
            self._files[number] = file  # lives as long as the lane knows it

    def take(self, number: int) -> Record | None:
        """Make one of the lane's objects the caller's; None if it has no such object."""
        record = ffi.new("fc_record *")
        name = ffi.new("char[]", _NAME_ROOM)
        if lib.fc_lane_take(self._lane, number, record, name) < 0:
            return None
        r = record[0]
        stamp = None if r.stamp_size < 0 else (r.stamp_mtime, r.stamp_ctime, r.stamp_size)
        born = None if r.born_ns < 0 else r.born_ns
        opened = None if r.fd < 0 else OpenRecord(r.fd, r.opens, bool(r.writable), born)
        return Record(
            r.number, r.dev, r.ino, r.parent, r.lookups, r.shown, stamp, r.kind, r.generation, r.pin,
            ffi.string(name), opened,
        )  # fmt: skip

    def find(self, dev: int, ino: int) -> int | None:
        """The number of the lane's object with this identity."""
        return lib.fc_lane_find(self._lane, dev, ino) or None

    def give(self, record: Record) -> bool:
        """Make one of the caller's objects the lane's; False if there is no memory for it."""
        mtime, ctime, size = record.stamp or (0, 0, -1)
        fields = (
            record.number, record.dev, record.ino, record.parent, record.lookups, record.shown, mtime, ctime,
            size, record.kind, record.generation, record.pin, -1,
        )  # fmt: skip
        return bool(lib.fc_lane_give(self._lane, (fields,), record.name) == 0)

    def open(self, number: int, file: LaneFile, by_root: bool) -> int:
        """A handle (above 0) through which the kernel reads and writes a file that ``file()`` named."""
        return check(lib.fc_lane_open(self._lane, number, file._file, by_root))

    def handle(self, handle: int) -> tuple[int, bool]:
        """The number of the object behind a handle (0: there is none), and its ``by_root``."""
        by_root = ffi.new("int *")
        return int(lib.fc_lane_handle(self._lane, handle, by_root)), bool(by_root[0])

    def form(self, octets: bytes, holes: Sequence[Hole], which: int, code: int, key_bytes: int) -> bool:
        """Tell of a form of header with those octets, but for size, marker and holes (in their order); files
        are opened by the FEK in hole ``which``, of that cipher. False if there is no place for it."""
        places = ffi.new(
            "fc_hole[]",
            [(h.at, h.n, ffi.NULL if h.fekek is None else octets_of(h.fekek, KEY_BYTES)) for h in holes],
        )
        result = lib.fc_lane_form(self._lane, octets, len(octets), places, len(holes), which, code, key_bytes)
        if result == -errno.ENOSPC:
            return False
        check(result)
        return True

    def may_create(self) -> None:
        """Let the lane make files, with headers of the form that was told first."""
        lib.fc_lane_may_create(self._lane)

    def close(self, handle: int) -> None:
        lib.fc_lane_close(self._lane, handle)

    def listing_fd(self, handle: int) -> int:
        """The descriptor behind a directory handle of the lane's own. Raises OSError (EBADF)."""
        return check(lib.fc_lane_listing_fd(self._lane, handle))


def lane_received() -> int:
    """How many requests pyfuse3 fetched from the lane; none: it is linked in a way that cannot be served."""
    return int(lib.fc_lane_received())
