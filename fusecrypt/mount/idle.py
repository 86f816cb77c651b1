"""End a mount that nobody uses."""

from __future__ import annotations

from collections.abc import Callable

import trio

from fusecrypt.mount.unmount import unmount_if_unused

_LOOKS = 8
"""How often in its time an idle mount is looked at: it may end that much later than it should."""


async def end_when_idle(device: str, seconds: float, requests: Callable[[], int]) -> None:
    """Unmount once there was no request for ``seconds``; a mount that is in use even so gets as many again.

    ``requests`` counts them. What is answered from the kernel's caches is no request.
    """
    step, quiet, before = seconds / _LOOKS, 0, requests()
    while True:
        await trio.sleep(step)
        now = requests()
        quiet, before = (quiet + 1 if now == before else 0), now
        if quiet >= _LOOKS:
            if await trio.to_thread.run_sync(unmount_if_unused, device, abandon_on_cancel=True):
                return
            quiet = 0
