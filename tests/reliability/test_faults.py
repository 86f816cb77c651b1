"""Every lower call of the daemon fails once, with everything it can fail with.

Whatever fails: the daemon lives, a step that told of no error has happened, what was stored before is as it
was, and every lower file opens. strace makes the calls fail: the N-th one of a kind, counted in a workload
that makes the same calls each time.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from itertools import count
from operator import and_
from pathlib import Path
from typing import NamedTuple

import pytest

from fusecrypt.tree.policy import Policy
from tests.mount.support import PASSPHRASE, Mount, mounted
from tests.reliability import readers, steps
from tests.reliability.strace import traced
from tests.tree.support import opened, resolved

_ALWAYS = ("EIO",)
_NEW_NAME = (*_ALWAYS, "ENOSPC", "EDQUOT", "EROFS", "ENAMETOOLONG", "EMLINK", "ENOMEM", "EACCES")
_CHANGE = (*_ALWAYS, "ENOSPC", "EDQUOT", "EROFS", "EPERM")
_LOOK = (*_ALWAYS, "ENOMEM", "ESTALE")
FAULTS = {
    "openat": ("EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EDQUOT", "EROFS", "ENAMETOOLONG", "ELOOP"),
    "openat2": ("EIO", "EMFILE", "ENFILE", "ENOMEM", "ELOOP", "EAGAIN", "ENOSYS"),
    "fcntl": ("EMFILE",),
    "newfstatat": _LOOK,
    "pread64": (*_ALWAYS, "EINTR", "ESTALE"),
    "preadv2": (*_ALWAYS, "EAGAIN", "EINTR", "EOPNOTSUPP"),
    "pwrite64": (*_ALWAYS, "ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EINTR"),
    "ftruncate": (*_ALWAYS, "ENOSPC", "EROFS", "EINTR"),
    "fsync": (*_ALWAYS, "ENOSPC", "EDQUOT"),
    "close": (*_ALWAYS, "ENOSPC", "EDQUOT"),
    "mkdirat": _NEW_NAME,
    "mknodat": _NEW_NAME,
    "symlinkat": _NEW_NAME,
    "linkat": _NEW_NAME,
    "renameat": _NEW_NAME,
    "unlinkat": (*_ALWAYS, "EROFS", "EBUSY", "EACCES"),
    "readlinkat": (*_ALWAYS, "ENOMEM", "EACCES"),
    "getdents64": (*_ALWAYS, "ENOMEM"),
    "lseek": _ALWAYS,
    "fstatfs": _ALWAYS,
    "chmod": _CHANGE,
    "utimensat": _CHANGE,
    "setxattr": (*_CHANGE, "EOPNOTSUPP", "E2BIG"),
    "fsetxattr": (*_CHANGE, "EOPNOTSUPP", "E2BIG"),
    "getxattr": (*_ALWAYS, "ERANGE", "EOPNOTSUPP"),
    "fgetxattr": (*_ALWAYS, "ENOMEM"),
    "lgetxattr": (*_ALWAYS, "ENOMEM"),
}
"""The calls on lower objects that the workload makes the daemon make, and what each may say. Not EACCES: the
daemon's rights do not change."""

_LEFT_ALONE = frozenset(
    "read writev epoll_wait epoll_ctl poll recvfrom sendto futex prctl umask getegid geteuid gettid getrandom"
    " mmap munmap mprotect madvise brk restart_syscall clone3 rseq set_robust_list rt_sigaction"
    " rt_sigprocmask sched_yield exit exit_group".split()
)
"""Calls that are not on lower objects."""

MODES = {"header": (), "attribute": ("-o", "ecryptfs_xattr_metadata")}

_number = count(1)


class Place(NamedTuple):
    mount: Mount
    policy: Policy
    log: Path


@pytest.fixture(scope="module", params=MODES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("faults")
    log_allows = ["cannot be read", "more files"]
    with mounted(directory / "lower", *MODES[request.param], log_allows=log_allows) as mount:
        steps.prepare(mount.path / "first")
        yield Place(mount, resolved(mount.lower, [PASSPHRASE]).policy, directory / "log")


def occurrences(place: Place) -> Counter[str]:
    """How often the workload makes the daemon make each call; the fewest of three runs, since what the kernel
    asks for does not wholly depend on us."""
    return reduce(and_, (_occurrences(place) for _ in range(3)))


def _occurrences(place: Place) -> Counter[str]:
    path = place.mount.path / f"case{next(_number)}"
    steps.prepare(path)
    with traced(place.mount.pid, place.log, "all") as trace:
        assert steps.perform(path) == [None] * len(steps.STEPS)
    assert steps.complaints(readers.through_mount(path), [None] * len(steps.STEPS)) == []
    calls = Counter({name: n for name, n in trace.calls().items() if name not in _LEFT_ALONE})
    unknown = calls.keys() - FAULTS.keys()
    assert not unknown, f"no fault is known for {unknown}"
    return calls


def run_case(place: Place, call: str, fault: str, nth: int) -> list[str] | None:
    """What went wrong when this call failed; None if it was not made at all."""
    name = f"case{next(_number)}"
    path = place.mount.path / name
    steps.prepare(path)
    with traced(place.mount.pid, place.log, call, f"inject={call}:error={fault}:when={nth}") as trace:
        told = steps.perform(path)
    case = f"{call} {nth} {fault}: "
    if place.mount.process.poll() is not None:
        return [case + "the daemon is dead"]
    with opened(place.mount.lower, place.policy) as tree:
        found = [case + "below: " + line for line in steps.complaints(readers.through_tree(tree, name), told)]
    found += [case + "above: " + line for line in steps.complaints(readers.through_mount(path), told)]
    shutil.rmtree(path, ignore_errors=True)
    return found if trace.injected() else None


def cases(calls: Counter[str]) -> list[tuple[str, str, int]]:
    return [
        (call, fault, nth + 1)
        for call, n in sorted(calls.items())
        for fault in FAULTS[call]
        for nth in range(n)
    ]


def run_cases(place: Place, every: int) -> None:
    """Run each ``every``-th case. Requests that come late may be missing from one of the runs: few may."""
    chosen = cases(occurrences(place))[::every]
    results = [run_case(place, *case) for case in chosen]
    assert [line for result in results for line in result or ()] == []
    assert sum(result is not None for result in results) > 0.75 * len(chosen)


def test_some_faults(place: Place) -> None:
    run_cases(place, 80)


@pytest.mark.full
def test_every_fault(place: Place) -> None:
    run_cases(place, 1)
