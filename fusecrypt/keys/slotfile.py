"""The key-slot file, version 1: its octets to values and back, and its MAC.

A volume key of 32 random octets encrypts the keys of a tree; any number of slots, each opened by a
secret of its own, yield the volume key. The file is JSON in UTF-8, at most 1 MiB. Its ``mac`` is
HMAC-SHA256 of the canonical JSON of all other members, under HKDF-SHA256 of the volume key with the
volume's name as salt and ``fusecrypt/v1/file-mac`` as info.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fusecrypt.keys.crypto import hkdf, hmac_matches, hmac_sha256
from fusecrypt.keys.encrypted import EncryptedBlob
from fusecrypt.keys.errors import KeyFileError, SlotError
from fusecrypt.keys.slots import parse_slot
from fusecrypt.keys.slots.slot import Slot
from fusecrypt.keys.strictjson import Fields, canonical, encode_base64, load
from fusecrypt.native import SALT_BYTES, Secret

FORMAT = "fusecrypt-keyslots"
VERSION = 1
MAX_FILE = 1 << 20
"""Octets; a longer file is refused unread."""

MAX_SLOTS = 64
MAX_KEYS = 64
MASTER = "trusted:fusecrypt"
"""What the stored keys name as their master: the volume key."""

CONTENT = "content"
NAMES = "names"
_MAX_SEQ = (1 << 53) - 1  # whole numbers that every JSON reader keeps exactly
_VOLUME = 16
_MAC = 32


@dataclass(frozen=True)
class StoredKey:
    """A FEKEK or FNEK under the volume key. ``use`` holds ``content``, ``names`` or both.

    ``salt`` is what headers of new files carry, if it is not the one that the key tells by itself.
    """

    sig: bytes
    use: tuple[str, ...]
    blob: EncryptedBlob
    salt: bytes | None = None

    @classmethod
    def parse(cls, value: object) -> StoredKey:
        """Take a key's object apart."""
        fields = Fields(value, "a key").only("sig", "use", "blob", "salt")
        sig = fields.hexadecimal("sig", 8, 8)
        use = fields.items("use", 2)
        if use not in ([CONTENT], [NAMES], [CONTENT, NAMES], [NAMES, CONTENT]):
            raise KeyFileError(f"key {sig.hex()}: the member 'use' is not valid")
        text = fields.text("blob")
        blob = EncryptedBlob.parse(text.encode("utf-8", "replace"))
        if blob.format != "ecryptfs" or blob.master != MASTER or blob.text() != text:
            raise KeyFileError(f"key {sig.hex()}: the member 'blob' is not valid")
        salt = fields.hexadecimal("salt", SALT_BYTES, SALT_BYTES) if "salt" in fields else None
        return cls(sig, tuple(use), blob, salt)

    def document(self) -> dict[str, object]:
        """The key's object."""
        members: dict[str, object] = {"sig": self.sig.hex(), "use": list(self.use), "blob": self.blob.text()}
        if self.salt is not None:
            members["salt"] = self.salt.hex()
        return members


@dataclass(frozen=True)
class SlotFile:
    """A key-slot file. ``volume`` is 16 octets, ``seq`` counts its changes, ``mac`` is 32 octets."""

    volume: bytes
    seq: int
    keys: tuple[StoredKey, ...]
    slots: tuple[Slot, ...]
    mac: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> SlotFile:
        """Take a file's octets apart; KeyFileError for anything that is not exactly this format."""
        if len(data) > MAX_FILE:
            raise KeyFileError("the key-slot file is larger than 1 MiB")
        members = load(data)
        fields = Fields(members, "the key-slot file")
        if members.get("format") != FORMAT:
            raise KeyFileError("this is no key-slot file")
        if fields.integer("version", 1, _MAX_SEQ) != VERSION:
            raise KeyFileError("the key-slot file has a version that is not known", "use a newer fusecrypt")
        fields.only("format", "version", "volume", "seq", "keys", "slots", "mac")
        return cls(
            fields.hexadecimal("volume", _VOLUME, _VOLUME),
            fields.integer("seq", 0, _MAX_SEQ),
            tuple(StoredKey.parse(value) for value in fields.items("keys", MAX_KEYS)),
            tuple(parse_slot(value) for value in fields.items("slots", MAX_SLOTS)),
            fields.base64("mac", _MAC, _MAC),
        )._checked()

    def encode(self) -> bytes:
        """The file's octets: canonical JSON and a newline."""
        return canonical({**self._document(), "mac": encode_base64(self.mac)}) + b"\n"

    def signed(self, volume_key: Secret) -> SlotFile:
        """This file with its MAC made anew."""
        with _mac_key(volume_key, self.volume) as key:
            return replace(self, mac=hmac_sha256(key, canonical(self._document())))

    def authentic(self, volume_key: Secret) -> bool:
        """Whether the MAC is right: whoever wrote the file last had the volume key."""
        with _mac_key(volume_key, self.volume) as key:
            return hmac_matches(key, canonical(self._document()), self.mac)

    def slot(self, number: int) -> Slot:
        """The slot with this number; SlotError if there is none."""
        for slot in self.slots:
            if slot.id == number:
                return slot
        raise SlotError(f"there is no slot {number}", "fusecrypt key list shows the slots")

    def free_id(self) -> int:
        """The lowest number that no slot has."""
        taken = {slot.id for slot in self.slots}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _document(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "volume": self.volume.hex(),
            "seq": self.seq,
            "keys": [key.document() for key in self.keys],
            "slots": [slot.document() for slot in self.slots],
        }

    def _checked(self) -> SlotFile:
        if not self.keys:
            raise KeyFileError("the key-slot file holds no key")
        for what, numbers in (("slot", [s.id for s in self.slots]), ("key", [k.sig for k in self.keys])):
            if len(set(numbers)) != len(numbers):
                raise KeyFileError(f"the key-slot file names a {what} twice")
        return self


def _mac_key(volume_key: Secret, volume: bytes) -> Secret:
    return hkdf(volume_key, volume, b"fusecrypt/v1/file-mac")
