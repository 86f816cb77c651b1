"""The copying itself: one thread walks and names, others carry contents.

A file is made under a temporary name, gets contents and attributes, is flushed, and only then renamed; a
directory gets its attributes after all in it. So what stands under its name is whole, whenever a run ends.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections import deque
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice

from fusecrypt.errors import FusecryptError, TreeError
from fusecrypt.offline.copyfile import ReadError
from fusecrypt.offline.filling import Fillers, Filling
from fusecrypt.offline.items import Enter, Item, Leave, Problem, Tally, problem_of
from fusecrypt.offline.restore import OWNERS, Lost, Restorer
from fusecrypt.offline.rules import DEVICE, FULL, IN_THE_WAY, PARTIAL, Judge, Rules, UnfinishedError
from fusecrypt.offline.standing import Standing, standing
from fusecrypt.offline.target import Target
from fusecrypt.offline.walk import Event, LinkTable, Source, Tell, Walk, Xattrs

_WINDOW = 128
"""The most objects that are begun and not yet in place."""
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


@dataclass
class _Level:
    """A directory on the way to where the walk is."""

    item: Item
    made: bool = False
    failed: bool = False
    fresh: bool = False
    """Nothing was in it when it was entered."""


@dataclass
class _Leaving:
    """A directory that waits for what is in it."""

    item: Item
    xattrs: Xattrs | None


class Transfer:
    """One copy. ``tell`` hears of every object that is not copied as it is."""

    def __init__(
        self, source: Source, target: Target, rules: Rules, tell: Tell, tally: Tally, workers: int
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
        # Each file that is begun has two descriptors; a tree's directories may take a quarter of all.
        self._window = min(_WINDOW, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
        self._pending: deque[Filling | _Leaving] = deque()
        self._fillers = Fillers(self._restorer, tally, rules.keep_going, workers)

    def run(self) -> None:
        """Copy all. Raises UnfinishedError; TreeError where the target takes no more; OSError."""
        with closing(self._fillers), closing(self._walk.events()) as events:
            try:
                for event in events:
                    self._take(event)
                    if len(self._pending) >= self._window:
                        self._settle(self._window // 2)
                self._settle(0)
            except BaseException:
                self._abandon()
                raise
        if self._restorer.owners_lost:
            self._judge.tell(Problem(b".", OWNERS, 0))

    def _take(self, event: Event) -> None:
        if isinstance(event, Problem):
            self._judge.problem(event)
        elif isinstance(event, Enter):
            self._levels.append(_Level(event.item))
            if (event.wanted or not event.item.path) and not self._ready():
                self._levels.pop()
                self._walk.prune()
        elif isinstance(event, Leave):
            if self._levels.pop().made:
                self._pending.append(_Leaving(event.item, self._xattrs(event.item)))
        elif self._ready():
            self._object(event)

    def _ready(self) -> bool:
        """Make the directories that lead here, as far as they are not there."""
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
                self._begin(item)
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
        if any(isinstance(each, Filling) and each.item.path == first for each in self._pending):
            self._settle(0)
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
        self._tell_lost(item, lost)

    def _begin(self, item: Item) -> None:
        source = self._source.open(item)
        try:
            draft = self._target.begin(item)
        except BaseException:
            self._source.close_file(item, source)
            raise
        self._pending.append(self._fillers.begin(item, source, draft))
        self._links.note(item)

    def _settle(self, keep: int) -> None:
        """Bring the oldest of what is pending to its end, all but ``keep``."""
        batch = list(islice(self._pending, max(0, len(self._pending) - keep)))
        self._fillers.end([each for each in batch if isinstance(each, Filling)])
        for each in batch:
            self._pending.popleft()
            if isinstance(each, _Leaving):
                self._leave(each)
            else:
                self._finish(each)

    def _leave(self, leaving: _Leaving) -> None:
        try:
            lost = self._target.leave(leaving.item, leaving.xattrs, self._restorer)
        except (OSError, FusecryptError) as error:
            self._judge.failure(leaving.item.path, error)
        else:
            self._tell_lost(leaving.item, lost)

    def _finish(self, filling: Filling) -> None:
        """Give a file its name, or do away with it."""
        item, error, problem = filling.item, filling.error, None
        try:
            if isinstance(error, ReadError):
                problem = self._rescue(filling, error)
            elif error is None:
                self._target.commit(filling.draft, item.path, self._rules.overwrite)
            else:
                self._target.discard(filling.draft)
        except (OSError, FusecryptError) as failure:
            error = failure
        finally:
            self._source.close_file(item, filling.source)
        if error is None:
            self._tally.objects += 1
            self._tell_lost(item, filling.lost)
            return
        self._links.forget(item)
        if problem is not None:
            self._judge.problem(problem)
        elif not isinstance(error, ReadError):
            self._judge.failure(item.path, error)

    def _rescue(self, filling: Filling, error: ReadError) -> Problem:
        """Keep what could be read of a damaged file, under another name. Raises OSError for a full disk."""
        item = filling.item
        problem = self._source.explain(item.path, filling.source, error.cause)
        if not error.saved:
            self._target.discard(filling.draft)
            return problem
        path = item.path + PARTIAL
        try:
            self._target.commit(filling.draft, path, False)
        except (OSError, FusecryptError) as failure:
            if failure.errno in FULL:
                raise
            reason = problem_of(path, failure).reason
            text = f"what can be read was not copied to {os.fsdecode(path)}: {reason}"
        else:
            text = f"the {error.saved} octets that can be read are in {os.fsdecode(path)}"
        return problem._replace(reason=f"{problem.reason}; {text}")

    def _tell_lost(self, item: Item, lost: list[Lost]) -> None:
        for each in lost:
            self._judge.tell(Problem(item.path, each.what, each.status))

    def _abandon(self) -> None:
        """End the threads' work and leave nothing of it."""
        for each in self._pending:
            if isinstance(each, Filling):
                self._fillers.cancel(each)
                with suppress(OSError, FusecryptError):
                    self._target.discard(each.draft)
                with suppress(OSError):
                    self._source.close_file(each.item, each.source)
