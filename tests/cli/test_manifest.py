"""manifest as a whole command, and with check."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import golden
from tests.mount.support import lower_state, run
from tests.tree.support import lower_name, open_tree


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    (tmp_path / "pass").write_bytes(b"cipher aes\n")
    return golden.tree("aes32").unpack(tmp_path / "lower")


@pytest.fixture
def key(tmp_path: Path) -> tuple[str, Path]:
    return "--passfile", tmp_path / "pass"


@pytest.fixture
def listed(lower: Path, key: tuple[str, Path], tmp_path: Path) -> Path:
    done = run("manifest", "create", lower, tmp_path / "list", *key)
    assert "lists 12 objects" in done.stderr
    return tmp_path / "list"


@pytest.fixture
def flipped(lower: Path, listed: Path) -> tuple[str, Path]:
    """A file in which one bit of the data was flipped after it was listed."""
    kernels = golden.tree("aes32")
    upper = next(e["path"] for e in kernels.manifest() if e["type"] == "file" and e["size"] > 4096)
    with open_tree(lower, kernels.passphrases) as tree:
        path = lower_name(tree, upper)
    with (lower / path).open("r+b") as file:
        file.seek(8192 + 100)
        octet = file.read(1)[0]
        file.seek(8192 + 100)
        file.write(bytes([octet ^ 1]))
    return upper, path


def test_nothing_changed(lower: Path, listed: Path, key: tuple[str, Path]) -> None:
    before = lower_state(lower)
    done = run("manifest", "verify", lower, listed, *key)
    assert done.stdout.endswith(": all as listed\n")
    assert run("check", lower, "--manifest", listed, *key).stdout.endswith(": 12 good\n")
    assert lower_state(lower) == before


def test_a_flipped_bit(lower: Path, listed: Path, flipped: tuple[str, Path], key: tuple[str, Path]) -> None:
    upper, path = flipped
    run("check", lower, *key)  # does not see it
    line, summary = run("manifest", "verify", lower, listed, *key, status=4).stdout.splitlines()
    assert line == f"changed: {upper}: its contents"
    assert summary.endswith(": 1 changed")
    lines = run("manifest", "verify", lower, listed, "--json", *key, status=4).stdout.splitlines()
    assert [json.loads(each).get("path") for each in lines] == [upper, None]
    done = run("check", lower, "--manifest", listed, *key, status=4)
    assert f"not as in the manifest: {upper} ({path}): changed: its contents\n" in done.stdout


def test_signed(lower: Path, key: tuple[str, Path], tmp_path: Path, listed: Path) -> None:
    private, public, signed = tmp_path / "private", tmp_path / "public", tmp_path / "signed"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    run("manifest", "create", lower, signed, "--sign", private, *key)
    run("manifest", "verify", lower, signed, "--verify-key", public, *key)
    assert "--verify-key" in run("manifest", "verify", lower, signed, *key, status=2).stderr
    assert (
        "not signed"
        in run("manifest", "verify", lower, listed, "--verify-key", public, *key, status=4).stderr
    )
    signed.write_bytes(signed.read_bytes().replace(b'"size":', b'"size":1', 1))
    done = run("manifest", "verify", lower, signed, "--verify-key", public, *key, status=4)
    assert "is not the one that was made" in done.stderr
    assert done.stdout == ""


def test_refusals(lower: Path, key: tuple[str, Path], tmp_path: Path, listed: Path) -> None:
    before = listed.read_bytes()
    assert "is there already" in run("manifest", "create", lower, listed, *key, status=2).stderr
    assert listed.read_bytes() == before
    run("manifest", "create", lower, listed, "--force", *key)
    assert "lies in the tree" in run("manifest", "create", lower, lower / "list", *key, status=2).stderr
    done = run("check", lower, "--no-key", "--manifest", listed, status=2)
    assert "need the key" in done.stderr
    (tmp_path / "text").write_text("no manifest\n")
    assert "is no manifest" in run("manifest", "verify", lower, tmp_path / "text", *key, status=4).stderr


def test_what_cannot_be_read_is_not_listed(
    lower: Path, key: tuple[str, Path], tmp_path: Path, flipped: tuple[str, Path]
) -> None:
    upper, path = flipped
    os.truncate(lower / path, 9000)
    done = run("manifest", "create", lower, tmp_path / "new", *key, status=4)
    assert f"{upper}: cut in the data" in done.stderr
    paths = [json.loads(line).get("path") for line in (tmp_path / "new").read_text().splitlines()]
    assert len(paths) == 13
    assert upper not in paths
