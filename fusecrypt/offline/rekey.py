"""Another passphrase for a tree: key packets are rewritten, names renamed, contents left alone.

First every header gets the new packet beside the old one, so the old key opens all; then names and symlink
targets get the new FNEK; then the old packets go, so the new key opens all. What is done is told by the tree
itself: a run that was interrupted is just begun again, with the same keys.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fusecrypt.errors import DamagedError, FormatError, FusecryptError, NotEcryptfsError
from fusecrypt.keys.token import AuthToken
from fusecrypt.native import open_quietly
from fusecrypt.offline.headerwrite import HeaderChange, undo
from fusecrypt.offline.journal import Journal, Record
from fusecrypt.offline.lower import FILE, Child, below, children, opened_directory
from fusecrypt.offline.rename import Renamer
from fusecrypt.ondisk.header import Header
from fusecrypt.ondisk.packets import PassphrasePacket
from fusecrypt.tree.headers import find_header, unlock
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.resolve import NEW_CIPHER

_BATCH = 64
"""Headers that are written for one flush of the journal."""


@dataclass(frozen=True)
class Keys:
    """``old`` are the keys that go; ``content`` and ``names`` are the new FEKEK and FNEK."""

    old: tuple[AuthToken, ...]
    content: AuthToken
    names: AuthToken


class Left(NamedTuple):
    """A lower object that was left as it is; ``status`` is the exit status it asks for. ``ours``: an old key
    opens it, so the old packets must not go elsewhere before that one has the new."""

    path: bytes
    reason: str
    status: int
    ours: bool


@dataclass
class Done:
    """What a run did, or would do."""

    objects: int = 0
    added: int = 0
    renamed: int = 0
    dropped: int = 0
    left: list[Left] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether the passes did all that is ours to do; else they are to be run again."""
        return not any(left.ours for left in self.left)


class Rekeying:
    """One run over the tree below ``root_fd``. Without a journal nothing is written: a dry run."""

    def __init__(self, root_fd: int, keys: Keys, journal: Journal | None, notice: Callable[[], None]) -> None:
        """``notice`` is called after every object."""
        self._root_fd = root_fd
        self._keys = keys
        self._journal = journal
        self._notice = notice
        self._policy = Policy(content=(*keys.old, keys.content), cipher=NEW_CIPHER)
        self._old = {token.signature for token in keys.old} - {keys.content.signature}
        self.done = Done()

    def undo_interrupted(self) -> int:
        """Put back the headers that an interrupted run may have left half written; returns how many.

        Raises OSError.
        """
        undone = 0
        if self._journal is None:
            return undone
        for record in self._journal.records:
            undone += self._undo(record)
        self._journal.clear()
        return undone

    def _undo(self, record: Record) -> bool:
        above, _, name = record.path.rpartition(b"/")
        with suppress(FileNotFoundError, NotADirectoryError), opened_directory(self._root_fd, above) as fd:
            return undo(record, name, fd)
        return False

    def add(self) -> None:
        """The first pass: the new packet beside the old ones."""
        self.done.added += self._headers(self._with_new)

    def rename(self) -> None:
        """The second pass: names and targets under the new FNEK."""
        with closing(Renamer(self._keys.old, self._keys.names, dry=self._journal is None)) as renamer:
            for path, fd, every in self._directories(renamer.name_now):
                with renamer.directory(fd):
                    for child in every:
                        try:
                            self.done.renamed += renamer.rename(fd, child)
                        except (OSError, FusecryptError) as error:
                            self._leave(below(path, child.name), error)

    def drop(self) -> None:
        """The last pass: the old packets go, where the new one is."""
        self.done.dropped += self._headers(self._without_old)

    def _with_new(self, header: Header) -> Header | None:
        if any(packet.signature == self._keys.content.signature for packet in header.packets):
            return None
        key = unlock(header, self._policy)
        try:
            cipher = next(
                packet.cipher
                for packet in reversed(header.passphrase_packets)
                if self._policy.token(packet.signature)
            )
            new = self._keys.content
            wrapped = key.wrap(new.key, cipher.wrapped_fek_size)
        finally:
            key.close()
        return replace(
            header, packets=(*header.packets, PassphrasePacket(cipher, wrapped, new.signature, new.salt))
        )

    def _without_old(self, header: Header) -> Header | None:
        new = self._keys.content
        made = [packet for packet in header.passphrase_packets if packet.signature == new.signature]
        old = tuple(packet for packet in header.passphrase_packets if packet.signature in self._old)
        if not made or not old:
            return None
        key = unlock(replace(header, packets=old), self._policy)
        try:
            agree = all(key.wrap(new.key, len(p.wrapped_fek)) == p.wrapped_fek for p in made)
        finally:
            key.close()
        if not agree:
            raise DamagedError("its new and old keys disagree; the old ones stay")
        return replace(header, packets=tuple(p for p in header.packets if p.signature not in self._old))

    def _headers(self, change: Callable[[Header], Header | None]) -> int:
        count, batch = 0, list[HeaderChange]()
        try:
            for path, fd, every in self._directories():
                for child in every:
                    if child.kind == stat.S_IFREG and (found := self._change(path, fd, child, change)):
                        batch.append(found)
                        count += 1
                    if len(batch) >= _BATCH:
                        self._write(batch)
            self._write(batch)
        finally:
            _close(batch)
        return count

    def _change(
        self, path: bytes, dir_fd: int, child: Child, change: Callable[[Header], Header | None]
    ) -> HeaderChange | None:
        here = below(path, child.name)
        try:
            fd = open_quietly(child.name, os.O_RDONLY | FILE, dir_fd)
        except OSError as error:
            self._leave(here, error)
            return None
        try:
            found = find_header(fd)
            header = change(found.header)
            if header is not None:
                try:
                    return HeaderChange(fd, here, found, header)
                except FormatError as error:
                    self._leave(here, error, ours=True)
        except NotEcryptfsError as error:
            if os.fstat(fd).st_size:  # an empty lower file gets its header with the first write
                self._leave(here, error)
        except (OSError, FusecryptError) as error:
            self._leave(here, error)
        os.close(fd)
        return None

    def _write(self, batch: list[HeaderChange]) -> None:
        """Write a batch of headers; it is empty afterwards. Raises OSError: the journal then has them."""
        if batch and self._journal is not None:
            self._journal.add(*(change.record for change in batch))
            for change in batch:
                try:
                    change.write()
                except PermissionError as error:  # nothing was written
                    self._leave(change.record.path, error)
            self._journal.clear()
        _close(batch)

    def _directories(
        self, name_now: Callable[[bytes], bytes] = lambda name: name
    ) -> Iterator[tuple[bytes, int, list[Child]]]:
        """Each directory: path, descriptor, children. ``name_now`` tells what a child is called by the time
        that the next directory is asked for."""
        stack = [b""]
        while stack:
            path = stack.pop()
            try:
                with opened_directory(self._root_fd, path) as fd:
                    every = children(fd)
                    yield path, fd, every
            except OSError as error:
                self._leave(path, error)
                continue
            for child in every:
                self.done.objects += 1
                self._notice()
                if child.kind == stat.S_IFDIR:
                    stack.append(below(path, name_now(child.name)))

    def _leave(self, path: bytes, error: OSError | FusecryptError, *, ours: bool = False) -> None:
        if isinstance(error, OSError):
            self.done.left.append(Left(path, error.strerror or str(error), 1, True))
        else:
            self.done.left.append(Left(path, str(error), error.exit_status, ours))


def _close(batch: list[HeaderChange]) -> None:
    while batch:
        batch.pop().close()
