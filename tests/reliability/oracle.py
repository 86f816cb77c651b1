"""What may be found in a directory after a crash, given what was done to it and what was stored (fsync).

Files consist of cells of 8 octets. Each names its file, its place and the write it comes from, so that a
file's contents tell which of many writes reached the disk, cell by cell.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Sequence

CELL = 8
EXTENT = 4096
ZERO = 0
"""The version of cells that nobody wrote: gaps and extensions."""
_VERSION, _FILE = 20, 40  # positions in a cell's number; the place of the cell is below


def cells(file: int, version: int, start: int, count: int) -> bytes:
    """What version ``version`` (1 and above) of a file has in ``count`` cells from ``start``."""
    base = file << _FILE | version << _VERSION
    return array("Q", range(base + start, base + start + count)).tobytes()


class History:
    """One file: the versions that each of its cells may have, and the sizes it may have."""

    def __init__(self, number: int, zeros: bool) -> None:
        self.number = number
        self._zeros = zeros
        self._now: list[int] = []
        self._smallest = self._largest = 0
        self._also: dict[int, set[int]] = {}
        """By cell: versions that it may still have besides the present one."""

    @property
    def size(self) -> int:
        """The present size in cells."""
        return len(self._now)

    def write(self, start: int, count: int, version: int) -> None:
        self._extend(start)
        for place in range(start, start + count):
            if place < len(self._now):
                self._also.setdefault(place, set()).add(self._now[place])
                self._now[place] = version
            else:
                if self._zeros:
                    self._also.setdefault(place, set()).add(ZERO)
                self._now.append(version)
        self._note_size()

    def truncate(self, size: int) -> None:
        for place in range(size, len(self._now)):
            self._also.setdefault(place, set()).update((self._now[place], ZERO))
        del self._now[size:]
        self._extend(size)
        self._note_size()

    def _extend(self, size: int) -> None:
        for place in range(len(self._now), size):
            self._also.setdefault(place, set()).add(ZERO)
            self._now.append(ZERO)

    def _note_size(self) -> None:
        self._smallest = min(self._smallest, self.size)
        self._largest = max(self._largest, self.size)

    def stored(self) -> None:
        """An fsync has returned: only what is there now may be found from now on."""
        self._also.clear()
        self._smallest = self._largest = self.size

    def settle(self, data: bytes) -> None:
        """After a crash, with what was found: that is the file now."""
        self._now = [value >> _VERSION & 0xFFFFF for value in array("Q", data)]
        self.stored()

    def wrong(self, data: bytes, missing: Container[int] = ()) -> str | None:
        """What is wrong with these contents, if they cannot be this file's. ``missing`` are extents that
        cannot be read: that is allowed where a change of size was never stored."""
        size, rest = divmod(len(data), CELL)
        if rest or not self._smallest <= size <= self._largest:
            return f"{len(data)} octets instead of {self._smallest * CELL} to {self._largest * CELL}"
        for place, value in enumerate(array("Q", data)):
            version = value >> _VERSION & 0xFFFFF
            if place * CELL // EXTENT in missing:
                if place < self._smallest:
                    return f"octets at {place * CELL} cannot be read"
                continue
            if value != ZERO and value != self.number << _FILE | version << _VERSION | place:
                return f"octets at {place * CELL} that nobody wrote"
            if place < self.size and version == self._now[place]:
                continue
            if version not in self._also.get(place, ()):
                return f"octets at {place * CELL} are of write {version}"
        return None


class Oracle:
    """A directory of such files. Each method is called before the change is asked for, but for
    ``stored()`` and ``settled()``, which say that a promise was given.

    ``zeros`` says that what was appended and not stored may be found as zeros.
    """

    def __init__(self, zeros: bool = False) -> None:
        self._zeros = zeros
        self._files = 0
        self._possible: dict[str, list[History | None]] = {}
        """By name: what may be found there; the last one is what is there now."""

    def names(self) -> list[str]:
        """The files that are there now."""
        return sorted(name for name, histories in self._possible.items() if histories[-1] is not None)

    def file(self, name: str) -> History:
        """The file that has this name now."""
        history = self._possible[name][-1]
        assert history is not None
        return history

    def create(self, name: str) -> None:
        self._files += 1
        self._possible.setdefault(name, [None]).append(History(self._files, self._zeros))

    def remove(self, name: str) -> None:
        self._possible[name].append(None)

    def rename(self, old: str, new: str) -> None:
        self._possible.setdefault(new, [None]).append(self.file(old))
        self._possible[old].append(None)

    def write(self, name: str, start: int, count: int, version: int) -> None:
        self.file(name).write(start, count, version)

    def truncate(self, name: str, size: int) -> None:
        self.file(name).truncate(size)

    def stored(self, name: str) -> None:
        self.file(name).stored()

    def settled(self) -> None:
        """Names are certain: what was done to them is done."""
        for name, histories in self._possible.items():
            self._possible[name] = histories[-1:]

    def complaints(
        self, found: dict[str, bytes], missing: dict[str, Container[int]] | None = None, mend: bool = False
    ) -> list[str]:
        """What in these files contradicts the promises. With ``mend`` they are what is there from now on."""
        wrong = [f"{name}: nobody made it" for name in found.keys() - self._possible.keys()]
        for name, histories in self._possible.items():
            data = found.get(name)
            history, reasons = _matching(histories, data, (missing or {}).get(name, ()))
            if reasons:
                wrong.append(f"{name}: " + "; or ".join(reasons))
            elif mend:
                self._possible[name] = [history]
                if history is not None and data is not None:
                    history.settle(data)
        return wrong


def _matching(
    histories: Sequence[History | None], data: bytes | None, missing: Container[int]
) -> tuple[History | None, list[str]]:
    """The newest of the histories that allows for ``data`` (None: no such file), or why none does."""
    reasons = []
    for history in reversed(histories):
        if history is None or data is None:
            if history is None and data is None:
                return None, []
            reasons.append("it is gone" if data is None else "it should be gone")
            continue
        reason = history.wrong(data, missing)
        if reason is None:
            return history, []
        reasons.append(reason)
    return None, reasons
