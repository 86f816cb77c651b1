"""What a worker of a cluster does for a copy: a piece of a large file at a time (small ones: workerbatch.py),
with keys that it finds itself.

It is told where keys come from, never a key. It sees the lower tree and the copy under the same paths as
whoever runs the copy.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock, Timer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from distributed import get_worker

from fusecrypt.errors import FormatError, FusecryptError, NotEcryptfsError, TreeError, UsageError
from fusecrypt.lane import Lane
from fusecrypt.native import open_quietly
from fusecrypt.offline.lower import FILE
from fusecrypt.offline.show import PIECE
from fusecrypt.sources.given import KeyOptions
from fusecrypt.sources.resolved import resolve_tree, wipe
from fusecrypt.tree.encrypted import EncryptedFile
from fusecrypt.tree.files import OpenFile, open_file
from fusecrypt.tree.forms import Forms
from fusecrypt.tree.headers import Found
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.raw import RawFile
from fusecrypt.tree.survey import Walk

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class Job:
    """One copy: the lower tree, and where a worker finds its keys. ``name`` is no other copy's."""

    name: str
    lower: str
    keys: KeyOptions


class Piece(NamedTuple):
    """A range of upper octets of a lower file, and the draft where they belong, both absolute paths.

    ``header`` identifies the file, as :func:`digest` does.
    """

    lower: bytes
    draft: bytes
    header: bytes
    start: int
    end: int


class Outcome(NamedTuple):
    """What became of a piece: octets that were copied, or the errno of what failed."""

    octets: int
    errno: int = 0
    of_source: bool = False


_LEASE = 600.0
"""Seconds after its last piece when the keys of a copy are wiped: its command may have been killed."""


class Kept:
    """What a worker keeps for a copy. The lane has copies of the keys, wiped when nobody uses it any more."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.lane = Lane.for_forms()
        self._forms = Forms(self.lane, policy)
        self._learning = Lock()

    def learn(self, dir_fd: int, lower: bytes) -> bool:
        """Tell the lane the form of a file's header; whether it was new, and the file can be read."""
        try:
            file = open_file_at(lower, self.policy, dir_fd)
        except (OSError, FusecryptError):
            return False
        try:
            with self._learning:
                return isinstance(file, EncryptedFile) and self._forms.learn(file.found)
        finally:
            file.close()


_kept: dict[str, Kept] = {}
_leases: dict[str, Timer] = {}
_ended: set[str] = set()
_lock = Lock()


def check_address(address: str) -> None:
    """Raises UsageError for an address that anybody on the network could reach or listen to."""
    url = urlsplit(address if "://" in address else f"tcp://{address}")
    if url.scheme in ("tls", "inproc") or (url.scheme == "tcp" and _is_loopback(url.hostname or "")):
        return
    raise UsageError(
        f"{address} is neither tls:// nor on this machine: others could read keys there",
        "run the cluster with TLS (distributed.comm.require-encryption), and name tls://HOST:PORT",
    )


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def digest(found: Found) -> bytes:
    """What a header is known by: the FEKs in it, encrypted as they are, are no other file's."""
    return hashlib.sha256(found.octets).digest()


def prepare(job: Job, dask_worker: Any = None) -> None:
    """Find the keys, and keep them for this copy. ``dask_worker`` is given by Dask, outside of tasks.

    Raises UsageError where the tree is not there, this worker can be reached by anybody, or the copy has
    ended; OSError, NotEcryptfsError, and what finding keys raises.
    """
    keys_of(job, dask_worker)


def keys_of(job: Job, dask_worker: Any = None) -> Kept:
    """The same for a task."""
    with _lock:
        if job.name in _ended:
            raise UsageError("a piece of a copy that has ended")
        if job.name not in _kept:
            here = dask_worker or get_worker()
            for address in (here.address, here.scheduler.address):
                check_address(address)
            _kept[job.name] = Kept(_find(job))
        _extend(job.name)
        return _kept[job.name]


def _extend(name: str) -> None:
    if name in _leases:
        _leases[name].cancel()
    _leases[name] = lease = Timer(_LEASE, _drop, [name])
    lease.daemon = True
    lease.start()


def forget(name: str) -> None:
    """Wipe the keys of a copy that has ended; a late piece of it finds none again."""
    _ended.add(name)
    _drop(name)


def has_ended(job: Job) -> bool:
    """Whether nobody wants what is copied any more."""
    return job.name in _ended


def _drop(name: str) -> None:
    with _lock:
        kept, lease = _kept.pop(name, None), _leases.pop(name, None)
    if lease is not None:
        lease.cancel()
    if kept is not None:
        wipe(kept.policy)


def _find(job: Job) -> Policy:
    try:
        root_fd = open_quietly(job.lower, DIRECTORY)
    except OSError as error:
        text = f"a worker cannot open {job.lower}: {error.strerror}"
        raise UsageError(text, "mount the tree under the same path on every worker") from None
    try:
        walk = Walk(root_fd)
        if not walk.first_findings().is_ecryptfs:
            raise NotEcryptfsError(f"{job.lower} holds no eCryptfs data on a worker")
        return replace(resolve_tree(Path(job.lower), walk, job.keys)[0].policy, read_only=True)
    finally:
        os.close(root_fd)


def carry_piece(job: Job, piece: Piece) -> Outcome:
    """Copy a piece, to the disk. To do so again does no harm. Raises TreeError, and as :func:`prepare`."""
    kept = keys_of(job)
    try:
        source = _open(piece, kept.policy)
    except (OSError, FusecryptError) as error:
        return Outcome(0, error.errno or errno.EIO, True)
    try:
        return _copy(source, piece)
    except OSError as error:
        return Outcome(0, error.errno or errno.EIO)
    finally:
        source.close()


def open_copy(path: bytes, flags: int) -> int:
    """Open a part of the copy. Raises TreeError."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        text = f"a worker cannot open {os.fsdecode(path)}: {error.strerror}"
        hint = "mount DEST under the same path on every worker, and run workers as the user who copies"
        raise TreeError(text, hint) from None


def open_file_at(lower: bytes, policy: Policy, dir_fd: int | None = None) -> OpenFile:
    """A lower file, to be read. Raises OSError, FusecryptError."""
    fd = open_quietly(lower, os.O_RDONLY | FILE, dir_fd)
    try:
        return open_file(fd, False, policy)
    except BaseException:
        os.close(fd)
        raise


def _open(piece: Piece, policy: Policy) -> EncryptedFile:
    """The lower file. Raises OSError, FusecryptError: also where it is not the one that was meant."""
    file = open_file_at(piece.lower, policy)
    if isinstance(file, EncryptedFile) and file.found and digest(file.found) == piece.header:
        return file
    file.close()
    raise FormatError("another file on this worker")


def _copy(source: EncryptedFile, piece: Piece) -> Outcome:
    """Raises OSError for the draft alone, and TreeError."""
    target = RawFile(open_copy(piece.draft, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY), True)
    buffer = memoryview(bytearray(min(PIECE, piece.end - piece.start)))
    try:
        for at in range(piece.start, piece.end, PIECE):
            wanted = min(PIECE, piece.end - at)
            try:
                n = source.read_into(buffer, at, wanted)
            except OSError as error:
                return Outcome(0, error.errno or errno.EIO, True)
            if n != wanted:  # it has changed meanwhile
                return Outcome(0, errno.ESTALE, True)
            target.write(at, buffer[:n])
        os.fsync(target.fd)
    finally:
        target.close()
    return Outcome(piece.end - piece.start)
