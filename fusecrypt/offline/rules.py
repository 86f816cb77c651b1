"""What a copy is to do about objects that cannot be copied as they are."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

from fusecrypt.errors import FusecryptError, TreeError
from fusecrypt.offline.items import Item, Problem, problem_of
from fusecrypt.offline.patterns import Selection
from fusecrypt.offline.restore import Lost
from fusecrypt.offline.walk import Tell

PARTIAL = b".partial"
"""What follows the name of a damaged file where its readable part is kept."""

DEVICE = "a device node, which was left out; --special copies it"
IN_THE_WAY = "something else is there, and is left; --overwrite replaces it"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What no other object can get around."""
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.ENOTEMPTY, errno.EISDIR)


@dataclass(frozen=True)
class Rules:
    """How a copy goes about what is not plain. ``keep_going``: a problem of one object is no end;
    ``overwrite``: other files in the way are replaced; ``special``: devices and set-id bits too."""

    selection: Selection
    keep_going: bool = False
    overwrite: bool = False
    special: bool = False


class UnfinishedError(FusecryptError):
    """A problem that ended a copy."""

    def __init__(self, problem: Problem) -> None:
        path = os.fsdecode(problem.path) or "the root"
        super().__init__(f"{path}: {problem.reason}", "--keep-going names it and copies the rest")
        self.exit_status = problem.status


class Judge:
    """Ends a copy with its first problem, or tells it and lets it go on, as the rules say."""

    def __init__(self, rules: Rules, tell: Tell) -> None:
        self._keep_going = rules.keep_going
        self.tell = tell

    def problem(self, problem: Problem) -> None:
        """Raises UnfinishedError; what is left out by intention (status 0) is only told."""
        if problem.status and not self._keep_going:
            raise UnfinishedError(problem)
        self.tell(problem)

    def lost(self, item: Item, lost: Iterable[Lost]) -> None:
        """What an object that was copied has not got."""
        for each in lost:
            self.tell(Problem(item.path, each.what, each.status))

    def failure(self, path: bytes, error: OSError | FusecryptError) -> None:
        """The problem of an object that could not be copied. Raises UnfinishedError, TreeError."""
        if isinstance(error, OSError):
            if error.errno in FULL:
                text = f"the target takes no more: {os.strerror(error.errno)}"
                raise TreeError(text, "what is copied so far is whole; begin again to go on from there")
            if error.errno in _IN_THE_WAY:
                self.problem(Problem(path, "something else is there, and is left"))
                return
        self.problem(problem_of(path, error))
