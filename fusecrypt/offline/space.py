"""How much there is to copy, and whether it fits, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress

from fusecrypt.errors import FusecryptError, TreeError
from fusecrypt.offline.items import Enter, Item, Problem, Tally
from fusecrypt.offline.patterns import Selection
from fusecrypt.offline.standing import Standing, standing
from fusecrypt.offline.target import Target
from fusecrypt.offline.walk import Event, LinkTable, Source, Walk


class Estimate:
    """One look at all that is to be copied."""

    def __init__(self, source: Source, selection: Selection, tally: Tally, target: Target | None) -> None:
        """The totals go into ``tally``. Without a target nothing is there yet, and all fits."""
        self._walk = Walk(source, selection)
        self._source = source
        self._target = target
        self._tally = tally
        self._links = LinkTable()
        self.octets = 0
        """What the target's file system needs."""
        self.objects = 0

    def misfits(self) -> Iterator[Problem]:
        """Walk, and give what has no place in the target. Failures of the source are for the copy to tell."""
        with closing(self._walk.events()) as events:
            yield from self._look_at(events)

    def _look_at(self, events: Iterator[Event]) -> Iterator[Problem]:
        fresh = False
        for event in events:
            if isinstance(event, Enter):
                item, fresh = event.item, fresh or (not event.item.path and self._is_fresh(event.item))
                wanted = event.wanted and bool(item.path)
            elif isinstance(event, Item):
                item, wanted = event, True
                self._count(item)
            else:
                continue
            if self._target is not None:
                reason = self._target.check(item)
                if reason:
                    yield Problem(item.path, reason)
                elif wanted and (fresh or not self._is_done(item)):
                    if self._links.first(item) is None:
                        self.octets += self._target.needs(item)
                        self.objects += 1
                    self._links.note(item)

    def _is_fresh(self, root: Item) -> bool:
        return self._target is None or self._target.make_directory(root)

    def _count(self, item: Item) -> None:
        self._tally.all_objects += 1
        self._tally.all_octets += item.readable

    def _is_done(self, item: Item) -> bool:
        assert self._target is not None
        with suppress(OSError, FusecryptError):
            return standing(self._source, self._target, item) is Standing.DONE
        return False

    def check_room(self) -> None:
        """Raises TreeError where it does not fit. Compression and holes cannot be foreseen."""
        assert self._target is not None
        octets, objects = self._target.free()
        hint = "make room, or go on all the same with --ignore-space"
        if self.octets > octets:
            raise TreeError(f"about {self.octets} octets are needed, and {octets} are free", hint)
        if self.objects > objects:
            raise TreeError(f"{self.objects} inodes are needed, and {objects} are free", hint)
