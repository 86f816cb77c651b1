"""The copying itself: one thread walks and decides what each object needs."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing
from dataclasses import dataclass

from fusecrypt.errors import FusecryptError, TreeError
from fusecrypt.offline.arrivals import Arrivals
from fusecrypt.offline.copyfile import Workers
from fusecrypt.offline.items import Enter, Item, Problem, Tally, problem_of
from fusecrypt.offline.restore import OWNERS, Restorer
from fusecrypt.offline.rules import DEVICE, IN_THE_WAY, Judge, Rules, UnfinishedError
from fusecrypt.offline.standing import Standing, standing
from fusecrypt.offline.target import Target
from fusecrypt.offline.walk import Event, LinkTable, Source, Tell, Walk, Xattrs

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


@dataclass
class _Level:
    """A directory on the way to where the walk is."""

    item: Item
    made: bool = False
    failed: bool = False
    fresh: bool = False
    """Nothing was in it when it was entered."""


class Transfer:
    """One copy. ``tell`` hears of every object that is not copied as it is."""

    def __init__(
        self, source: Source, target: Target, rules: Rules, tell: Tell, tally: Tally, workers: Workers
    ) -> None:
        self._source = source
        self._target = target
        self._rules = rules
        self._judge = Judge(rules, tell)
        self._tally = tally
        self._walk = Walk(source, rules.selection)
        self._restorer = Restorer(rules.special)
        self._links = LinkTable()
        self._levels: list[_Level] = []
        self._arrivals = Arrivals(
            source, target, rules, self._judge, self._restorer, self._links, tally, workers
        )

    def run(self) -> None:
        """Copy all. Raises UnfinishedError; TreeError where the target takes no more; OSError."""
        with closing(self._arrivals) as arrivals, closing(self._walk.events()) as events:
            for event in events:
                self._take(event)
            arrivals.settle()
        if self._target.flushes_together:
            self._target.flush()
        if self._restorer.owners_lost:
            self._judge.tell(Problem(b".", OWNERS, 0))

    def _take(self, event: Event) -> None:
        if isinstance(event, Item):
            if self._ready():
                self._object(event)
        elif isinstance(event, Problem):
            self._judge.problem(event)
        elif isinstance(event, Enter):
            self._levels.append(_Level(event.item))
            if (event.wanted or not event.item.path) and not self._ready():
                self._levels.pop()
                self._walk.prune()
        elif self._levels.pop().made:
            self._arrivals.leave(event.item, self._xattrs(event.item))

    def _ready(self) -> bool:
        """Make the directories that lead here, as far as they are not there."""
        if self._levels[-1].made:
            return True
        for level in self._levels:
            if level.failed:
                return False
            if not level.made:
                level.failed = not self._make_directory(level)
        return not self._levels[-1].failed

    def _make_directory(self, level: _Level) -> bool:
        item = level.item
        reason = self._target.check(item) if item.path else ""
        if reason:
            self._judge.problem(Problem(item.path, f"{reason}; nothing in it was copied"))
            return False
        try:
            level.fresh = self._target.make_directory(item)
        except (OSError, FusecryptError) as error:
            self._judge.failure(item.path, error)
            return False
        level.made = True
        return True

    def _xattrs(self, item: Item) -> Xattrs | None:
        try:
            return self._source.xattrs(item)
        except OSError as error:
            self._judge.problem(problem_of(item.path, error))
            return None

    def _object(self, item: Item) -> None:
        if item.is_device and not self._rules.special:
            self._judge.tell(Problem(item.path, DEVICE, 0))
            return
        reason = self._target.check(item)
        if reason:
            self._judge.problem(Problem(item.path, reason))
            return
        try:
            if not self._levels[-1].fresh and self._stands(item):
                return
            if self._link(item):
                self._links.note(item)
            elif item.kind == stat.S_IFREG:
                self._arrivals.begin(item)
                self._links.note(item)
            else:
                self._make(item)
        except (UnfinishedError, TreeError):
            raise
        except (OSError, FusecryptError) as error:
            self._links.forget(item)
            self._judge.failure(item.path, error)

    def _stands(self, item: Item) -> bool:
        """Whether the object needs no copy, or cannot have one."""
        found = standing(self._source, self._target, item)
        if found is Standing.DONE:
            self._links.note(item)
            self._tally.there += 1
            self._tally.objects += 1
            if item.kind == stat.S_IFREG:
                self._tally.read(item.size)
            return True
        if found is Standing.OTHER and not self._rules.overwrite:
            self._judge.problem(Problem(item.path, IN_THE_WAY))
            return True
        return False

    def _link(self, item: Item) -> bool:
        """Make a link to what was copied before, if that is so."""
        first = self._links.first(item)
        if first is None:
            return False
        if self._arrivals.expects(first):
            self._arrivals.settle()
            if self._links.first(item) is None:
                return False
        try:
            self._target.link(first, item.path, self._rules.overwrite)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            text = f"no further link to {os.fsdecode(first)} can be made ({error.strerror}): it is a copy"
            self._judge.tell(Problem(item.path, text, 0))
            self._links.forget(item)
            return False
        self._tally.objects += 1
        return True

    def _make(self, item: Item) -> None:
        """A symlink or special file."""
        link = self._source.readlink(item) if item.kind == stat.S_IFLNK else b""
        xattrs = self._source.xattrs(item)
        draft = self._target.make(item, link)
        try:
            lost = self._restorer.restore(draft.fd, item, xattrs, path=True)
        except BaseException:
            self._target.discard(draft)
            raise
        self._target.commit(draft, item.path, self._rules.overwrite)
        self._links.note(item)
        self._tally.objects += 1
        self._judge.lost(item, lost)
