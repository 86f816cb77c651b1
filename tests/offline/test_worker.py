"""How long a worker of a cluster keeps the keys of a copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from fusecrypt.errors import UsageError
from fusecrypt.keys.token import AuthToken
from fusecrypt.offline import cluster, worker
from fusecrypt.offline.worker import Job, Piece
from fusecrypt.storage.keysource import key_options
from fusecrypt.tree.policy import Policy
from tests.tree.support import policy
from tests.unit.keys.secrets import secret

KEYS = key_options({}, "")
HERE = SimpleNamespace(address="inproc://1", scheduler=SimpleNamespace(address="inproc://2"))
PIECE = Piece(b"/nowhere", b"/nowhere", b"", 0, 1)


@pytest.fixture
def job() -> Job:
    return Job(f"job {time.monotonic_ns()}", "/nowhere", KEYS)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Policy:
    """The keys that the worker finds."""
    keys = replace(policy(names=False), content=(AuthToken(b"eight oc", secret(bytes(range(64)))),))
    monkeypatch.setattr(worker, "_find", lambda _: keys)
    return keys


def wiped(keys: Policy) -> bool:
    return all(len(token.key) == 0 for token in keys.tokens)


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_keys_end_with_the_copy(job: Job, found: Policy) -> None:
    worker.prepare(job, HERE)
    assert not wiped(found)
    worker.forget(job.name)
    assert wiped(found)
    with pytest.raises(UsageError, match="has ended"):
        worker.carry_piece(job, PIECE)  # it comes late
    assert job.name not in worker._kept


def test_keys_end_when_nothing_comes_any_more(
    job: Job, found: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_LEASE", 0.05)
    worker.prepare(job, HERE)
    wait_for(lambda: wiped(found))
    assert job.name not in worker._kept


def test_a_worker_without_keys_ends_it_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Client:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None: ...
        def wait_for_workers(self, *_: Any, **__: Any) -> None: ...
        def run(self, function: Any, *_: Any) -> None:
            asked.append(function)
            if function is worker.prepare:
                raise UsageError("no key")

    monkeypatch.setattr(cluster, "Client", Client)
    with pytest.raises(UsageError, match="no key"), cluster.cluster("inproc://1", "/nowhere", KEYS):
        pass
    assert asked == [worker.prepare, worker.forget]
