"""Contents carried by the workers of a Dask cluster, which see the lower tree and the copy themselves.

Who may submit to a scheduler can run anything on its workers, and so read keys there: only schedulers that
are reached by TLS, or on this machine, are used. Keys do not travel: each worker finds them where it is told.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

from distributed import Client, Security
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker

from fusecrypt.errors import FusecryptError, TreeError, UnsupportedSystemError, UsageError
from fusecrypt.offline import worker
from fusecrypt.offline.copyfile import Carried, Going, Part, copy_contents
from fusecrypt.offline.worker import Job, Outcome, Piece, carry_piece, check_address
from fusecrypt.offline.workerbatch import Batch, carry_batch
from fusecrypt.ondisk.extents import EXTENT
from fusecrypt.sources.given import KeyOptions
from fusecrypt.tree.encrypted import EncryptedFile
from fusecrypt.tree.files import OpenFile
from fusecrypt.tree.tree import by_descriptor

PIECE = 64 << 20
"""Octets of a task: about a second's work, so that little is lost with a worker."""
_MOST_PIECES = 1000
"""Of one file; those of larger files are larger."""
_PATIENCE = 60
"""Seconds in which a cluster without workers may get one."""
_LOOK = 1.0
"""Seconds after which a copy that waits looks whether it should end."""
_AGAIN = "look at the workers' logs; the same command goes on where this one ended"


class Cluster:
    """The workers of one copy."""

    def __init__(self, client: Any, job: Job) -> None:
        """``client`` is connected."""
        self._client = client
        self._job = job
        self._numbers = count()

    def prepare(self) -> None:
        """Have every worker find the keys. Raises UnsupportedSystemError, and what a worker raises that lacks
        the tree or its keys; others may have theirs even so, until :meth:`close`."""
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            raise UnsupportedSystemError("the cluster has no workers", "start some") from None
        self._everywhere(worker.prepare, self._job)

    @property
    def threads(self) -> int:
        """Of all workers together."""
        return sum(each["nthreads"] for each in self._workers().values())

    def close(self) -> None:
        """Have every worker wipe the keys."""
        with suppress(FusecryptError):
            self._everywhere(worker.forget, self._job.name)

    def carry(self, source: OpenFile, target: OpenFile, going: Going, salvage: bool) -> None:
        """As :func:`copy_contents`, from a file of the lower tree to a draft of the copy; TreeError too."""
        done = 0
        futures = [self._submit(carry_piece, piece) for piece in _pieces(source, target)]
        try:
            for outcome in self._outcomes(futures, going):
                assert isinstance(outcome, Outcome)
                if outcome.errno and not outcome.of_source:
                    raise OSError(outcome.errno, os.strerror(outcome.errno))
                done += outcome.octets
                going(outcome.octets)
        finally:
            self._cancel(futures)
        if done != source.size or not futures:
            # What a worker cannot read is told, and saved, as it is without workers.
            going(-done)
            copy_contents(source, target, going, salvage)

    def carry_many(self, work: bytes, parts: Sequence[Part], going: Going) -> Carried:
        """Have small files of the lower tree copied to the directory ``work``. Raises OSError, TreeError."""
        futures = [self._submit(carry_batch, Batch(work, parts))]
        try:
            (carried,) = self._outcomes(futures, going)
        finally:
            self._cancel(futures)
        assert isinstance(carried, Carried)
        if carried.errno:
            raise OSError(carried.errno, os.strerror(carried.errno))
        return carried

    def _submit(self, task: Callable[..., Any], what: Piece | Batch) -> Any:
        key = f"fusecrypt-{self._job.name}-{next(self._numbers)}"
        return self._client.submit(task, self._job, what, key=key, pure=False)

    def _outcomes(self, futures: list[Any], going: Going) -> Iterator[Any]:
        """As they come. Raises TreeError where workers die, or there are none for long."""
        done: SimpleQueue[Any] = SimpleQueue()
        for future in futures:
            future.add_done_callback(done.put)
        left, seen = len(futures), time.monotonic()
        while left:
            going(0)
            try:
                future = done.get(timeout=_LOOK)
            except Empty:
                if self._workers():
                    seen = time.monotonic()
                elif time.monotonic() - seen > _PATIENCE:
                    raise TreeError("the cluster has no workers any more", _AGAIN) from None
            else:
                left, seen = left - 1, time.monotonic()
                yield _outcome(future)

    def _cancel(self, futures: list[Any]) -> None:
        """Have no task begin any more."""
        unfinished = [future for future in futures if not future.done()]
        if unfinished:
            self._client.cancel(unfinished, force=True)

    def _workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.scheduler_info()["workers"]
        return found

    def _everywhere(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have every worker call a function. Raises UnsupportedSystemError for one that cannot."""
        try:
            self._client.run(function, *arguments)
        except FusecryptError:
            raise
        except Exception as error:  # whatever a worker without fusecrypt, or with another one, says
            raise UnsupportedSystemError(
                f"a worker cannot take part: {type(error).__name__}: {error}",
                "install the same version of fusecrypt, with its extra dask, on every worker",
            ) from None


def _pieces(source: OpenFile, target: OpenFile) -> list[Piece]:
    """The tasks for a file; none for what has no header."""
    if not isinstance(source, EncryptedFile) or source.found is None:
        return []
    lower, draft = (os.fsencode(os.readlink(by_descriptor(file.fd))) for file in (source, target))
    size, header = source.size, worker.digest(source.found)
    step = max(PIECE, -(-size // _MOST_PIECES // EXTENT) * EXTENT)
    return [Piece(lower, draft, header, at, min(at + step, size)) for at in range(0, size, step)]


def _outcome(future: Any) -> Any:
    try:
        return future.result()
    except KilledWorker:
        raise TreeError("the workers that copied it died", _AGAIN) from None
    except FutureCancelledError:
        raise TreeError("the scheduler has dropped it", _AGAIN) from None
    except (FusecryptError, OSError):
        raise
    except Exception as error:
        raise TreeError(f"a worker failed: {type(error).__name__}: {error}", _AGAIN) from None


@contextmanager
def cluster(address: str, lower: str, keys: KeyOptions) -> Iterator[Cluster]:
    """The workers of a scheduler, ready to copy from a tree. Raises UsageError, and as :class:`Cluster`."""
    check_address(address)
    try:
        security: Any = Security()  # type: ignore[no-untyped-call]
        if address.startswith("tls:") and security.get_connection_args("client")["ssl_context"] is None:
            raise UsageError(
                f"{address} needs a certificate",
                "set distributed.comm.tls.ca-file, .client.cert and .client.key in Dask's configuration",
            )
        client: Any = Client(address, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        raise UnsupportedSystemError(
            f"cannot reach the scheduler {address}: {error}", "is it running, and is this its address?"
        ) from None
    with client:
        workers = Cluster(client, Job(uuid.uuid4().hex, os.path.realpath(lower), keys))
        try:
            workers.prepare()
            yield workers
        finally:
            workers.close()
