"""The daemon's side of :mod:`fusecrypt.mount.status`."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio

from fusecrypt import __version__
from fusecrypt.mount.config import MountConfig
from fusecrypt.mount.pump import Pump
from fusecrypt.mount.replies import failures
from fusecrypt.mount.status import PEER, address, describe, user_of
from fusecrypt.native import memory_locked

log = logging.getLogger("fusecrypt")
_PAUSE = 1.0


class Reporter:
    """Knows all that a mount tells about itself."""

    def __init__(self, config: MountConfig, pump: Pump) -> None:
        self._config = config
        self._pump = pump
        self._since = time.time()

    def report(self) -> dict[str, Any]:
        """The answer to who asks, for JSON."""
        return {
            "lower": self._config.lower,
            "key_source": self._config.key_source,
            **describe(self._config.policy),
            "pid": os.getpid(),
            "version": __version__,
            "since": round(self._since),
            "requests": self._pump.requests,
            "requests_by_lane": self._pump.requests_by_lane,
            "inodes": self._pump.inodes,
            "failures": {errno.errorcode.get(code, str(code)): n for code, n in sorted(failures.items())},
            "memory_locked": memory_locked(),
        }

    async def serve(self, device: str, task_status: trio.TaskStatus[None]) -> None:
        """Answer until cancelled. A mount that cannot be asked works all the same."""
        with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM) as listener:
            try:
                await listener.bind(address(device))
                listener.listen()
            except OSError as error:
                log.info("this mount has no status: %s", error)
                return
            finally:
                task_status.started()
            while True:
                try:
                    await _answer(listener, self.report)
                except OSError:  # no descriptor left, for now
                    await trio.sleep(_PAUSE)


async def _answer(listener: trio.socket.SocketType, report: Callable[[], dict[str, Any]]) -> None:
    connection, _ = await listener.accept()
    with connection, suppress(OSError):
        if user_of(connection.getsockopt(*PEER)) in (0, os.geteuid()):
            await connection.send(json.dumps(report()).encode())
