"""The ciphers eCryptfs knows: kernel name, code on disk, block size, key sizes.

The kernel mounts with some other key sizes too, but cannot create a file with them, since the FEK is
encrypted in ECB without padding and so has to fill whole blocks (AES-192 alone is padded).
"""

from __future__ import annotations

from dataclasses import dataclass

from fusecrypt.errors import UsageError


@dataclass(frozen=True, eq=False)
class CipherSpec:
    """One cipher. ``codes`` maps a key size in octets to the code on disk; ``block`` is in octets."""

    name: str
    block: int
    codes: dict[int, int]

    @property
    def key_sizes(self) -> tuple[int, ...]:
        return tuple(self.codes)


@dataclass(frozen=True)
class CipherChoice:
    """A cipher with a key size, as a mount option, a header or a name has it."""

    spec: CipherSpec
    key_bytes: int

    @property
    def code(self) -> int:
        return self.spec.codes[self.key_bytes]

    @property
    def wrapped_fek_size(self) -> int:
        """Octets of an encrypted FEK: key_bytes in whole blocks (32 for AES-192)."""
        return -(-self.key_bytes // self.spec.block) * self.spec.block

    def __str__(self) -> str:
        return f"{self.spec.name}-{self.key_bytes * 8}"


AES = CipherSpec("aes", 16, {16: 0x07, 24: 0x08, 32: 0x09})
CIPHERS: dict[str, CipherSpec] = {
    spec.name: spec
    for spec in (
        AES,
        CipherSpec("des3_ede", 8, {24: 0x02}),
        CipherSpec("cast5", 8, dict.fromkeys((8, 16), 0x03)),
        CipherSpec("blowfish", 8, dict.fromkeys((8, 16, 24, 32, 40, 48, 56), 0x04)),
        CipherSpec("twofish", 16, dict.fromkeys((16, 32), 0x0A)),
        CipherSpec("cast6", 16, dict.fromkeys((16, 32), 0x0B)),
    )
}
BY_CODE: dict[int, CipherSpec] = {code: spec for spec in CIPHERS.values() for code in spec.codes.values()}


def choose(name: str, key_bytes: int) -> CipherChoice:
    """The cipher of the mount options ``ecryptfs_cipher`` and ``ecryptfs_key_bytes``.

    Raises UsageError for a name or key size that eCryptfs cannot create files with.
    """
    spec = CIPHERS.get(name)
    if spec is None:
        raise UsageError(f"unknown cipher {name!r}", f"eCryptfs has: {', '.join(CIPHERS)}")
    if key_bytes not in spec.codes:
        sizes = ", ".join(map(str, spec.codes))
        raise UsageError(f"{name} cannot have a key of {key_bytes} octets", f"its key sizes are: {sizes}")
    return CipherChoice(spec, key_bytes)
