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
    ``others`` may open existing files. ``names`` is None where names are plain. ``shared``: others write
    the lower tree too. ``noatime``: reading leaves access times below alone.
    """

    content: tuple[AuthToken, ...]
    cipher: CipherChoice
    names: NamePolicy | None = None
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
    def simple(self) -> bool:
        """Whether a lower file's header alone says what is seen above."""
        return not self.passthrough and not self.encrypted_view

    def token(self, signature: bytes) -> AuthToken | None:
        """The usable token with that signature, content tokens first."""
        for token in (*self.content, *self.others):
            if token.signature == signature:
                return token
        return None
