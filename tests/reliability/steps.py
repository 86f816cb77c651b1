"""A small workload of every kind of change, step by step, and what may be found after each step.

Each step works on objects of its own in one directory, which `prepare()` makes and stores (fsync). A step
that has told no error must have happened; one that has told of one may have happened or not, or in part where
POSIX allows that, but what was stored before is still there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.reliability.readers import Reader

EXTENT = 4096


def octets(n: int, seed: int) -> bytes:
    """``n`` octets without zeros among them, of any two seeds different ones at every place."""
    return bytes((i * 7 + i // 251 + seed * 13) % 251 + 1 for i in range(n))


OLD, NEW = octets(20_000, 1), octets(20_000, 2)


class Step(NamedTuple):
    """``act`` raises OSError if it failed; ``allows`` gets whether it did not, and returns what is wrong."""

    name: str
    files: dict[str, bytes]
    """What is stored before."""
    act: Callable[[Path], None]
    wrong: Callable[[Reader, bool], str | None]


def _write(path: Path, flags: int, data: bytes, offset: int = 0) -> None:
    """Write and fsync; errors of close count too."""
    fd = os.open(path, flags, 0o644)
    try:
        while data:
            n = os.pwrite(fd, data, offset)
            data, offset = data[n:], offset + n
        os.fsync(fd)
    except OSError:
        with suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)


def _unsynced(path: Path, flags: int, data: bytes, offset: int = 0) -> None:
    """Write and close: the only one left to tell of an error is close."""
    fd = os.open(path, flags)
    try:
        os.pwrite(fd, data, offset)
    except OSError:
        with suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)


def _is(
    name: str, after: bytes, old: bytes | None, between: Callable[[bytes], bool] | None = None
) -> Callable[[Reader, bool], str | None]:
    """The file is ``after``; if the step failed, ``old`` (None: absent) or what ``between`` accepts."""

    def wrong(reader: Reader, done: bool) -> str | None:
        if name not in reader.names():
            return None if old is None and not done else f"{name} is gone"
        found = reader.read(name)
        if found == after or (not done and (found == old or (between is not None and between(found)))):
            return None
        return f"{name} has {len(found)} octets that nobody wrote ({'done' if done else 'failed'})"

    return wrong


def _appended(found: bytes, before: bytes, more: bytes) -> bool:
    """Some of what was appended is there, and all that was there before."""
    return found == (before + more)[: len(found)] and len(found) >= len(before)


def _zeros(found: bytes, before: bytes) -> bool:
    return found == before + bytes(len(found) - len(before))


def _patched(found: bytes, old: bytes, new: bytes) -> bool:
    """Each extent is an old or a new one."""
    return len(found) == len(old) and all(
        found[at : at + EXTENT] in (old[at : at + EXTENT], new[at : at + EXTENT])
        for at in range(0, len(old), EXTENT)
    )


def _patch(at: int, n: int) -> bytes:
    return OLD[:at] + NEW[:n] + OLD[at + n :]


def _there(name: str) -> Callable[[Reader, bool], str | None]:
    return lambda reader, done: f"{name} is not there" if done and name not in reader.names() else None


def _gone(name: str) -> Callable[[Reader, bool], str | None]:
    return lambda reader, done: f"{name} is still there" if done and name in reader.names() else None


def _renamed(reader: Reader, done: bool) -> str | None:
    names = reader.names()
    found = [name for name in ("moved", "moved-2") if name in names]
    if len(found) != 1 or (done and found != ["moved-2"]):
        return f"a rename left {found}"
    return None if reader.read(found[0]) == OLD else "what was renamed has other contents"


def _replace(path: Path) -> None:
    _write(path / "draft", os.O_WRONLY | os.O_CREAT, NEW)
    os.rename(path / "draft", path / "replaced")


def _reread(path: Path) -> None:
    if (path / "kept").read_bytes() != OLD:
        raise AssertionError("a read that told no error gave other octets")


def _listed(path: Path) -> None:
    if "kept" not in os.listdir(path):
        raise AssertionError("a listing that told no error has left a file out")


def _close_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_and_remove(path: Path) -> None:
    os.mkdir(path / "brief")
    os.rmdir(path / "brief")


def _fine(_: Reader, __: bool) -> None:
    return None


CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def _steps() -> Iterator[Step]:
    part, short = OLD[:5000], OLD[:100]
    yield Step(
        "create",
        {},
        lambda d: _write(d / "new", CREATE, NEW),
        _is("new", NEW, None, lambda b: _appended(b, b"", NEW)),
    )
    yield Step(
        "append",
        {"grown": part},
        lambda d: _write(d / "grown", os.O_WRONLY, NEW[:9000], len(part)),
        _is("grown", part + NEW[:9000], part, lambda b: _appended(b, part, NEW[:9000])),
    )
    yield Step(
        "append without fsync",
        {"closed": part},
        lambda d: _unsynced(d / "closed", os.O_WRONLY, NEW[:9000], len(part)),
        _is("closed", part + NEW[:9000], part, lambda b: _appended(b, part, NEW[:9000])),
    )
    yield Step(
        "overwrite",
        {"patched": OLD},
        lambda d: _write(d / "patched", os.O_RDWR, NEW[:9000], 3000),
        _is("patched", _patch(3000, 9000), OLD, lambda b: _patched(b, OLD, _patch(3000, 9000))),
    )
    yield Step(
        "leave a gap",
        {"gap": short},
        lambda d: _write(d / "gap", os.O_RDWR, NEW[:10], 9000),
        _is("gap", short + bytes(8900) + NEW[:10], short, lambda b: _zeros(b, short)),
    )
    yield Step(
        "shrink",
        {"cut": OLD},
        lambda d: os.truncate(d / "cut", 4100),
        _is("cut", OLD[:4100], OLD),
    )
    yield Step(
        "empty",
        {"emptied": OLD},
        lambda d: _write(d / "emptied", os.O_WRONLY | os.O_TRUNC, NEW),
        _is("emptied", NEW, OLD, lambda b: _appended(b, b"", NEW)),
    )
    yield Step(
        "extend",
        {"extended": short},
        lambda d: os.truncate(d / "extended", 9000),
        _is("extended", short + bytes(8900), short),
    )
    yield Step("rename", {"moved": OLD}, lambda d: os.rename(d / "moved", d / "moved-2"), _renamed)
    yield Step("replace", {"replaced": OLD}, _replace, _is("replaced", NEW, OLD))
    yield Step(
        "attribute",
        {"noted": OLD},
        lambda d: os.setxattr(d / "noted", "user.note", b"text"),
        _is("noted", OLD, OLD),
    )
    yield Step(
        "mode", {"closed-off": OLD}, lambda d: os.chmod(d / "closed-off", 0o600), _is("closed-off", OLD, OLD)
    )
    yield Step("times", {"dated": OLD}, lambda d: os.utime(d / "dated", (1, 2)), _is("dated", OLD, OLD))
    yield Step("link", {"one": OLD}, lambda d: os.link(d / "one", d / "two"), _is("one", OLD, OLD))
    yield Step("symlink", {}, lambda d: os.symlink("kept", d / "symlink"), _there("symlink"))
    yield Step("mkdir", {}, lambda d: os.mkdir(d / "made"), _there("made"))
    yield Step("rmdir", {}, _make_and_remove, _gone("brief"))
    yield Step("mkfifo", {}, lambda d: os.mkfifo(d / "fifo"), _there("fifo"))
    yield Step("unlink", {"doomed": OLD}, lambda d: os.unlink(d / "doomed"), _gone("doomed"))
    yield Step("read", {"kept": OLD}, _reread, _is("kept", OLD, OLD))
    yield Step("list", {}, _listed, _fine)
    yield Step("fsync of a directory", {}, _close_directory, _fine)


STEPS: Sequence[Step] = tuple(_steps())


def prepare(path: Path) -> None:
    """Make the directory with all that the steps work on, and store it."""
    path.mkdir()
    for step in STEPS:
        for name, data in step.files.items():
            _write(path / name, CREATE, data)


def perform(path: Path) -> list[OSError | None]:
    """Take all steps; what each has told."""
    told: list[OSError | None] = []
    for step in STEPS:
        try:
            step.act(path)
            told.append(None)
        except OSError as error:
            told.append(error)
    return told


def complaints(reader: Reader, told: Sequence[OSError | None]) -> list[str]:
    """What contradicts what the steps have told."""
    found = []
    for step, error in zip(STEPS, told, strict=True):
        try:
            wrong = step.wrong(reader, error is None)
        except OSError as failure:
            wrong = f"cannot be looked at: {failure}"
        if wrong:
            found.append(f"{step.name} ({error}): {wrong}")
    return found
