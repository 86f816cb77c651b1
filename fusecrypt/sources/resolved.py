"""From options about keys to the way in which a tree is used."""

from __future__ import annotations

from pathlib import Path

from fusecrypt.sources.gather import Request, gather
from fusecrypt.sources.given import KeyOptions
from fusecrypt.sources.person import say
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.resolve import Resolution, resolve
from fusecrypt.tree.survey import Walk


def resolve_tree(lower: Path | None, walk: Walk, keys: KeyOptions) -> tuple[Resolution, str]:
    """Get at the keys of a tree and decide how to use them; remarks are said.

    ``lower`` is None for a tree that is no directory of this machine: nothing lies beside it then. Also
    returns in words where the keys came from.
    """
    options = keys.options
    gathered = gather(Request(keys.sources, keys.slots, options, lower, walk))
    if gathered.read_only:
        options.fuse.add("ro")
    resolution = resolve(iter(walk), gathered.candidates, options.tree_options())
    for remark in resolution.remarks:
        say(remark)
    return resolution, gathered.source


def wipe(policy: Policy) -> None:
    """Overwrite every key of a policy."""
    for token in policy.tokens:
        token.key.wipe()
