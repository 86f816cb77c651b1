"""Random operations on a tree against a model of dictionaries and octets."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fusecrypt.tree.changes import RENAME_EXCHANGE
from fusecrypt.tree.files import OpenFile
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.tree import Tree
from tests.tree.conftest import MODES
from tests.tree.support import User, read

EXTENT = 4096
LIMIT = 6 * EXTENT

names = st.sampled_from([b"a", b"b", b"c" * 20, b"\xff d"])
paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)
edges = st.builds(lambda extent, by: max(0, EXTENT * extent + by), st.integers(0, 6), st.integers(-2, 2))
positions = edges | st.integers(0, LIMIT)


class File:
    """A file of the model; its links are references to it."""

    def __init__(self) -> None:
        self.data = bytearray()


class Link:
    """A symlink of the model."""

    def __init__(self, target: bytes) -> None:
        self.target = target


Directory = dict[bytes, "File | Link | Directory"]
Object = File | Link | Directory


def code(error: OSError) -> int:
    assert error.errno is not None
    return error.errno


class Model:
    """What a file system does, in a dictionary: each method returns 0 or an errno."""

    def __init__(self) -> None:
        self.root: Directory = {}

    def at(self, path: bytes) -> Object | int:
        here: Object = self.root
        for name in filter(None, path.split(b"/")):
            if not isinstance(here, dict):
                return errno.ENOTDIR
            if name not in here:
                return errno.ENOENT
            here = here[name]
        return here

    def above(self, path: bytes) -> tuple[Directory, bytes] | int:
        parent, name = os.path.split(path)
        here = self.at(parent)
        if isinstance(here, int):
            return here
        return (here, name) if isinstance(here, dict) else errno.ENOTDIR

    def put(self, path: bytes, thing: Object) -> int:
        where = self.above(path)
        if isinstance(where, int):
            return where
        if where[1] in where[0]:
            return errno.EEXIST
        where[0][where[1]] = thing
        return 0

    def remove(self, path: bytes, directory: bool) -> int:
        where = self.above(path)
        if isinstance(where, int):
            return where
        thing = where[0].get(where[1])
        if thing is None:
            return errno.ENOENT
        if isinstance(thing, dict) != directory:
            return errno.ENOTDIR if directory else errno.EISDIR
        if thing and isinstance(thing, dict):
            return errno.ENOTEMPTY
        del where[0][where[1]]
        return 0

    def rename(self, old: bytes, new: bytes, flags: int) -> int:
        source, target = self.above(old), self.above(new)
        if isinstance(source, int) or isinstance(target, int):
            return next(error for error in (source, target) if isinstance(error, int))
        moved, there = source[0].get(source[1]), target[0].get(target[1])
        if moved is None or (there is None and flags & RENAME_EXCHANGE):
            return errno.ENOENT
        if there is not None and flags == 1:
            return errno.EEXIST
        if there is moved:
            return 0
        if self._refuses(moved, target[0]) or (flags & RENAME_EXCHANGE and self._refuses(there, source[0])):
            return errno.EINVAL
        if flags & RENAME_EXCHANGE:
            assert there is not None
            source[0][source[1]], target[0][target[1]] = there, moved
            return 0
        if isinstance(moved, dict) and there is not None and not isinstance(there, dict):
            return errno.ENOTDIR
        if isinstance(there, dict) and not isinstance(moved, dict):
            return errno.EISDIR
        if isinstance(there, dict) and there:
            return errno.ENOTEMPTY
        del source[0][source[1]]
        target[0][target[1]] = moved
        return 0

    def _refuses(self, moved: Object | None, into: Directory) -> bool:
        """A directory cannot move below itself."""
        if not isinstance(moved, dict):
            return False
        return moved is into or any(self._refuses(below, into) for below in moved.values())


class TreeMachine(RuleBasedStateMachine):
    """A tree and its model. Some files are held open, and some nodes known, across renames and removals."""

    policy: ClassVar[Policy]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.lower = Path(tempfile.mkdtemp(prefix="fusecrypt-machine-"))
        self.held: list[tuple[Node, OpenFile, File]] = []
        self.known: list[tuple[Node, File | Directory]] = []
        self._open()

    def _open(self) -> None:
        self.tree = Tree(os.open(self.lower, os.O_RDONLY | os.O_DIRECTORY), self.policy)
        self.user = User(self.tree)

    def _close(self) -> None:
        for node, _, _ in self.held:
            self.tree.close_file(node)
            self.tree.forget(node)
        self.held.clear()
        for known, _ in self.known:
            self.tree.forget(known)
        self.known.clear()
        assert len(self.tree.nodes) == 1
        self.tree.close()

    def teardown(self) -> None:
        self._close()
        shutil.rmtree(self.lower)

    def agree(self, expected: int, work: object, *arguments: object) -> None:
        """The tree does what the model did, or fails with the same error."""
        assert callable(work)
        try:
            work(*arguments)
        except OSError as error:
            got = code(error)
        else:
            got = 0
        # Where two errors fit, the lower file system may see the other one first.
        alike = {errno.ENOENT, errno.EINVAL, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
        assert got == expected or {got, expected} <= alike, (errno.errorcode.get(got), expected)

    # Names

    @rule(path=paths, n=positions, octet=st.integers(1, 255))
    def create(self, path: bytes, n: int, octet: int) -> None:
        file = File()
        expected = self.model.put(path, file)
        data = bytes([octet]) * n
        self.agree(expected, self.user.create, path, data)
        file.data[:] = data

    @rule(path=paths)
    def mkdir(self, path: bytes) -> None:
        self.agree(self.model.put(path, {}), self.user.mkdir, path)

    @rule(path=paths, leads=st.binary(min_size=1, max_size=200).filter(lambda t: b"\0" not in t))
    def symlink(self, path: bytes, leads: bytes) -> None:
        self.agree(self.model.put(path, Link(leads)), self.user.symlink, leads, path)

    @rule(old=paths, new=paths)
    def link(self, old: bytes, new: bytes) -> None:
        thing = self.model.at(old)
        if isinstance(thing, dict):
            return
        self.agree(thing if isinstance(thing, int) else self.model.put(new, thing), self.user.link, old, new)

    @rule(path=paths)
    def unlink(self, path: bytes) -> None:
        self.agree(self.model.remove(path, False), self.user.unlink, path)

    @rule(path=paths)
    def rmdir(self, path: bytes) -> None:
        self.agree(self.model.remove(path, True), self.user.rmdir, path)

    @rule(old=paths, new=paths, flags=st.sampled_from([0, 0, 0, 1, RENAME_EXCHANGE]))
    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        self.agree(self.model.rename(old, new, flags), self.user.rename, old, new, flags)

    # Contents

    def _file(self, path: bytes) -> File | None:
        thing = self.model.at(path)
        return thing if isinstance(thing, File) else None

    @rule(path=paths, at=positions, n=positions, octet=st.integers(0, 255))
    def write(self, path: bytes, at: int, n: int, octet: int) -> None:
        file = self._file(path)
        if file is not None:
            data = bytes((octet + i) % 251 for i in range(n))
            self.user.write(path, at, data)
            self._wrote(file, at, data)

    @rule(path=paths, size=positions)
    def truncate(self, path: bytes, size: int) -> None:
        file = self._file(path)
        if file is not None:
            self.user.truncate(path, size)
            file.data[:] = file.data[:size].ljust(size, b"\0")

    def _wrote(self, file: File, at: int, data: bytes) -> None:
        if data:
            file.data.extend(bytes(max(0, at - len(file.data))))
            file.data[at : at + len(data)] = data

    @rule(path=paths, at=positions, n=positions)
    def read(self, path: bytes, at: int, n: int) -> None:
        file = self._file(path)
        if file is not None:
            assert self.user.read(path, at, n) == file.data[at : at + n]

    # Open files

    @rule(path=paths, writing=st.booleans())
    def hold(self, path: bytes, writing: bool) -> None:
        file = self._file(path)
        if file is not None and len(self.held) < 4:
            node = self.tree.resolve(path)
            self.held.append((node, self.tree.open(node, writing), file))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 3))
    def release(self, which: int) -> None:
        node, _, _ = self.held.pop(which % len(self.held))
        self.tree.close_file(node)
        self.tree.forget(node)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 3), at=positions, data=st.binary(max_size=50))
    def use(self, which: int, at: int, data: bytes) -> None:
        node, open_file, file = self.held[which % len(self.held)]
        again = self.tree.open(node, True)
        assert again is open_file
        again.write(at, data)
        self.tree.close_file(node)
        self._wrote(file, at, data)
        assert read(open_file) == file.data
        assert self.tree.stat(node).size == len(file.data)

    @rule(path=paths)
    def know(self, path: bytes) -> None:
        thing = self.model.at(path)
        if isinstance(thing, File | dict) and len(self.known) < 6:
            self.known.append((self.tree.resolve(path), thing))

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 5))
    def forget(self, which: int) -> None:
        self.tree.forget(self.known.pop(which % len(self.known))[0])

    @invariant()
    def known_nodes_are_reached_wherever_they_went(self) -> None:
        for node, thing in self.known:
            if isinstance(thing, File):
                assert self.tree.stat(node).size == len(thing.data)
                continue
            assert self.tree.stat(node).stat.ino == node.ino
            for name in thing:
                found = self.tree.lookup(node, name)
                assert found is not None
                self.tree.forget(found[0])

    @rule()
    def open_again(self) -> None:
        self._close()
        self._open()

    @rule()
    def evict_descriptors(self) -> None:
        self.tree.directories.close()

    # What always holds

    @invariant()
    def shows_what_the_model_has(self) -> None:
        self._same(self.model.root, b"")

    def _same(self, directory: Directory, path: bytes) -> None:
        assert self.user.list(path) == sorted(directory)
        for name, thing in directory.items():
            below = os.path.join(path, name)
            if isinstance(thing, dict):
                self._same(thing, below)
            elif isinstance(thing, Link):
                assert self.user.readlink(below) == thing.target
            else:
                assert self.user.stat(below).size == len(thing.data)

    @invariant()
    def lower_files_are_as_long_as_the_kernels(self) -> None:
        front = 0 if self.policy.xattr_metadata else 8192
        lower = {
            path.stat().st_size for path in self.lower.rglob("*") if path.is_file() and not path.is_symlink()
        }
        whole = {front + -(-len(file.data) // EXTENT) * EXTENT for file in self._files(self.model.root)}
        assert lower == whole

    def _files(self, directory: Directory) -> list[File]:
        found = []
        for thing in directory.values():
            found += (
                self._files(thing) if isinstance(thing, dict) else [thing] if isinstance(thing, File) else []
            )
        return found

    @rule()
    def contents_are_the_models(self) -> None:
        self._contents(self.model.root, b"")

    def _contents(self, directory: Directory, path: bytes) -> None:
        for name, thing in directory.items():
            below = os.path.join(path, name)
            if isinstance(thing, dict):
                self._contents(thing, below)
            elif isinstance(thing, File):
                assert self.user.read(below) == thing.data


def run(mode: str, examples: int, steps: int) -> None:
    machine = type(f"{mode} machine", (TreeMachine,), {"policy": MODES[mode]})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.parametrize("mode", MODES)
def test_random_operations(mode: str) -> None:
    run(mode, examples=120, steps=40)


@pytest.mark.full
@pytest.mark.parametrize("mode", MODES)
def test_many_random_operations(mode: str) -> None:
    run(mode, examples=300, steps=80)
