"""``ecryptfs://``: a tree on any other fsspec file system, seen decrypted and read in place; read-only.

    fsspec.open("ecryptfs://photos/a.jpg::s3://bucket/tree", ecryptfs={"passfile": "secret"})
    EcryptfsFileSystem(fs=other, root="tree", passfile="secret").ls("")

Keys are looked for when they are first needed, in each process anew. Pickled, a file system names the sources
of its keys.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import fsspec
from fsspec import AbstractFileSystem

from fusecrypt.errors import FusecryptError
from fusecrypt.storage import keysource
from fusecrypt.storage.contents import Contents, as_oserror, open_contents
from fusecrypt.storage.file import EcryptfsFile
from fusecrypt.storage.heads import Heads
from fusecrypt.storage.infos import describe
from fusecrypt.storage.lower import DIRECTORY, FILE, LINK, Lower, LowerStore, join
from fusecrypt.storage.opened import Opened, open_tree

_log = logging.getLogger(__name__)
_OF_FSSPEC = frozenset(("use_listings_cache", "listings_expiry_time", "max_paths", "asynchronous", "loop"))
_ROOT = {"name": "", "size": 0, "type": DIRECTORY}


class EcryptfsFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """One tree, and where its keys come from."""

    protocol = "ecryptfs"
    root_marker = ""

    def __init__(
        self,
        fo: str = "",
        fs: AbstractFileSystem | None = None,
        root: str = "",
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        options: str = "",
        **more: Any,
    ) -> None:
        """The tree is ``root`` (or ``fo``, as URL chaining has it) on ``fs``, or on the file system of
        ``target_protocol`` with ``target_options``, or at the URL that it is.

        ``options`` stands for mount's ``-o``; all other arguments are mount's long options about keys, with
        underscores: passfile, keyslots, wrapped_passphrase, raw_key, extpass … (one value or several).
        """
        given = {name: more.pop(name) for name in keysource.NAMES & more.keys()}
        unknown = more.keys() - _OF_FSSPEC
        if unknown:
            raise TypeError(f"unknown arguments: {', '.join(sorted(unknown))}")
        super().__init__(**more)
        place = root or fo
        if fs is None and target_protocol:
            fs = fsspec.filesystem(target_protocol, **(target_options or {}))
        elif fs is None:
            fs, place = fsspec.url_to_fs(place, **(target_options or {}))
        self.store = LowerStore(fs, place)
        self._heads = Heads(self.store)
        self._given = given
        self._options = options
        self._opened: Opened | None = None
        self._told_hidden = False

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        stripped = super()._strip_protocol(path)
        return stripped.lstrip("/") if isinstance(stripped, str) else stripped

    def __reduce__(self) -> Any:
        if keysource.only_here(self._given, self._options):
            raise TypeError("a passphrase from a descriptor or standard input cannot be pickled")
        return super().__reduce__()

    def _tree(self) -> Opened:
        """The keys, looked for in this process. Raises FusecryptError, OSError."""
        opened = self._opened
        if opened is None or not opened.is_ours:
            # A forked child has zeros where its parent had keys.
            keys = keysource.key_options(self._given, self._options)
            opened = self._opened = open_tree(self.store, self._heads, keys)
        return opened

    def invalidate_cache(self, path: str | None = None) -> None:
        """Read listings and headers anew."""
        self._heads.forget()
        self.store.fs.invalidate_cache()
        super().invalidate_cache(path)

    # Looking

    def _lower_path(self, path: str) -> str:
        """Where an upper path lies, there or not. Raises OSError for what is no name, and for a way through a
        symlink: it may lead out of the tree."""
        at, codec = self.store.root, self._tree().codec
        for name in filter(None, path.split("/")):
            if at != self.store.root:
                self._refuse_link(at, path)
            try:
                spellings = codec.spellings(os.fsencode(name))
                places = [join(at, os.fsdecode(each)) for each in spellings]
            except FusecryptError as error:  # it is too long to be there
                raise as_oserror(error, path) from error
            at = next((each for each in places[:-1] if self.store.has(each)), places[-1])
        return at

    def _refuse_link(self, lower: str, path: str) -> None:
        if self.store.is_link(lower):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def _look(self, path: str) -> Lower:
        try:
            return self.store.look(self._lower_path(path))
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def info(self, path: str, sizes: bool = True, **_: Any) -> dict[str, Any]:
        """As fsspec has it; without ``sizes`` those of files are None, and no header is read."""
        path = self._strip_protocol(path)
        if not path:
            return dict(_ROOT)
        return self._infos([(path, self._look(path))], sizes)[0]

    def exists(self, path: str, **more: Any) -> bool:
        """Whether there is such an object. A key that does not fit is an error."""
        try:
            self.info(path, sizes=False, **more)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def ls(self, path: str, detail: bool = True, sizes: bool = True, **_: Any) -> list[Any]:
        """As fsspec has it; without ``sizes`` those of files are None, and no header is read."""
        path = self._strip_protocol(path)
        lower = self._lower_path(path)
        if path:
            self._refuse_link(lower, path)
        try:
            listed = self.store.entries(lower)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        if len(listed) == 1 and listed[0].path.strip("/") == lower.strip("/"):
            shown = [(path, listed[0])]
        else:
            shown = [(join(path, name), each) for each in listed if (name := self._name(each)) is not None]
        return self._infos(shown, sizes) if detail else sorted(name for name, _ in shown)

    def _name(self, lower: Lower) -> str | None:
        """The upper name; None for what is not shown, which is logged once."""
        name = self._tree().codec.decode(lower.name)
        if name is None and not self._told_hidden:
            self._told_hidden = True
            _log.warning("names that do not decode are left out, such as %s", lower.path)
        return None if name is None else os.fsdecode(name)

    def _infos(self, objects: Sequence[tuple[str, Lower]], sizes: bool) -> list[dict[str, Any]]:
        files = [lower for _, lower in objects if lower.kind == FILE and sizes]
        heads = dict(zip((lower.path for lower in files), self._heads.of_many(files), strict=True))
        tree = self._tree()
        return [describe(path, lower, heads.get(lower.path), tree) for path, lower in objects]

    # fsspec asks for details to get at names: sizes, which cost a look at each file, are left out then.

    def walk(self, path: str, *arguments: Any, **more: Any) -> Any:
        more.setdefault("sizes", more.get("detail", False))
        return super().walk(path, *arguments, **more)

    def find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, **more: Any) -> Any:
        more.setdefault("sizes", more.get("detail", False))
        return super().find(path, maxdepth, withdirs, **more)

    def glob(self, path: str, maxdepth: int | None = None, **more: Any) -> Any:
        more.setdefault("sizes", more.get("detail", False))
        return super().glob(path, maxdepth, **more)

    def modified(self, path: str) -> Any:
        """When the lower object was changed."""
        return self.store.fs.modified(self._lower_path(self._strip_protocol(path)))

    def created(self, path: str) -> Any:
        """When the lower object was made."""
        return self.store.fs.created(self._lower_path(self._strip_protocol(path)))

    # Reading

    def _contents(self, path: str) -> Contents:
        """Raises OSError naming the file."""
        if not path:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        lower = self._look(path)
        if lower.kind != FILE:
            number = {DIRECTORY: errno.EISDIR, LINK: errno.ELOOP}.get(lower.kind, errno.ENXIO)
            raise OSError(number, os.strerror(number), path)
        try:
            return open_contents(lower, self._heads.of(lower), self._tree().policy, self.store.has_attributes)
        except FusecryptError as error:
            raise as_oserror(error, path) from None

    def decode(self, path: str, contents: Contents, start: int, end: int, octets: bytes | OSError) -> bytes:
        """Upper octets from those of their span, or why there are none. Raises OSError naming the file."""
        try:
            if isinstance(octets, OSError):
                raise octets
            return contents.decode(self._tree().policy, start, end, octets)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        size: int | None = None,
        **more: Any,
    ) -> EcryptfsFile:
        if mode != "rb":
            self._refuse(path)
        contents = self._contents(path)
        return EcryptfsFile(self, path, contents, block_size=block_size, cache_options=cache_options, **more)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Exactly the extents of the range are read."""
        found = self.cat_ranges([path], [start], [end], on_error="raise")[0]
        assert isinstance(found, bytes)
        return found

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[bytes | Exception]:
        """All ranges at once where the lower file system can."""
        if max_gap is not None:
            raise NotImplementedError("ranges are not merged")
        bounds = zip(paths, _each(starts, paths), _each(ends, paths), strict=True)
        wanted = [self._wanted(path, start, end) for path, start, end in bounds]
        found: list[bytes | Exception] = []
        ready = (each for each in wanted if isinstance(each, tuple))
        octets = self.store.read((each[1].lower.path, *each[1].span(*each[2:])) for each in ready)
        for each in wanted:
            try:
                if isinstance(each, Exception):
                    raise each
                found.append(self.decode(*each, next(octets)))
            except OSError as error:
                if on_error != "return":
                    raise
                found.append(error)
        return found

    def _wanted(
        self, path: str, start: int | None, end: int | None
    ) -> tuple[str, Contents, int, int] | OSError:
        path = self._strip_protocol(path)
        try:
            contents = self._contents(path)
        except OSError as error:
            return error
        first, last, _ = slice(start, end).indices(contents.size)
        return path, contents, first, max(first, last)

    # Writing, which is refused

    def _refuse(self, path: Any, *_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    mkdir = makedirs = rmdir = rm_file = rm = _rm = cp_file = mv = put_file = pipe_file = touch = _refuse


def _each(bound: Any, paths: Sequence[str]) -> Iterable[int | None]:
    """One bound for every path."""
    return bound if isinstance(bound, list | tuple) else [bound] * len(paths)
