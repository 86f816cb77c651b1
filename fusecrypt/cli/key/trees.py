"""The tree that keys belong to: which of its keys are for contents, which for names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fusecrypt.cli.terminal import say
from fusecrypt.errors import UsageError
from fusecrypt.keys.locate import SUFFIX
from fusecrypt.keys.slotfile import CONTENT, NAMES
from fusecrypt.keys.token import AuthToken
from fusecrypt.sources.vouching import unproven
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.resolve import Candidates, Options, resolve
from fusecrypt.tree.survey import Survey, Walk

Keys = list[tuple[AuthToken, tuple[str, ...]]]


@contextmanager
def walked(lower: Path) -> Iterator[Walk]:
    """A survey of a lower tree that can be looked at and gone on with. Raises OSError."""
    fd = os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Walk(fd)
    finally:
        os.close(fd)


def beside(keyslots: Path, lower: Path | None) -> Path:
    """The tree of a key-slot file: the one that is named, or the one it stands beside. Raises UsageError."""
    if lower is not None:
        return lower
    guess = keyslots.with_name(keyslots.name.removesuffix(SUFFIX))
    if keyslots.name.endswith(SUFFIX) and guess.is_dir():
        return guess
    raise UsageError(f"the tree of {keyslots} is not beside it", "name its lower directory: LOWER")


def resolved(walk: Walk, candidates: Sequence[Candidates]) -> tuple[Policy, Keys]:
    """How the tree is used with these keys, and those it has a use for, with their uses.

    Raises KeyNotFoundError for a key that fits nothing, or if a key is missing.
    """
    survey = walk.first_findings()
    resolution = resolve(iter(walk), candidates, Options())
    policy = resolution.policy
    for remark in resolution.remarks:
        say(remark)
    content = {token.signature for token in policy.content} | survey.content_signatures
    names = survey.name_signatures | ({policy.names.token.signature} if policy.names else set())
    _name_missing(survey, candidates)
    return policy, list(_with_uses(candidates, content, names))


def name_unproven(keys: Keys, walk: Walk) -> None:
    """Say which keys are what they are said to be on trust alone. Raises KeyNotFoundError for one that the
    tree disproves."""
    for token in unproven([token for token, _ in keys], walk):
        say(f"nothing in the tree proves that this key is {token.sig}: read a file before you rely on it")


def each_alone(tokens: Iterable[AuthToken]) -> list[Candidates]:
    """Keys that may each serve for contents and names."""
    return [Candidates(token, token) for token in tokens]


def _with_uses(
    candidates: Sequence[Candidates], content: set[bytes], names: set[bytes]
) -> Iterator[tuple[AuthToken, tuple[str, ...]]]:
    tokens = {token.signature: token for candidate in candidates for token in candidate.tokens}
    for sig, token in tokens.items():
        uses = tuple(use for use, sigs in ((CONTENT, content), (NAMES, names)) if sig in sigs)
        if uses:
            yield token, uses


def _name_missing(survey: Survey, candidates: Sequence[Candidates]) -> None:
    """Names of another key show as they are: worth a word, for nothing else tells."""
    known = {token.signature for candidate in candidates for token in candidate.tokens}
    missing = sorted(sig.hex() for sig in survey.name_signatures - known)
    if missing:
        say(f"some names want {', '.join(missing)}, which is not among these keys")
