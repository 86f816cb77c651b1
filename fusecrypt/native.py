"""The native module as Python sees it: key memory, ciphers, files, and a few system calls.

The only module that imports ``fusecrypt._native``. Every failure of a native call is an
:class:`OSError` with its errno; wrong shapes are :class:`ValueError`.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from fusecrypt._native import ffi, lib

EXTENT_BYTES: int = lib.FC_EXTENT
KEY_BYTES: int = lib.FC_KEY
SALT_BYTES: int = lib.FC_SALT
SIGNATURE_BYTES: int = lib.FC_SIGNATURE

# What a peek at a lower file found (Stat.peek).
PEEK_NONE: int = lib.FC_PEEK_NONE
PEEK_HEADER: int = lib.FC_PEEK_HEADER
PEEK_FOREIGN: int = lib.FC_PEEK_FOREIGN
PEEK_EMPTY: int = lib.FC_PEEK_EMPTY
PEEK_ERROR: int = lib.FC_PEEK_ERROR

Buffer = bytes | bytearray | memoryview
Room = bytearray | memoryview


def check(result: int) -> int:
    """Raise what a negative return stands for."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


class Secret:
    """Octets in locked memory that is left out of core dumps, wiped when no longer used.

    The length is fixed. A wiped secret has length 0.
    """

    __slots__ = ("_length", "_memory")
    __hash__ = None  # type: ignore[assignment] # a hash would be a shadow of the octets

    def __init__(self, n: int) -> None:
        """``n`` zero octets, to be filled through :meth:`view`. Raises MemoryError."""
        if n < 0:
            raise ValueError("a secret cannot have a negative length")
        memory = lib.fc_alloc(n)
        if memory == ffi.NULL:
            raise MemoryError("no memory for a secret")
        # The collector keeps the memory as long as a view of it is alive.
        self._memory = ffi.gc(ffi.cast("uint8_t *", memory), lib.fc_free, n)
        self._length = n

    @classmethod
    def take(cls, source: bytearray | memoryview) -> Secret:
        """The octets of ``source``, which is wiped."""
        secret = cls(len(source))
        pointer = ffi.from_buffer("uint8_t[]", source, require_writable=True)
        ffi.memmove(secret._memory, pointer, len(source))
        lib.fc_wipe(pointer, len(source))
        return secret

    @classmethod
    def copy(cls, source: bytes) -> Secret:
        """The octets of ``source``, which cannot be wiped: for tests and octets that are no secret."""
        secret = cls(len(source))
        ffi.memmove(secret._memory, source, len(source))
        return secret

    @classmethod
    def join(cls, parts: Iterable[Secret]) -> Secret:
        """A new secret: the octets of all parts, one after the other."""
        parts = list(parts)
        secret = cls(sum(map(len, parts)))
        position = 0
        for part in parts:
            ffi.memmove(secret._memory + position, part._memory, len(part))
            position += len(part)
        return secret

    def part(self, start: int, stop: int) -> Secret:
        """A new secret: octets ``start`` to ``stop``. Raises ValueError where there are none."""
        if not 0 <= start <= stop <= self._length:
            raise ValueError("not a part of the secret")
        secret = Secret(stop - start)
        ffi.memmove(secret._memory, self._memory + start, stop - start)
        return secret

    def view(self) -> memoryview:
        """The locked memory itself, writable; a read into it leaves no copy elsewhere."""
        return memoryview(ffi.buffer(self._memory, self._length)).cast("B")

    def wipe(self) -> None:
        """Overwrite the octets, now, also for those who hold a view; afterwards the length is 0."""
        lib.fc_wipe(self._memory, self._length)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        """Compare in constant time; the length is no secret."""
        if not isinstance(other, Secret):
            return NotImplemented
        if self._length != other._length:
            return False
        return bool(lib.fc_equal(self._memory, other._memory, self._length))

    def __enter__(self) -> Secret:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"<Secret of {self._length} octets>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be copied or pickled")


def octets_of(secret: Secret, n: int) -> Any:
    """The address of a secret that has at least ``n`` octets."""
    if len(secret) < n:
        raise ValueError(f"the key has {len(secret)} octets, {n} are needed")
    return secret._memory


def passphrase_key(passphrase: Secret, salt: bytes) -> Secret:
    """The FEKEK or FNEK (64 octets) of a passphrase: 65536 rounds of SHA-512, salt first."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} octets")
    key = Secret(KEY_BYTES)
    check(lib.fc_passphrase_key(passphrase._memory, len(passphrase), salt, key._memory))
    return key


def signature(key: Secret) -> bytes:
    """The signature (8 octets) that names a FEKEK or FNEK: the beginning of its SHA-512."""
    out = ffi.new("uint8_t[]", SIGNATURE_BYTES)
    check(lib.fc_signature(octets_of(key, KEY_BYTES), out))
    return bytes(ffi.buffer(out))


def name_prefix(key: Secret, n: int) -> bytes:
    """``n`` octets (16 to 64) that stand before an encrypted name: the MD5 chain of the FNEK.

    Zero octets are replaced by 0x42, since the first zero octet marks the beginning of the name.
    """
    out = ffi.new("uint8_t[]", max(n, 0))
    check(lib.fc_name_prefix(octets_of(key, KEY_BYTES), out, n))
    return bytes(ffi.buffer(out))


def memory_locked() -> bool:
    """Whether all key memory so far could be locked; if not, RLIMIT_MEMLOCK is too small."""
    return bool(lib.fc_memory_locked())


def export_memory(secrets: Iterable[Secret]) -> int:
    """A new descriptor that holds the octets of all secrets; :func:`import_memory` takes them out.

    It is closed on exec unless made inheritable. Raises OSError.
    """
    with Secret.join(secrets) as joined:
        return check(lib.fc_memory_export(joined._memory, len(joined)))


def import_memory(fd: int, n: int) -> Secret:
    """The ``n`` octets that :func:`export_memory` put behind ``fd``, wiped there.

    Raises OSError, with EINVAL if the descriptor holds fewer octets.
    """
    secret = Secret(n)
    check(lib.fc_memory_import(fd, secret._memory, n))
    return secret


class Cipher:
    """A block cipher in ECB mode, keyed: for FEKs, file names and symlink targets.

    ``code`` is the cipher's code on disk, ``key`` has at least ``key_bytes`` octets of which the first
    are used. Raises OSError: EINVAL if the two are no pair that eCryptfs can use, ENOTSUP if this
    system's library lacks the cipher. Any number of blocks may be taken in one call.
    """

    __slots__ = ("_cipher", "block_size")

    def __init__(self, code: int, key_bytes: int, key: Secret) -> None:
        self.block_size: int = check(lib.fc_block_size(code, key_bytes))
        out = ffi.new("fc_cipher **")
        check(lib.fc_cipher_new(code, key_bytes, octets_of(key, key_bytes), out))
        self._cipher = ffi.gc(out[0], lib.fc_cipher_free)

    def encrypt(self, data: bytes) -> bytes:
        """Whole blocks; OSError (EINVAL) otherwise."""
        return _transform(lib.fc_ecb_encrypt, self._cipher, data)

    def decrypt(self, data: bytes) -> bytes:
        """Whole blocks; OSError (EINVAL) otherwise."""
        return _transform(lib.fc_ecb_decrypt, self._cipher, data)


def _transform(function: Any, cipher: Any, data: bytes) -> bytes:
    out = ffi.new("uint8_t[]", len(data))
    check(function(cipher, data, out, len(data)))
    result: bytes = ffi.buffer(out)[:]
    return result


class Names:
    """File names and symlink targets under an FNEK, both ways.

    ``code`` and ``key_bytes`` are the cipher's, ``signature`` the FNEK's (8 octets). Raises OSError:
    EINVAL if the cipher's code and key size are no pair. Usable from several threads at once.
    """

    __slots__ = ("_names",)

    def __init__(self, code: int, key_bytes: int, fnek: Secret, signature: bytes) -> None:
        if len(signature) != SIGNATURE_BYTES:
            raise ValueError(f"a signature has {SIGNATURE_BYTES} octets")
        out = ffi.new("fc_names **")
        check(lib.fc_names_new(code, key_bytes, octets_of(fnek, KEY_BYTES), signature, out))
        self._names = ffi.gc(out[0], lib.fc_names_free)

    def length(self, n: int) -> int:
        """Octets of the lower name of ``n`` octets; OSError (ENAMETOOLONG) past what the format holds."""
        return check(lib.fc_name_length(self._names, n))

    def longest(self, limit: int) -> int:
        """The longest upper name whose lower name has at most ``limit`` octets (143 for 255), or 0."""
        return int(lib.fc_name_longest(self._names, limit))

    def encode(self, upper: bytes) -> bytes:
        """The lower name or target. OSError: ENAMETOOLONG, or EINVAL for nothing and for a NUL in it."""
        room = self.length(len(upper))
        out = ffi.new("uint8_t[]", room)
        check(lib.fc_name_encode(self._names, upper, len(upper), out, room))
        return bytes(ffi.buffer(out))

    def decode_target(self, lower: bytes) -> bytes:
        """The reverse. OSError (EINVAL) for what was not encrypted with this FNEK and cipher."""
        room = len(lower)
        out = ffi.new("uint8_t[]", room)
        n = check(lib.fc_name_decode(self._names, lower, room, out, room))
        return bytes(ffi.buffer(out, n))

    def decode(self, lower: bytes) -> bytes | None:
        """The upper name of a directory entry.

        None also for what cannot stand in a directory, and for names that :meth:`encode` makes in
        another form, for no lookup would find them.
        """
        room = len(lower)
        out = ffi.new("uint8_t[]", room)
        n = lib.fc_entry_decode(self._names, lower, room, out, room)
        if n == -errno.EINVAL:
            return None
        return bytes(ffi.buffer(out, check(n)))


class FileKey:
    """A file's FEK with its root IV, and what can be done with it on the lower file.

    Usable from several threads at once. In the methods that take a lower file, ``fd`` is its
    descriptor, ``data_offset`` the octets of its header region, ``size`` the size of the upper file as
    it is known before the call; positions and sizes are octets of the upper file. They raise OSError:
    EIO if the lower file ends too early, EFBIG where offsets do not fit, and what the system reports.
    """

    __slots__ = ("_key", "code", "key_bytes")

    def __init__(self, code: int, key_bytes: int, key: Any) -> None:
        """For the class methods, which are the way to make one."""
        self.code = code
        self.key_bytes = key_bytes
        self._key = ffi.gc(key, lib.fc_file_key_free)

    @classmethod
    def random(cls, code: int, key_bytes: int) -> FileKey:
        """A new FEK, never one that its cipher counts as weak."""
        out = ffi.new("fc_file_key **")
        check(lib.fc_file_key_random(code, key_bytes, out))
        return cls(code, key_bytes, out[0])

    @classmethod
    def from_secret(cls, code: int, key_bytes: int, fek: Secret) -> FileKey:
        """A FEK that is known."""
        out = ffi.new("fc_file_key **")
        check(lib.fc_file_key_new(code, key_bytes, octets_of(fek, key_bytes), out))
        return cls(code, key_bytes, out[0])

    @classmethod
    def unwrap(cls, code: int, key_bytes: int, fekek: Secret, wrapped: bytes) -> FileKey:
        """The FEK of a tag 3 packet: ECB under the first ``key_bytes`` octets of the FEKEK.

        ``wrapped`` has ``key_bytes`` octets, or 32 for AES-192 (8 of padding); OSError (EINVAL)
        otherwise. A wrong FEKEK is not noticed: the format has no check value.
        """
        out = ffi.new("fc_file_key **")
        pointer = octets_of(fekek, KEY_BYTES)
        check(lib.fc_file_key_unwrap(code, key_bytes, pointer, wrapped, len(wrapped), out))
        return cls(code, key_bytes, out[0])

    def wrap(self, fekek: Secret, n: int) -> bytes:
        """The ``n`` octets that :meth:`unwrap` takes."""
        out = ffi.new("uint8_t[]", n)
        check(lib.fc_file_key_wrap(self._key, octets_of(fekek, KEY_BYTES), out, n))
        return bytes(ffi.buffer(out))

    def close(self) -> None:
        """Give the key up; it is wiped once calls in other threads have returned.

        Using it afterwards is a TypeError.
        """
        self._key = None

    def extent_iv(self, extent: int) -> bytes:
        """16 octets: MD5 of the root IV and the extent's number in decimal."""
        out = ffi.new("uint8_t[16]")
        check(lib.fc_extent_iv(self._key, extent, out))
        return bytes(ffi.buffer(out))

    def encrypt_extents(self, first: int, data: Buffer) -> bytearray:
        """Whole extents, the first numbered ``first``. Raises ValueError if they are not whole."""
        result = bytearray(len(data))
        self.encrypt_into(first, data, result)
        return result

    def decrypt_extents(self, first: int, data: Buffer) -> bytearray:
        """The reverse of :meth:`encrypt_extents`."""
        result = bytearray(len(data))
        self.decrypt_into(first, data, result)
        return result

    def encrypt_into(self, first: int, data: Buffer, result: Room) -> None:
        """The same into ``result``, which may be ``data``. Raises ValueError if they differ in length."""
        self._transform(lib.fc_extents_encrypt, first, data, result)

    def decrypt_into(self, first: int, data: Buffer, result: Room) -> None:
        """The reverse of :meth:`encrypt_into`."""
        self._transform(lib.fc_extents_decrypt, first, data, result)

    def _transform(self, function: Any, first: int, data: Buffer, result: Room) -> None:
        count, rest = divmod(len(data), EXTENT_BYTES)
        if rest:
            raise ValueError("not a whole number of extents")
        if len(result) != len(data):
            raise ValueError("the result has another length")
        with ffi.from_buffer("uint8_t[]", data) as source, ffi.from_buffer("uint8_t[]", result) as out:
            check(function(self._key, first, source, out, count))

    def read(
        self,
        fd: int,
        data_offset: int,
        size: int,
        offset: int,
        buffer: bytearray | memoryview,
        n: int,
        nowait: bool = False,
    ) -> int:
        """Read up to ``n`` octets at ``offset`` into ``buffer``; returns how many, 0 from the end on.

        What follows them in the buffer, up to ``n``, is undefined. Lower data that ends too early is
        EIO, after the whole extents before that have been returned. With ``nowait`` a read that
        would wait for a disk is a BlockingIOError (or EOPNOTSUPP, if the lower file system cannot tell).
        """
        # Released at once: an error's traceback that kept it could be collected in an order that crashes.
        with ffi.from_buffer("uint8_t[]", buffer, True) as out:
            if n > len(out):
                raise ValueError("the buffer is too small")
            # cffi makes a C structure of the tuple for the time of the call.
            return check(lib.fc_read(self._key, ((fd, data_offset, size),), offset, out, n, nowait))

    def write(self, fd: int, data_offset: int, size: int, offset: int, data: Buffer) -> int:
        """Write at ``offset``, which lies in or right after the last extent (:meth:`fill` gets it there).

        Returns how many octets; fewer than asked for only if the lower file took no more. The size
        field in the header is the caller's business, after this.
        """
        lower = ((fd, data_offset, size),)
        with ffi.from_buffer("uint8_t[]", data) as source:
            return check(lib.fc_write(self._key, lower, offset, source, len(source)))

    def fill(self, fd: int, data_offset: int, size: int, until: int, budget: int) -> int:
        """Extend with encrypted zeros towards ``until``, about ``budget`` octets at a time.

        Returns the size that is now backed by data, at most ``until``: call again from there.
        """
        return check(lib.fc_fill(self._key, ((fd, data_offset, size),), until, budget))

    def zero_tail(self, fd: int, data_offset: int, old_size: int, size: int) -> None:
        """Before a truncation to ``size``: zero what follows it in its extent."""
        check(lib.fc_zero_tail(self._key, ((fd, data_offset, old_size),), size))


class Stat(NamedTuple):
    """What lstat says, times in nanoseconds, and what the first octets of a regular file say."""

    ino: int
    dev: int
    size: int
    blocks: int
    rdev: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    nlink: int
    uid: int
    gid: int
    blksize: int
    error: int
    """errno of the lstat, all else is 0 then; or of the peek, if that is PEEK_ERROR."""
    peek: int
    """PEEK_HEADER: upper_size is valid. PEEK_FOREIGN: no header. PEEK_EMPTY: no octets at all."""
    upper_size: int


_STAT = struct.Struct("@5Q3q5I2iQ")  # fc_stat in native/fusecrypt.h
if _STAT.size != ffi.sizeof("fc_stat"):
    raise ImportError("fusecrypt._native was built from other sources; install fusecrypt again")


def stat_many(dirfd: int, names: Sequence[bytes], peek: bool) -> list[Stat]:
    """lstat of names in one directory, in their order; errors are in the entries.

    With ``peek`` the beginning of regular files is read. Raises OSError (EINVAL) for a NUL in a name.
    """
    count = len(names)
    joined = b"".join([name + b"\0" for name in names])
    out = ffi.new("fc_stat[]", count)
    check(lib.fc_stat_many(dirfd, joined, len(joined), count, peek, out))
    return list(map(Stat._make, _STAT.iter_unpack(ffi.buffer(out))))


def stat_fd(fd: int, peek: bool) -> Stat:
    """The same for an open file, which must be readable for the peek. Raises OSError if it has no stat."""
    out = ffi.new("fc_stat *")
    check(lib.fc_stat_fd(fd, peek, out))
    st = Stat._make(_STAT.unpack(ffi.buffer(out)))
    if st.error and st.peek != PEEK_ERROR:
        raise OSError(st.error, os.strerror(st.error))
    return st


def open_quietly(path: str | bytes | os.PathLike[str], flags: int, dir_fd: int | None = None) -> int:
    """Open to read without a trace in the access time, where we may. Raises OSError."""
    try:
        return os.open(path, flags | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:  # that is for the owner
        return os.open(path, flags, dir_fd=dir_fd)


def renameat2(olddirfd: int, old: bytes, newdirfd: int, new: bytes, flags: int) -> None:
    """renameat2(2) with RENAME_NOREPLACE (1) or RENAME_EXCHANGE (2). Raises OSError."""
    check(lib.fc_renameat2(olddirfd, old, newdirfd, new, flags))


def utimens(
    dirfd: int,
    name: bytes,
    atime_ns: int | None,
    mtime_ns: int | None,
    *,
    atime_now: bool = False,
    mtime_now: bool = False,
) -> None:
    """Set times of ``name`` itself, not of what a link points to; b"" means the descriptor itself.

    None leaves a time alone unless its ``now`` is set. Times before 1677 or after 2262 become the first or
    last that 64 bits of nanoseconds can say. Raises OSError.
    """
    set_atime = 2 if atime_now else int(atime_ns is not None)
    set_mtime = 2 if mtime_now else int(mtime_ns is not None)
    times = [max(-(1 << 63), min(ns or 0, (1 << 63) - 1)) for ns in (atime_ns, mtime_ns)]
    check(lib.fc_utimens(dirfd, name, set_atime, times[0], set_mtime, times[1]))


def harden_process() -> None:
    """No core dumps of this process, and no debugger or /proc/PID/mem for others of the same user."""
    check(lib.fc_harden_process())


def engine() -> str:
    """Return what encrypts AES extents in this process, "ipsec-mb" or "portable"."""
    name: bytes = ffi.string(lib.fc_engine())
    return name.decode()


def set_engine(name: str) -> None:
    """Choose the engine; OSError with ENOTSUP if this build or CPU lacks it, EINVAL for other names."""
    check(lib.fc_set_engine(name.encode()))


def raw_cbc(key_bytes: int, decrypt: bool, data: Buffer, result: Room, rounds: int) -> None:
    """AES-CBC of whole extents, ``rounds`` times, by ipsec-mb alone: the machine's limit, for measuring.

    Key (16, 24 or 32 octets) and IVs are zeros. Raises OSError with ENOTSUP without the library.
    """
    count = len(data) // EXTENT_BYTES
    source, out = ffi.from_buffer("uint8_t[]", data), ffi.from_buffer("uint8_t[]", result)
    if not 0 < count * EXTENT_BYTES <= len(out):
        raise ValueError("no whole extents, or no room for them")
    check(lib.fc_raw_cbc(key_bytes, decrypt, source, out, count, rounds))
