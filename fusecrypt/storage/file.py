"""An open file of a tree, read block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractBufferedFile

from fusecrypt.storage.contents import Contents

if TYPE_CHECKING:
    from fusecrypt.storage.filesystem import EcryptfsFileSystem


class EcryptfsFile(AbstractBufferedFile):  # type: ignore[misc]
    """Read-only and seekable. Pickled, it names its file system and path, and is opened anew."""

    fs: EcryptfsFileSystem

    def __init__(self, fs: EcryptfsFileSystem, path: str, contents: Contents, **more: Any) -> None:
        self._contents = contents
        self._lower: Any = None
        super().__init__(fs, path, mode="rb", size=contents.size, **more)

    def _fetch_range(self, start: int, end: int) -> bytes:
        low, high = self._contents.span(start, end)
        store = self.fs.store
        if store.ranged:
            (octets,) = store.read([(self._contents.lower.path, low, high)])
        else:  # where a stream has to be read up to a place, it is not read twice
            if self._lower is None:
                self._lower = store.fs.open(self._contents.lower.path, "rb")
            self._lower.seek(low)
            octets = self._lower.read(high - low)
        return self.fs.decode(self.path, self._contents, start, end, octets)

    def close(self) -> None:
        if self._lower is not None:
            self._lower.close()
            self._lower = None
        super().close()
