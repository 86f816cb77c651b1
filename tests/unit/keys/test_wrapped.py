"""Wrapped passphrases against files of ecryptfs-utils, and against its programs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fusecrypt.errors import SecretError
from fusecrypt.keys.errors import KeyFileError, WrongSecretError
from fusecrypt.keys.synology import unwrap_export, wrap_export
from fusecrypt.keys.token import FNEK_SALT, AuthToken
from fusecrypt.keys.wrapped import WrappedPassphrase, read_wrapped, write_wrapped
from tests.golden import DIRECTORY
from tests.unit.keys.secrets import octets, secret

RECORDS = [json.loads(line) for line in (DIRECTORY / "userspace" / "wrapped.jsonl").read_text().splitlines()]


def _names(record: dict[str, Any]) -> str:
    return str(record["file"])


@pytest.mark.parametrize("record", RECORDS, ids=_names)
def test_opens_files_of_ecryptfs_utils(record: dict[str, Any]) -> None:
    data = bytes.fromhex(record["bytes"])
    wrapped = WrappedPassphrase.parse(data)
    passphrase = wrapped.unwrap(secret(record["wrapping"]))
    assert octets(passphrase).decode() == record["unwrapped"]
    assert wrapped.encode() == data
    if "sig" in record:
        assert AuthToken.from_passphrase(passphrase).sig == record["sig"]
        assert AuthToken.from_passphrase(passphrase, FNEK_SALT).sig == record["fnek_sig"]
    with pytest.raises(WrongSecretError):
        wrapped.unwrap(secret(record["wrapping"] + "x"))


def test_vectors(vectors: dict[str, Any]) -> None:
    for vector in vectors["wrapped_passphrase"]["vectors"]:
        data = bytes.fromhex(vector["file"])
        salt = bytes.fromhex(vector["wrapping_salt"])
        wrapping = secret(vector["wrapping_passphrase_text"])
        wrapped = WrappedPassphrase.parse(data, salt)
        assert (wrapped.version, wrapped.salt) == (vector["version"], salt)
        assert wrapped.signature.hex() == vector["wrapping_sig"]
        passphrase = bytes.fromhex(vector["passphrase"])
        assert octets(wrapped.unwrap(wrapping)) == passphrase
        again = WrappedPassphrase.wrap(secret(passphrase), wrapping, version=vector["version"], salt=salt)
        assert again.encode() == data


@pytest.mark.parametrize("record", RECORDS[:11], ids=_names)
def test_ecryptfs_utils_open_our_files(record: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "wrapped"
    write_wrapped(path, WrappedPassphrase.wrap(secret(record["passphrase"]), secret(record["wrapping"])))
    assert path.stat().st_mode & 0o777 == 0o600
    run = _tool("ecryptfs-unwrap-passphrase", path, record["wrapping"])
    assert run.stdout.rstrip("\n") == record["passphrase"]


def test_a_rewritten_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "wrapped"
    for new in ("old", "new"):
        write_wrapped(path, WrappedPassphrase.wrap(secret("p"), secret(new)))
        os.chown(path, 1234, 1234)
    write_wrapped(path, WrappedPassphrase.wrap(secret("p"), secret("newer")))
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 1234, 0o600)
    assert octets(read_wrapped(path).unwrap(secret("newer"))) == b"p"


@pytest.mark.parametrize("passphrase", ["sixteen octets..", "short", "s" * 33])
def test_version_1_filled_with_zeros_opens(passphrase: str) -> None:
    data = WrappedPassphrase.wrap(secret(passphrase), secret("w"), version=1).encode().ljust(80, b"\0")
    assert octets(WrappedPassphrase.parse(data).unwrap(secret("w"))).decode() == passphrase


def test_salt_of_version_1_comes_from_outside() -> None:
    salt = bytes(range(8))
    data = WrappedPassphrase.wrap(secret("p"), secret("w"), version=1, salt=salt).encode()
    assert octets(WrappedPassphrase.parse(data, salt).unwrap(secret("w"))) == b"p"
    with pytest.raises(WrongSecretError):
        WrappedPassphrase.parse(data).unwrap(secret("w"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b":",
        b":\x03" + bytes(40),
        b":\x02" + bytes(8),
        b":\x02" + bytes(8) + b"0123456789abcdef",
        b"0123456789abcdef",
        b"0123456789abcdef" + bytes(15),
        b"0123456789abcdef" + bytes(80),
        b"0123456789abcdeg" + bytes(16),
        "\u0661".encode() * 8 + bytes(16),
    ],
)
def test_other_octets_are_refused(data: bytes) -> None:
    with pytest.raises(KeyFileError):
        WrappedPassphrase.parse(data)


@pytest.mark.parametrize("passphrase", [b"", b"x" * 65, b"zero\0octet"])
def test_passphrases_that_cannot_be_stored_are_refused(passphrase: bytes) -> None:
    with pytest.raises(SecretError):
        WrappedPassphrase.wrap(secret(passphrase), secret("w"))
    with pytest.raises(SecretError):
        WrappedPassphrase.wrap(secret("p"), secret(passphrase))


def test_reading_refuses_what_is_too_large_or_no_file(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(5000))
    for name in ("large", "."):
        with pytest.raises(KeyFileError):
            read_wrapped(tmp_path / name)


def test_synology_exports_open_with_the_stock_tool(tmp_path: Path) -> None:
    path = tmp_path / "share.key"
    path.write_bytes(wrap_export(secret("folder passphrase")))
    assert _tool("ecryptfs-unwrap-passphrase", path, "$1$5YN01o9y").stdout == "folder passphrase\n"
    assert octets(unwrap_export(path.read_bytes())) == b"folder passphrase"


def _tool(name: str, path: Path, words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of ecryptfs-utils on a file, its passphrases from standard input."""
    command = [name, str(path), "-"]
    return subprocess.run(command, input=words, capture_output=True, text=True, check=True, timeout=60)
