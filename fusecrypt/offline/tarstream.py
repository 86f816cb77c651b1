"""A tree as a tar archive in the pax format, written while it is read: names and attributes of any form,
times to the nanosecond, ACLs as text and, like all attributes, as they are."""

from __future__ import annotations

import os
import stat
import tarfile
from bisect import bisect_left
from contextlib import closing, suppress
from typing import BinaryIO

from fusecrypt.errors import FusecryptError
from fusecrypt.offline.acl import acl_text
from fusecrypt.offline.items import Enter, Item, Leave, Problem, Tally, problem_of
from fusecrypt.offline.paxheader import Member, padding
from fusecrypt.offline.restore import CAPABILITY, NO_CAPABILITY, NOT_ASKED, SET_ID, read_xattrs
from fusecrypt.offline.rules import DEVICE, PARTIAL, Judge, Rules, UnfinishedError
from fusecrypt.offline.show import PIECE
from fusecrypt.offline.walk import Event, LinkTable, Source, Tell, Walk, Xattrs
from fusecrypt.ondisk.extents import EXTENT
from fusecrypt.tree.files import OpenFile

_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}
_ACLS = {b"system.posix_acl_access": b"SCHILY.acl.access", b"system.posix_acl_default": b"SCHILY.acl.default"}


class TarStream:
    """One archive of what a source has. The stream is left without an end if a problem ends the run."""

    def __init__(self, source: Source, out: BinaryIO, rules: Rules, tell: Tell, tally: Tally) -> None:
        self._source = source
        self._out = out
        self._rules = rules
        self._judge = Judge(rules, tell)
        self._tally = tally
        self._links = LinkTable()
        self._buffer = bytearray(PIECE)
        self._above: list[tuple[Item, bool]] = []
        """Directories on the way to where the walk is, and whether they are in the archive."""

    def run(self) -> None:
        """Write it all. Raises UnfinishedError, OSError of the stream."""
        with closing(Walk(self._source, self._rules.selection).events()) as events:
            for event in events:
                self._take(event)
        self._out.write(bytes(2 * tarfile.BLOCKSIZE))
        self._out.flush()

    def _take(self, event: Event) -> None:
        if isinstance(event, Problem):
            self._judge.problem(event)
        elif isinstance(event, Enter):
            self._above.append((event.item, not event.item.path))
            if event.wanted:
                self._add_directories()
        elif isinstance(event, Leave):
            self._above.pop()
        else:
            self._add_directories()
            self._add(event)

    def _add_directories(self) -> None:
        for depth, (item, there) in enumerate(self._above):
            if not there:
                self._above[depth] = item, True
                self._add(item)

    def _add(self, item: Item) -> None:
        first = self._links.first(item)
        if item.is_device and not self._rules.special:
            self._judge.tell(Problem(item.path, DEVICE, 0))
        elif item.kind not in _TYPES:
            self._judge.problem(Problem(item.path, "a socket, which an archive cannot hold"))
        elif first is not None:
            self._write_member(item, tarfile.LNKTYPE, {}, first)
            self._done(item)
        elif item.kind == stat.S_IFREG:
            self._add_file(item)
        else:
            self._add_other(item)

    def _done(self, item: Item) -> None:
        self._links.note(item)
        self._tally.objects += item.kind != stat.S_IFDIR

    def _add_other(self, item: Item) -> None:
        try:
            records = self._records(item, self._source.xattrs(item))
            link = self._source.readlink(item) if item.kind == stat.S_IFLNK else b""
        except (OSError, FusecryptError) as error:
            self._judge.problem(problem_of(item.path, error))
            return
        self._write_member(item, _TYPES[item.kind], records, link)
        self._done(item)

    def _write_member(
        self, item: Item, type_: bytes, records: dict[bytes, bytes], link: bytes = b"", size: int = 0
    ) -> None:
        mode = stat.S_IMODE(item.stat.mode)
        if mode & SET_ID and item.kind != stat.S_IFDIR and not self._rules.special:
            mode &= ~SET_ID
            self._judge.tell(Problem(item.path, NOT_ASKED, 0))
        self._out.write(Member(item.path, type_, item.stat, mode, records, size, link).header())

    def _add_file(self, item: Item) -> None:
        try:
            file = self._source.open(item)
        except (OSError, FusecryptError) as error:
            self._judge.problem(problem_of(item.path, error))
            return
        try:
            self._add_contents(item, file)
        finally:
            self._source.close_file(item, file)

    def _add_contents(self, item: Item, file: OpenFile) -> None:
        """Write a file; one that ends too early goes under another name, as far as it goes."""
        cut, size = None, file.size
        try:
            records = self._records(item, read_xattrs(file.fd))
            _check_readable(file, size)
        except OSError as error:
            cut = self._source.explain(item.path, file, error)
            size = _readable_size(file, size) if self._rules.keep_going else 0
        if cut is not None:
            if size == 0:
                self._judge.problem(cut)
                return
            item = item._replace(path=item.path + PARTIAL)
            text = f"the {size} octets that can be read are in {os.fsdecode(item.path)}"
            self._judge.problem(cut._replace(reason=f"{cut.reason}; {text}"))
        self._write_member(item, tarfile.REGTYPE, records, size=size)
        self._write_contents(item, file, size)
        if cut is None:
            self._done(item)

    def _write_contents(self, item: Item, file: OpenFile, size: int) -> None:
        """Exactly ``size`` octets. What cannot be read meanwhile is a problem, and zeros stand for it."""
        missing = 0
        for offset in range(0, size, PIECE):
            view = memoryview(self._buffer)[: min(PIECE, size - offset)]
            try:
                got = file.read_into(view, offset, len(view))
            except OSError as error:
                if not self._rules.keep_going:
                    raise UnfinishedError(self._source.explain(item.path, file, error)) from None
                missing += _fill_by_extents(file, view, offset)
            else:
                missing += _blank(view[got:])
            self._out.write(view)
            self._tally.read(len(view))
        self._out.write(padding(size))
        if missing:
            self._judge.problem(Problem(item.path, f"{missing} octets cannot be read, zeros stand for them"))

    def _records(self, item: Item, xattrs: Xattrs) -> dict[bytes, bytes]:
        """Attributes as GNU tar and star keep them, ACLs as text too."""
        records = {}
        for name, value in xattrs:
            if name == CAPABILITY and not self._rules.special:
                self._judge.tell(Problem(item.path, NO_CAPABILITY, 0))
                continue
            keyword = name.replace(b"%", b"%25").replace(b"=", b"%3D")
            records[b"SCHILY.xattr." + keyword] = value
            if name in _ACLS:
                records[_ACLS[name]] = acl_text(value).encode()
        return records


def _fill_by_extents(file: OpenFile, view: memoryview, offset: int) -> int:
    """Read what can be read; returns how many octets are zeros instead."""
    missing = 0
    for at in range(0, len(view), EXTENT):
        part, got = view[at : at + EXTENT], 0
        with suppress(OSError):
            got = file.read_into(part, offset + at, len(part))
        missing += _blank(part[got:])
    return missing


def _blank(view: memoryview) -> int:
    view[:] = bytes(len(view))
    return len(view)


def _check_readable(file: OpenFile, size: int) -> None:
    """Raises OSError (EIO) where the end of a file is not there."""
    if size:
        at = (size - 1) // EXTENT * EXTENT
        file.read_into(memoryview(bytearray(EXTENT)), at, EXTENT)


def _readable_size(file: OpenFile, size: int) -> int:
    """How much of a file that was cut is there, in whole extents."""

    def ends_before(extent: int) -> bool:
        try:
            _check_readable(file, extent * EXTENT + 1)
        except OSError:
            return True
        return False

    return bisect_left(range(size // EXTENT + 1), True, key=ends_before) * EXTENT
