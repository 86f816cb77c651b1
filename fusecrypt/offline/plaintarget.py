"""A plain directory as the target of a copy: nothing is written outside of it, whatever names say."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from fusecrypt.copies import flush_all, flushes_together, rename_many
from fusecrypt.errors import TreeError
from fusecrypt.native import renameat2, stat_many
from fusecrypt.offline.items import Item, name_of, parent_of
from fusecrypt.offline.lower import DIRECTORY, opened_directory
from fusecrypt.offline.places import Places
from fusecrypt.offline.restore import Lost, Restorer
from fusecrypt.offline.target import WORK, Draft, lock_work
from fusecrypt.offline.walk import Xattrs
from fusecrypt.tree.raw import RawFile
from fusecrypt.tree.tree import Seen, by_descriptor

_NOREPLACE = 1
_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 100
_MARK = b"root"
"""In the working directory: the root was made by this copy, which therefore gives it its attributes."""


class PlainTarget:
    """The directory ``path``, made if absent. Every step below it goes through an open directory."""

    def __init__(self, path: Path) -> None:
        """Raises OSError; TreeError if it cannot be written to, or another copy into it is under way."""
        made = False
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
            made = True
        self._root_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._where = os.fspath(path)
        self.work_fd = -1
        """Where drafts are made."""
        self._places = Places(self._root_fd)
        # From anywhere: a worker that outlived its command must not know another draft's name.
        self._names = secrets.randbits(48)
        self._block = os.fstatvfs(self._root_fd).f_frsize or 1
        self.flushes_together = flushes_together(self._root_fd)
        try:
            try:
                self._open_work()
            except OSError as error:
                raise TreeError(f"{path} cannot be written to: {error.strerror}") from None
            if made:
                os.close(os.open(_MARK, _FILE, 0o600, dir_fd=self.work_fd))
            self._ours = made or self._has_mark()
        except BaseException:
            self.close()
            raise

    def _open_work(self) -> None:
        with suppress(FileExistsError):
            os.mkdir(WORK, 0o700, dir_fd=self._root_fd)
        self.work_fd = os.open(WORK, DIRECTORY, dir_fd=self._root_fd)
        lock_work(self.work_fd, self._where)
        with suppress(OSError):
            os.removexattr(self.work_fd, "system.posix_acl_default")  # drafts would inherit it
        self._clear(_MARK)  # a killed run left the rest

    @property
    def work(self) -> bytes:
        """The path of the directory where drafts are made."""
        return os.fsencode(os.readlink(by_descriptor(self.work_fd)))

    def _clear(self, keep: bytes) -> None:
        for name in map(os.fsencode, os.listdir(self.work_fd)):
            if name != keep:
                with suppress(FileNotFoundError):  # a worker that outlived its command does away with its own
                    os.unlink(name, dir_fd=self.work_fd)

    def _end_work(self) -> None:
        """Do away with the working directory. A worker that was given up may still make drafts in it."""
        for left in reversed(range(_TRIES)):
            self._clear(b"")
            try:
                os.rmdir(WORK, dir_fd=self._root_fd)
                return
            except OSError as error:
                if error.errno != errno.ENOTEMPTY or not left:
                    raise

    def _has_mark(self) -> bool:
        return not stat_many(self.work_fd, [_MARK], False)[0].error

    def close(self) -> None:
        """A mark that the root is ours stays for the next run, unless the copy is whole."""
        with suppress(OSError):
            os.rmdir(WORK, dir_fd=self._root_fd)
        self._places.close()
        for fd in (self.work_fd, self._root_fd):
            if fd >= 0:
                os.close(fd)

    def find(self, path: bytes) -> Seen | None:
        st = stat_many(self._parent(path), [name_of(path)], False)[0]
        if st.error == errno.ENOENT:
            return None
        if st.error:
            raise OSError(st.error, os.strerror(st.error))
        return Seen(st, st.size)

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(name_of(path), dir_fd=self._parent(path))

    def check(self, item: Item) -> str:
        return f"its name is taken by {WORK.decode()}, where objects are made" if item.path == WORK else ""

    def needs(self, item: Item) -> int:
        return -(-item.readable // self._block) * self._block if item.kind == stat.S_IFREG else self._block

    def free(self) -> tuple[int, int]:
        figures = os.fstatvfs(self._root_fd)
        return figures.f_bavail * figures.f_frsize, figures.f_favail if figures.f_files else 1 << 62

    def make_directory(self, item: Item) -> bool:
        if not item.path:
            return os.listdir(self._root_fd) == [os.fsdecode(WORK)]
        try:
            os.mkdir(name_of(item.path), 0o700, dir_fd=self._parent(item.path))
        except FileExistsError:
            self._places.fd(item.path)  # if it is a directory
            return False
        return True

    def leave(self, item: Item, xattrs: Xattrs | None, restorer: Restorer) -> list[Lost]:
        fd = self._places.fd(item.path)
        if not item.path:
            self._end_work()
        lost = []
        if xattrs is not None and (item.path or self._ours):
            lost = restorer.restore(fd, item, xattrs, path=False)
        if not self.flushes_together:
            os.fsync(fd)
        return lost

    def flush(self) -> None:
        flush_all(self._root_fd)

    def begin(self, item: Item) -> Draft:
        name = self._name()
        file = RawFile(os.open(name, _FILE, 0o600, dir_fd=self.work_fd), True)
        return Draft(name, file.fd, file)

    def make(self, item: Item, link: bytes) -> Draft:
        name = self._name()
        if item.kind == stat.S_IFLNK:
            os.symlink(link, name, dir_fd=self.work_fd)
        else:
            os.mknod(name, item.kind | 0o600, item.stat.rdev, dir_fd=self.work_fd)
        return Draft(name, os.open(name, _HANDLE, dir_fd=self.work_fd))

    def commit(self, draft: Draft, path: bytes, replace: bool) -> None:
        try:
            self._rename(draft.name, self._parent(path), name_of(path), replace)
        except BaseException:
            self.discard(draft)
            raise
        _close(draft)

    def discard(self, draft: Draft) -> None:
        _close(draft)
        os.unlink(draft.name, dir_fd=self.work_fd)

    def link(self, first: bytes, path: bytes, replace: bool) -> None:
        name = self._name()
        os.link(
            name_of(first),
            name,
            src_dir_fd=self._parent(first),
            dst_dir_fd=self.work_fd,
            follow_symlinks=False,
        )
        try:
            self._rename(name, self._parent(path), name_of(path), replace)
        except BaseException:
            os.unlink(name, dir_fd=self.work_fd)
            raise

    def _parent(self, path: bytes) -> int:
        return self._places.fd(parent_of(path))

    def _name(self) -> bytes:
        return b"%d" % self.reserve(1)

    def reserve(self, n: int) -> int:
        """The first of ``n`` numbers that are names of nothing in the working directory yet."""
        first = self._names + 1
        self._names += n
        return first

    def commit_many(self, drafts: Sequence[tuple[int, bytes]], replace: bool) -> list[OSError | None]:
        """Give drafts that were made under numbers their paths; what could not have it is discarded. May be
        called in any thread."""
        errors: list[OSError | None] = []
        for parent, group in groupby(drafts, lambda draft: parent_of(draft[1])):
            some = [(number, name_of(path)) for number, path in group]
            try:
                with opened_directory(self._root_fd, parent) as fd:
                    errors += self._name_many(some, fd, replace)
            except OSError as error:
                for number, _ in some:
                    self.discard_number(number)
                errors += [error] * len(some)
        return errors

    def _name_many(
        self, drafts: Sequence[tuple[int, bytes]], parent: int, replace: bool
    ) -> list[OSError | None]:
        numbers, names = zip(*drafts, strict=True)
        codes = rename_many(self.work_fd, numbers, parent, names, 0 if replace else _NOREPLACE)
        return [
            self._name_again(number, parent, name, replace) if code else None
            for (number, name), code in zip(drafts, codes, strict=True)
        ]

    def _name_again(self, number: int, parent: int, name: bytes, replace: bool) -> OSError | None:
        """With all that may be done about a failure."""
        try:
            self._rename(b"%d" % number, parent, name, replace)
        except OSError as error:
            self.discard_number(number)
            return error
        return None

    def discard_number(self, number: int) -> None:
        os.unlink(b"%d" % number, dir_fd=self.work_fd)

    def _rename(self, draft: bytes, parent: int, name: bytes, replace: bool) -> None:
        try:
            renameat2(self.work_fd, draft, parent, name, 0 if replace else _NOREPLACE)
        except OSError as error:
            if replace or error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            # This file system cannot do it in one step.
            if stat_many(parent, [name], False)[0].error != errno.ENOENT:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            os.rename(draft, name, src_dir_fd=self.work_fd, dst_dir_fd=parent)


def _close(draft: Draft) -> None:
    if draft.file is not None:
        draft.file.close()
    else:
        os.close(draft.fd)
