"""fusecrypt ls: list directories of a tree without a mount."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click

from fusecrypt.cli.output import (
    Failures,
    json_option,
    json_path,
    null_option,
    printable,
    write_json,
    write_line,
    write_names,
)
from fusecrypt.cli.source_tree import key_options, open_tree
from fusecrypt.errors import FormatError
from fusecrypt.offline.show import entries, split
from fusecrypt.sources.given import KeyOptions
from fusecrypt.tree.listing import Entry
from fusecrypt.tree.nodes import Node
from fusecrypt.tree.tree import Seen, Tree

_NS = 1_000_000_000


class Row(NamedTuple):
    """A path from the argument on, what is there, and where it leads."""

    path: bytes
    entry: Entry
    target: bytes | None = None


@click.command(short_help="List a directory of a tree.")
@click.argument("lower", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, type=click.Path(path_type=bytes), metavar="[PATH]...")
@click.option("-l", "--long", is_flag=True, help="Mode, links, owner, group, size and time too.")
@click.option("-R", "--recursive", is_flag=True, help="Directories below, too.")
@null_option
@json_option
@key_options
def ls(
    lower: Path,
    paths: Sequence[bytes],
    long: bool,
    recursive: bool,
    null: bool,
    as_json: bool,
    keys: KeyOptions,
) -> int:
    """List what the directory PATH inside the tree LOWER holds, by default all of its root.

    PATH is a name as the mounted tree would show it. Everything is listed, names that begin with a dot too,
    in the order of octets; a directory below is written as a path. Sizes are those of the decrypted files;
    times are UTC. The key is taken as `fusecrypt mount` takes it. Nothing is written below.

    \b
    fusecrypt ls ~/.Private
    fusecrypt ls -lR --passfile FILE /backup/.Private Documents/taxes

    Exit statuses: 0 all was listed; 1 something is not there or cannot be read; 3 no key fits; 4 a name
    or file is damaged, or LOWER holds no eCryptfs data.
    """
    failures = Failures()
    with open_tree(lower, keys) as tree:
        for path in paths or (b"",):
            rows = failures.each(path or b".", _rows(tree, path, recursive, failures))
            if as_json:
                for row in rows:
                    write_json(_json(row))
            elif long:
                for row in rows:
                    write_line(_long(row))
            else:
                write_names((row.path for row in rows), null)
    return failures.status


def _rows(tree: Tree, path: bytes, recursive: bool, failures: Failures) -> Iterator[Row]:
    """The entries of a directory, or the one object that is none."""
    names = split(path)
    node = tree.resolve(b"/".join(names))
    if node.is_directory:
        yield from _below(tree, node, path or b".", recursive, failures)
        return
    try:
        yield Row(path, Entry(names[-1], node.name, tree.stat(node)), _target(tree, node))
    finally:
        tree.forget(node)


class _Level(NamedTuple):
    """A directory that is being listed: its node, with a reference, its path, and what is still to come."""

    node: Node
    prefix: bytes
    rest: Iterator[Entry]


def _below(tree: Tree, top: Node, shown: bytes, recursive: bool, failures: Failures) -> Iterator[Row]:
    """Depth first, and without recursion: a hostile tree may be deeper than the interpreter's stack."""
    levels = [_Level(top, b"", _entries(tree, top, shown, failures))]
    try:
        while levels:
            node, prefix, rest = levels[-1]
            entry = None
            with failures.of(prefix or shown):
                entry = next(rest, None)
            if entry is None:
                tree.forget(levels.pop().node)
                continue
            path = prefix + entry.name
            child = _lookup(tree, node, entry, path, failures)
            target = _target(tree, child) if child else None
            if child and child.is_directory and recursive:
                levels.append(_Level(child, path + b"/", _entries(tree, child, path, failures)))
            elif child:
                tree.forget(child)
            yield Row(path, entry, target)
    finally:
        for level in levels:
            tree.forget(level.node)


def _entries(tree: Tree, node: Node, shown: bytes, failures: Failures) -> Iterator[Entry]:
    found, hidden = entries(tree, node)
    if hidden:
        failures.note(shown, f"{hidden} lower names are of another key, plain or damaged", 4)
    yield from found


def _lookup(tree: Tree, node: Node, entry: Entry, path: bytes, failures: Failures) -> Node | None:
    """The node of what has something below or behind it, with a reference."""
    if stat.S_IFMT(entry.seen.stat.mode) in (stat.S_IFDIR, stat.S_IFLNK):
        with failures.of(path):
            found = tree.lookup(node, entry.name)
            return found[0] if found else None
    return None


def _target(tree: Tree, node: Node) -> bytes | None:
    if stat.S_ISLNK(node.kind):
        with suppress(OSError, FormatError):
            return tree.readlink(node)
    return None


def _long(row: Row) -> str:
    st = row.entry.seen.stat
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(st.mtime_ns // _NS))
    arrow = f" -> {printable(row.target)}" if row.target is not None else ""
    mode, size = stat.filemode(st.mode), row.entry.seen.size
    return f"{mode} {st.nlink:3} {st.uid:5} {st.gid:5} {size:12} {when} {printable(row.path)}{arrow}"


def _json(row: Row) -> dict[str, Any]:
    return {
        **json_path("path", row.path),
        **json_path("lower_name", row.entry.lower),
        **attributes(row.entry.seen),
        **(json_path("target", row.target) if row.target is not None else {}),
    }


def attributes(seen: Seen) -> dict[str, Any]:
    """Attributes for JSON: times in nanoseconds, the mode in octal digits."""
    st = seen.stat
    return {
        "type": kind_name(st.mode),
        "mode": f"{stat.S_IMODE(st.mode):04o}",
        "nlink": st.nlink,
        "uid": st.uid,
        "gid": st.gid,
        "size": seen.size,
        "lower_size": st.size,
        "mtime_ns": st.mtime_ns,
        "inode": st.ino,
    }


def kind_name(mode: int) -> str:
    """The kind of an object in a word."""
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "directory",
        stat.S_IFLNK: "symlink",
        stat.S_IFIFO: "fifo",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
    }
    return kinds.get(stat.S_IFMT(mode), "unknown")
