"""An unlocked key-slot file: the keys it holds, and the changes that may be made to it.

Every change gives a new Volume and touches no disk; :class:`fusecrypt.keys.slotstore.SlotStore` writes
it. What is never allowed is checked here: writing with a file whose MAC is wrong, and losing the last
slot that needs no TPM.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fusecrypt.keys.crypto import random_secret
from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.errors import KeyFileError, SlotError, WrongSecretError
from fusecrypt.keys.slotfile import CONTENT, MASTER, MAX_KEYS, MAX_SLOTS, NAMES, SlotFile, StoredKey
from fusecrypt.keys.slots.slot import VOLUME_KEY, Enrolment, Slot
from fusecrypt.keys.token import DEFAULT_SALT, ENCRYPTED_KEY_SALT, AuthToken
from fusecrypt.native import Secret, signature

REPLACE_FILE = "restore it from a backup, or make a new one with fusecrypt key create"
"""What to do about a key-slot file that was tampered with."""


@dataclass(frozen=True)
class VolumeToken:
    """A key from the file. ``proven`` says that its signature derives from it.

    A key that is not proven may be another than its signature says (somebody may have planted it): it
    must be proven on the tree before anything is written with it.
    """

    token: AuthToken
    use: tuple[str, ...]
    proven: bool


@dataclass(frozen=True)
class Volume:
    """A key-slot file with its volume key. ``intact`` says that the file's MAC is right."""

    file: SlotFile
    key: Secret
    intact: bool

    @classmethod
    def create(cls, tokens: Iterable[tuple[AuthToken, tuple[str, ...]]]) -> Volume:
        """A new volume key over existing keys, each with its uses. There are no slots yet."""
        key = random_secret(VOLUME_KEY)
        empty = SlotFile(os.urandom(16), 0, (), ())
        stored = tuple(_store(token, use, key) for token, use in _merged(tokens))
        if not stored:
            raise SlotError("a key-slot file needs at least one key")
        return cls(replace(empty, keys=stored).signed(key), key, True)

    @classmethod
    def open(cls, file: SlotFile, number: int, secret: Enrolment) -> Volume:
        """Open a slot. Raises what the kind's ``open`` raises, SlotError if there is no such slot."""
        key = secret.open(file.volume, file.slot(number))
        if len(key) != VOLUME_KEY:
            raise KeyFileError(f"slot {number} holds no volume key", "use another slot, and remove this one")
        return cls(file, key, file.authentic(key))

    def tokens(self) -> list[VolumeToken]:
        """All keys; KeyFileError if one of them does not open, which only damage or tampering does."""
        opened = []
        for stored in self.file.keys:
            try:
                key = stored.blob.open(self.key)
            except WrongSecretError as error:
                raise KeyFileError(
                    f"key {stored.sig.hex()} in the key-slot file is damaged", REPLACE_FILE
                ) from error
            salt = stored.salt or _own_salt(stored.sig, key)
            proven = signature(key) == stored.sig
            opened.append(VolumeToken(AuthToken(stored.sig, key, salt), stored.use, proven))
        return opened

    def add(self, secret: Enrolment, label: str | None = None) -> Volume:
        """One more slot, with the lowest free number; SlotError if there is no room for it."""
        if len(self.file.slots) >= MAX_SLOTS:
            raise SlotError(f"the key-slot file has {MAX_SLOTS} slots, which is all", "remove one first")
        slot = self._enrolled(self.file.free_id(), secret, label, self.key)
        return self._changed(slots=(*self.file.slots, slot))

    def remove(self, number: int) -> Volume:
        """Without a slot; SlotError if no slot would be left that needs no TPM."""
        self.file.slot(number)
        return self._changed(slots=tuple(s for s in self.file.slots if s.id != number))

    def change(self, number: int, secret: Enrolment) -> Volume:
        """Another secret for a slot, which keeps its number and label. Also reseals a TPM slot."""
        old = self.file.slot(number)
        new = self._enrolled(number, secret, old.label, self.key)
        return self._changed(slots=tuple(new if s.id == number else s for s in self.file.slots))

    def rotate(self, secrets: Mapping[int, Enrolment], drop: Collection[int] = ()) -> Volume:
        """A new volume key. Each slot's own secret must be given, or the slot be named in ``drop``.

        A secret that does not open its slot today is refused, so that no slot changes by a slip.
        """
        missing = [s.id for s in self.file.slots if s.id not in secrets and s.id not in drop]
        if missing:
            raise SlotError(
                f"a new volume key needs the secrets of the slots {', '.join(map(str, missing))}",
                "give them, or name the slots that shall be dropped",
            )
        key = random_secret(VOLUME_KEY)
        slots = []
        for slot in self.file.slots:
            if slot.id not in drop:
                with secrets[slot.id].open(self.file.volume, slot) as opened:
                    if opened != self.key:
                        raise SlotError(f"slot {slot.id} holds another volume key")
                slots.append(self._enrolled(slot.id, secrets[slot.id], slot.label, key, slot.created))
        keys = tuple(_store(held.token, held.use, key) for held in self.tokens())
        return self._changed(slots=tuple(slots), keys=keys, key=key)

    def with_key(self, token: AuthToken, use: tuple[str, ...]) -> Volume:
        """One more key of a tree, or further uses of one that is there."""
        held = [(key.token, key.use) for key in self.tokens()]
        merged = _merged([*held, (token, use)])
        if len(merged) > MAX_KEYS:
            raise SlotError(f"the key-slot file has {MAX_KEYS} keys, which is all")
        return self._changed(keys=tuple(_store(each, uses, self.key) for each, uses in merged))

    def without_key(self, sig: bytes) -> Volume:
        """Without a key; SlotError if it is not there or the last one."""
        keys = tuple(key for key in self.file.keys if key.sig != sig)
        if len(keys) == len(self.file.keys) or not keys:
            raise SlotError(f"key {sig.hex()} is not in the file, or is its last one")
        return self._changed(keys=keys)

    def holds_same(self, other: SlotFile) -> bool:
        """Whether a file that was read back is this one, and opens with this volume key."""
        return other == self.file and other.authentic(self.key)

    def _enrolled(
        self, number: int, secret: Enrolment, label: str | None, key: Secret, created: str | None = None
    ) -> Slot:
        body, wrap_key = secret.enrol(self.file.volume, key)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        slot = Slot(number, secret.type, body, label, created or now)
        if wrap_key is None:
            return slot
        with wrap_key:
            return slot.carrying(self.file.volume, wrap_key, key)

    def _changed(
        self,
        *,
        slots: tuple[Slot, ...] | None = None,
        keys: tuple[StoredKey, ...] | None = None,
        key: Secret | None = None,
    ) -> Volume:
        if not self.intact:
            raise SlotError(
                "the key-slot file was changed by somebody without its keys: nothing is written with it",
                REPLACE_FILE,
            )
        file = self.file
        slots = file.slots if slots is None else slots
        if slots is not file.slots and not any(not slot.body.needs_tpm for slot in slots):
            raise SlotError(
                "the last slot that needs no TPM stays: without it a broken TPM would lose the keys",
                "add a passphrase or recovery slot first",
            )
        key = self.key if key is None else key
        keys = file.keys if keys is None else keys
        return Volume(replace(file, seq=file.seq + 1, slots=slots, keys=keys).signed(key), key, True)


def _store(token: AuthToken, use: tuple[str, ...], key: Secret) -> StoredKey:
    salt = None if token.salt == _own_salt(token.signature, token.key) else token.salt
    return StoredKey(token.signature, use, EncryptedBlob.seal(token.key, key, MASTER), salt)


def _own_salt(sig: bytes, key: Secret) -> bytes:
    """The salt that a key has unless the file says another: keys that a passphrase gave name themselves."""
    return DEFAULT_SALT if signature(key) == sig else ENCRYPTED_KEY_SALT


def _merged(tokens: Iterable[tuple[AuthToken, tuple[str, ...]]]) -> list[tuple[AuthToken, tuple[str, ...]]]:
    """Each signature once, with all its uses; SlotError if one signature names two different keys."""
    merged: dict[bytes, tuple[AuthToken, tuple[str, ...]]] = {}
    for token, use in tokens:
        known, uses = merged.get(token.signature, (token, ()))
        if known.key != token.key:
            raise SlotError(f"there are two different keys with the signature {token.sig}")
        merged[token.signature] = known, tuple(u for u in (CONTENT, NAMES) if u in uses or u in use)
    return list(merged.values())
