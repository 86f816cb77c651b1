"""Lower trees opened by fusecrypt as its command does: through fusecrypt.tree, or mounted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fusecrypt.cli import options as mount_options
from fusecrypt.keys.token import DEFAULT_SALT, FNEK_SALT, AuthToken
from fusecrypt.native import Secret
from fusecrypt.tree.resolve import Candidates, resolve
from fusecrypt.tree.survey import survey_steps
from fusecrypt.tree.tree import Tree

COMMAND = str(Path(sys.executable).with_name("fusecrypt"))


@contextmanager
def opened(
    lower: Path, passphrases: Sequence[bytes], options: str = "", salt: bytes = DEFAULT_SALT
) -> Iterator[Tree]:
    """A Tree with everything that the passphrases and the options (as after -o) do not say found out."""
    root_fd = os.open(lower, os.O_RDONLY | os.O_DIRECTORY)
    candidates = [_candidates(Secret.copy(passphrase), salt) for passphrase in passphrases]
    tree_options = mount_options.parse([options]).tree_options()
    tree = Tree(root_fd, resolve(survey_steps(root_fd), candidates, tree_options).policy)
    try:
        yield tree
    finally:
        tree.close()


def _candidates(passphrase: Secret, salt: bytes) -> Candidates:
    content = AuthToken.from_passphrase(passphrase, salt)
    return Candidates(content, AuthToken.from_passphrase(passphrase, FNEK_SALT))


@contextmanager
def mounted(lower: Path, passphrases: Sequence[bytes], options: str = "") -> Iterator[Path]:
    """The tree mounted through FUSE by the command line, beside the lower directory."""
    point = lower.with_name(lower.name + ".mounted")
    point.mkdir(exist_ok=True)
    command = [COMMAND, "mount", str(lower), str(point)]
    for number, passphrase in enumerate(passphrases):
        file = lower.with_name(f"{lower.name}.passphrase-{number}")
        file.write_bytes(passphrase + b"\n")
        command += ["--passfile", str(file)]
    if options:
        command += ["-o", options]
    _run(command)
    try:
        yield point
    finally:
        _run([COMMAND, "umount", str(point)])


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stderr}"
