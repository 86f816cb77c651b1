"""How a tree is read and how new objects in it are written."""

from __future__ import annotations

from dataclasses import dataclass

from fusecrypt.keys.token import AuthToken
from fusecrypt.ondisk.ciphers import CipherChoice


@dataclass(frozen=True)
class NamePolicy:
    """Names are encrypted with ``token`` (the FNEK) and ``cipher``."""

    token: AuthToken
    cipher: CipherChoice


@dataclass(frozen=True)
class Policy:
    """Keys, ciphers and modes of a tree.

    ``content`` are the tokens that every new file is encrypted for, in the order of the packets;
    ``others`` may open existing files. ``names`` is None where names are plain; ``other_names`` are further
    keys under which names stand, as while a tree is rekeyed: who only reads sees these names too.
    ``shared``: others write the lower tree too. ``noatime``: reading leaves access times below alone.
    """

    content: tuple[AuthToken, ...]
    cipher: CipherChoice
    names: NamePolicy | None = None
    other_names: tuple[NamePolicy, ...] = ()
    others: tuple[AuthToken, ...] = ()
    xattr_metadata: bool = False
    passthrough: bool = False
    encrypted_view: bool = False
    read_only: bool = False
    shared: bool = False
    noatime: bool = False

    @property
    def quiet(self) -> bool:
        """Whether reading leaves no trace below."""
        return self.read_only or self.noatime

    @property
    def by_header(self) -> bool:
        """Whether a lower file's header alone says what is seen above."""
        return not (self.passthrough or self.encrypted_view)

    @property
    def simple(self) -> bool:
        """The same, and its name by one key."""
        return self.by_header and not (self.read_only and self.other_names)

    @property
    def tokens(self) -> tuple[AuthToken, ...]:
        """All keys; the same one may be there more than once."""
        names = () if self.names is None else (self.names, *self.other_names)
        return (*self.content, *self.others, *(each.token for each in names))

    def token(self, signature: bytes) -> AuthToken | None:
        """The usable token with that signature, content tokens first."""
        for token in (*self.content, *self.others):
            if token.signature == signature:
                return token
        return None
