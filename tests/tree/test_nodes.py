"""Objects by identity: links, renames, removal while in use, and lower trees that change under us."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fusecrypt.errors import FusecryptError
from fusecrypt.native import Stat, stat_fd
from fusecrypt.tree import attributes, changes
from fusecrypt.tree.changes import RENAME_EXCHANGE
from fusecrypt.tree.nodes import Node, NodeTable
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.tree import Tree
from tests.tree.support import User, lower_name, opened, policy, read

NOREPLACE = 1
PLAIN = policy(names=False)


@contextmanager
def fails(*numbers: int) -> Iterator[None]:
    """The body fails with one of these errors."""
    with pytest.raises((OSError, FusecryptError)) as caught:
        yield
    error: Exception = caught.value
    assert isinstance(error, OSError | FusecryptError)
    assert error.errno in numbers, error


def identity(user: User, path: str) -> int:
    return user.stat(path).stat.ino


# Removal and renames while in use


def test_an_unlinked_open_file_lives_on(user: User) -> None:
    user.create("a", b"abc")
    with user.node("a") as node:
        file = user.tree.open(node, True)
        user.unlink("a")
        assert user.list() == []
        file.write(3, b"def" * 3000)
        assert read(file) == b"abc" + b"def" * 3000
        seen = user.tree.stat(node)
        assert (seen.size, seen.stat.nlink) == (9003, 0)
        attributes.change_mode(user.tree, node, 0o600)
        attributes.set_xattr(user.tree, node, b"user.x", b"1")
        again = user.tree.open(node, True)
        assert again is file
        user.tree.close_file(node)
        user.tree.close_file(node)
        # Nobody has it open now, but the reference keeps it.
        assert user.tree.stat(node).size == 9003
        assert stat.S_IMODE(user.tree.stat(node).stat.mode) == 0o600
        assert read(user.tree.open(node, False), 0, 3) == b"abc"
        attributes.truncate(user.tree, node, 2)
        user.tree.close_file(node)
        assert user.tree.stat(node).size == 2


def test_an_unlinked_file_that_is_not_open_lives_on(user: User) -> None:
    user.create("a", b"abc")
    with user.node("a") as node:
        user.unlink("a")
        assert user.tree.stat(node).size == 3
        assert attributes.list_xattrs(user.tree, node) == []
        file = user.tree.open(node, True)
        file.write(3, b"d")
        assert read(file) == b"abcd"
        user.tree.close_file(node)


def test_an_unlinked_symlink_keeps_its_length(user: User) -> None:
    user.symlink(b"where it leads", "l")
    with user.node("l") as node:
        user.unlink("l")
        assert user.tree.readlink(node) == b"where it leads"
        assert user.tree.stat(node).size == 14


def test_a_new_file_takes_the_name_not_the_node(user: User) -> None:
    user.create("a", b"old")
    with user.node("a") as old:
        user.unlink("a")
        for i in range(5):
            user.create("a", b"new %d" % i)
            assert user.tree.stat(old).size == 3
            with user.node("a") as new:
                assert new is not old
                assert new.number != old.number
                user.unlink("a")


def test_a_rename_over_an_open_file(user: User) -> None:
    user.create("a", b"aaaa")
    user.create("b", b"bb")
    with user.file("a", True) as a, user.file("b", True) as b:
        user.rename("a", "b")
        assert user.list() == [b"b"]
        a.write(4, b"A")
        b.write(2, b"B")
        assert read(b) == b"bbB"
        assert user.read("b") == read(a) == b"aaaaA"


def test_a_rename_over_a_known_file(user: User) -> None:
    user.create("a", b"aaaa")
    user.create("b", b"bb")
    with user.node("b") as gone, user.node("a") as node:
        user.rename("a", "b")
        assert user.tree.stat(gone).size == 2
        assert user.tree.stat(gone).stat.nlink == 0
        assert user.tree.stat(node).size == 4
        assert user.exists("b")
        assert not user.exists("a")


def test_exchange_and_noreplace(user: User) -> None:
    user.mkdir("d")
    user.create("a", b"aaaa")
    user.create("d/b", b"bb")
    with fails(errno.EEXIST):
        user.rename("a", "d/b", NOREPLACE)
    with user.file("a", True) as a, user.node("d/b") as b:
        user.rename("a", "d/b", RENAME_EXCHANGE)
        assert user.read("a") == b"bb"
        assert user.read("d/b") == read(a) == b"aaaa"
        assert user.tree.stat(b).size == 2
        user.unlink("a")
        assert user.tree.stat(b).stat.nlink == 0
        user.rename("d/b", "c", NOREPLACE)
        a.write(0, b"A")
    assert user.read("c") == b"Aaaa"
    with fails(errno.ENOENT):
        user.rename("c", "absent", RENAME_EXCHANGE)
    with fails(errno.EINVAL):
        user.rename("c", "d", RENAME_EXCHANGE | NOREPLACE)
    user.rename("c", "d", RENAME_EXCHANGE)
    assert user.read("d") == b"Aaaa"
    assert user.list("c") == []


def test_a_directory_is_exchanged_with_what_is_in_use_below_it(user: User) -> None:
    for path in ("x", "x/y", "z"):
        user.mkdir(path)
    user.create("x/y/file", b"1")
    with user.node("x/y/file") as node, user.node("z") as other:
        user.rename("x", "z", RENAME_EXCHANGE)
        assert user.tree.stat(node).size == 1
        assert user.tree.stat(other).stat.ino == identity(user, "x")
        assert user.read("z/y/file") == b"1"
        assert user.list("x") == []


def test_renaming_between_links_of_one_file_leaves_both(user: User) -> None:
    user.create("a", b"abc")
    user.link("a", "b")
    with user.node("a") as node:
        user.rename("a", "b")
        user.rename("a", "b", RENAME_EXCHANGE)
        assert user.list() == [b"a", b"b"]
        user.unlink("a")
        assert user.tree.stat(node).size == 3
        assert user.tree.stat(node).stat.nlink == 1
    user.rename("b", "b")
    assert user.read("b") == b"abc"


def test_links_come_and_go(user: User) -> None:
    user.create("0", b"abc")
    with user.node("0") as node:
        for i in range(1, 20):
            user.mkdir(f"d{i}")
            user.link(str(i - 1) if i == 1 else f"d{i - 1}/l", f"d{i}/l")
            assert user.tree.stat(node).stat.nlink == i + 1
        user.unlink("0")
        for i in range(1, 19):
            user.unlink(f"d{i}/l")
            user.rmdir(f"d{i}")
            assert user.tree.stat(node).stat.nlink == 19 - i
        assert user.read("d19/l") == b"abc"
        with fails(errno.EEXIST), user.node("d19") as parent:
            changes.link(user.tree, node, parent, b"l")
    user.unlink("d19/l")
    assert user.list() == [b"d19"]


def test_many_links_of_one_file_cost_as_much_as_many_files(plain: User, lower: Path) -> None:
    """No list of links is searched: the work for each link is the same however many there are."""
    compared = 0

    class Name(bytes):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return bytes.__eq__(self, other)

        __hash__ = bytes.__hash__

    (lower / "a").touch()
    table = NodeTable(stat_fd(plain.tree.root_fd, False))
    fd = os.open(lower / "a", os.O_RDONLY)
    st = stat_fd(fd, False)
    os.close(fd)
    node = None
    for _ in range(2):
        for i in range(2000):
            node = table.acquire(st, table.root, Name(b"%d" % i))
    assert node is not None
    assert compared < 20_000
    for i in range(2000):
        table.remove_link(node, table.root, Name(b"%d" % i))
    assert not node.linked
    assert table.root.refs == 1
    assert compared < 40_000
    table.release(node, 4000)
    assert len(table) == 1


def test_a_removed_directory_in_use(user: User) -> None:
    user.mkdir("d")
    with user.node("d") as node:
        user.rmdir("d")
        assert user.tree.stat(node).stat.nlink == 0
        assert user.tree.lookup(node, b"x") is None
        with fails(errno.ENOENT):
            changes.create(user.tree, node, b"x", 0o600)
        listing = user.tree.list(node)
        assert listing.names() == []
        listing.close()


def test_wrong_kinds(user: User) -> None:
    user.mkdir("d")
    user.mkdir("d/sub")
    user.create("f", b"1")
    user.symlink(b"f", "l")
    user.mknod("fifo", stat.S_IFIFO | 0o600)
    with fails(errno.ENOTEMPTY):
        user.rmdir("d")
    with fails(errno.ENOTDIR):
        user.rmdir("f")
    with fails(errno.EISDIR):
        user.unlink("d")
    with fails(errno.EISDIR), user.file("d"):
        pass
    for path in ("l", "fifo"):
        with fails(errno.ENXIO), user.file(path):
            pass
    with fails(errno.ENOENT):
        user.unlink("absent")
    for make in (user.create, user.mkdir):
        with fails(errno.EEXIST):
            make("f")
    with fails(errno.EEXIST):
        user.symlink(b"x", "f")
    with fails(errno.EINVAL):
        user.rename("d", "d/sub/d")
    with fails(errno.ENOTDIR), user.node("f/x"):
        pass
    with fails(errno.EPERM):
        user.link("d", "hard")


@pytest.mark.parametrize("name", [b"..", b".", b""])
def test_names_that_lead_out(user: User, name: bytes) -> None:
    with fails(errno.EINVAL):
        user.tree.lookup(user.tree.root, name)
    with fails(errno.EINVAL):
        changes.make_directory(user.tree, user.tree.root, name, 0o700)
    with fails(errno.EINVAL):
        user.tree.lookup(user.tree.root, b"a/" + name)
    with fails(errno.EINVAL):
        changes.create(user.tree, user.tree.root, b"a\0" + name, 0o600)


# A lower tree that others change


def test_a_lower_rename_is_followed_once_it_was_seen(plain: User, lower: Path) -> None:
    plain.create("a", b"abc")
    with plain.node("a") as node:
        (lower / "a").rename(lower / "b")
        with fails(errno.ESTALE):
            plain.tree.stat(node)
        with fails(errno.ESTALE):
            plain.tree.open(node, False)
        with plain.node("b") as again:
            assert again is node
            assert plain.tree.stat(node).size == 3
            assert read(plain.tree.open(node, False)) == b"abc"
            plain.tree.close_file(node)


def replaced(path: Path, kind: str) -> None:
    path.rename(path.with_name("moved"))
    match kind:
        case "symlink":
            path.symlink_to("moved")
        case "fifo":
            os.mkfifo(path)
        case "socket":
            os.mknod(path, stat.S_IFSOCK | 0o666)
        case "device":
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        case "directory":
            path.mkdir()
        case "file":
            path.write_bytes(b"another")


@pytest.mark.parametrize("kind", ["symlink", "fifo", "socket", "device", "directory", "file", "nothing"])
@pytest.mark.parametrize("writing", [False, True])
def test_what_is_swapped_between_lookup_and_open_is_not_opened(
    plain: User, lower: Path, kind: str, writing: bool
) -> None:
    """And nothing waits: a FIFO has nobody at its other end."""
    plain.create("a", b"abc")
    with plain.node("a") as node:
        replaced(lower / "a", kind)
        for _ in range(2):
            with fails(errno.ESTALE, errno.ELOOP, errno.ENXIO, errno.EISDIR):
                plain.tree.open(node, writing)
        with fails(errno.ESTALE):
            plain.tree.stat(node)
        with fails(errno.ESTALE):
            attributes.change_mode(plain.tree, node, 0o777)
    assert (lower / "moved").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("kind", ["symlink", "file", "nothing", "directory"])
def test_a_directory_that_is_swapped_leads_nowhere(plain: User, lower: Path, kind: str) -> None:
    plain.mkdir("d")
    plain.create("d/a", b"abc")
    with plain.node("d") as directory, plain.node("d/a") as node:
        plain.tree.directories.drop(directory)
        replaced(lower / "d", kind)
        for attempt in (
            lambda: plain.tree.stat(node),
            lambda: plain.tree.open(node, False),
            lambda: plain.tree.lookup(directory, b"a"),
            lambda: changes.make_directory(plain.tree, directory, b"new", 0o700),
            lambda: changes.unlink(plain.tree, directory, b"a"),
        ):
            with fails(errno.ESTALE):
                attempt()
    assert os.listdir(lower / "moved") == ["a"]


def test_directories_moved_into_a_circle_end(plain: User, lower: Path) -> None:
    """Somebody moves B/A to A and B to A/B; we knew A below B, and are told of B below A."""
    plain.mkdir("B")
    plain.mkdir("B/A")
    with plain.node("B") as b, plain.node("B/A") as a:
        plain.tree.directories.fd(a)
        (lower / "B/A").rename(lower / "A")
        (lower / "B").rename(lower / "A/B")
        found = plain.tree.lookup(a, b"B")
        assert found is not None
        assert found[0] is b
        for node in (a, b):
            plain.tree.directories.drop(node)
        with fails(errno.ESTALE):
            plain.tree.directories.fd(b)
        # Seen at its new place, all is well again.
        with plain.node("A") as again:
            assert again is a
            assert plain.tree.stat(b).stat.ino == (lower / "A/B").stat().st_ino
        plain.tree.forget(b)


def test_a_reused_inode_number_is_another_object() -> None:
    """The number of a living node is never given to another one, whatever the lower file system does."""

    template = stat_fd(0, False)

    def st(ino: int, kind: int, dev: int = 1) -> Stat:
        return template._replace(ino=ino, dev=dev, mode=kind | 0o644)

    table = NodeTable(st(2, stat.S_IFDIR))
    assert table.root.number == 1
    first = table.acquire(st(1, stat.S_IFREG), table.root, b"one")
    assert first.number not in (0, 1)
    old = table.acquire(st(77, stat.S_IFREG), table.root, b"a")
    new = table.acquire(st(77, stat.S_IFDIR), table.root, b"a")
    elsewhere = table.acquire(st(77, stat.S_IFDIR, dev=2), table.root, b"b")
    numbers = {node.number for node in (first, old, new, elsewhere)}
    assert len(numbers) == 4
    assert old.number == 77
    assert table.acquire(st(77, stat.S_IFDIR), table.root, b"a") is new
    table.release(old)
    assert table.by_number(new.number) is new
    table.release(new, 2)
    table.release(elsewhere)
    table.release(first)
    with fails(errno.ESTALE):
        table.by_number(77)
    assert table.acquire(st(77, stat.S_IFDIR), table.root, b"a").number == 77


def test_lower_inode_numbers_reused_by_the_file_system(user: User) -> None:
    """Create and remove until numbers repeat, holding a node now and then."""
    held: list[tuple[Node, int]] = []
    for i in range(200):
        user.create("a", bytes(i))
        if i % 10 == 0:
            held.append((user.tree.resolve(b"a"), i))
        user.unlink("a")
    assert len({node.number for node, _ in held}) == len(held)
    for node, size in held:
        assert user.tree.stat(node).size == size
        user.tree.forget(node)


# Descriptors


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.usefixtures("few_descriptors")
def test_more_directories_than_descriptors(lower: Path, mode: Policy) -> None:
    with opened(lower, mode) as tree:
        user = User(tree)
        before = descriptors()
        nodes = []
        for i in range(300):
            user.mkdir(f"d{i}")
            user.create(f"d{i}/f", b"%d" % i)
            nodes.append((user.tree.resolve(b"d%d" % i), user.tree.resolve(b"d%d/f" % i)))
        assert descriptors() - before <= 64
        for i, (_, node) in enumerate(nodes):
            assert read(tree.open(node, False)) == b"%d" % i
            tree.close_file(node)
        user.rename("d0/f", "d299/g")
        assert tree.stat(nodes[0][1]).size == 1
        for directory, node in nodes:
            tree.forget(node)
            tree.forget(directory)
        assert descriptors() == before


@pytest.mark.usefixtures("few_descriptors")
def test_a_tree_of_300_levels(lower: Path, mode: Policy) -> None:
    with opened(lower, mode) as tree:
        user = User(tree)
        before = descriptors()
        nodes = [tree.root]
        for _ in range(300):
            nodes.append(changes.make_directory(tree, nodes[-1], b"down", 0o755)[0])
        node, _, file = changes.create(tree, nodes[-1], b"bottom", 0o644)
        file.write(0, b"deep")
        tree.close_file(node)
        assert descriptors() - before <= 64
        tree.directories.close()
        assert tree.stat(node).size == 4
        tree.directories.close()
        user.rename("/".join(["down"] * 100), "up")
        tree.directories.close()
        assert read(tree.open(node, False)) == b"deep"
        tree.close_file(node)
        tree.forget(node)
        for directory in nodes[:0:-1]:
            tree.forget(directory)
        assert len(tree.nodes) == 1
        assert descriptors() == before
        assert user.read("up" + "/down" * 200 + "/bottom") == b"deep"


def test_every_descriptor_comes_back(lower: Path, mode: Policy) -> None:
    before = descriptors()
    tree = Tree(os.open(lower, os.O_RDONLY | os.O_DIRECTORY), mode)
    user = User(tree)
    user.mkdir("d")
    user.create("d/a", b"1")
    held = tree.resolve(b"d/a")
    user.unlink("d/a")
    assert held.pin >= 0
    lower_dir = lower / lower_name(tree, "d")
    for name in ("plain.txt", "ECRYPTFS_FNEK_ENCRYPTED.broken"):
        (lower_dir / name).write_bytes(b"no header")
    for path in ("d/plain.txt", "d/absent"):
        with fails(errno.EIO, errno.ENOENT), user.file(path):
            pass
    tree.close()
    assert descriptors() == before


def test_numbers_that_are_made_up_are_no_lower_ones(tmp_path: Path) -> None:
    """A lower file system may use all 64 bits."""
    (tmp_path / "file").touch()
    with open(tmp_path / "file") as file:
        st = stat_fd(file.fileno(), False)
    table = NodeTable(st)
    lower = [(1, 1 << 63), (1, 5), (2, 5), (1, (1 << 63) + 1), (2, (1 << 63) + 1), (3, 5), (1, (1 << 64) - 1)]
    objects = [st._replace(dev=dev, ino=ino) for dev, ino in lower]
    nodes = [table.acquire(each, table.root, b"%d" % i) for i, each in enumerate(objects)]
    assert len({node.number for node in nodes}) == len(nodes)
    assert all(table.by_number(node.number) is node for node in nodes)
    assert nodes[1].number == 5
    for node in nodes:
        table.release(node)
