"""A lower tree opened without a mount, its key taken as `mount` takes it.

The keys are in this process then, which has no daemon to hand them to: it leaves no core dump, nobody else
of the same user can read its memory, and the keys are wiped when the tree is closed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from fusecrypt.cli.source_options import source_options
from fusecrypt.errors import NotEcryptfsError
from fusecrypt.native import harden_process, open_quietly
from fusecrypt.sources import options as mount_options
from fusecrypt.sources.given import KeyOptions, SlotOptions, Sources
from fusecrypt.sources.resolved import resolve_tree, wipe
from fusecrypt.tree.survey import Walk
from fusecrypt.tree.tree import Tree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def key_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a click command with all options by which `mount` takes keys; it gets ``keys``."""

    @functools.wraps(command)
    def collected(*arguments: Any, words: Any, sources: Sources, slots: SlotOptions, **named: Any) -> Any:
        keys = KeyOptions(mount_options.parse(words), sources, slots)
        return command(*arguments, keys=keys, **named)

    decorated = source_options(collected)
    return click.option(
        "-o", "words", multiple=True, metavar="OPTIONS", help="As for mount, such as ecryptfs_sig=SIG."
    )(decorated)


@contextmanager
def open_tree(lower: Path, keys: KeyOptions, *, writing: bool = False) -> Iterator[Tree]:
    """The tree in the directory ``lower``, read-only unless ``writing``.

    Only for writing may it be a new one. Raises OSError, NotEcryptfsError, and what finding the keys raises.
    """
    harden_process()
    root_fd = open_quietly(lower, _DIRECTORY)
    try:
        walk = Walk(root_fd)
        if not writing and not walk.first_findings().is_ecryptfs:
            raise NotEcryptfsError(
                f"{lower} holds no eCryptfs data", f"`fusecrypt identify {lower}` says what there is"
            )
        policy = resolve_tree(lower, walk, keys)[0].policy
        if not writing:
            policy = replace(policy, read_only=True)
        tree = Tree(root_fd, policy)
    except BaseException:
        os.close(root_fd)
        raise
    try:
        yield tree
    finally:
        tree.close()
        wipe(policy)
