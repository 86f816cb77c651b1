"""What goes wrong most often: a line with object and reason, a hint what to do, a documented status."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecrypt.cli.advice import advice
from fusecrypt.errors import DamagedError, FormatError, FusecryptError, KeyNotFoundError, SecretError
from tests import golden
from tests.mount.support import PROGRAM, run
from tests.watch import unmount_below

MOUNT = "mount --passfile pass"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tree in ``lower``, another that is mounted, and what people mistake for one."""
    path = tmp_path_factory.mktemp("messages")
    golden.tree("aes32").unpack(path / "lower")
    for name in ("up", "mounted", "other", "plain", "empty", "dead", "third"):
        (path / name).mkdir()
    for name, text in (("pass", "cipher aes"), ("wrong", "x"), ("blank", ""), ("plain/file", "a")):
        (path / name).write_text(f"{text}\n")
    for lower, up in (("other", "mounted"), ("third", "dead")):
        run("mount", "--passfile", "pass", lower, up, cwd=path)
    run("key", "create", "lower", "--keyslots", "slots", "--passfile", "pass", cwd=path)
    (path / "secret").symlink_to("secret")
    pid = run("status", "--json", "dead", cwd=path).stdout.partition('"pid": ')[2].partition(",")[0]
    subprocess.run(["kill", "-KILL", pid], check=True)
    yield path
    unmount_below(path)


@pytest.mark.parametrize(
    ("words", "status", "message", "hint"),
    [
        (
            "mount --passfile wrong lower up",
            3,
            "the passphrase does not fit this tree",
            "check the passphrase",
        ),
        ("mount lower up", 3, "no terminal to ask on", "by a file"),
        ("mount --passfile none lower up", 3, "passphrase file none: No such file", "check its path"),
        ("mount --passfile blank lower up", 3, "blank: the passphrase is empty", "its first line"),
        ("mount --passfile up lower up", 3, "passphrase file up: Is a directory", "check its path"),
        ("mount --passphrase-fd 77 lower up", 3, "descriptor 77", "N<FILE"),
        ("mount --extpass none lower up", 3, "command none: No such file", "check its spelling"),
        ("mount --extpass false lower up", 3, "command false ended with status 1", "run it alone"),
        ("mount --extpass yes lower up", 3, "command yes ended with status -13", "run it alone"),
        ("mount --extpass '' lower up", 3, "it is empty", "check its spelling"),
        ("mount --keyslots none lower up", 1, "none: No such file", "check the path"),
        ("mount --keyslots plain/file lower up", 4, "plain/file: the file is no valid JSON", "from a backup"),
        ("mount --wrapped-passphrase none lower up", 1, "none: No such file", "check the path"),
        (f"{MOUNT} none up", 2, "lower directory none is no directory", "create it"),
        (f"{MOUNT} lower none", 2, "mount point none is no directory", "create it"),
        (f"{MOUNT} lower pass", 2, "mount point pass is no directory", "check the path"),
        (f"{MOUNT} plain up", 1, "holds 1 plain files", "check the path"),
        (f"{MOUNT} other up", 1, "/other is in use for writing already by process", "unmount it"),
        (f"{MOUNT} lower dead", 1, "dead is a mount whose daemon is gone", "`fusecrypt umount dead`"),
        (f"{MOUNT} -o wrong lower up", 2, "unknown mount option 'wrong'", "--help"),
        (f"{MOUNT} -o ecryptfs_cipher=rot13 lower up", 2, "unknown cipher 'rot13'", "twofish"),
        (f"{MOUNT} -o ecryptfs_key_bytes=17 lower up", 2, "a key of 17 octets", "16, 24, 32"),
        (f"{MOUNT} -o ecryptfs_sig=zz lower up", 2, "ecryptfs_sig=zz", "identify"),
        (f"{MOUNT} --idle 5x lower up", 2, "'5x' is no time", "write 90s"),
        (f"{MOUNT} --wrong lower up", 2, "No such option '--wrong'", "Try 'fusecrypt mount --help'"),
        ("mount lower", 2, "Missing argument 'MOUNTPOINT'", "Try 'fusecrypt mount --help'"),
        ("mont lower up", 2, "No such command 'mont'", "Did you mean 'mount'?"),
        ("key ad", 2, "No such command 'ad'", "Did you mean 'add'?"),
        ("umount up", 2, "up is no fusecrypt mount", "findmnt"),
        ("umount none", 2, "none is no fusecrypt mount", "findmnt"),
        ("status up", 2, "up is no fusecrypt mount", "`fusecrypt status`"),
        ("ls --passfile pass plain", 4, "plain holds no eCryptfs data", "identify"),
        ("identify none", 1, "none: No such file", "check the path"),
        ("identify secret", 1, "secret: Too many levels", "a symbolic link"),
        ("recover secret", 1, "secret: Not a directory", "check the path"),
        ("key create lower --keyslots secret --passfile pass", 1, "secret: File exists", "another name"),
        ("manifest create --passfile pass lower secret/m", 1, "secret/m: Too many levels", "a symbolic link"),
        ("export --passfile pass lower lower/in", 2, "lie in one another", "choose another place"),
        ("export --passfile pass lower pass/in", 1, "/pass: Not a directory", "check the path"),
        ("import --passfile pass plain none", 1, "none: No such file", "check the path"),
        ("manifest create --passfile pass lower none/m", 1, ": none/m: No such file", "check the path"),
        ("manifest verify --passfile pass lower plain/file", 4, "plain/file is no manifest", "from a backup"),
        ("key create lower --keyslots slots --passfile pass", 1, "slots: File exists", "another name"),
        ("key remove --keyslots slots --slot 9 --unlock-passfile pass", 3, "no slot 9", "key list"),
        ("key load --keyslots slots --unlock-passfile wrong", 3, "does not open any slot", "PIN"),
        ("check --no-key none", 1, "none: No such file", "check the path"),
        ("rekey --passfile pass --new-passfile pass lower", 2, "is the old one", "choose another"),
    ],
)
def test_message(place: Path, words: str, status: int, message: str, hint: str) -> None:
    said = run(*shlex.split(words), status=status, cwd=place, start_new_session=True).stderr
    assert message in said
    assert hint in said


def test_a_mount_in_use(place: Path) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=place / "mounted") as somebody:
        said = run("umount", "mounted", status=1, cwd=place).stderr
        somebody.kill()
    assert "/mounted is busy" in said
    assert "fuser -vm" in said


@pytest.mark.parametrize("kind", [FormatError, DamagedError, KeyNotFoundError, SecretError])
def test_a_usual_hint(kind: type[FusecryptError]) -> None:
    """Where such an error does not say itself what to do next."""
    assert "fusecrypt " in advice(kind("it failed"))
    assert advice(kind("it failed", "do that")) == "do that"


def test_alone_it_teaches() -> None:
    done = subprocess.run([PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    for word in ("identify DIR", "fusecrypt doctor", "Exit statuses:", "--help"):
        assert word in done.stderr
