"""Keys that are what somebody says they are, held against the tree before it is written.

A key that derives its signature cannot be another one. Any other was given with a signature, by hand, by a
keyring or by a key-slot file, and may be mistaken; whoever can write such a file, and seal for this machine's
TPM, could plant one of his own.
"""

from __future__ import annotations

from collections.abc import Iterable

from fusecrypt.errors import KeyNotFoundError
from fusecrypt.keys.token import AuthToken
from fusecrypt.native import signature
from fusecrypt.tree.filling import opens_files
from fusecrypt.tree.place import LocalPlace
from fusecrypt.tree.proof import proven_cipher
from fusecrypt.tree.survey import Walk


def unproven(tokens: Iterable[AuthToken], walk: Walk) -> list[AuthToken]:
    """Those of the keys that names or files of the tree want, and that neither these nor themselves prove.

    Raises KeyNotFoundError for one that the files disprove; the names have been asked before.
    """
    survey = walk.first_findings()
    wanted = survey.content_signatures | survey.name_signatures
    each = {token.signature: token for token in tokens if token.signature in wanted}
    return [
        token
        for token in each.values()
        if signature(token.key) != token.signature and not _proven(token, walk)
    ]


def _proven(token: AuthToken, walk: Walk) -> bool:
    survey = walk.first_findings()
    by_names = proven_cipher(survey, token) is not None
    if token.signature not in survey.content_signatures or not isinstance(walk.place, LocalPlace):
        return by_names
    by_files = opens_files(walk.place, token)
    if by_files is False:
        raise KeyNotFoundError(
            f"the key given as {token.sig} is not the one that this tree's files are encrypted with",
            "check which key belongs to which signature; a key-slot file may have been tampered with: "
            "restore it from a backup",
        )
    return by_names or by_files is True
