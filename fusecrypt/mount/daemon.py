"""The process behind a mount: started fresh with keys in native memory, it never saw a passphrase.

Usage: ``python -m fusecrypt.mount.daemon FD``, by :mod:`fusecrypt.mount.spawn` only. FD is a socket on which
the mount arrives as :mod:`fusecrypt.mount.config` says. One octet on the descriptor that comes with it says
that the mount answers; anything else there is the message of a failure.
"""

from __future__ import annotations

import errno
import logging
import logging.handlers
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from io import FileIO
from typing import NamedTuple

import pyfuse3
import trio

from fusecrypt import native
from fusecrypt.errors import FusecryptError
from fusecrypt.mount import lock
from fusecrypt.mount.config import READY, MountConfig, failure, receive
from fusecrypt.mount.device import mount_device
from fusecrypt.mount.idle import end_when_idle
from fusecrypt.mount.mounts import mount_on, storage_of
from fusecrypt.mount.negotiate import Negotiation
from fusecrypt.mount.notify import keep_alive, notify
from fusecrypt.mount.operations import Operations
from fusecrypt.mount.pump import WORKERS, Pump
from fusecrypt.mount.readahead import read_further_ahead
from fusecrypt.mount.reporter import Reporter
from fusecrypt.mount.unmount import detach, flush_and_detach
from fusecrypt.tree.tree import Tree

_PATIENCE = 10.0
"""Seconds that open files of a busy mount get after SIGTERM, once everything is written."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that end the mount; SIGHUP comes when the terminal of a foreground mount is closed."""

log = logging.getLogger("fusecrypt")


class Place(NamedTuple):
    """Where this mount is; ``device`` ("major:minor") tells it from others on the same path."""

    path: str
    device: str


def main(arguments: list[str]) -> int:
    """Serve one mount until it is unmounted; returns the exit status."""
    native.harden_process()
    with socket.socket(fileno=int(arguments[0])) as connection:
        received = receive(connection)
    if received is None:
        return 0
    config, root_fd, ready_fd = received
    _prepare_process(config)
    ready = open(ready_fd, "wb", buffering=0)  # noqa: SIM115 - closed as soon as the mount answers
    try:
        _serve(config, root_fd, ready)
    except (FusecryptError, OSError, RuntimeError, ExceptionGroup) as error:
        reason = _first(error)
        if config.foreground or not _tell(ready, reason):
            log.error("%s", reason)
        return 1
    return 0


def _first(error: Exception) -> Exception:
    """The first of the errors in a group, which may be one of groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _tell(ready: FileIO, reason: Exception) -> bool:
    """Answer that there is no mount; False if it had been answering, so that nobody waits any more."""
    if ready.closed:  # its number may be that of a lower file by now
        return False
    try:
        ready.write(failure(reason))
    except OSError:
        return False
    return True


def _prepare_process(config: MountConfig) -> None:
    os.umask(0)
    os.chdir("/")
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):  # the kernel keeps callers to their own
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (hard, hard))
    _set_up_log(config)
    if not native.memory_locked():
        log.info("key memory is not locked: raise the memory lock limit (ulimit -l) to keep it out of swap")


def _set_up_log(config: MountConfig) -> None:
    """The terminal in the foreground; syslog, which the journal reads too, as a daemon."""
    handler: logging.Handler = logging.StreamHandler()
    if not config.foreground and os.path.exists("/dev/log"):
        handler = logging.handlers.SysLogHandler("/dev/log")
        handler.ident = "fusecrypt: "
    handler.setFormatter(
        logging.Formatter("%(message)s" if not config.foreground else "fusecrypt: %(message)s")
    )
    handler.addFilter(_worth_telling)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO if config.verbose else logging.WARNING)


def _worth_telling(record: logging.LogRecord) -> bool:
    """Not that the kernel no longer waits for an answer: the caller was killed, or the mount is gone."""
    in_vain = "fuse_reply_* failed with " + os.strerror(errno.ENOENT)
    return not (record.name.startswith("pyfuse3") and record.getMessage().endswith(in_vain))


def _serve(config: MountConfig, root_fd: int, ready: FileIO) -> None:
    policy = config.policy
    use = lock.use_of(read_only=policy.read_only, shared=policy.shared)
    with suppress(OSError):  # where there are no such locks the command has said so
        lock.hold(root_fd, config.lower, use)
    tree = Tree(root_fd, policy)
    operations = Operations(
        tree,
        writeback=not policy.shared,
        storage=storage_of(root_fd),
        kernel_checks="default_permissions" in config.options,
    )
    negotiation = Negotiation(mount_device(config.lower, config.mountpoint, config.options))
    if use is lock.Use.READ:  # from now on the mount table tells of it
        with suppress(OSError):
            lock.release(root_fd)
    mounted = mount_on(config.mountpoint)
    place = Place(config.mountpoint, mounted.device if mounted else "")
    pump = Pump(negotiation, operations.lane, tree, lambda: read_further_ahead(place.device))
    try:
        pyfuse3.init(operations, f"/dev/fd/{negotiation.session_fd}", set())
        operations.before_waiting = pump.hand_over
        trio.run(_run, config, place, pump, ready)
        pyfuse3.close(unmount=False)
    finally:
        if not pump.gone:  # else nothing of ours is left there, and the device number may be another's
            with suppress(FusecryptError, OSError):
                detach(place.device)
        operations.handles.close_all()
        tree.close()


async def _run(config: MountConfig, place: Place, pump: Pump, ready: FileIO) -> None:
    trio.lowlevel.add_instrument(pump)
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, place, pump, nursery.cancel_scope)
        await nursery.start(pump.serve)
        await nursery.start(Reporter(config, pump).serve, place.device)
        if not config.foreground:
            os.setsid()
        ready.write(READY)
        ready.close()
        if not config.foreground:
            _leave_terminal()
        notify("READY=1")
        nursery.start_soon(keep_alive)
        if config.idle is not None:
            nursery.start_soon(end_when_idle, place.device, config.idle, lambda: pump.requests)
        await pyfuse3.main(max_tasks=WORKERS)
        nursery.cancel_scope.cancel()


def _leave_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


async def _watch_signals(
    place: Place, pump: Pump, loop: trio.CancelScope, task_status: trio.TaskStatus[None]
) -> None:
    """On a first signal write everything and unmount, which ends the loop; on a second one stop."""
    with trio.open_signal_receiver(*_ENDING) as signals:
        task_status.started()
        async for _ in signals:
            break
        log.info("unmounting %s", place.path)
        notify("STOPPING=1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_unmount, place, pump)
            async for _ in signals:
                break
            log.warning("stopping although %s is still in use", place.path)
            loop.cancel()


async def _unmount(place: Place, pump: Pump) -> None:
    try:
        await trio.to_thread.run_sync(flush_and_detach, place.device, abandon_on_cancel=True)
    except (FusecryptError, OSError) as error:
        log.error("%s; a second signal stops the daemon all the same", error)
        return
    await trio.sleep(_PATIENCE)
    log.warning("files in %s are still open; what is written to them from now on is lost", place.path)
    pump.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
