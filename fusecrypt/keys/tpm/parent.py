"""The storage key that something is sealed under, pinned by its Name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from fusecrypt.keys.strictjson import Fields, encode_base64
from fusecrypt.keys.tpm.errors import TPMError

_MAX_PUBLIC = 1024


@dataclass(frozen=True)
class Parent:
    """The storage key a slot is sealed under: persistent handle, Name, TPM2B_PUBLIC with its size."""

    handle: int
    name: bytes
    public: bytes

    @classmethod
    def parse(cls, fields: Fields) -> Parent:
        """Take the object apart."""
        fields.only("handle", "name", "public")
        handle = int(fields.text("handle", "0x81[0-9a-f]{6}"), 16)
        public = fields.base64("public", 10, _MAX_PUBLIC)
        return cls(handle, fields.hexadecimal("name", 22, 66), public)

    def document(self) -> dict[str, object]:
        """The object."""
        name, public = self.name.hex(), encode_base64(self.public)
        return {"handle": f"0x{self.handle:08x}", "name": name, "public": public}


def name_of(public: bytes) -> bytes:
    """The Name of a TPM2B_PUBLIC: its hash algorithm and the hash of what follows the size."""
    algorithms = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
    algorithm = algorithms.get(int.from_bytes(public[4:6], "big"))
    if algorithm is None:
        raise TPMError("the storage key's public part names an unknown hash")
    return public[4:6] + hashlib.new(algorithm, public[2:]).digest()
