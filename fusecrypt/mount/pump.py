"""Wait for the next FUSE request without paying for the scheduler each time.

pyfuse3's workers await a module-level coroutine before each request; its own version takes a lock, registers
with epoll and goes through a reschedule, which costs more than most requests do. Here one worker leads: it
polls the device a bounded number of times right after a reply, while requests keep coming, and only then
sleeps in trio. The others are parked; a request that is about to wait for a thread hands the lead over.
Other tasks get their turn every so many requests, and whenever there is nothing to do.
"""

from __future__ import annotations

import os

import pyfuse3
import trio

from fusecrypt.errors import UnsupportedSystemError
from fusecrypt.mount.negotiate import Negotiation
from fusecrypt.native import POLL_GONE, POLL_READABLE, poll

WORKERS = 32
"""Requests that can wait in threads at the same time; pyfuse3 starts as many tasks."""
_SPINS = 60
"""Polls before sleeping: about as long as the kernel takes to wake a sleeper. None on a single CPU."""
_TURN = 100
"""Requests after which other tasks get a turn."""


class Pump(trio.abc.Instrument):
    """Takes the place of pyfuse3's wait; as an instrument of trio's it learns of a leader that ends.

    ``gone`` says that the kernel has closed the connection: the mount is no more.
    """

    def __init__(self, negotiation: Negotiation) -> None:
        """Raises UnsupportedSystemError if this pyfuse3 does not wait in the known way."""
        if not hasattr(pyfuse3, "_wait_fuse_readable"):
            raise UnsupportedSystemError("this version of pyfuse3 is not supported", "install pyfuse3 3.5")
        pyfuse3._wait_fuse_readable = self._wait
        self._negotiation = negotiation
        self._fd = negotiation.session_fd
        self._spins = _SPINS if len(os.sched_getaffinity(0)) > 1 else 1
        self._answered = 0
        self._leader: trio.lowlevel.Task | None = None
        self._parked = trio.lowlevel.ParkingLot()
        self._ended = False
        self.gone = False

    def hand_over(self) -> None:
        """To be called by a handler before it waits: another worker takes the next request."""
        if self._leader is trio.lowlevel.current_task():
            self._leader = None
            self._parked.unpark()

    def stop(self) -> None:
        """End all workers that wait for a request."""
        self._end()
        trio.lowlevel.notify_closing(self._fd)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """A leader ends when its read finds the connection closed; the others must not wait for it."""
        if task is self._leader:
            self.gone = self.gone or not self._ended
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._parked.unpark_all()

    async def _wait(self) -> bool:
        """True when a request can be read, False to end the worker."""
        task = trio.lowlevel.current_task()
        while self._leader is not None and self._leader is not task and not self._ended:
            await self._parked.park()
        if self._ended:
            return False
        self._leader = task
        self._answered += 1
        if self._answered == 1:
            return True  # the kernel's first request is there already
        if self._answered == 2:
            self._negotiation.finish()
        state = 0
        if self._answered % _TURN:
            state = poll(self._fd, self._spins, 0)
        else:
            await trio.lowlevel.checkpoint()
        if state == 0 and not self._ended:
            try:
                await trio.lowlevel.wait_readable(self._fd)
            except trio.ClosedResourceError:
                return False
            state = poll(self._fd, 1, 0)
        if state == POLL_GONE:
            self.gone = True
            self._end()
        return state == POLL_READABLE or not self._ended
