"""fusecrypt key wrap: files that ecryptfs-utils and we both open."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fusecrypt.keys.wrapped import WrappedPassphrase
from tests.cli.key.support import PROGRAM, Bench
from tests.cli.key.terminal import talk
from tests.unit.keys.secrets import secret


def _tool(name: str, file: Path, words: str) -> str:
    done = subprocess.run(
        [name, file, "-"], input=words, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.rstrip("\n")


def test_files_go_to_and_fro(bench: Bench) -> None:
    wrapped, mount = bench.path("wrapped"), bench.secrets["P"].decode()
    for name in ("old", "new"):
        bench.secret(name, f"{name} login".encode())
    done = bench.run("wrap", "wrapped", "--passfile", "P", "--new-passfile", "old")
    assert b"copies" not in done.stderr
    assert wrapped.stat().st_mode & 0o777 == 0o600
    assert _tool("ecryptfs-unwrap-passphrase", wrapped, "old login") == mount
    done = bench.run("wrap", "wrapped", "--unlock-passfile", "old", "--new-passfile", "new")
    assert b"earlier copies open with the old one" in done.stderr
    assert _tool("ecryptfs-unwrap-passphrase", wrapped, "new login") == mount
    _tool("ecryptfs-rewrap-passphrase", wrapped, "new login\nold login")
    bench.run("wrap", "wrapped", "--unlock-passfile", "old", "--new-passfile", "new")
    assert _tool("ecryptfs-unwrap-passphrase", wrapped, "new login") == mount


def test_a_version_1_file_becomes_version_2(bench: Bench) -> None:
    old = WrappedPassphrase.wrap(secret("mount words"), secret("old login"), version=1)
    bench.path("wrapped").write_bytes(old.encode())
    bench.secret("old", b"old login")
    bench.secret("new", b"new login")
    bench.run("wrap", "wrapped", "--unlock-passfile", "old", "--new-passfile", "new")
    assert bench.path("wrapped").read_bytes()[:2] == b":\x02"
    assert _tool("ecryptfs-unwrap-passphrase", bench.path("wrapped"), "new login") == "mount words"


def test_refusals_change_nothing(bench: Bench) -> None:
    bench.secret("new", b"new login")
    bench.run("wrap", "wrapped", "--passfile", "P", "--new-passfile", "new")
    before = bench.path("wrapped").read_bytes()
    words = ("wrap", "wrapped", "--new-passfile", "new")
    assert "the wrapping passphrase is wrong" in bench.says(*words, "--unlock-passfile", "WRONG")
    assert "is there already" in bench.says(*words, "--passfile", "P", status=2)
    assert "no terminal" in bench.says(*words)
    bench.secret("long", b"x" * 65)
    said = bench.says("wrap", "wrapped", "--unlock-passfile", "new", "--new-passfile", "long")
    assert "65 octets" in said
    assert bench.path("wrapped").read_bytes() == before
    bench.path("other").write_bytes(b"no such file")
    bench.says("wrap", "other", "--unlock-passfile", "new", "--new-passfile", "new", status=4)


def test_what_is_not_given_is_asked_for(bench: Bench) -> None:
    command = [str(PROGRAM), "key", "wrap", "wrapped"]
    new = [("new wrapping passphrase: ", "login"), ("new wrapping passphrase again: ", "login")]
    answers = [("mount passphrase: ", "mount words"), *new]
    status, said = talk(command, answers, cwd=bench.directory, env=bench.environment)
    assert status == 0, said
    answers = [("present wrapping passphrase: ", "login"), *new]
    status, said = talk(command, answers, cwd=bench.directory, env=bench.environment)
    assert status == 0, said
    assert _tool("ecryptfs-unwrap-passphrase", bench.path("wrapped"), "login") == "mount words"
