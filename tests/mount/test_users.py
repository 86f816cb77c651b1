"""Several users on one mount that root made for them, and users' own mounts."""

from __future__ import annotations

import errno
import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import golden, manifest
from tests.mount.support import Mount, fails, is_mounted, mounted, outcome, run
from tests.mount.users import PYTHON, User, program_for_others

ALICE = User(1000, 1000, (1000, 5000))
BOB = User(1001, 1001, (1001, 5000))
CAROL = User(1002, 1002)
NOBODY = User(65534, 65534)
"""Has an account on every Debian, which fusermount3 asks for."""


@pytest.fixture
def common(up: Path) -> Path:
    """A directory where everybody may make files."""
    up.chmod(0o777)
    return up


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def owner(path: Path) -> tuple[int, int]:
    return path.lstat().st_uid, path.lstat().st_gid


def test_new_objects_belong_to_their_maker(common: Path) -> None:
    makers = {
        "file": "Path('file').write_text('x')",
        "dir": "os.mkdir('dir')",
        "link": "os.symlink('file', 'link')",
        "fifo": "os.mkfifo('fifo')",
        "node": "os.mknod('node')",
    }
    for name, expression in makers.items():
        ALICE.does(expression, common, umask=0o027)
        assert owner(common / name) == (1000, 1000), name
    assert [mode(common / name) for name in ("file", "dir", "fifo", "node")] == [0o640, 0o750, 0o640, 0o600]


def test_umask_and_modes(common: Path) -> None:
    for umask, expected in ((0, 0o666), (0o077, 0o600), (0o777, 0)):
        ALICE.does(f"Path('f{umask}').touch()", common, umask=umask)
        assert mode(common / f"f{umask}") == expected
    ALICE.does("os.mkdir('d', 0o1777)", common, umask=0o002)
    assert mode(common / "d") == 0o1775
    ALICE.does("os.open('s', os.O_CREAT | os.O_WRONLY, 0o6755)", common)
    assert mode(common / "s") == 0o6755


@pytest.mark.parametrize("group", [0, 5000])
def test_setgid_directories(common: Path, group: int) -> None:
    """New objects get the directory's group, also if it is root's own; directories pass it on."""
    os.chown(common, 0, group)
    common.chmod(0o2777)
    ALICE.does("Path('file').touch()", common)
    ALICE.does("os.symlink('x', 'link')", common)
    ALICE.does("os.makedirs('dir/below')", common)
    ALICE.does("Path('dir/below/file').touch()", common)
    for name in ("file", "link", "dir", "dir/below", "dir/below/file"):
        assert owner(common / name) == (1000, group), name
    assert mode(common / "dir/below") == 0o2755
    CAROL.does("os.open('s', os.O_CREAT | os.O_WRONLY, 0o2755)", common)
    assert mode(common / "s") == 0o755  # she is not in that group


def test_rights(common: Path) -> None:
    ALICE.does("Path('mine').write_text('secret')", common, umask=0o077)
    ALICE.does("Path('ours').write_text('shared')", common, umask=0o007)
    os.chown(common / "ours", 1000, 5000)
    assert BOB.does("Path('ours').read_text()", common) == "shared"
    BOB.does("Path('ours').write_text('by bob')", common)
    assert owner(common / "ours") == (1000, 5000)
    refused = {
        BOB: ("Path('mine').read_text()", "os.chmod('ours', 0o666)", "os.utime('ours', (1, 1))"),
        CAROL: ("Path('ours').read_text()", "os.truncate('ours', 0)", "os.chown('ours', 1002, -1)"),
    }
    for user, expressions in refused.items():
        for expression in expressions:
            with pytest.raises(PermissionError):
                user.does(expression, common)
    ALICE.does("os.mkdir('private', 0o700)", common)
    with pytest.raises(PermissionError):
        BOB.does("os.listdir('private')", common)
    with pytest.raises(PermissionError):
        BOB.does("os.stat('private/x')", common)
    assert BOB.does("(os.access('mine', os.R_OK), os.access('ours', os.W_OK))", common) == (False, True)


def test_owner_without_read_permission(common: Path) -> None:
    ALICE.does("Path('w').write_text('x' * 10)", common)
    ALICE.does("os.chmod('w', 0o200)", common)
    with pytest.raises(PermissionError):
        ALICE.does("Path('w').read_text()", common)
    ALICE.does("os.write(os.open('w', os.O_WRONLY | os.O_APPEND), b'more')", common)
    assert (common / "w").read_text() == "x" * 10 + "more"
    assert ALICE.does("os.stat('w').st_size", common) == 14


def test_sticky_directories(common: Path) -> None:
    common.chmod(0o1777)
    ALICE.does("Path('f').touch()", common)
    fails(errno.EPERM, BOB.does, "os.unlink('f')", common)
    fails(errno.EPERM, BOB.does, "os.rename('f', 'g')", common)
    ALICE.does("os.rename('f', 'g')", common)
    ALICE.does("os.unlink('g')", common)


SET_ID = 0o6775


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("os.write(os.open('f', os.O_WRONLY), b'y')", 0o775),
        ("os.write(os.open('f', os.O_WRONLY | os.O_APPEND), b'y' * 9000)", 0o775),
        ("os.truncate('f', 0)", 0o775),
        ("os.close(os.open('f', os.O_WRONLY | os.O_TRUNC))", 0o775),
        ("os.chown('f', -1, 5000)", 0o775),
        ("os.close(os.open('f', os.O_RDONLY))", SET_ID),
    ],
)
def test_set_id_bits(common: Path, expression: str, expected: int) -> None:
    """Taken away by a write, truncation or change of owner, at once and below too."""
    path = common / "f"
    path.write_text("x")
    os.chown(path, 1000, 1000)
    path.chmod(SET_ID)
    assert mode(path) == SET_ID
    ALICE.does(expression, common)
    assert mode(path) == expected


def test_root_keeps_set_id_bits(common: Path) -> None:
    path = common / "f"
    path.write_text("x")
    path.chmod(SET_ID)
    path.write_text("y")
    assert mode(path) == SET_ID
    os.chown(path, 1000, 1000)
    assert mode(path) == 0o775


def test_setgid_without_execution_stays(common: Path) -> None:
    """It marks mandatory locking, not a privilege."""
    path = common / "f"
    path.write_text("x")
    os.chown(path, 1000, 5000)
    path.chmod(0o2664)
    ALICE.does("os.write(os.open('f', os.O_WRONLY), b'y')", common)
    assert mode(path) == 0o2664


def test_setgid_is_for_members(common: Path) -> None:
    (common / "f").touch()
    os.chown(common / "f", 1000, 1001)
    ALICE.does("os.chmod('f', 0o2755)", common)
    assert mode(common / "f") == 0o755
    os.chown(common / "f", 1000, 5000)
    ALICE.does("os.chmod('f', 0o2755)", common)
    assert mode(common / "f") == 0o2755


@pytest.mark.parametrize("make", ["os.open('o', os.O_CREAT)", "os.mkdir('o')"], ids=["file", "directory"])
def test_an_acl_from_outside_the_group_takes_setgid_away(common: Path, make: str) -> None:
    """As chmod does: the mode that comes with it is the caller's."""
    acl = struct.pack("<I" + 3 * "HHI", 2, 1, 7, 0xFFFFFFFF, 4, 7, 0xFFFFFFFF, 0x20, 7, 0xFFFFFFFF)
    ALICE.does(make, common)
    os.chown(common / "o", 1000, 5000)
    for user, expected in ((ALICE, 0o2777), (User(1000, 5000), 0o2777), (User(1000, 1000), 0o777)):
        os.chmod(common / "o", 0o2755)
        user.does(f"os.setxattr('o', 'system.posix_acl_access', {acl!r})", common)
        assert mode(common / "o") == expected, user


def test_file_capabilities_go_with_a_write(common: Path) -> None:
    path = common / "f"
    path.write_text("x")
    path.chmod(0o777)
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(path, "security.capability", capability)
    assert "security.capability" in os.listxattr(path)
    ALICE.does("os.write(os.open('f', os.O_WRONLY), b'y')", common)
    assert "security.capability" not in os.listxattr(path)


def test_another_pid_namespace(common: Path) -> None:
    """A caller whose process we cannot see."""
    command = f"touch {common}/f && chmod 2755 {common}/f && chmod 640 {common}/f"
    user = ["setpriv", "--reuid=1000", "--regid=1000", "--groups=5000"]
    subprocess.run(["unshare", "--pid", "--fork", *user, "sh", "-c", command], check=True)
    assert mode(common / "f") == 0o640


def test_acls_decide(common: Path) -> None:
    ALICE.does("Path('f').write_text('for carol')", common, umask=0o077)
    with pytest.raises(PermissionError):
        CAROL.does("Path('f').read_text()", common)
    subprocess.run(["setfacl", "-m", "u:1002:r", common / "f"], check=True)
    assert CAROL.does("Path('f').read_text()", common) == "for carol"
    with pytest.raises(PermissionError):
        CAROL.does("Path('f').write_text('')", common)


def test_without_allow_other(open_tmp_path: Path) -> None:
    with mounted(open_tmp_path / "lower") as mount:
        mount.path.chmod(0o777)
        with pytest.raises(PermissionError):
            ALICE.does("os.listdir('.')", mount.path)


def checks_in_kernel(mount: Mount) -> bool:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return "default_permissions" in next(line for line in lines if f" {mount.path} " in line)


def test_root_alone(open_tmp_path: Path) -> None:
    """There is nobody to check, but access() still knows what is no program."""
    with mounted(open_tmp_path / "lower") as mount:
        assert not checks_in_kernel(mount)
        path = mount.path / "f"
        path.write_text("mine")
        path.chmod(0)
        assert path.read_text() == "mine"
        assert (os.access(path, os.R_OK | os.W_OK), os.access(path, os.X_OK)) == (True, False)
        path.chmod(0o100)
        assert os.access(path, os.X_OK)
        subprocess.run(["setfacl", "-m", "u:1002:r", path], check=True)
        assert "user:1002:r--" in subprocess.check_output(["getfacl", "-cpn", path], text=True)
        assert mode(path) == 0o140  # the group's bits are the mask


def test_root_may_have_permissions_checked(open_tmp_path: Path) -> None:
    with mounted(open_tmp_path / "lower", "-o", "default_permissions") as mount:
        assert checks_in_kernel(mount)


@pytest.fixture(scope="module")
def program(open_directory: Path) -> Iterator[Path]:
    """The program where every user reaches it."""
    yield program_for_others(open_directory)
    subprocess.run(["umount", "-l", open_directory / "checkout"], check=True)


@pytest.fixture
def fuse_for_all() -> Iterator[None]:
    """/dev/fuse as udev leaves it, whatever it is in this machine."""
    before = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    os.chmod("/dev/fuse", 0o666)
    yield
    os.chmod("/dev/fuse", before)


@pytest.fixture
def own(open_tmp_path: Path, program: Path, fuse_for_all: None) -> Iterator[Mount]:
    """A mount of an ordinary user's own."""
    lower = open_tmp_path / "lower"
    lower.mkdir()
    os.chown(lower, NOBODY.uid, NOBODY.gid)
    with mounted(lower, program=program, ids=NOBODY.ids) as mount:
        yield mount


def test_own_mount(own: Mount) -> None:
    up = own.path
    assert checks_in_kernel(own)
    NOBODY.does("Path('f').write_text('mine')", up, umask=0o077)
    assert NOBODY.does("Path('f').read_text()", up) == "mine"
    assert NOBODY.does("os.stat('f').st_uid", up) == NOBODY.uid
    NOBODY.does("os.chmod('f', 0o200)", up)
    with pytest.raises(PermissionError):
        NOBODY.does("Path('f').read_text()", up)
    NOBODY.does("os.chmod('f', 0)", up)
    with pytest.raises(PermissionError):
        NOBODY.does("os.open('f', os.O_WRONLY)", up)
    NOBODY.does("os.chmod('f', 0o600)", up)
    NOBODY.does("Path('unreadable').touch(0)", up)
    NOBODY.does("os.chmod('unreadable', 0o600)", up)
    NOBODY.does("os.makedirs('a/b/c')", up)
    with pytest.raises(PermissionError):
        NOBODY.does("os.chown('f', 0, -1)", up)
    assert NOBODY.does("(Path('f').read_text(), sorted(os.listdir()))", up) == (
        "mine",
        ["a", "f", "unreadable"],
    )
    with pytest.raises(PermissionError):
        ALICE.does("os.listdir('.')", up)
    fails(errno.EACCES, os.listdir, up)  # not even root
    assert {path.stat().st_uid for path in own.lower.iterdir()} == {NOBODY.uid}


ATTACH = "__import__('ctypes').CDLL(None, use_errno=True).ptrace(16, {}, None, None)"
"""PTRACE_ATTACH to a process: 0, or -1."""


def test_own_processes_cannot_look_into_the_daemon(own: Mount) -> None:
    """Nor trace it, as they could any other of the same user."""
    with subprocess.Popen(["sleep", "60"], **NOBODY.ids) as other:
        for pid, allowed in ((other.pid, True), (own.pid, False)):
            for name in ("mem", "environ", "maps"):
                opened = outcome(
                    NOBODY.does, f"os.close(os.open('/proc/{pid}/{name}', os.O_RDONLY))", own.path
                )
                assert opened == ("done" if allowed else "EACCES"), name
            assert (NOBODY.does(ATTACH.format(pid), own.path) == 0) is allowed
        other.kill()


def test_own_mount_cannot_write_what_it_may_not_read(own: Mount) -> None:
    """The daemon has its user's rights, and cannot write without the header."""
    NOBODY.does("Path('w').write_text('x' * 10)", own.path)
    NOBODY.does("os.chmod('w', 0o200)", own.path)
    with pytest.raises(PermissionError):
        NOBODY.does("os.open('w', os.O_WRONLY | os.O_APPEND)", own.path)
    NOBODY.does("os.chmod('w', 0o600)", own.path)
    assert NOBODY.does("Path('w').read_text()", own.path) == "x" * 10
    write = "os.write(os.open('new', os.O_WRONLY | os.O_CREAT, 0o200), b'data')"
    assert NOBODY.does(write, own.path) == 4


def test_own_mount_clears_set_id_bits(own: Mount) -> None:
    NOBODY.does("Path('f').write_text('x')", own.path)
    NOBODY.does("os.chmod('f', 0o4755)", own.path)
    assert NOBODY.does("oct(os.stat('f').st_mode)", own.path) == "0o104755"
    NOBODY.does("os.write(os.open('f', os.O_WRONLY), b'y')", own.path)
    assert NOBODY.does("oct(os.stat('f').st_mode)", own.path) == "0o100755"


def test_own_mount_of_a_golden_tree(open_tmp_path: Path, program: Path, fuse_for_all: None) -> None:
    tree = golden.tree("aes32")
    lower = tree.unpack(open_tmp_path / "lower")
    subprocess.run(["chown", "-hR", f"{NOBODY.uid}:{NOBODY.gid}", lower], check=True)
    with mounted(lower, passphrases=tree.passphrases, program=program, ids=NOBODY.ids) as mount:
        code = f"import sys; sys.path.insert(0, {str(open_tmp_path)!r}); import manifest as m; "
        code += "m.dump(m.manifest(sys.argv[1]), sys.argv[2])"
        (open_tmp_path / "manifest.py").write_text(Path(manifest.__file__).read_text())
        seen = open_tmp_path / "seen.json"
        seen.touch()
        os.chown(seen, NOBODY.uid, NOBODY.gid)
        command = [str(PYTHON), "-c", code, str(mount.path), str(seen)]
        subprocess.run(command, check=True, cwd="/", **NOBODY.ids)
    different = {"uid", "gid", "mode", "xattrs"}  # chown takes set-id bits and capabilities away
    assert manifest.diff(tree.manifest(), manifest.load(seen), different) == []


def test_nobody_unmounts_what_is_not_theirs(open_tmp_path: Path, own: Mount, program: Path) -> None:
    done = run("umount", own.path, program=program, ids=ALICE.ids, status=1)
    assert "cannot unmount" in done.stderr
    assert is_mounted(own.path)


def test_mount_point_of_somebody_else(open_tmp_path: Path, program: Path, fuse_for_all: None) -> None:
    for name in ("lower", "roots"):
        (open_tmp_path / name).mkdir()
    os.chown(open_tmp_path / "lower", NOBODY.uid, NOBODY.gid)
    (open_tmp_path / "pass").write_text("x")
    words = ("mount", "--passfile", open_tmp_path / "pass", open_tmp_path / "lower", open_tmp_path / "roots")
    done = run(*words, program=program, ids=NOBODY.ids, status=1)
    assert "fusermount3" in done.stderr
    assert not is_mounted(open_tmp_path / "roots")
