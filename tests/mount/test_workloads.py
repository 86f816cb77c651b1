"""Whole trees through a mount, with the programs that people use."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import manifest
from tests.mount.support import Mount, mounted

FILES = 10_000


def make_sources(root: Path, files: int) -> None:
    """A tree like one of sources: many small files, some larger, symlinks, modes, times; always the same."""
    chance = random.Random(2026)
    text = chance.randbytes(400_000)
    directories = [root]
    root.mkdir()
    for n in range(files):
        if n % 25 == 0:
            directory = chance.choice(directories[-40:]) / f"d{n}"
            directory.mkdir()
            directories.append(directory)
        path = chance.choice(directories[-8:]) / f"file-{n}.c"
        size = min(int(chance.expovariate(1 / 5000)), 300_000)
        start = chance.randrange(100_000)
        path.write_bytes(text[start : start + size])
        if n % 50 == 0:
            path.with_suffix(".link").symlink_to(path.name)
        if n % 10 == 0:
            path.chmod(0o755)
        os.utime(path, ns=(n, 1_600_000_000_000_000_000 + n * 1_000_003))


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid: int) -> int:
    """In KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_ten_thousand_files(tmp_path: Path) -> None:
    """cp -a, remount, diff -r."""
    source = tmp_path / "source"
    make_sources(source, FILES)
    with mounted(tmp_path / "lower") as mount:
        run("cp", "-a", source, mount.path / "copy")
    with mounted(tmp_path / "lower") as mount:
        run("diff", "-r", "--no-dereference", source, mount.path / "copy")
        listing = ("find", ".", "-printf", "%p %y %m %U:%G %n %l %T+\n")
        expected, copied = (run(*listing, cwd=at) for at in (source, mount.path / "copy"))
        assert sorted(expected.splitlines()) == sorted(copied.splitlines())


def test_nothing_grows(tmp_path: Path) -> None:
    """Copying and removing again and again leaves descriptors and memory where they were."""
    source = tmp_path / "source"
    make_sources(source, 1500)
    with mounted(tmp_path / "lower") as mount:
        seen = []
        for _ in range(4):
            run("cp", "-a", source, mount.path / "copy")
            run("diff", "-r", "--no-dereference", source, mount.path / "copy")
            run("rm", "-rf", mount.path / "copy")
            forget_all()
            seen.append((descriptors(mount.pid), resident(mount.pid)))
        assert seen[3][0] <= seen[0][0], seen
        assert seen[3][1] < seen[1][1] + 1024, seen


def forget_all() -> None:
    """Let the kernel drop the inodes that it knows, and wait until the daemon has heard of it."""
    Path("/proc/sys/vm/drop_caches").write_text("2")
    time.sleep(0.5)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources") / "tree"
    make_sources(root, 400)
    os.link(next(root.rglob("*.c")), root / "hard link")
    os.mkfifo(root / "fifo", 0o640)
    os.setxattr(root / "hard link", "user.note", b"kept")
    subprocess.run(["setfacl", "-m", "u:1234:r", root / "hard link"], check=True)
    return root


@pytest.fixture(scope="module", params=["headers", "xattr_metadata"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Mount, list[str]]]:
    options = ["-o", "ecryptfs_xattr_metadata"] if request.param == "xattr_metadata" else []
    with mounted(tmp_path_factory.mktemp("workloads") / "lower", *options) as mount:
        yield mount, options


@pytest.mark.parametrize(
    "command",
    [
        "cp -a {source} {to}",
        "mkdir {to} && tar --xattrs --acls -C {source} -cf - . | tar --xattrs --acls -C {to} -xpf -",
        "rsync -aHAX {source}/ {to}",
    ],
    ids=["cp", "tar", "rsync"],
)
def test_copying(sources: Path, place: tuple[Mount, list[str]], command: str) -> None:
    """Everything arrives: contents, modes, owners, times, xattrs, ACLs, links; and comes back out again."""
    mount, _ = place
    name = command.split()[0] + str(len(command))
    expected = manifest.manifest(sources)
    ignored = {"hardlink_of", "nlink"} if "tar" not in command and "rsync" not in command else set()
    run("sh", "-c", command.format(source=sources, to=mount.path / name))
    assert manifest.diff(expected, manifest.manifest(mount.path / name), ignored) == []
    run("sh", "-c", command.format(source=mount.path / name, to=mount.path / (name + "2")))
    assert manifest.diff(expected, manifest.manifest(mount.path / (name + "2")), ignored) == []
    shutil.rmtree(mount.path / name)


def test_git(place: tuple[Mount, list[str]], sources: Path, tmp_path: Path) -> None:
    """A repository lives on the mount; its checks hold after a remount, and nothing looks modified."""
    mount, _ = place
    work = mount.path / "work"
    git = ("git", "-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "gc.auto=0", "-C", work)
    run("git", "init", "-q", work)
    for entry in sources.iterdir():
        if entry.name != "fifo":
            run("cp", "-a", entry, work)
    run(*git, "add", "-A")
    run(*git, "commit", "-qm", "one")
    run(*git, "mv", "hard link", "moved")
    run(*git, "commit", "-qam", "two")
    run(*git, "gc", "-q")
    run(*git, "fsck", "--strict")
    run(*git, "checkout", "-q", "HEAD~1")
    assert run(*git, "status", "--porcelain") == ""
    run("git", "clone", "-q", work, tmp_path / "clone")
    run("diff", "-r", "-x", ".git", "--no-dereference", work, tmp_path / "clone")


def test_sqlite(place: tuple[Mount, list[str]]) -> None:
    """A database with a write-ahead log: shared mappings, locks, fsync."""
    program = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1])\n"
        "db.execute('pragma journal_mode=wal')\n"
        "db.execute('create table t (n integer primary key, s text)')\n"
        "for start in range(0, 3000, 300):\n"
        "    with db: db.executemany('insert into t values (?, ?)',"
        " ((n, 'x' * (n % 999)) for n in range(start, start + 300)))\n"
        "with db: db.execute('delete from t where n % 3 = 0')\n"
        "db.execute('vacuum')\n"
        "assert db.execute('pragma integrity_check').fetchone() == ('ok',)\n"
        "assert db.execute('select count(*) from t').fetchone() == (2000,)\n"
    )
    mount, _ = place
    run("/usr/bin/python3", "-c", program, mount.path / "base.db")


def test_in_place_editing(place: tuple[Mount, list[str]], tmp_path: Path) -> None:
    mount, _ = place
    path = mount.path / "lines"
    path.write_text("".join(f"line {n}\n" for n in range(5000)))
    run("sed", "-i", "s/line 4999/the end/", path)
    run("sh", "-c", f"dd if=/dev/zero of={path} bs=7 count=3 seek=5 conv=notrunc && sort {path} -o {path}")
    assert "the end" in run("tail", "-n", "1", path)
    run("cp", "--sparse=always", path, tmp_path / "out")
    run("cmp", path, tmp_path / "out")
