"""One secret tried on every tree that was found, as all that it can be with the key material around."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fusecrypt.errors import FusecryptError, KeyNotFoundError, SecretError, TreeError
from fusecrypt.keys import homes, locate
from fusecrypt.keys.errors import KeyFileError, SlotError
from fusecrypt.keys.synology import unwrap_export
from fusecrypt.keys.token import DEFAULT_SALT, MAX_PASSPHRASE, AuthToken
from fusecrypt.keys.unlock import open_with_secret, passphrase_tokens
from fusecrypt.native import Secret, open_quietly
from fusecrypt.offline import material
from fusecrypt.offline.material import Material
from fusecrypt.tree.policy import Policy
from fusecrypt.tree.resolve import Candidates, Options, resolve
from fusecrypt.tree.survey import LIMIT, Survey, Walk


@dataclass(frozen=True)
class Offer:
    """Keys from one source. ``how`` says which; ``path`` is its file, ``salt`` that of its content key."""

    tokens: tuple[AuthToken, ...]
    how: str
    kind: str = ""
    path: Path | None = None
    salt: bytes = DEFAULT_SALT

    @property
    def signatures(self) -> set[bytes]:
        return {token.signature for token in self.tokens}

    def wipe(self) -> None:
        """Overwrite the keys."""
        for token in self.tokens:
            token.key.wipe()


@dataclass(frozen=True)
class Attempt:
    """What became of one tree: the policy it opens with and the offers that were used, or an error."""

    lower: Path
    policy: Policy | None = None
    used: tuple[Offer, ...] = ()
    error: FusecryptError | None = None


def salts(found: Iterable[Material]) -> list[bytes]:
    """The default salt and those of the .ecryptfsrc files that were found."""
    return list(dict.fromkeys([DEFAULT_SALT, *(each.salt for each in found if each.salt is not None)]))


def offers_without_secret(found: Iterable[Material]) -> Iterator[Offer]:
    """What exported keys of a NAS give."""
    for each in found:
        if each.kind == material.EXPORT and each.wrapped is not None:
            with unwrap_export(each.wrapped.encode()) as passphrase:
                how = f"the exported key {each.path}"
                yield Offer(passphrase_tokens(passphrase), how, each.kind, each.path)


def offers(secret: Secret, found: Collection[Material], salts: Sequence[bytes]) -> Iterator[Offer]:
    """All that a secret can give: as mount passphrase, and with every file of key material."""
    if 1 <= len(secret) <= MAX_PASSPHRASE:
        yield from _by_passphrase(secret, "the mount passphrase", salts)
    for each in found:
        if each.wrapped is not None and each.kind == material.WRAPPED:
            with suppress(SecretError, KeyFileError), each.wrapped.unwrap(secret) as passphrase:
                yield from _by_passphrase(
                    passphrase, f"the passphrase wrapped in {each.path}", salts, each.kind, each.path
                )
        elif each.slots is not None:
            with suppress(SecretError, SlotError):
                volume, number = open_with_secret(each.slots, secret)
                tokens = tuple(held.token for held in volume.tokens())
                yield Offer(tokens, f"slot {number} of {each.path}", each.kind, each.path)


def _by_passphrase(
    passphrase: Secret, how: str, salts: Sequence[bytes], kind: str = "", path: Path | None = None
) -> Iterator[Offer]:
    for salt in salts:
        yield Offer(passphrase_tokens(passphrase, salt), how, kind, path, salt)


def attempt(lower: Path, offers: Sequence[Offer]) -> Attempt:
    """Open a tree with what fits of the offers, to read."""
    try:
        fd = open_quietly(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return Attempt(lower, error=TreeError(f"it cannot be read: {error.strerror}"))
    try:
        walk = Walk(fd)
        used = _fitting(offers, _signatures(walk.first_findings()))
        if not used:
            used = _fitting(offers, _signatures(_whole(walk)))
        if not used:
            wanted = ", ".join(sorted(sig.hex() for sig in _signatures(walk.first_findings())))
            why = "no secret fits" if offers else "no secret was given"
            return Attempt(lower, error=KeyNotFoundError(f"{why}; it wants {wanted}"))
        survey = walk.first_findings()
        resolution = resolve(iter(walk), [_candidates(each, survey) for each in used], _READING)
    except FusecryptError as error:
        return Attempt(lower, error=error)
    finally:
        os.close(fd)
    known = {token.signature: token for offer in offers for token in offer.tokens}
    used_for_new = {token.signature for token in resolution.policy.content}
    others = tuple(token for sig, token in known.items() if sig not in used_for_new)
    return Attempt(lower, replace(resolution.policy, others=others), tuple(used))


_READING = Options(read_only=True)


def _signatures(survey: Survey) -> set[bytes]:
    return survey.content_signatures | survey.name_signatures


def _whole(walk: Walk) -> Survey:
    """Walk on, to where nothing new is expected."""
    found = walk.first_findings()
    for found in walk:
        if found.entries >= LIMIT:
            break
    return found


def _fitting(offers: Sequence[Offer], wanted: set[bytes]) -> list[Offer]:
    """The fewest offers that give all that the offers have of the wanted keys, the best first."""
    fitting: list[Offer] = []
    missing = set(wanted)
    for offer in sorted(offers, key=lambda offer: -len(offer.signatures & wanted)):
        if offer.signatures & missing:
            fitting.append(offer)
            missing -= offer.signatures
    return fitting


def _candidates(offer: Offer, survey: Survey) -> Candidates:
    def first_of(signatures: set[bytes]) -> AuthToken:
        return next((token for token in offer.tokens if token.signature in signatures), offer.tokens[0])

    content = first_of(survey.content_signatures)
    return Candidates(content, first_of(survey.name_signatures), offer.tokens)


def mount_words(lower: Path, used: Iterable[Offer]) -> list[str]:
    """The options by which `mount` and the like find the keys of an attempt again."""
    words: list[str] = []
    for offer in used:
        if offer.path is not None and not _found_by_itself(lower, offer):
            option = "--keyslots" if offer.kind == material.SLOTS else "--wrapped-passphrase"
            words += [option, str(offer.path.absolute())]
        if offer.salt != DEFAULT_SALT:
            words += ["--salt", offer.salt.hex()]
    return words


def _found_by_itself(lower: Path, offer: Offer) -> bool:
    if offer.kind == material.SLOTS:
        return offer.path in locate.candidates(lower, offer.signatures)
    with suppress(OSError, KeyFileError):
        home = homes.recognise(lower)
        return home is not None and home.wrapped == offer.path and home.belongs(offer.signatures)
    return False


def label(lower: Path) -> str:
    """A name for a tree among several: its user or share."""
    lower = lower.absolute()
    if lower.name == ".Private":
        return lower.parent.name
    share = lower.name[1:-1]
    if lower.name == f"@{share}@" and share not in ("", ".", ".."):
        return share
    return lower.name
