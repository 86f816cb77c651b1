"""mount(8), fstab lines and the tools around them, with the real programs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import golden
from tests.mount.system import System, system
from tests.mount.test_service import AGENT
from tests.mount.users import User, program_for_others

HELPERS = ("mount.fuse.fusecrypt", "mount.fusecrypt")
TYPE = ("-t", "fuse.fusecrypt")
SOMEBODY = User(65534, 65534)


@pytest.fixture
def here(open_tmp_path: Path) -> Iterator[System]:
    """A namespace; its directory holds the tree ``lower``, a mount point ``up``, ``pass`` and ``passwd``."""
    place = open_tmp_path
    golden.tree("aes32").unpack(place / "lower")
    (place / "up").mkdir()
    (place / "pass").write_text("cipher aes\n")
    (place / "passwd").write_text("passphrase_passwd=cipher aes\n")
    with system(place, [sys.executable], HELPERS) as made:
        yield made


def line(here: System, options: str, fstype: str = "fuse.fusecrypt") -> str:
    return f"{here.directory}/lower {here.directory}/up {fstype} {options}"


def hello(here: System) -> str:
    return here.run("cat", here.directory / "up/hello.txt").stdout


def test_mount_findmnt_df_umount(here: System) -> None:
    lower, up = here.directory / "lower", here.directory / "up"
    done = here.run("mount", *TYPE, lower, up, "-o", f"passfile={here.directory}/pass")
    assert (done.stdout, done.stderr) == ("", "")
    assert hello(here).startswith("hello")
    found = here.run("findmnt", "-rn", "-o", "SOURCE,TARGET,FSTYPE", up).stdout.split()
    assert found == [str(lower), str(up), "fuse.fusecrypt"]
    df = here.run("df", "--output=source,fstype,size,target", up).stdout.splitlines()[-1].split()
    below = here.run("df", "--output=size", lower).stdout.split()[-1]
    assert df == [str(lower), "fuse.fusecrypt", below, str(up)]
    here.run("umount", up)
    assert here.mounts() == ""


def test_fstab_lines(here: System) -> None:
    """By the line alone, and by mount -a, which mounts nothing twice."""
    options = f"noauto,_netdev,nofail,x-systemd.automount,idle=1h,passfile={here.directory}/pass"
    for fstype in ("fuse.fusecrypt", "fusecrypt"):
        here.fstab(line(here, options, fstype))
        here.run("mount", here.directory / "up")
        assert hello(here).startswith("hello")
        here.run("umount", here.directory / "up")
        here.run("mount", "-a")
        assert here.mounts() == ""
        here.fstab(line(here, options.removeprefix("noauto,"), fstype))
        here.run("mount", "-a")
        here.run("mount", "-a")
        assert len(here.mounts().splitlines()) == 1
        here.run("umount", "-a", *TYPE)
        assert here.mounts() == ""


def test_what_root_mounts_is_there_for_all(here: System) -> None:
    """As the permissions say: so it was with the kernel's eCryptfs."""
    (here.directory / "lower").chmod(0o755)
    here.run(
        "mount",
        *TYPE,
        here.directory / "lower",
        here.directory / "up",
        "-o",
        f"passfile={here.directory}/pass",
    )
    assert here.run("cat", here.directory / "up/hello.txt", ids=SOMEBODY.ids).stdout.startswith("hello")
    here.run("chmod", "600", here.directory / "up/hello.txt")
    here.run("cat", here.directory / "up/hello.txt", ids=SOMEBODY.ids, status=1)


@pytest.mark.parametrize(
    "options",
    [
        "key=passphrase:passphrase_passwd_file={0}/passwd",
        "defaults,ecryptfs_cipher=aes,ecryptfs_key_bytes=32,ecryptfs_passthrough=n,no_sig_cache,verbosity=0,"
        "ecryptfs_enable_filename_crypto=y,ecryptfs_fnek_sig=984e8b127932a987,ecryptfs_unlink_sigs,"
        "ecryptfs_sig=9e91b2100d622d7a,key=passphrase:passphrase_passwd_file={0}/passwd",
        "rw,relatime,ecryptfs_sig=9e91b2100d622d7a,ecryptfs_fnek_sig=984e8b127932a987,ecryptfs_cipher=aes,"
        "ecryptfs_key_bytes=32,passfile={0}/pass",
    ],
)  # fmt: skip
def test_old_ecryptfs_lines(here: System, options: str) -> None:
    """Nothing but the type is changed; the last one is the kernel's own list of a mount's options."""
    here.fstab(line(here, options.format(here.directory)))
    here.run("mount", here.directory / "up")
    assert hello(here).startswith("hello")


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        ("key=passphrase:passphrase_passwd=cipher", 1, "would show the passphrase to everybody"),
        ("key=openssl:openssl_keyfile=/root/key.pem", 1, "key module 'openssl' is not supported"),
        ("key=tspi:tspi_uuid=1", 1, "key module 'tspi' is not supported"),
        ("ecryptfs_wrong=1", 1, "unknown mount option 'ecryptfs_wrong=1'"),
        ("passfile", 1, "write passfile=FILE"),
        ("keyring=yes", 1, "keyring takes no value"),
        ("passfile=/does/not/exist", 32, "/does/not/exist: No such file"),
        ("ecryptfs_sig=0011223344556677,passfile={0}/pass", 32, "0011223344556677"),
        ("ecryptfs_sig=9e91b2100d622d7a", 32, "there is no terminal to ask on"),
    ],
)
def test_refusals_with_the_reason(here: System, options: str, status: int, reason: str) -> None:
    here.fstab(line(here, options.format(here.directory)))
    done = here.run("mount", here.directory / "up", status=status, start_new_session=True)
    assert reason in done.stderr
    assert here.mounts() == ""


def test_quotes_sloppiness_pretence(here: System) -> None:
    (here.directory / "pass,1").write_text("cipher aes\n")
    quoted = f'passfile="{here.directory}/pass,1"'
    words = (*TYPE, here.directory / "lower", here.directory / "up")
    here.run("mount", "-f", *words, "-o", quoted)
    here.run("mount", "-f", *words, "-o", f"nonsense,{quoted}", status=1)
    assert here.mounts() == ""
    here.run("mount", "-s", *words, "-o", f"nonsense,{quoted}")
    assert hello(here).startswith("hello")
    here.run("umount", here.directory / "up")
    (here.directory / "passwd").rename(here.directory / "passwd,1")
    here.run("mount", *words, "-o", f'key=passphrase:passphrase_passwd_file="{here.directory}/passwd,1"')
    assert hello(here).startswith("hello")


def test_remount_read_only(here: System) -> None:
    up = here.directory / "up"
    here.fstab(line(here, f"passfile={here.directory}/pass"))
    here.run("mount", up)
    here.run("mount", "-o", "remount,ro", up)
    assert "Read-only" in here.run("touch", up / "new", status=1).stderr
    here.run("mount", "-o", "remount,rw", up)
    here.run("touch", up / "new")


def test_a_remount_that_cannot_be(here: System) -> None:
    """What is unknown, what the daemon is not made for, and what is only tried."""
    up = here.directory / "up"
    here.run("mount", *TYPE, here.directory / "lower", up, "-o", f"ro,passfile={here.directory}/pass")
    for options, status, reason in (
        ("rw", 32, "was mounted read-only"),
        ("ro,nonsense=1", 1, "unknown mount option 'nonsense=1'"),
    ):
        assert reason in here.run("mount", "-o", f"remount,{options}", up, status=status).stderr
    assert " ro," in here.mounts()
    here.run("mount", "-f", "-o", "remount,ro,noexec", up)
    assert "noexec" not in here.mounts()
    here.run("mount", "-o", "remount,ro,noexec", up)
    assert "noexec" in here.mounts()


def test_a_mount_unit_asks_through_systemd(here: System) -> None:
    """Its process is mount(8), which starts the helper."""
    here.run("mount", "-t", "tmpfs", "none", "/run")
    here.run("mkdir", "-p", "/run/systemd/ask-password")
    script = 'python=$1 agent=$2; shift 2; "$python" -c "$agent" "cipher aes" & '
    script += 'sh -c \'SYSTEMD_EXEC_PID=$$ exec "$@"\' sh "$@" && wait'
    command = ("mount", *TYPE, here.directory / "lower", here.directory / "up")
    done = here.run("sh", "-c", script, "sh", sys.executable, AGENT, *command, start_new_session=True)
    assert done.stdout == "fusecrypt mount passphrase (fusecrypt)\n"
    assert hello(here).startswith("hello")


@pytest.fixture
def theirs(open_tmp_path: Path) -> Iterator[System]:
    """The same where other users reach the helper; all is a user's own."""
    place = open_tmp_path
    python = program_for_others(place).with_name("python")
    golden.tree("aes32").unpack(place / "lower")
    (place / "up").mkdir()
    (place / "pass").write_text("cipher aes\n")
    for path in (place / "lower", place / "up", *(place / "lower").rglob("*")):
        os.chown(path, SOMEBODY.uid, SOMEBODY.gid, follow_symlinks=False)
    with system(place, [python], HELPERS) as made:
        yield made
    subprocess.run(["umount", place / "checkout"], check=True)


def test_a_user_line(theirs: System) -> None:
    """`user`: mount(8) runs the helper as the user, and the user may unmount."""
    up = theirs.directory / "up"
    theirs.fstab(line(theirs, f"noauto,user,passfile={theirs.directory}/pass"))
    for tool in (("umount", up), ("fusermount3", "-u", up)):
        theirs.run("mount", up, ids=SOMEBODY.ids)
        assert f"user_id={SOMEBODY.uid}" in theirs.mounts()
        assert "nosuid,nodev,noexec" in theirs.mounts()
        theirs.run("cat", up / "hello.txt", ids=SOMEBODY.ids)
        theirs.run("umount", up, ids=User(1, 1).ids, status=32)
        theirs.run(*tool, ids=SOMEBODY.ids)
        assert theirs.mounts() == ""
