"""Opening trees as the command does, and looking at what they show and at what lies below."""

from __future__ import annotations

import base64
import errno
import functools
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusecrypt.errors import FusecryptError
from fusecrypt.keys.token import DEFAULT_SALT, FNEK_SALT, AuthToken
from fusecrypt.native import Secret
from fusecrypt.ondisk.ciphers import choose
from fusecrypt.ondisk.header import Header, parse_header
from fusecrypt.tree import attributes, changes
from fusecrypt.tree.files import OpenFile
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.policy import NamePolicy, Policy
from fusecrypt.tree.resolve import Candidates, Options, Resolution, resolve
from fusecrypt.tree.survey import survey_steps
from fusecrypt.tree.tree import Seen, Tree
from tests.manifest import Entry

OWN = b"user.ecryptfs"


@functools.cache
def token(passphrase: bytes = b"test", salt: bytes = DEFAULT_SALT) -> AuthToken:
    return AuthToken.from_passphrase(Secret.copy(passphrase), salt)


def candidates(passphrase: bytes, salt: bytes = DEFAULT_SALT) -> Candidates:
    """The two keys of a passphrase."""
    return Candidates(token(passphrase, salt), token(passphrase, FNEK_SALT))


def resolved(
    lower: Path,
    passphrases: Sequence[bytes],
    options: Options | None = None,
    salt: bytes = DEFAULT_SALT,
) -> Resolution:
    """Survey a lower tree and decide how to use it, as ``fusecrypt mount`` does."""
    fd = os.open(lower, os.O_RDONLY | os.O_DIRECTORY)
    try:
        keys = [candidates(passphrase, salt) for passphrase in passphrases]
        return resolve(survey_steps(fd), keys, options or Options())
    finally:
        os.close(fd)


@contextmanager
def open_tree(
    lower: Path,
    passphrases: Sequence[bytes],
    options: Options | None = None,
    salt: bytes = DEFAULT_SALT,
) -> Iterator[Tree]:
    """A tree opened with passphrases and options alone."""
    with opened(lower, resolved(lower, passphrases, options, salt).policy) as tree:
        yield tree


@contextmanager
def opened(lower: Path, policy: Policy) -> Iterator[Tree]:
    """A tree with a policy that is known. At the end nobody may refer to anything but the root."""
    tree = Tree(os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), policy)
    try:
        yield tree
        assert len(tree.nodes) == 1, "nodes are left: a reference was not dropped"
        assert tree.root.refs == 1
    finally:
        tree.close()


def policy(cipher: str = "aes", key_bytes: int = 16, *, names: bool = True, **more: Any) -> Policy:
    """A policy for the passphrase ``test``; names are encrypted with the same cipher."""
    choice = choose(cipher, key_bytes)
    fnek = NamePolicy(token(salt=FNEK_SALT), choice) if names else None
    return Policy(content=(token(),), cipher=choice, names=fnek, **more)


class User:
    """A tree used by path, as programs do: every call looks its names up and forgets them again."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    @contextmanager
    def node(self, path: str | bytes) -> Iterator[Node]:
        node = self.tree.resolve(os.fsencode(path))
        try:
            yield node
        finally:
            self.tree.forget(node)

    @contextmanager
    def _parent(self, path: str | bytes) -> Iterator[tuple[Node, bytes]]:
        above, name = os.path.split(os.fsencode(path))
        with self.node(above) as parent:
            yield parent, name

    @contextmanager
    def file(self, path: str | bytes, writing: bool = False) -> Iterator[OpenFile]:
        with self.node(path) as node:
            file = self.tree.open(node, writing)
            try:
                yield file
            finally:
                self.tree.close_file(node)

    def create(self, path: str | bytes, data: bytes = b"", mode: int = 0o644) -> None:
        with self._parent(path) as (parent, name):
            node, _, file = changes.create(self.tree, parent, name, mode)
            try:
                file.write(0, data)
            finally:
                self.tree.close_file(node)
                self.tree.forget(node)

    def read(self, path: str | bytes, offset: int = 0, n: int | None = None) -> bytes:
        with self.file(path) as file:
            return read(file, offset, n)

    def write(self, path: str | bytes, offset: int, data: bytes) -> None:
        with self.file(path, True) as file:
            file.write(offset, data)

    def truncate(self, path: str | bytes, size: int) -> None:
        with self.node(path) as node:
            attributes.truncate(self.tree, node, size)

    def mkdir(self, path: str | bytes, mode: int = 0o755) -> None:
        with self._parent(path) as (parent, name):
            self.tree.forget(changes.make_directory(self.tree, parent, name, mode)[0])

    def mknod(self, path: str | bytes, mode: int, device: int = 0) -> None:
        with self._parent(path) as (parent, name):
            self.tree.forget(changes.make_node(self.tree, parent, name, mode, device)[0])

    def symlink(self, target: bytes, path: str | bytes) -> None:
        with self._parent(path) as (parent, name):
            self.tree.forget(changes.symlink(self.tree, parent, name, target)[0])

    def link(self, old: str | bytes, new: str | bytes) -> None:
        with self.node(old) as node, self._parent(new) as (parent, name):
            changes.link(self.tree, node, parent, name)
            self.tree.forget(node)

    def unlink(self, path: str | bytes) -> None:
        with self._parent(path) as (parent, name):
            changes.unlink(self.tree, parent, name)

    def rmdir(self, path: str | bytes) -> None:
        with self._parent(path) as (parent, name):
            changes.remove_directory(self.tree, parent, name)

    def rename(self, old: str | bytes, new: str | bytes, flags: int = 0) -> None:
        with self._parent(old) as (a, old_name), self._parent(new) as (b, new_name):
            changes.rename(self.tree, a, old_name, b, new_name, flags)

    def stat(self, path: str | bytes) -> Seen:
        with self.node(path) as node:
            return self.tree.stat(node)

    def readlink(self, path: str | bytes) -> bytes:
        with self.node(path) as node:
            return self.tree.readlink(node)

    def list(self, path: str | bytes = b"") -> list[bytes]:
        with self.node(path) as node:
            listing = self.tree.list(node)
            try:
                return sorted(listing.names())
            finally:
                listing.close()

    def exists(self, path: str | bytes) -> bool:
        try:
            with self.node(path):
                return True
        except FileNotFoundError:
            return False


def read(file: OpenFile, offset: int = 0, n: int | None = None) -> bytes:
    """``n`` octets, or all up to the end."""
    n = file.size - offset if n is None else n
    buffer = memoryview(bytearray(n))
    return bytes(buffer[: file.read_into(buffer, offset, n)])


def lower_name(tree: Tree, path: str | bytes) -> Path:
    """Where an upper path lies, relative to the lower root."""
    return Path(*(os.fsdecode(tree.codec.encode(part)) for part in os.fsencode(path).split(b"/")))


def lower_header(path: Path) -> Header:
    """The header of a lower file, in its contents or its attribute."""
    try:
        return parse_header(os.getxattr(path, OWN))
    except OSError:
        return parse_header(path.read_bytes())


# What a tree shows, in the form of tests/manifest.py

_TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket", stat.S_IFCHR: "chr", stat.S_IFBLK: "blk",
}  # fmt: skip


def manifest(tree: Tree) -> list[Entry]:
    """Everything in a tree, by listing; that looking names up says the same is checked on the way."""
    entries: list[Entry] = []
    _walk(tree, tree.root, b"", entries, {})
    return entries


def _walk(tree: Tree, directory: Node, above: bytes, entries: list[Entry], seen: dict[int, str]) -> None:
    listing = tree.list(directory)
    try:
        children = sorted(entry for _, entry in listing.entries(0, len(listing)))
    finally:
        listing.close()
    for child in children:
        path = os.path.join(above, child.name)
        found = tree.lookup(directory, child.name)
        assert found is not None
        node, looked_up = found
        try:
            # Times of access may change as we look.
            assert looked_up.size == child.seen.size
            assert looked_up.stat.ino == child.seen.stat.ino
            assert tree.stat(node).size == child.seen.size
            entries.append(_describe(tree, node, looked_up, path, seen))
            if node.is_directory:
                _walk(tree, node, path, entries, seen)
        finally:
            tree.forget(node)


def _describe(tree: Tree, node: Node, seen: Seen, path: bytes, links: dict[int, str]) -> Entry:
    st = seen.stat
    entry: Entry = {"path": os.fsdecode(path)}
    try:
        path.decode()
    except UnicodeDecodeError:
        entry["path_b64"] = base64.b64encode(path).decode()
    entry.update(
        type=_TYPES[node.kind],
        mode=f"{stat.S_IMODE(st.mode):04o}",
        uid=st.uid,
        gid=st.gid,
        mtime_ns=st.mtime_ns,
    )
    if not node.is_directory:
        entry["nlink"] = st.nlink
        if st.nlink > 1:
            entry["hardlink_of"] = links.setdefault(st.ino, entry["path"])
    if entry["type"] in ("file", "symlink"):
        entry["size"] = seen.size
    if entry["type"] in ("chr", "blk"):
        entry["rdev"] = [os.major(st.rdev), os.minor(st.rdev)]
    if entry["type"] == "symlink":
        entry["target"] = os.fsdecode(tree.readlink(node))
        assert len(os.fsencode(entry["target"])) == seen.size
    if entry["type"] == "file":
        _contents(tree, node, entry)
    if entry["type"] in ("file", "dir"):
        names = sorted(attributes.list_xattrs(tree, node))
        values = {os.fsdecode(name): attributes.get_xattr(tree, node, name).hex() for name in names}
        entry.update({"xattrs": values} if values else {})
    return entry


def _contents(tree: Tree, node: Node, entry: Entry) -> None:
    try:
        file = tree.open(node, False)
    except (FusecryptError, OSError) as error:
        entry["error"] = f"read@0:{errno.errorcode[error.errno or 0]}"
        return
    try:
        entry["sha256"] = hashlib.sha256(read(file)).hexdigest()
        assert file.size == entry["size"]
    finally:
        tree.close_file(node)


def lower_state(lower: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a lower tree but its access times: what must not change by reading."""
    found = {"": _lower_state(lower)}
    for directory, names, files in os.walk(lower):
        for name in (*names, *files):
            path = Path(directory, name)
            found[str(path.relative_to(lower))] = _lower_state(path)
    return found


def _lower_state(path: Path) -> tuple[object, ...]:
    st = path.lstat()
    contents: object = None
    if stat.S_ISREG(st.st_mode):
        contents = hashlib.sha256(path.read_bytes()).digest()
    elif stat.S_ISLNK(st.st_mode):
        contents = os.readlink(path)
    names = sorted(os.listxattr(path, follow_symlinks=False))
    xattrs = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    fields = (st.st_ino, st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size, st.st_blocks)
    return (*fields, st.st_rdev, st.st_mtime_ns, st.st_ctime_ns, contents, xattrs)
