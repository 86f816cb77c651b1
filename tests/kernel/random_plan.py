"""Random plans: what comes next is chosen by what is there, so that most operations find something to do."""

from __future__ import annotations

import itertools
import os
import random
import stat
from pathlib import Path

from tests.kernel import plan
from tests.kernel.plan import Operation

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}
LENGTHS = (1, 2, 15, 16, 17, 100, 4095, 4096, 4097, 9000)
LIMIT = 40_000  # octets; offsets stay below it, so that filling gaps takes no time
NAMES = ("a", "b", "c", "d", "name of 16 octet", "n" * 60, "\udcff\udcfe not utf-8", "m" * 143)


class Model:
    """A plain directory that carries out a random plan while it is made up."""

    def __init__(self, root: Path, seed: str) -> None:
        self._root = root
        self._actor = plan.Directory(root)
        self._random = random.Random(seed)

    def extend(self, count: int) -> tuple[list[Operation], list[str]]:
        """Make up and carry out `count` further operations; they and their outcomes."""
        operations = []
        outcomes = []
        for _ in range(count):
            operations.append(self._next())
            outcomes.append(plan.perform(self._actor, operations[-1]))
        return operations, outcomes

    def _next(self) -> Operation:
        kinds, weights = zip(*_WEIGHTS.items(), strict=True)
        kind = self._random.choices(kinds, weights)[0]
        operation: Operation = getattr(self, "_" + kind)()
        return [kind, *operation]

    # What is there, and what may be made

    def _existing(self, *kinds: str) -> str:
        """A path of one of those kinds; of nothing at all if there is none."""
        paths = [
            Path(directory, name)
            for directory, *names in os.walk(self._root)
            for name in itertools.chain(*names)
        ]
        found = [path for path in sorted(paths) if KINDS[stat.S_IFMT(path.lstat().st_mode)] in kinds]
        return str(self._random.choice(found).relative_to(self._root)) if found else "nothing"

    def _new(self) -> str:
        """A path that often exists already."""
        parent = self._existing("dir") if self._random.random() < 0.6 else "."
        deep = parent.count("/") >= 3
        return str(Path("." if deep or parent == "nothing" else parent, self._random.choice(NAMES)))

    def _file(self) -> str:
        """A file to do something with, and once in a while something else."""
        return self._existing("file") if self._random.random() < 0.95 else self._existing("dir", "link")

    def _offset(self) -> int:
        return self._random.choice([0, *LENGTHS, 8192, self._random.randrange(LIMIT)])

    def _length(self) -> int:
        return self._random.choice([*LENGTHS, self._random.randrange(1, 12_000)])

    def _seed(self) -> int:
        return self._random.randrange(1 << 32)

    # Arguments of operations

    def _create(self) -> Operation:
        return [self._new(), self._mode()]

    def _write(self) -> Operation:
        return [self._file(), self._offset(), self._length(), self._seed()]

    _map = _write

    def _append(self) -> Operation:
        return [self._file(), self._length(), self._seed()]

    _rewrite = _orphan = _append

    def _truncate(self) -> Operation:
        return [self._file(), self._offset()]

    def _read(self) -> Operation:
        return [self._file(), self._offset(), self._length() * 4]

    def _mkdir(self) -> Operation:
        return [self._new(), self._mode()]

    def _rmdir(self) -> Operation:
        return [self._existing("dir")]

    def _unlink(self) -> Operation:
        return [self._existing("file", "link")]

    def _rename(self) -> Operation:
        return [self._existing("file", "link", "dir"), self._new()]

    def _link(self) -> Operation:
        return [self._existing("file", "link"), self._new()]

    def _symlink(self) -> Operation:
        length = self._random.choice([1, 15, 16, 150, 161, 1000])
        return [self._random.choice("xyz\udce4") * length, self._new()]

    def _readlink(self) -> Operation:
        return [self._existing("link")]

    def _chmod(self) -> Operation:
        return [self._existing("file", "dir"), self._mode()]

    def _mode(self) -> int:
        return self._random.randrange(0o1000)


_WEIGHTS = {
    "create": 12,
    "write": 20,
    "append": 10,
    "rewrite": 3,
    "truncate": 12,
    "read": 8,
    "map": 5,
    "orphan": 2,
    "mkdir": 4,
    "rmdir": 1,
    "unlink": 4,
    "rename": 8,
    "link": 4,
    "symlink": 3,
    "readlink": 2,
    "chmod": 4,
}
