"""Tell the service manager how the daemon is: sd_notify(3), which is a datagram of a few words."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import trio


def notify(state: str) -> None:
    """Send ``READY=1``, ``STOPPING=1`` … if a service manager waits for it; never wait for it."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    address = f"\0{place[1:]}" if place.startswith("@") else place
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(state.encode(), socket.MSG_DONTWAIT, address)


async def keep_alive() -> None:
    """Send ``WATCHDOG=1`` twice as often as the service manager wants it, if it does."""
    period, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not period.isdecimal() or process not in ("", str(os.getpid())):
        return
    while True:
        notify("WATCHDOG=1")
        await trio.sleep(int(period) / 2e6)
