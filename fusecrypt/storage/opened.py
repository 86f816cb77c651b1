"""A tree on another file system with its keys, found as for a mount."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from fusecrypt.errors import NotEcryptfsError, UsageError
from fusecrypt.sources.given import KeyOptions
from fusecrypt.sources.resolved import resolve_tree
from fusecrypt.storage.heads import Heads, StorePlace
from fusecrypt.storage.lower import LowerStore
from fusecrypt.tree.names import NameCodec, name_codec
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.survey import Walk


@dataclass(frozen=True)
class Opened:
    """How a tree is read, in the process that found its keys."""

    policy: Policy
    codec: NameCodec
    process: int

    @property
    def is_ours(self) -> bool:
        """Whether the keys are there: a forked child has none of its parent's."""
        return self.process == os.getpid()


def open_tree(store: LowerStore, heads: Heads, keys: KeyOptions) -> Opened:
    """Raises NotEcryptfsError, UsageError, OSError, and what finding the keys raises."""
    walk = Walk(StorePlace(store, heads))
    survey = walk.first_findings()
    if not survey.is_ecryptfs:
        _explain(store, survey.entries > 0)
    policy = replace(resolve_tree(store.local, walk, keys)[0].policy, read_only=True)
    if policy.encrypted_view:
        raise UsageError("the encrypted view is for mounts", "take the lower files themselves")
    return Opened(policy, name_codec(policy.names, policy.other_names), os.getpid())


def _explain(store: LowerStore, anything: bool) -> None:
    """Say why there is no tree. Raises OSError for a place that is not there, else NotEcryptfsError."""
    if not anything:
        store.fs.ls(store.root, detail=False)
    hint = "check the path to the tree"
    if anything and not store.has_attributes:
        hint += "; headers in extended attributes cannot be read there"
    raise NotEcryptfsError(f"{store.where} holds no eCryptfs data", hint)
