"""The kinds of trees that the kernel and fusecrypt exchange: ciphers, keys, places of names and metadata."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tests.kernel import tokens, trees

Key = tuple[bytes, bytes]  # passphrase, salt

FIRST = b"first passphrase"
SECOND = b"zweite Pa\xc3\x9fphrase"
CONTENT: Key = (FIRST, tokens.DEFAULT_SALT)
NAMES: Key = (FIRST, tokens.NAME_SALT)

_guest_key = functools.cache(trees.add_key)


@dataclass(frozen=True)
class Variant:
    """One kind of tree. `fnek` is None for plain names; `fn_cipher` is None for the content's cipher."""

    name: str
    cipher: str
    key_bytes: int
    fnek: Key | None = NAMES
    keys: tuple[Key, ...] = (CONTENT,)
    fn_cipher: tuple[str, int] | None = None
    xattr: bool = False

    @property
    def options(self) -> str:
        """The kernel's own option string, with signatures for keys. fusecrypt takes it too."""
        words = [f"ecryptfs_sig={_guest_key(*key)[1]}" for key in self.keys]
        words += [f"ecryptfs_cipher={self.cipher}", f"ecryptfs_key_bytes={self.key_bytes}"]
        if self.fnek:
            words.append(f"ecryptfs_fnek_sig={_guest_key(*self.fnek)[1]}")
        if self.fn_cipher:
            name, key_bytes = self.fn_cipher
            words += [f"ecryptfs_fn_cipher={name}", f"ecryptfs_fn_key_bytes={key_bytes}"]
        if self.xattr:
            words.append("ecryptfs_xattr_metadata")
        return ",".join(words)

    @property
    def new_options(self) -> str:
        """The same for fusecrypt to begin a new tree, where it encrypts names unless told not to."""
        return self.options if self.fnek else self.options + ",ecryptfs_enable_filename_crypto=n"

    @property
    def passphrases(self) -> tuple[bytes, ...]:
        keys = [*self.keys, *([self.fnek] if self.fnek else [])]
        return tuple(dict.fromkeys(passphrase for passphrase, _ in keys))

    @property
    def add_keys(self) -> str:
        """Guest code that puts the keys in the keyring."""
        keys = dict.fromkeys([*self.keys, *([self.fnek] if self.fnek else [])])
        return "".join(_guest_key(*key)[0] for key in keys)


SIZES = {
    "aes": (16, 24, 32),
    "des3_ede": (24,),
    "blowfish": (8, 16, 24, 32, 40, 48, 56),
    "cast5": (8, 16),
    "twofish": (16, 32),
    "cast6": (16, 32),
}
"""All that the kernel can create files with."""

_CIPHERS = [Variant(f"{cipher}-{size}", cipher, size) for cipher, sizes in SIZES.items() for size in sizes]
_OTHERS = [
    Variant("plain-names-aes-16", "aes", 16, fnek=None),
    Variant("plain-names-blowfish-56", "blowfish", 56, fnek=None),
    Variant("plain-names-twofish-32", "twofish", 32, fnek=None),
    Variant("xattr-aes-32", "aes", 32, xattr=True),
    Variant("xattr-plain-names-cast5-16", "cast5", 16, fnek=None, xattr=True),
    Variant("two-keys", "aes", 16, keys=(CONTENT, (SECOND, tokens.DEFAULT_SALT))),
    Variant("fnek-is-content-key", "aes", 16, fnek=CONTENT),
    Variant("fnek-of-another-passphrase", "cast6", 32, fnek=(SECOND, tokens.NAME_SALT)),
    Variant("fn-blowfish-24", "aes", 32, fn_cipher=("blowfish", 24)),
    Variant("fn-aes-24", "des3_ede", 24, fn_cipher=("aes", 24)),
]
VARIANTS = {variant.name: variant for variant in [*_CIPHERS, *_OTHERS]}
