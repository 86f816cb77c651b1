"""Seeded corruptions of golden trees: looking at them ends in an answer or a plain error."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from fusecrypt.errors import FusecryptError
from fusecrypt.offline.health import WELL, State
from fusecrypt.offline.identify import TREE, identify
from fusecrypt.offline.show import entries, facts, node_at, pieces
from fusecrypt.tree.resolve import Options
from fusecrypt.tree.tree import Tree
from tests import golden
from tests.tree.support import open_tree

ROUNDS = 250


def corrupt(rng: random.Random, file: Path, others: list[Path]) -> None:
    """One of: flipped bits, a cut, a zeroed range, another file's contents."""
    data = bytearray(file.read_bytes())
    kind = rng.choice(("flip", "cut", "zero", "swap"))
    # Half of the harm goes where it matters most.
    end = min(len(data), 200) if rng.random() < 0.5 else len(data)
    at = rng.randrange(end) if end else 0
    if kind == "flip" and data:
        for _ in range(rng.choice((1, 8, 64))):
            data[rng.randrange(end)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "zero":
        n = min(rng.choice((1, 8, 4096)), len(data) - at)
        data[at : at + n] = bytes(n)
    elif kind == "swap":
        data[:] = rng.choice(others).read_bytes()
    file.write_bytes(data)


def read(tree: Tree, path: bytes) -> str | FusecryptError | OSError:
    """The digest of a file's contents, or the error."""
    digest = hashlib.sha256()
    try:
        for piece in pieces(tree, path):
            digest.update(piece)
    except (FusecryptError, OSError) as error:
        return error.with_traceback(None)
    return digest.hexdigest()


@pytest.mark.parametrize("name", ["aes32", "aes16-plain-names", "two-keys", "blowfish24"])
def test_it_ends_in_an_answer_or_a_plain_error(name: str, tmp_path: Path) -> None:
    kernels = golden.tree(name)
    lower = kernels.unpack(tmp_path / "lower")
    files = [path for path in lower.rglob("*") if path.is_file() and not path.is_symlink()]
    sums = {e["path"]: e["sha256"] for e in kernels.manifest() if "sha256" in e}
    rng = random.Random(f"corrupted {name}")
    answers = set()
    with open_tree(lower, kernels.passphrases, Options(read_only=True)) as tree:
        for _ in range(ROUNDS):
            file = rng.choice(files)
            before = file.read_bytes()
            corrupt(rng, file, files)
            for path, digest in sums.items():
                answers.add(_check(tree, os.fsencode(path), digest, harmed=file, lower=lower))
            with node_at(tree, b"") as node:
                entries(tree, node)
            found = identify(file)
            assert found.what
            file.write_bytes(before)
        assert {State.GOOD, State.CUT_IN_DATA, State.BAD_HEADER, State.FOREIGN} <= answers
    assert identify(lower).kind == TREE


def _check(tree: Tree, path: bytes, digest: str, *, harmed: Path, lower: Path) -> State:
    """What is not harmed reads as ever; what is named unwell cannot be read, and the other way round."""
    seen = facts(tree, path)
    assert seen.health is not None
    result = read(tree, path)
    if not os.path.samefile(lower / os.fsdecode(seen.lower), harmed):
        assert result == digest
    failed = isinstance(result, FusecryptError | OSError)
    # Of an empty file a cut header may be all that was to be read.
    if seen.health.state is not State.CUT_IN_HEADER or seen.seen.size:
        assert failed == (seen.health.state not in WELL), (seen.health, result)
    return seen.health.state
