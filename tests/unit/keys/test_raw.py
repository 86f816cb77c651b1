"""Raw keys from files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fusecrypt.errors import SecretError, UsageError
from fusecrypt.keys.errors import KeyFileError
from fusecrypt.keys.raw import parse_sig, read_raw_key, split_assignment
from fusecrypt.native import signature
from tests.unit.keys.secrets import octets, secret


def test_a_raw_key_keeps_its_octets(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(bytes(range(62)) + b"\r\n")
    token = read_raw_key(path, bytes(8))
    assert octets(token.key) == path.read_bytes()
    assert token.signature == bytes(8)
    assert read_raw_key(path).signature == signature(secret(path.read_bytes()))


@pytest.mark.parametrize("size", [0, 63, 65, 100_000])
def test_other_sizes_are_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(bytes(size))
    with pytest.raises(SecretError):
        read_raw_key(path)


def test_other_sizes_are_told_from_other_secrets(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(740))
    with pytest.raises(SecretError, match="larger than 64 octets; a raw key has 64") as caught:
        read_raw_key(tmp_path / "key")
    assert "hex" in caught.value.hint


def test_a_key_comes_through_a_pipe(tmp_path: Path) -> None:
    """As a shell's <(…) gives it, or a named pipe whose writer comes later."""
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", f"sleep .1; head -c 64 /dev/zero > {tmp_path / 'pipe'}"]):
        assert octets(read_raw_key(tmp_path / "pipe").key) == bytes(64)
    with subprocess.Popen(["head", "-c", "64", "/dev/zero"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert octets(read_raw_key(Path(f"/dev/fd/{process.stdout.fileno()}")).key) == bytes(64)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        read_raw_key(tmp_path)


def test_assignments() -> None:
    assert split_assignment("0123456789ABCDEF=f=g") == (bytes.fromhex("0123456789abcdef"), Path("f=g"))
    assert split_assignment("./0123456789abcdef=f") == (None, Path("./0123456789abcdef=f"))
    assert split_assignment("file") == (None, Path("file"))
    assert parse_sig("0123456789abcdef") == bytes.fromhex("0123456789abcdef")
    for text in ("", "0123", "0123456789abcdeg", "\u0661" * 16):
        with pytest.raises(UsageError):
            parse_sig(text)
