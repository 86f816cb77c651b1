"""Wait for the next FUSE request without paying for the scheduler each time.

pyfuse3's workers await a module-level coroutine before each request; its own version takes a lock, registers
with epoll and goes through a reschedule, which costs more than most requests do. Here one worker leads: it
runs the express lane (fusecrypt/lane.py), which answers what it can and looks a bounded number of times for
the next request, and sleeps in trio when there is none. The others are parked; a request that is about to
wait for a thread hands the lead over. Other tasks get their turn every so many requests.

What a request needs that the lane puts aside is fetched by a thread, which then wakes the leader.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

import pyfuse3
import trio

from fusecrypt.errors import UnsupportedSystemError
from fusecrypt.lane import LANE_ASIDE, LANE_BUSY, LANE_GONE, LANE_REQUEST, Aside, Lane, lane_received
from fusecrypt.mount.negotiate import Negotiation
from fusecrypt.tree.tree import Tree

WORKERS = 128
"""Requests that can wait at the same time, most of them for a thread; pyfuse3 starts as many tasks."""
_SPINS = 60
"""Looks before sleeping: about as long as the kernel takes to wake a sleeper. None on a single CPU."""
_NAP = 2
"""Milliseconds of sleep in the lane before trio's, which is the dearer one. None while others wait."""
_TURN = 64
"""Requests after which other tasks get a turn."""
_FETCHES = 64
"""Requests for what is not in memory that are in threads at the same time; more wait for their turn."""
_LOOK = 0.25
"""Seconds between looks whether somebody who waits for such a request is being killed."""


class Pump(trio.abc.Instrument):
    """Takes the place of pyfuse3's wait; as an instrument of trio's it learns of a leader that ends.

    ``gone`` says that the kernel has closed the connection: the mount is no more.
    """

    def __init__(
        self, negotiation: Negotiation, lane: Lane, tree: Tree, begun: Callable[[], None] = lambda: None
    ) -> None:
        """``begun`` is called once the kernel has been answered for the first time.

        Raises UnsupportedSystemError if this pyfuse3 does not wait in the known way."""
        if not hasattr(pyfuse3, "_wait_fuse_readable"):
            raise UnsupportedSystemError("this version of pyfuse3 is not supported", "install pyfuse3 3.5")
        pyfuse3._wait_fuse_readable = self._wait
        self._negotiation = negotiation
        self._begun = begun
        self._fd = negotiation.session_fd
        self._lane = lane
        self._nodes = tree.nodes
        lane.attach(self._fd)
        self._spins = _SPINS if len(os.sched_getaffinity(0)) > 1 else 1
        self._answered = 0
        self._leader: trio.lowlevel.Task | None = None
        self._parked = trio.lowlevel.ParkingLot()
        self._away: set[trio.lowlevel.Task] = set()
        """Workers whose request is in a thread: they need the loop when it is done."""
        self._aside = 0
        self._some_aside = trio.Event()
        self._threads = trio.CapacityLimiter(_FETCHES)
        self._sleep: trio.CancelScope | None = None
        self._ended = False
        self.gone = False

    @property
    def requests(self) -> int:
        """Requests taken so far."""
        return self.requests_by_lane + self._answered

    @property
    def inodes(self) -> int:
        """Objects that the kernel refers to now, the root among them."""
        return len(self._nodes) + len(self._lane)

    @property
    def requests_by_lane(self) -> int:
        """Those of them that were answered without Python."""
        return self._lane.answered

    def hand_over(self) -> None:
        """To be called by a handler before it waits: another worker takes the next request."""
        task = trio.lowlevel.current_task()
        self._away.add(task)
        if self._leader is task:
            self._leader = None
            self._parked.unpark()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See to the requests that were put aside; runs as long as the mount."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                await self._some_aside.wait()
                await trio.sleep(_LOOK)
                self._lane.give_up()
                if not self._aside:
                    self._some_aside = trio.Event()

    async def _fetch(self, aside: Aside) -> None:
        with suppress(RuntimeError, MemoryError):  # without a thread it is answered with waiting
            await trio.to_thread.run_sync(aside.fetch, abandon_on_cancel=True, limiter=self._threads)
        self._lane.resume(aside)
        self._aside -= 1
        if self._sleep is not None:
            self._sleep.cancel()

    def _put_aside(self) -> None:
        self._aside += 1
        self._nursery.start_soon(self._fetch, self._lane.aside())
        self._some_aside.set()

    def stop(self) -> None:
        """End all workers that wait for a request."""
        self._end()
        trio.lowlevel.notify_closing(self._fd)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """A leader ends when its read finds the connection closed; the others must not wait for it."""
        self._away.discard(task)
        if task is self._leader:
            self.gone = self.gone or not self._ended
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._parked.unpark_all()

    async def _wait(self) -> bool:
        """True when a request can be read, False to end the worker."""
        task = trio.lowlevel.current_task()
        self._away.discard(task)
        while self._leader is not None and self._leader is not task and not self._ended:
            await self._parked.park()
        if self._ended:
            return False
        self._leader = task
        self._answered += 1
        if self._answered == 1:
            return True  # the kernel's first request is there already
        if self._answered == 2:
            self._begin()
        self._nodes.settle()
        if self._answered % _TURN == 0:
            await trio.lowlevel.checkpoint()
        return await self._next()

    def _begin(self) -> None:
        if not lane_received():
            raise UnsupportedSystemError(
                "this pyfuse3 contains a libfuse of its own", "install pyfuse3 built against the system's"
            )
        self._negotiation.finish()
        self._begun()

    async def _next(self) -> bool:
        """Let the lane work until there is a request that it leaves to us; False at the end."""
        while not self._ended:
            state = self._lane.run(self._spins, 0 if self._away or self._aside else _NAP, _TURN)
            if state == LANE_REQUEST:
                return True
            if state == LANE_ASIDE:
                self._put_aside()
                continue
            if state == LANE_GONE:
                self.gone = True
                self._end()
            elif state == LANE_BUSY:
                await trio.lowlevel.checkpoint()
            else:
                try:
                    with trio.CancelScope() as self._sleep:
                        await trio.lowlevel.wait_readable(self._fd)
                except trio.ClosedResourceError:
                    return False
                finally:
                    self._sleep = None
        return False
