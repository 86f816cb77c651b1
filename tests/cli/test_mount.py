"""Whole commands: what is typed, what comes back, with which status."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fusecrypt import __version__
from tests import golden
from tests.mount.support import PATIENCE, PROGRAM, is_mounted, run
from tests.watch import unmount_below

SIGNATURES = ("9e91b2100d622d7a", "984e8b127932a987")  # of the tree aes32 and its passphrase


@dataclass(frozen=True)
class Place:
    """A golden tree, a mount point and a file with the passphrase."""

    lower: Path
    up: Path
    passfile: Path

    def mount(self, *options: str | Path, status: int = 0, **more: Any) -> subprocess.CompletedProcess[str]:
        """``fusecrypt mount OPTIONS LOWER UP``; nothing may be mounted if it fails."""
        done = run("mount", *options, self.lower, self.up, status=status, **more)
        assert is_mounted(self.up) == (status == 0)
        return done

    def opens(self, *options: str | Path, **more: Any) -> None:
        """So the passphrase is found, and it is the right one."""
        assert self.mount(*options, **more).stdout == ""
        assert (self.up / "hello.txt").read_text().startswith("hello")
        assert run("umount", self.up).stdout == ""
        assert not is_mounted(self.up)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    tree = golden.tree("aes32")
    lower = tree.unpack(tmp_path / "lower")
    (tmp_path / "up").mkdir()
    (tmp_path / "pass").write_bytes(b"cipher aes\n")
    yield Place(lower, tmp_path / "up", tmp_path / "pass")
    unmount_below(tmp_path)


def test_help() -> None:
    assert run("--version").stdout == f"fusecrypt, version {__version__}\n"
    overview = run("--help").stdout
    assert "Exit statuses: 0 done; 1 failed; 2 wrong command line; 3 no key fits" in overview
    for command in ("mount", "umount"):
        assert command in overview
        assert run(command, "-h").stdout.startswith(f"Usage: fusecrypt {command} ")
    for word in (
        "--passfile",
        "--passphrase-fd",
        "--extpass",
        "--salt",
        "ecryptfs_sig=",
        "--foreground",
        "ro",
    ):
        assert word in run("mount", "--help").stdout


def test_plain(place: Place) -> None:
    done = place.mount("--passfile", place.passfile)
    assert (done.stdout, done.stderr) == ("", "")
    done = run("umount", place.up)
    assert (done.stdout, done.stderr) == ("", "")


def test_json(place: Place) -> None:
    said = json.loads(place.mount("--json", "-o", "ro", "--passfile", place.passfile).stdout)
    assert said["lower"] == str(place.lower)
    assert said["mountpoint"] == str(place.up)
    assert (said["signatures"], said["fnek_signature"]) == ([SIGNATURES[0]], SIGNATURES[1])
    assert (said["cipher"], said["key_bytes"], said["fn_cipher"], said["fn_key_bytes"]) == (
        "aes",
        32,
        "aes",
        32,
    )
    assert (said["new"], said["read_only"], said["xattr_metadata"]) == (False, True, False)
    run("umount", place.up)


def test_wrong_passphrase(place: Place) -> None:
    """It names what the tree wants and what was given, and nothing is mounted."""
    place.passfile.write_bytes(b"wrong\n")
    done = place.mount("--passfile", place.passfile, status=3)
    for signature in SIGNATURES:
        assert signature in done.stderr
    assert "wrong" not in done.stderr.replace("wrong passphrase", "")
    assert "hint: " in done.stderr


@pytest.mark.parametrize("content", [b"cipher aes", b"cipher aes\n", b"cipher aes\nsecond line\n"])
def test_passfile(place: Place, content: bytes) -> None:
    place.passfile.write_bytes(content)
    place.opens("--passfile", place.passfile)


@pytest.mark.parametrize("content", [b"cipher aes \n", b" cipher aes\n", b"cipher aes\r\n", b"Cipher aes\n"])
def test_only_the_newline_is_stripped(place: Place, content: bytes) -> None:
    place.passfile.write_bytes(content)
    place.mount("--passfile", place.passfile, status=3)


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 65, b"x" * 10_000, b"\0" * 64])
def test_passphrases_that_cannot_be(place: Place, content: bytes) -> None:
    place.passfile.write_bytes(content)
    place.mount("--passfile", place.passfile, status=3)


def test_other_sources(place: Place) -> None:
    place.opens("--passfile", "-", stdin=None, input="cipher aes\nnot this\n")
    place.opens("--extpass", f"head -n 1 '{place.passfile}'")
    with place.passfile.open() as file:
        place.opens("--passphrase-fd", str(file.fileno()), pass_fds=[file.fileno()])
    place.passfile.write_bytes(b"passphrase_passwd=cipher aes\n")
    key = f"key=passphrase:passphrase_passwd_file={place.passfile}"
    place.opens("-o", f"ecryptfs_cipher=aes,ecryptfs_key_bytes=32,no_sig_cache,{key}")
    with place.passfile.open() as file:
        key = f"key=passphrase:passphrase_passwd_fd={file.fileno()}"
        place.opens("-o", key, pass_fds=[file.fileno()])


@pytest.mark.parametrize("form", ["--passphrase-fd={}", "-okey=passphrase:passphrase_passwd_fd={}"])
def test_numbers_that_are_no_descriptors(place: Place, form: str) -> None:
    for number in (99999999999, -99999999999):
        assert f"{number} is no descriptor" in place.mount(form.format(number), status=2).stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--passfile", "/nonexistent"], "/nonexistent"),
        (["--passphrase-fd", "99"], "99"),
        (["--extpass", "/nonexistent/program"], "--extpass"),
        (["--extpass", "false"], "status 1"),
        (["--extpass", "true"], "empty"),
        (["--extpass", "'"], "--extpass"),
        ([], "terminal"),
    ],
)
def test_sources_that_fail(place: Place, options: list[str], word: str) -> None:
    done = place.mount(*options, status=3, start_new_session=True)
    assert word in done.stderr


def test_several_passphrases(tmp_path: Path) -> None:
    """One for contents, one for names; in any order; and one alone is not enough."""
    tree = golden.tree("aes16-fnek-other-passphrase")
    place = Place(tree.unpack(tmp_path / "lower"), tmp_path / "up", tmp_path / "pass")
    place.up.mkdir()
    words = []
    for number, passphrase in enumerate(tree.passphrases):
        (tmp_path / f"pass{number}").write_bytes(passphrase + b"\n")
        words.append(["--passfile", str(tmp_path / f"pass{number}")])
    assert len(words) == 2
    place.opens(*words[0], *words[1])
    place.opens(*words[1], *words[0])
    for pair in words:
        place.mount(*pair, status=3)
    place.passfile.write_bytes(b"one more that fits nothing\n")
    place.mount(*words[0], *words[1], "--passfile", place.passfile, status=3)


def test_salt(tmp_path: Path) -> None:
    tree = golden.tree("salt")
    place = Place(tree.unpack(tmp_path / "lower"), tmp_path / "up", tmp_path / "pass")
    place.up.mkdir()
    place.passfile.write_bytes(b"salted\n")
    place.opens("--salt", "0123456789abcdef", "--passfile", place.passfile)
    place.mount("--salt", "0123456789abcdee", "--passfile", place.passfile, status=3)
    for salt in ("0123", "0123456789abcdeg", "0123456789abcdef00", "01 23456789abcdef"):
        assert "16 hex digits" in place.mount("--salt", salt, "--passfile", place.passfile, status=2).stderr


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("no_such_option", "no_such_option"),
        ("ecryptfs_unknown=1", "ecryptfs_unknown=1"),
        ("passphrase_passwd=cipher aes", "--passfile"),
        ("passwd=cipher aes", "--passfile"),
        ("key=passphrase:passphrase_passwd=cipher aes", "--passfile"),
        ("key=passphrase:passwd=cipher aes", "--passfile"),
        ("key=openssl:keyfile=x", "openssl"),
        ("ecryptfs_sig=123", "16 hex digits"),
        ("ecryptfs_key_bytes=many", "no number"),
        ("ecryptfs_passthrough=perhaps", "y or n"),
        ("ecryptfs_cipher=aes,ecryptfs_key_bytes=17", "17"),
        ("ecryptfs_cipher=rot13,ecryptfs_key_bytes=16", "rot13"),
        ("ecryptfs_fn_cipher=aes,ecryptfs_fn_key_bytes=17", "17"),
    ],
)
def test_options_that_are_refused(place: Place, option: str, word: str) -> None:
    """With a pointer to what to do instead, and without repeating a passphrase."""
    done = place.mount("-o", option, "--passfile", place.passfile, status=2)
    assert word in done.stderr
    assert "cipher aes" not in done.stderr


def test_options_that_are_taken(place: Place) -> None:
    options = (
        "rw,nosuid,nodev,noexec,relatime,ecryptfs_unlink_sigs,no_sig_cache,verbose,ecryptfs_passthrough=n,"
        f"ecryptfs_sig={SIGNATURES[0]},ecryptfs_fnek_sig={SIGNATURES[1]},ecryptfs_enable_filename_crypto=y,"
        "ecryptfs_cipher=aes,ecryptfs_key_bytes=0x20,ecryptfs_fn_cipher=aes,ecryptfs_fn_key_bytes=32,"
        "ecryptfs_mount_auth_tok_only,ecryptfs_check_dev_ruid,x-systemd.automount"
    )
    place.opens("-o", options, "--passfile", place.passfile)


def test_a_signature_that_the_passphrase_does_not_have(place: Place) -> None:
    done = place.mount("-o", "ecryptfs_sig=0011223344556677", "--passfile", place.passfile, status=3)
    assert "0011223344556677" in done.stderr


def test_places_that_cannot_be(place: Place, tmp_path: Path) -> None:
    for lower, up in (
        (tmp_path / "none", place.up),
        (place.lower, tmp_path / "none"),
        (place.passfile, place.up),
    ):
        done = run("mount", "--passfile", place.passfile, lower, up, status=2)
        assert "no directory" in done.stderr
    assert "Missing argument" in run("mount", place.lower, status=2).stderr
    assert "No such option" in run("mount", "--wrong", place.lower, place.up, status=2).stderr
    assert "No such command" in run("wrong", status=2).stderr


def test_umount_of_something_else(place: Place) -> None:
    for path in (place.up, Path("/proc"), place.up / "none"):
        assert "no fusecrypt mount" in run("umount", path, status=2).stderr


def test_a_tree_that_is_none(place: Place, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/file").write_text("plain text")
    done = run("mount", "--passfile", place.passfile, tmp_path / "plain", place.up, status=1)
    assert "no eCryptfs file" in done.stderr
    assert "ecryptfs_passthrough" in done.stderr
    assert not is_mounted(place.up)


@pytest.mark.parametrize(
    ("options", "remark", "names"),
    [
        ([], "new tree: aes-256, encrypted names (aes-256)", True),
        (["-o", "ecryptfs_enable_filename_crypto=n"], "new tree: aes-256, plain names", False),
        (
            ["-o", "ecryptfs_cipher=twofish,ecryptfs_key_bytes=16"],
            "new tree: twofish-128, encrypted names (twofish-128)",
            True,
        ),
    ],
)
def test_a_new_tree(tmp_path: Path, options: list[str], remark: str, names: bool) -> None:
    """It says what it makes, and later mounts need the passphrase alone."""
    place = Place(tmp_path / "lower", tmp_path / "up", tmp_path / "pass")
    place.lower.mkdir()
    place.up.mkdir()
    place.passfile.write_bytes(b"new passphrase\n")
    done = place.mount(*options, "--passfile", place.passfile)
    assert done.stderr == f"fusecrypt: {remark}\n"
    (place.up / "hello.txt").write_text("hello")
    run("umount", place.up)
    (lower,) = os.listdir(place.lower)
    assert lower.startswith("ECRYPTFS_FNEK_ENCRYPTED.") == names
    place.opens("--passfile", place.passfile)


def test_mounted_where_something_is_mounted(place: Place) -> None:
    """The later mount hides the earlier one; each umount takes one away."""
    place.mount("--passfile", place.passfile)
    place.mount("-o", "ro", "--passfile", place.passfile)
    run("umount", place.up)
    assert is_mounted(place.up)
    (place.up / "new").write_text("on the earlier one")
    run("umount", place.up)


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *command: str | Path) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            for number in (
                signal.SIGINT,
                signal.SIGQUIT,
                signal.SIGHUP,
            ):  # as on a terminal, whoever runs the tests
                signal.signal(number, signal.SIG_DFL)
            os.execv(command[0], [str(word) for word in command])
        self.seen = b""

    def expect(self, text: bytes) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert select.select([self.fd], [], [], deadline - time.monotonic())[0], self.seen
            self.seen += self.read()

    def read(self) -> bytes:
        try:
            return os.read(self.fd, 4096)
        except OSError:  # the other side is closed
            return b""

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def end(self) -> int:
        """All that is still to come, and the exit status."""
        while data := self.read():
            self.seen += data
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_prompt(place: Place) -> None:
    """On the terminal, without echo; the terminal is as before afterwards, and free: the daemon left it."""
    terminal = Terminal(PROGRAM, "mount", place.lower, place.up)
    terminal.expect(b": ")
    (daemon,) = Path(f"/proc/{terminal.pid}/task/{terminal.pid}/children").read_text().split()
    assert os.getpgid(int(daemon)) == os.getpgid(
        terminal.pid
    )  # others would wait for themselves below autofs
    terminal.type(b"cipher aes\n")
    assert terminal.end() == 0
    assert os.getsid(int(daemon)) == int(daemon)
    assert b"cipher aes" not in terminal.seen
    assert (place.up / "hello.txt").exists()
    run("umount", place.up)


def test_prompt_interrupted(place: Place) -> None:
    terminal = Terminal(PROGRAM, "mount", place.lower, place.up)
    terminal.expect(b": ")
    terminal.type(b"\x03")
    assert terminal.end() == 1
    assert b"Traceback" not in terminal.seen
    assert not is_mounted(place.up)


def test_prompt_ended(place: Place) -> None:
    """Control-D is no passphrase."""
    terminal = Terminal(PROGRAM, "mount", place.lower, place.up)
    terminal.expect(b": ")
    terminal.type(b"\x04")
    assert terminal.end() == 3


def test_interrupt_in_the_foreground(place: Place) -> None:
    """Control-C unmounts."""
    words = ("mount", "--foreground", "--passfile", place.passfile, place.lower, place.up)
    terminal = Terminal(PROGRAM, *words)
    deadline = time.monotonic() + PATIENCE
    while not is_mounted(place.up):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (place.up / "new").write_text("written")
    terminal.type(b"\x03")
    assert terminal.end() == 0
    assert not is_mounted(place.up)


def test_output_that_nobody_reads(place: Place) -> None:
    command = [str(PROGRAM), "mount", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
