"""Lower names and symlink targets brought under another FNEK, one directory at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from fusecrypt.errors import FormatError, UndecodableNameError
from fusecrypt.keys.token import AuthToken
from fusecrypt.native import renameat2, stat_fd, utimens
from fusecrypt.offline.lower import Child
from fusecrypt.ondisk.ciphers import CipherChoice
from fusecrypt.ondisk.names import PREFIX, decode_name
from fusecrypt.tree.names import EncryptedNames
from fusecrypt.tree.policy import NamePolicy
from fusecrypt.tree.proof import prove_name_cipher
from fusecrypt.tree.tree import by_descriptor

_NOREPLACE = 1
_TEMPORARY = b".fusecrypt-rekey"
"""A symlink being made; an interrupted run may leave one."""


class Renamer:
    """From names under old keys to names under the new one, with the cipher that each has."""

    def __init__(self, old: Sequence[AuthToken], new: AuthToken, *, dry: bool) -> None:
        self._old = {token.signature: token for token in old if token.signature != new.signature}
        self._new = new
        self._dry = dry
        self._codecs: dict[tuple[bytes, CipherChoice], EncryptedNames] = {}
        self._remade: dict[tuple[int, int], int] = {}
        self._begin()

    def close(self) -> None:
        for fd in self._remade.values():
            os.close(fd)
        self._remade.clear()

    def _begin(self) -> None:
        """In a new directory nothing is renamed yet."""
        self._times: tuple[int, int] | None = None
        self._renamed: dict[bytes, bytes] = {}

    def name_now(self, lower: bytes) -> bytes:
        """What a child of this directory is called now."""
        return self._renamed.get(lower, lower)

    def rename(self, dir_fd: int, child: Child) -> bool:
        """Rename an object, and remake it if it is a symlink; False if there was nothing to do.

        Raises OSError (EEXIST if another lower name already has that name), FormatError.
        """
        if child.name == _TEMPORARY and child.kind == stat.S_IFLNK:
            if not self._dry:
                os.unlink(_TEMPORARY, dir_fd=dir_fd)
            return False
        target = None
        if child.kind == stat.S_IFLNK:
            target = self._converted(os.fsencode(os.readlink(child.name, dir_fd=dir_fd)), target=True)
        name = self._converted(child.name, target=False)
        if target is None and name is None:
            return False
        if not self._dry:
            if self._times is None:
                before = stat_fd(dir_fd, False)
                self._times = before.atime_ns, before.mtime_ns
            if target is not None:
                self._remake(dir_fd, child, target)
            if name is not None:
                renameat2(dir_fd, child.name, dir_fd, name, _NOREPLACE)
                self._renamed[child.name] = name
        return True

    @contextmanager
    def directory(self, dir_fd: int) -> Iterator[None]:
        """Rename the children of this directory in the context; at its end it is flushed and gets its times
        back. Raises OSError."""
        self._begin()
        yield
        if self._times is not None:
            utimens(dir_fd, b"", *self._times)
            os.fsync(dir_fd)

    def _converted(self, lower: bytes, *, target: bool) -> bytes | None:
        """The same name or target under the new key, or None if it is not under an old one."""
        if not lower.startswith(PREFIX):
            return None
        try:
            packet = decode_name(lower)
        except FormatError:
            return None  # somebody may have called it so
        token = self._old.get(packet.signature)
        if token is None:
            return None
        cipher = prove_name_cipher(packet, token)
        if cipher is None:
            raise UndecodableNameError("it is damaged, and was left as it is")
        before = self._codec(token, cipher)
        upper = before.decode_target(lower) if target else before.decode(lower)
        if upper is None:
            raise UndecodableNameError("it is damaged, and was left as it is")
        return self._codec(self._new, cipher).encode_target(upper)

    def _codec(self, token: AuthToken, cipher: CipherChoice) -> EncryptedNames:
        key = token.signature, cipher
        if key not in self._codecs:
            self._codecs[key] = EncryptedNames(NamePolicy(token, cipher))
        return self._codecs[key]

    def _remake(self, dir_fd: int, child: Child, target: bytes) -> None:
        """Put a symlink with another target in the place of this one; its other links are linked again."""
        identity = child.stat.dev, child.stat.ino
        with suppress(FileNotFoundError):
            # Anything but a symlink is not ours: then this one stays as it is, and that is told.
            if stat.S_ISLNK(os.stat(_TEMPORARY, dir_fd=dir_fd, follow_symlinks=False).st_mode):
                os.unlink(_TEMPORARY, dir_fd=dir_fd)
        if identity in self._remade:
            # The last step of the path leads to the symlink itself, not to where that points.
            os.link(
                by_descriptor(self._remade[identity]), _TEMPORARY, dst_dir_fd=dir_fd, follow_symlinks=True
            )
        else:
            os.symlink(target, _TEMPORARY, dir_fd=dir_fd)
            _copy_attributes(dir_fd, child)
            if child.stat.nlink > 1:
                flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
                self._remade[identity] = os.open(_TEMPORARY, flags, dir_fd=dir_fd)
        os.fsync(dir_fd)
        os.rename(_TEMPORARY, child.name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)


def _copy_attributes(dir_fd: int, child: Child) -> None:
    """Give the symlink that was made the owner, times and extended attributes of the one that was there."""
    st, above = child.stat, by_descriptor(dir_fd)
    made, old = f"{above}/{os.fsdecode(_TEMPORARY)}", f"{above}/{os.fsdecode(child.name)}"
    os.chown(_TEMPORARY, st.uid, st.gid, dir_fd=dir_fd, follow_symlinks=False)
    for name in os.listxattr(old, follow_symlinks=False):
        os.setxattr(made, name, os.getxattr(old, name, follow_symlinks=False), follow_symlinks=False)
    utimens(dir_fd, _TEMPORARY, st.atime_ns, st.mtime_ns)
