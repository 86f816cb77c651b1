"""A tree that shares its files with an express lane."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from fusecrypt.lane import Lane
from fusecrypt.ondisk.header import Header
from fusecrypt.ondisk.packets import PassphrasePacket
from fusecrypt.tree import changes
from tests.lanes import plain_lane
from tests.tree.support import User, lower_header, opened, policy, read

PLAIN = policy(names=False)


def with_lane(user: User) -> Lane:
    lane = plain_lane()
    user.tree.use_lane(lane)
    return lane


def with_packets(lower: Path, count: int) -> Header:
    """Give a lower file's only packet ``count`` times."""
    header = lower_header(lower)
    header = dataclasses.replace(header, packets=header.packets * count)
    with open(lower, "r+b") as file:
        file.write(header.encode_region())
    return header


@pytest.mark.parametrize("count", [2, 8, 9, 40])
def test_a_file_for_any_number_of_keys_opens(tmp_path: Path, count: int) -> None:
    with opened(tmp_path, PLAIN) as tree:
        User(tree).create("file", b"data" * 3000)
    with_packets(tmp_path / "file", count)
    with opened(tmp_path, PLAIN) as tree:
        user = User(tree)
        with_lane(user)
        for _ in range(2):
            with user.file("file") as file:
                assert read(file) == b"data" * 3000


def test_an_open_that_fails_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, PLAIN) as tree:
        User(tree).create("file", b"data")
    with opened(tmp_path, PLAIN) as tree:
        user = User(tree)
        lane = with_lane(user)
        header = dataclasses.replace(lower_header(tmp_path / "file"), flags=0x12)
        (tmp_path / "file").write_bytes(header.encode_region() + bytes(4096))

        def no_memory(*arguments: object) -> bool:
            raise MemoryError

        monkeypatch.setattr(lane, "form", no_memory)
        with user.node("file") as node:
            before = os.listdir("/proc/self/fd")
            with pytest.raises(MemoryError):
                tree.open(node, False)
            assert node.file is None
            assert os.listdir("/proc/self/fd") == before


def test_a_policy_for_more_keys_than_a_form_has_room_for(tmp_path: Path) -> None:
    many = dataclasses.replace(PLAIN, content=PLAIN.content * 9)
    with opened(tmp_path, many) as tree:
        user = User(tree)
        with_lane(user)
        node, _, file = changes.create(tree, tree.root, b"file", 0o600)
        file.write(0, b"data")
        tree.close_file(node)
        tree.forget(node)
    packets = lower_header(tmp_path / "file").packets
    assert len([packet for packet in packets if isinstance(packet, PassphrasePacket)]) == 9


def test_a_form_for_every_file_costs_no_memory(tmp_path: Path) -> None:
    """As salts differ, which nobody needs to read a file."""
    count = 100
    with opened(tmp_path, PLAIN) as tree:
        for number in range(count):
            User(tree).create(f"file {number}", b"data")
    for number in range(count):
        path = tmp_path / f"file {number}"
        (packet,) = lower_header(path).passphrase_packets
        packet = dataclasses.replace(packet, salt=number.to_bytes(8))
        with path.open("r+b") as file:
            file.write(dataclasses.replace(lower_header(path), packets=(packet,)).encode_region())
    with opened(tmp_path, PLAIN) as tree:
        user = User(tree)
        with_lane(user)
        for number in range(count):
            assert user.read(f"file {number}") == b"data"
        assert tree._forms is not None
        assert len(tree._forms._told) < count
