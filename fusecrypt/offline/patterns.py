"""Which objects of a tree are meant: shell patterns that include and exclude."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable


class Selection:
    """Objects chosen by patterns. One without ``/`` is matched with names, another one with whole paths from
    the root; ``*`` matches slashes too. What is below a matching directory goes with it."""

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = [_Pattern(pattern) for pattern in include]
        self._exclude = [_Pattern(pattern) for pattern in exclude]

    def excludes(self, path: bytes) -> bool:
        return any(matches(path) for matches in self._exclude)

    def includes(self, path: bytes) -> bool:
        """Whether the object itself is meant; what is below a meant directory is too, without asking."""
        return not self._include or any(matches(path) for matches in self._include)


class _Pattern:
    def __init__(self, pattern: str) -> None:
        self._whole = "/" in pattern.rstrip("/")
        self._expression = re.compile(fnmatch.translate(pattern.strip("/")))

    def __call__(self, path: bytes) -> bool:
        text = os.fsdecode(path if self._whole else path.rpartition(b"/")[2])
        return self._expression.match(text) is not None
