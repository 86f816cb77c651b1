"""Objects that go from the express lane to the table of nodes and back."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt.lane import Lane, Record
from fusecrypt.native import stat_fd, stat_many
from fusecrypt.tree.nodes import NodeTable
from tests.lanes import plain_lane

DIRECTORY, FILE = stat.S_IFDIR, stat.S_IFREG
_BAD = os.strerror(errno.EBADF)


@pytest.fixture
def lane() -> Lane:
    return plain_lane()


@pytest.fixture
def table(lane: Lane, tmp_path: Path) -> Iterator[NodeTable]:
    """An empty table over a directory, with that lane."""
    fd = os.open(tmp_path, os.O_PATH)
    nodes = NodeTable(stat_fd(fd, False))
    nodes.use_lane(lane)
    yield nodes
    nodes.close()
    os.close(fd)


def record(number: int, parent: int = 1, kind: int = FILE, name: bytes = b"name", **more: int) -> Record:
    fields = {"lookups": 1, "shown": -1, "generation": 0, "pin": -1} | more
    return Record(
        number, 7, number, parent, fields["lookups"], fields["shown"], None, kind, fields["generation"],
        fields["pin"], name,
    )  # fmt: skip


def give(lane: Lane, given: Record) -> None:
    """An object that is the lane's from now on."""
    lane.mark(given.number, given.dev, given.ino, given.kind)
    assert lane.give(given)


def test_a_record_comes_back_as_it_was_given(lane: Lane) -> None:
    for given in (
        record(2),
        record(1 << 63, parent=(1 << 64) - 1, name=b"\xff" * 255),
        record(4, shown=(1 << 62), generation=(1 << 32) - 1, lookups=(1 << 64) - 1)._replace(
            stamp=(-1, -(1 << 63), 8192), kind=stat.S_IFLNK
        ),
    ):
        give(lane, given)
        assert len(lane) == 1
        assert lane.find(given.dev, given.ino) == given.number
        assert lane.take(given.number) == given
        assert len(lane) == 0
        assert lane.find(given.dev, given.ino) is None
        assert lane.take(given.number) is None
        lane.unmark(given.number)


def test_only_what_is_the_callers_can_be_given(lane: Lane) -> None:
    assert not lane.give(record(2))
    give(lane, record(2))
    assert not lane.give(record(2))
    lane.unmark(2)
    assert lane.take(2) is not None


def test_a_chain_of_directories_is_taken_however_long_it_is(lane: Lane, table: NodeTable) -> None:
    depth = 2 * sys.getrecursionlimit()
    for number in range(2, depth):
        give(lane, record(number, parent=number - 1, kind=DIRECTORY, name=b"%d" % number))
    give(lane, record(depth, parent=depth - 1))
    node = table.by_number(depth)
    assert len(lane) == 0
    assert len(table) == depth
    for number in range(depth - 1, 0, -1):
        assert node.parent is not None
        node = node.parent
        assert node.number == number
    assert node is table.root
    for number in range(depth, 1, -1):
        table.release(table.by_number(number))
    assert len(table) == 1
    assert table.root.refs == 1


def test_parents_that_are_missing_or_in_a_circle(lane: Lane, table: NodeTable) -> None:
    give(lane, record(2, parent=99))
    assert not table.by_number(2).linked
    give(lane, record(3, parent=4, kind=DIRECTORY))
    give(lane, record(4, parent=3, kind=DIRECTORY))
    assert table.by_number(3).parent is table.by_number(4)
    assert table.by_number(4).parent is table.by_number(3)


def test_what_holds_an_object_without_a_link_is_not_lost(
    lane: Lane, table: NodeTable, tmp_path: Path
) -> None:
    """It may get a link again: another name of it is found below."""
    path = tmp_path / "b"
    path.touch()
    pin = os.open(path, os.O_PATH)
    st = stat_fd(pin, False)
    node = table.acquire(st, table.root, b"a")
    table.remove_link(node, table.root, b"a")
    node.pin = pin
    assert table.acquire(st, table.root, b"b") is node
    table.settle()
    table.release(table.by_number(node.number), 2)
    with pytest.raises(OSError, match=_BAD):
        os.fstat(pin)


def test_a_plain_object_is_given_and_taken_again(lane: Lane, table: NodeTable, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    st = stat_fd(fd, False)
    os.close(fd)
    node = table.acquire(st, table.root, b"a")
    node.shown, node.generation, node.stamp = 5, 3, (-1, 2, 3)
    table.settle()
    assert (len(lane), len(table), table.root.refs) == (1, 1, 1)
    again = table.acquire(st, table.root, b"a")
    assert again is not node
    assert (again.shown, again.generation, again.stamp, again.refs) == (5, 3, (-1, 2, 3), 2)
    assert (again.parent, again.name, again.number) == (table.root, b"a", st.ino)
    assert (len(lane), len(table), table.root.refs) == (0, 2, 2)
    table.release(again, 2)
    table.settle()
    assert (len(lane), len(table), table.root.refs) == (0, 1, 1)


def test_the_lane_is_told_of_every_link_that_is_used(
    lane: Lane, table: NodeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By it the lane finds what requests for an object need, also once it was renamed."""
    told: dict[int, tuple[int, bytes]] = {}
    mark = lane.mark

    def telling(number: int, dev: int, ino: int, kind: int, parent: int = 0, name: bytes = b"") -> None:
        told[number] = (parent, name)
        mark(number, dev, ino, kind, parent, name)

    monkeypatch.setattr(lane, "mark", telling)
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    fd = os.open(tmp_path, os.O_PATH)
    directory, file = (
        table.acquire(st, table.root, name)
        for st, name in zip(
            stat_many(fd, [b"directory", b"file"], False), (b"directory", b"file"), strict=True
        )
    )
    os.close(fd)
    assert told == {directory.number: (1, b"directory"), file.number: (1, b"file")}
    table.add_link(directory, table.root, b"renamed")
    table.add_link(file, directory, b"second")
    assert told == {directory.number: (1, b"renamed"), file.number: (directory.number, b"second")}
    table.remove_link(file, directory, b"second")
    assert told[file.number] == (1, b"file")
    table.remove_link(file, table.root, b"file")
    assert told[file.number] == (0, b"")
    table.release(file)
    table.release(directory)
