"""A tree opened by a command: what the process guards, and what is left when the tree is closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import golden

PROGRAM = """
import ctypes, resource, sys
from pathlib import Path
from fusecrypt.sources.options import MountOptions
from fusecrypt.sources.given import SlotOptions
from fusecrypt.sources.given import Sources
from fusecrypt.cli.source_tree import open_tree
from fusecrypt.sources.given import KeyOptions

sources = Sources([sys.argv[2]], (), (), None, None, False, (), None, None, None, None, None, ())
with open_tree(Path(sys.argv[1]), KeyOptions(MountOptions(), sources, SlotOptions())) as tree:
    print("dumpable", ctypes.CDLL(None).prctl(3))
    print("core", *resource.getrlimit(resource.RLIMIT_CORE))
    print("read-only", tree.policy.read_only)
    names = tree.policy.names.token
    keys = [token.key for token in (*tree.policy.content, *tree.policy.others, names)]
    print("keys", sorted(map(len, keys)))
print("keys", sorted(map(len, keys)))
"""


def test_the_process_is_hardened_and_keys_are_wiped(tmp_path: Path) -> None:
    """In a process of its own, since hardening cannot be taken back."""
    lower = golden.tree("aes32").unpack(tmp_path / "lower")
    (tmp_path / "pass").write_bytes(b"cipher aes\n")
    command: list[str | Path] = [sys.executable, "-c", PROGRAM, lower, tmp_path / "pass"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [
        "dumpable 0",
        "core 0 0",
        "read-only True",
        "keys [64, 64, 64]",
        "keys [0, 0, 0]",
    ]
