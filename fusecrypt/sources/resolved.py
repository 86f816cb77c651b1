"""From options about keys to the way in which a tree is used."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from fusecrypt.sources.gather import gather
from fusecrypt.sources.given import KeyOptions
from fusecrypt.sources.person import say
from fusecrypt.sources.request import Request
from fusecrypt.sources.vouching import unproven
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.resolve import Options, Resolution, resolve
from fusecrypt.tree.survey import Walk


def resolve_tree(lower: Path | None, walk: Walk, keys: KeyOptions) -> tuple[Resolution, str]:
    """Get at the keys of a tree and decide how to use them; remarks are said.

    ``lower`` is None for a tree that is no directory of this machine: nothing lies beside it then. Also
    returns in words where the keys came from.
    """
    options = keys.options
    request = Request(keys.sources, keys.slots, options, lower, walk)
    gathered = gather(request)
    if gathered.read_only:
        options.fuse.add("ro")
    tree_options = options.tree_options()
    if request.home and not request.survey.is_ecryptfs:
        tree_options = _as_at_login(tree_options, request.home.signatures)
    resolution = resolve(iter(walk), gathered.candidates, tree_options)
    if not resolution.new:
        resolution = replace(resolution, policy=_vouched(resolution.policy, gathered.unproven, walk))
    for remark in resolution.remarks:
        say(remark)
    return resolution, gathered.source


def _vouched(policy: Policy, doubtful: Collection[bytes], walk: Walk) -> Policy:
    """The policy, read-only if it would write with a key of these that nothing in the tree proves, which is
    said. Raises KeyNotFoundError for any key that the tree disproves."""
    left = [token.sig for token in unproven(policy.tokens, walk) if token.signature in doubtful]
    if not left or policy.read_only:
        return policy
    sigs = ", ".join(left)
    say(f"nothing in the tree proves the key {sigs} of the key-slot file: nothing is written with it")
    return replace(policy, read_only=True)


def _as_at_login(options: Options, signatures: Sequence[bytes]) -> Options:
    """A new tree in a layout is as mount.ecryptfs_private will mount it, who has no choice of ciphers: it
    could not find names that another one encrypts."""
    if options.cipher is None and options.key_bytes is None:
        options = replace(options, cipher="aes", key_bytes=16)
    if options.encrypt_names is None and options.fnek_signature is None and len(signatures) == 1:
        options = replace(options, encrypt_names=False)
    return options


def wipe(policy: Policy) -> None:
    """Overwrite every key of a policy."""
    for token in policy.tokens:
        token.key.wipe()
