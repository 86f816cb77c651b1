"""The pump, where its helpers fail."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest
import trio

from fusecrypt.mount.pump import Pump


@pytest.mark.parametrize("failure", [RuntimeError("can't start new thread"), MemoryError()])
def test_without_a_thread_a_request_is_answered_all_the_same(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the mount goes on."""
    resumed = trio.Event()

    def fetch() -> None:
        raise failure

    aside: Any = SimpleNamespace(fetch=fetch)
    lane: Any = SimpleNamespace(
        attach=lambda fd: None, aside=lambda: aside, resume=lambda got: resumed.set(), give_up=lambda: None
    )
    monkeypatch.setattr(pyfuse3, "_wait_fuse_readable", None)
    pump = Pump(SimpleNamespace(session_fd=0), lane, SimpleNamespace(nodes=None))  # type: ignore[arg-type]

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(pump.serve)
            pump._put_aside()
            with trio.fail_after(5):
                await resumed.wait()
            nursery.cancel_scope.cancel()

    trio.run(work)
