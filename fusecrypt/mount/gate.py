"""Who may touch an open file while a request for it waits in a thread.

Most requests never meet a gate: they are answered at once, on the loop. A gate exists for a node only while
a request for it is in a thread; then reads run beside reads, and everything else runs alone. The file is
marked as busy then, which keeps the express lane away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from fusecrypt.tree.nodes import Node


class _Gate:
    def __init__(self) -> None:
        self.changed = trio.Condition()
        self.readers = 0
        self.writing = False
        self.users = 0


class Gates:
    """The gates of all nodes that have one. ``node in gates`` tells a request to come through them."""

    def __init__(self) -> None:
        self._gates: dict[Node, _Gate] = {}

    def __contains__(self, node: Node) -> bool:
        return node in self._gates

    @asynccontextmanager
    async def shared(self, node: Node) -> AsyncIterator[None]:
        """For reads."""
        async with self._user(node) as gate:
            async with gate.changed:
                while gate.writing:
                    await gate.changed.wait()
                gate.readers += 1
            try:
                yield
            finally:
                with trio.CancelScope(shield=True):
                    async with gate.changed:
                        gate.readers -= 1
                        gate.changed.notify_all()

    @asynccontextmanager
    async def alone(self, node: Node) -> AsyncIterator[None]:
        """For everything else."""
        async with self._user(node) as gate:
            async with gate.changed:
                while gate.writing or gate.readers:
                    await gate.changed.wait()
                gate.writing = True
            try:
                yield
            finally:
                with trio.CancelScope(shield=True):
                    async with gate.changed:
                        gate.writing = False
                        gate.changed.notify_all()

    @asynccontextmanager
    async def _user(self, node: Node) -> AsyncIterator[_Gate]:
        gate = self._gates.setdefault(node, _Gate())
        gate.users += 1
        file = node.file
        if file is not None:
            file.busy = True
        try:
            yield gate
        finally:
            gate.users -= 1
            if gate.users == 0:
                del self._gates[node]
                if file is not None:
                    file.busy = False
